//! Rules for `nft -f`.

use std::fmt::Write as _;

use super::Translation;
use crate::config::Config;
use crate::family::Family;

const HEAD: &str = "#!/usr/sbin/nft -f
# Source translation for failover with `nat: none`. Load it with: nft -f FILE
# Loaded again it replaces itself. Put what you need into tables of your own; the name of this one may
# be any but `failover` and `failover_resets`.
#
# Marks: failover keeps its own bits of the packet and connection mark. Rules of yours that set
# marks leave these bits as they are:
";

const FORWARDS: &str = "
\tchain prerouting {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\t# A server inside, reached by every uplink; answers leave by the uplink that was asked:
\t\t# iifname { UPLINKS } tcp dport 443 dnat ip to 192.168.1.10
\t}
}
";

pub(super) fn text(config: &Config, translations: &[Translation<'_>]) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a string does not fail.
    let _infallible = writeln!(
        text,
        "#   meta mark set meta mark & {} | VALUE\n",
        config.marks
    );
    text.push_str("add table inet uplink_nat\ndelete table inet uplink_nat\n\n");
    text.push_str("table inet uplink_nat {\n\tchain postrouting {\n");
    text.push_str(
        "\t\t# Before failover's own chain, which leaves alone what is translated here.\n",
    );
    text.push_str("\t\ttype nat hook postrouting priority srcnat; policy accept;\n");
    for translation in translations {
        let _infallible = writeln!(text, "\n\t\t# {}, {}", translation.name, translation.family);
        if translation.family == Family::Ipv6 && translation.own.is_empty() {
            text.push_str(
                "\t\t# Prefixes that this provider routes to you belong into the set: they need no translation.\n",
            );
        }
        let _infallible = writeln!(text, "\t\t{}", rule(config, translation));
    }
    text.push_str("\t}\n");
    let mut uplinks: Vec<String> = translations
        .iter()
        .map(|translation| format!("\"{}\"", translation.uplink.interface))
        .collect();
    uplinks.sort();
    uplinks.dedup();
    text.push_str(&FORWARDS.replace("UPLINKS", &uplinks.join(", ")));
    text
}

fn rule(config: &Config, translation: &Translation<'_>) -> String {
    let mut rule = format!("oifname \"{}\"", translation.uplink.interface);
    if let Some(mark) = translation.mark {
        let _infallible = write!(rule, " meta mark & {} == {mark}", config.marks);
    }
    match translation.family {
        Family::Ipv4 => rule.push_str(" meta nfproto ipv4"),
        Family::Ipv6 => {
            let mut kept = vec!["fe80::/10".to_owned()];
            kept.extend(translation.own.iter().map(ToString::to_string));
            let _infallible = write!(rule, " ip6 saddr != {{ {} }}", kept.join(", "));
        }
    }
    match translation.to {
        Some(address) => {
            let ip = match translation.family {
                Family::Ipv4 => "ip",
                Family::Ipv6 => "ip6",
            };
            let _infallible = write!(rule, " snat {ip} to {address}");
        }
        None => rule.push_str(" masquerade"),
    }
    rule
}
