//! Bits of packet and connection marks that are not the daemon's pass through the gateway as the
//! user's rules set them, and rules that copy whole marks do no harm.

use failover::family::Family;
use failover_tests::addressing::servers;
use failover_tests::daemon::State;
use failover_tests::{Lab, LabError, Node, ProgramSpec, Protocol, Tally, Traffic};

use crate::exchange::{Question, Talk, answer_at};
use crate::foreign::connection_marks;
use crate::tunnel::{FAR, OWN, Outer, Tunnel};
use crate::{Mode, SystemTest, TestResult, start, until};

pub(crate) fn tests(mode: Mode) -> Vec<SystemTest> {
    vec![
        SystemTest::new(
            format!("{mode}_marks_of_the_user_pass_unchanged"),
            move || unchanged(mode),
        ),
        SystemTest::new(
            format!("{mode}_whole_marks_copied_by_the_user_do_no_harm"),
            move || copied(mode),
        ),
    ]
}

/// Sets marks as a user's traffic shaping does, and counts the packets on which they are not there
/// any more, at every later place.
const SHAPING: &str = r#"
table inet shaping {
    counter lost1 { }
    counter lost2 { }
    counter lost3 { }
    counter lost4 { }
    counter lost5 { }
    counter lost6 { }
    counter lost7 { }
    counter lost8 { }
    counter seen { }
    chain before {
        type filter hook prerouting priority mangle; policy accept;
        iifname "lan0" meta mark set 0x00000011
        iifname "wan*" meta mark set 0x00000033
        ct mark set ct mark | 0x00220000
    }
    chain own {
        type route hook output priority mangle; policy accept;
        oifname "wan*" meta mark set meta mark | 0x00000044
        ct mark set ct mark | 0x00220000
    }
    chain check_input {
        type filter hook input priority filter; policy accept;
        iifname "wan*" meta mark & 0x00ffffff != 0x00000033 counter name lost1
        iifname "wan*" ct mark & 0x00ffffff != 0x00220000 counter name lost2
    }
    chain check_forward {
        type filter hook forward priority filter; policy accept;
        counter name seen
        iifname "lan0" meta mark & 0x00ffffff != 0x00000011 counter name lost3
        iifname "wan*" meta mark & 0x00ffffff != 0x00000033 counter name lost4
        ct mark & 0x00ffffff != 0x00220000 counter name lost5
    }
    chain check_after {
        type filter hook postrouting priority srcnat + 50; policy accept;
        iifname "lan0" oifname "wan*" meta mark & 0x00ffffff != 0x00000011 counter name lost6
        iif 0 oifname "wan*" meta mark & 0x00ffffff != 0x00000044 counter name lost7
        oifname "wan*" ct mark & 0x00ffffff != 0x00220000 counter name lost8
    }
}"#;

/// Packets that one of the user's counters counted.
async fn counted(gateway: &Node, counter: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let command = format!("nft list counter inet shaping {counter}");
    let text = gateway.must(ProgramSpec::line(&command)).await?;
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    Ok(words.nth(1).ok_or("no count")?.parse()?)
}

async fn unchanged(mode: Mode) -> TestResult {
    let lab = Lab::builder().uplinks(3).build().await?;
    let gateway = lab.gateway().node();
    gateway.nft(SHAPING).await?;
    let daemon = start(&lab, mode).await?;
    let mut all = Vec::new();
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            for host in [lab.client(1)?, lab.gateway()] {
                all.push(host.open(Traffic::new(protocol, family, 12)).await?);
            }
        }
    }
    let ask = || async {
        let mut asked = Vec::new();
        for flows in &all {
            asked.extend(flows.ask(std::time::Duration::from_secs(1)).await?);
        }
        Ok::<_, LabError>(Tally::of(&asked))
    };
    let before = ask().await?;
    assert_eq!((before.unanswered, before.elsewhere), (0, 0), "{before}");
    lab.uplink(1)?.black_hole().await?;
    until(&daemon, "one", State::Down).await?;
    ask().await?;
    let marks = connection_marks(gateway).await?;
    let steered = marks.iter().filter(|mark| **mark >> 24 != 0).count();
    assert!(steered > 0, "the daemon marks connections, too: {marks:x?}");
    let low = marks
        .iter()
        .filter(|mark| **mark & 0x00ff_ffff != 0x0022_0000);
    assert_eq!(low.count(), 0, "{marks:x?}");
    let seen = counted(gateway, "seen").await?;
    assert!(seen > 300, "only {seen} packets were looked at");
    for place in 1..=8 {
        let lost = counted(gateway, &format!("lost{place}")).await?;
        assert_eq!(lost, 0, "packets without their mark at check {place}");
    }
    daemon.terminate().await?;
    Ok(())
}

/// A common way to keep marks: whole marks are saved and restored, whoever's bits are in them. The
/// answers for a VPN's peer come in by an uplink and must not leave by it again.
const SAVE_AND_RESTORE: &str = r#"
table inet users {
    chain restore {
        type filter hook prerouting priority mangle; policy accept;
        meta mark set ct mark
    }
    chain save {
        type filter hook postrouting priority mangle; policy accept;
        ct mark set meta mark
    }
}"#;

async fn copied(mode: Mode) -> TestResult {
    let lab = Lab::builder().uplinks(3).build().await?;
    let gateway = lab.gateway().node();
    let outer = Outer {
        mark: 0x80000,
        connected: false,
    };
    let tunnel = Tunnel::open(&lab, outer).await?;
    for command in [
        "ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main",
        "ip rule add pref 5270 lookup 52",
        "ip route add 198.51.100.0/24 dev tun0 table 52",
    ] {
        gateway.must(ProgramSpec::line(command)).await?;
    }
    gateway.nft(SAVE_AND_RESTORE).await?;
    answer_at(gateway, OWN.parse()?).await?;
    answer_at(lab.client(1)?.node(), "198.18.0.10".parse()?).await?;
    for server in servers(Family::Ipv4) {
        answer_at(lab.internet().node(), server).await?;
    }
    let daemon = start(&lab, mode).await?;
    // Opens the VPN.
    let first = Talk::open(gateway, Question::udp(FAR.parse()?)).await?;
    assert_eq!(first.ask().await??.by, "far");
    for make in [Question::udp, Question::tcp] {
        // One address of the servers exists in the far network, too.
        for server in servers(Family::Ipv4).into_iter().skip(1) {
            for node in [&tunnel.far, lab.client(1)?.node(), gateway] {
                let talk = Talk::open(node, make(server)).await?;
                for _ in 0..3 {
                    let answer = talk.ask().await??;
                    assert!(lab.uplink_of(answer.seen).is_some(), "{answer:?}");
                }
            }
        }
        let inside = Talk::open(&tunnel.far, make("198.18.0.10".parse()?)).await?;
        assert_eq!(inside.ask().await??.by, "client1-lan0");
    }
    daemon.terminate().await?;
    Ok(())
}
