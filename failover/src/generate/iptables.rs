//! Rules for `iptables-restore` and `ip6tables-restore`.

use std::fmt::Write as _;

use super::Translation;
use crate::config::Config;
use crate::family::Family;

pub(super) fn text(config: &Config, translations: &[Translation<'_>], family: Family) -> String {
    let (program, other) = match family {
        Family::Ipv4 => ("iptables", "IPv6: failover generate iptables --ipv6"),
        Family::Ipv6 => ("ip6tables", "IPv4: failover generate iptables"),
    };
    let mask = config.marks.others();
    let mut text = format!(
        "# {family} source translation for failover with `nat: none`. Load it with:\n\
         #   {program}-restore --noflush FILE\n\
         # Loaded again, take out the second jump to the chain. {other}\n\
         #\n\
         # Marks: failover keeps its own bits of the packet and connection mark. Rules of yours that\n\
         # set marks leave these bits as they are: --set-xmark VALUE/{mask:#010x}\n\
         *nat\n\
         :failover-nat - [0:0]\n\
         -A POSTROUTING -j failover-nat\n"
    );
    let of_family = translations
        .iter()
        .filter(|translation| translation.family == family);
    for translation in of_family {
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "# {}", translation.name);
        let interface = &translation.uplink.interface;
        let mut start = format!("-A failover-nat -o {interface}");
        if let Some(mark) = translation.mark {
            let _infallible = write!(start, " -m mark --mark {mark}/{}", config.marks);
        }
        if family == Family::Ipv6 {
            let _infallible = writeln!(text, "{start} -s fe80::/10 -j RETURN");
            for prefix in &translation.own {
                let _infallible = writeln!(text, "{start} -s {prefix} -j RETURN");
            }
        }
        let _infallible = match translation.to {
            Some(address) => writeln!(text, "{start} -j SNAT --to-source {address}"),
            None => writeln!(text, "{start} -j MASQUERADE"),
        };
    }
    let server = match family {
        Family::Ipv4 => "192.168.1.10",
        Family::Ipv6 => "fd00::10",
    };
    text.push_str("# A server inside; answers leave by the uplink that was asked:\n");
    let _infallible = writeln!(
        text,
        "# -A PREROUTING -i UPLINK -p tcp --dport 443 -j DNAT --to-destination {server}"
    );
    text.push_str("COMMIT\n");
    text
}
