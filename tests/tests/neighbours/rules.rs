//! A user's own `ip rule` goes on to decide about the packets that it is for, whether it was made
//! before the daemon started or afterwards.

use failover_tests::capture::FlowProtocol;
use failover_tests::{Lab, LabError, ProgramSpec};

use crate::exchange::{Question, Talk, answer_at};
use crate::{Mode, SystemTest, TestResult, start};

pub(crate) fn tests(mode: Mode) -> Vec<SystemTest> {
    let mut tests = Vec::new();
    for (order, before) in [("before", true), ("after", false)] {
        for (what, rule) in [
            ("from_client", "ip rule add from 198.18.0.10 lookup 100"),
            ("by_interface", "ip rule add iif lan0 lookup 100"),
            ("by_port", "ip rule add ipproto udp dport 7100 lookup 100"),
        ] {
            for way in [Way::Elsewhere, Way::Uplink] {
                let name = format!("{mode}_a_rule_{what}_to_{way:?}_made_{order}_keeps_deciding");
                let test = SystemTest::new(name.to_lowercase(), move || {
                    keeps_deciding(mode, rule, way, before)
                });
                tests.push(test);
            }
        }
    }
    tests
}

/// Where the rule's table leads.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Over an interface that is no uplink.
    Elsewhere,
    /// Over one of the uplinks.
    Uplink,
}

impl Way {
    const fn route(self) -> &'static str {
        match self {
            // Client 2 is a router, too, and answers for the servers.
            Self::Elsewhere => "ip route add default via 198.18.0.11 dev lan0 table 100",
            Self::Uplink => "ip route add default via 198.18.12.1 dev wan2 table 100",
        }
    }

    fn is_right(self, lab: &Lab, answer: &crate::exchange::Answer) -> bool {
        match self {
            Self::Elsewhere => answer.by == "client2-lan0",
            Self::Uplink => lab.uplink_of(answer.seen) == Some(2),
        }
    }
}

async fn keeps_deciding(mode: Mode, rule: &'static str, way: Way, before: bool) -> TestResult {
    let lab = Lab::builder().uplinks(3).clients(2).build().await?;
    let gateway = lab.gateway().node();
    let servers = failover_tests::addressing::servers(failover::family::Family::Ipv4);
    let other = lab.client(2)?.node();
    for server in &servers {
        answer_at(lab.internet().node(), *server).await?;
        let address = format!("ip address add {server}/32 dev lo");
        other.must(ProgramSpec::line(&address)).await?;
        answer_at(other, *server).await?;
    }
    // The gateway sends the client's packets back into the network that they come from.
    gateway
        .set_sysctl("net/ipv4/conf/all/send_redirects", "0")
        .await?;
    gateway
        .set_sysctl("net/ipv4/conf/lan0/send_redirects", "0")
        .await?;
    let make = || async {
        for command in [way.route(), rule] {
            gateway.must(ProgramSpec::line(command)).await?;
        }
        Ok::<(), LabError>(())
    };
    if before {
        make().await?;
    }
    let daemon = start(&lab, mode).await?;
    if !before {
        make().await?;
    }
    let mut wrong = Vec::new();
    for server in servers.iter().cycle().take(24) {
        let question = Question::udp(*server);
        assert_eq!(question.protocol, FlowProtocol::Udp);
        let talk = Talk::open(lab.client(1)?.node(), question).await?;
        for _ in 0..2 {
            let answer = talk.ask().await??;
            if !way.is_right(&lab, &answer) {
                wrong.push(answer);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of 48 answers came another way: {wrong:?}",
        wrong.len()
    );
    daemon.terminate().await?;
    Ok(())
}
