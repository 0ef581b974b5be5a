//! What others have in the gateway's kernel: rules, routes, nftables tables, traffic control,
//! settings and connection marks, none of them the daemon's.

use failover_tests::{KernelState, Lab, LabError, Node, ProgramSpec};

use crate::exchange::{Question, Talk, answer_at};

/// The bits of the connection mark that the foreign rule set gives to every connection.
pub(crate) const BITS: u32 = 0x0000_0022;

const COMMANDS: &[&str] = &[
    // Rules at fixed and at automatic preferences, before and behind the daemon's.
    "ip rule add pref 500 fwmark 0x40/0xff lookup 52",
    "ip rule add pref 5270 lookup 52",
    "ip rule add from 198.18.0.99 lookup 100",
    "ip rule add pref 32765 from 198.18.0.98 lookup 100",
    "ip rule add pref 33000 lookup 100",
    "ip -6 rule add pref 5270 lookup 52",
    "ip -6 rule add from fd00:18::99 lookup 100",
    "ip route add 198.51.100.0/24 via 198.18.0.10 table 52",
    "ip -6 route add fd00:51::/64 via fd00:18::10 table 52",
    "ip route add default via 198.18.12.1 table 100 proto static",
    "ip route add 192.0.2.0/25 via 198.18.13.1 proto static",
    "ip route add unreachable 192.0.2.128/25",
    "sysctl -q -w net.ipv4.conf.wan3.rp_filter=2",
    "sysctl -q -w net.ipv4.conf.lan0.log_martians=1",
    "tc qdisc add dev lan0 clsact",
    "tc qdisc add dev wan1 clsact",
];

/// A table of the daemon's name in another family is a foreign one, too.
const RULESET: &str = r#"
table inet users {
    set friends {
        type ipv4_addr
        elements = { 198.18.0.10 }
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct state invalid drop
        ip saddr @friends accept
    }
    chain marking {
        type filter hook prerouting priority mangle; policy accept;
        ct mark set ct mark | 0x00000022
    }
    chain marking_own {
        type filter hook output priority mangle; policy accept;
        ct mark set ct mark | 0x00000022
    }
}
table ip failover {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan*" ip saddr 198.18.0.0/24 masquerade
    }
}
table ip6 failover {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan*" ip6 saddr fd00:18::/64 masquerade
    }
}
"#;

/// Puts all of it into the gateway, and opens flows through it that stay open.
pub(crate) async fn install(lab: &Lab) -> Result<Vec<Talk>, LabError> {
    let gateway = lab.gateway().node();
    for command in COMMANDS {
        gateway.must(ProgramSpec::line(command)).await?;
    }
    gateway.nft(RULESET).await?;
    let mut talks = Vec::new();
    let servers = failover_tests::addressing::servers;
    for family in failover::family::Family::ALL {
        for server in servers(family) {
            answer_at(lab.internet().node(), server).await?;
            for question in [Question::udp(server), Question::tcp(server)] {
                for node in [lab.client(1)?.node(), gateway] {
                    talks.push(Talk::open(node, question).await?);
                }
            }
        }
    }
    Ok(talks)
}

/// Asks over all of the flows.
pub(crate) async fn ask_all(talks: &[Talk]) -> Result<Vec<Result<(), String>>, LabError> {
    let mut answers = Vec::new();
    for talk in talks {
        answers.push(talk.ask().await?.map(drop));
    }
    Ok(answers)
}

/// The marks of the connections that the tracking table has, each once.
pub(crate) async fn connection_marks(node: &Node) -> Result<Vec<u32>, LabError> {
    let mut marks = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let command = format!("conntrack -L -f {family}");
        let text = node.must(ProgramSpec::line(&command)).await?;
        let found = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("mark="))
            .filter_map(|mark| mark.parse::<u32>().ok());
        marks.extend(found);
    }
    marks.sort_unstable();
    marks.dedup();
    Ok(marks)
}

/// Says what is different, if anything is.
pub(crate) fn same(before: &KernelState, after: &KernelState) -> Result<(), String> {
    match before.difference(after) {
        None => Ok(()),
        Some(difference) => Err(format!("the kernel is not as it was found:\n{difference}")),
    }
}
