//! A VPN of the user carries the same packets with the daemon as without it: before, during and
//! after a failover. The rules are those that Tailscale and wg-quick make.

use std::time::Duration;

use failover::family::Family;
use failover_tests::capture::{FlowKey, FlowProtocol};
use failover_tests::daemon::State;
use failover_tests::{Lab, LabError, Node, ProgramSpec, eventually};

use crate::exchange::{Question, Talk, answer_at};
use crate::setups::Setup;
use crate::tunnel::{EXIT, FAR, OWN, Outer, SUBNET, Tunnel};
use crate::{Mode, SystemTest, TestResult, VERDICT, start, until};

pub(crate) fn tests(mode: Mode) -> Vec<SystemTest> {
    let mut tests = Vec::new();
    for setup in [Setup::Tailscale, Setup::TailscaleExit, Setup::WgQuick] {
        for order in [Order::BeforeDaemon, Order::AfterDaemon] {
            // As WireGuard does: the source address follows the route.
            let variant = Variant {
                setup,
                order,
                connected: false,
            };
            tests.push((format!("{setup:?}_{order:?}"), variant));
        }
    }
    let connected = Variant {
        setup: Setup::WgQuick,
        order: Order::BeforeDaemon,
        connected: true,
    };
    tests.push(("a_connected_socket".to_owned(), connected));
    let tests = tests.into_iter().map(|(name, variant)| {
        let name = format!("{mode}_a_vpn_carries_the_same_packets_{name}").to_lowercase();
        SystemTest::new(name, move || carries_the_same(mode, variant))
    });
    tests.collect()
}

/// When the rules are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    BeforeDaemon,
    AfterDaemon,
}

#[derive(Clone, Copy, Debug)]
struct Variant {
    setup: Setup,
    order: Order,
    connected: bool,
}

/// Without the daemon the user translates, so that there are answers to compare.
const USERS_NAT: &str = r#"table inet users {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan*" masquerade
    }
}"#;

/// A host of the clients' network, in the midst of the VPN's subnet route.
const LOCAL: &str = "192.0.2.200";
/// In the internet only.
const INTERNET: &str = "203.0.113.12";

/// A question, and by whom it is to be answered.
struct Case {
    name: &'static str,
    from: Node,
    question: Question,
    answered_by: &'static str,
}

/// What became of a question.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    name: &'static str,
    /// Who answered, or why nobody did.
    by: String,
    /// By which address it was seen; all uplinks are the same.
    seen: String,
    /// Whether its packets entered the VPN, or their answers did.
    carried: bool,
}

fn cases(lab: &Lab, tunnel: &Tunnel, setup: Setup) -> Result<Vec<Case>, LabError> {
    let mut cases = Vec::new();
    let mut add = |name, from: &Node, question, answered_by| {
        cases.push(Case {
            name,
            from: from.clone(),
            question,
            answered_by,
        });
    };
    let (gateway, client) = (lab.gateway().node(), lab.client(1)?.node());
    let exit = if setup.takes_everything() {
        "far"
    } else {
        "internet"
    };
    let at = |address: &str| address.parse().unwrap_or(std::net::IpAddr::from([0; 4]));
    for make in [Question::udp, Question::tcp] {
        add("client to the far network", client, make(at(FAR)), "far");
        add("gateway to the far network", gateway, make(at(FAR)), "far");
        add("client to the internet", client, make(at(EXIT)), exit);
        add("gateway to the internet", gateway, make(at(EXIT)), exit);
        let bound = Question {
            source: Some(at("198.18.12.2")),
            ..make(at(EXIT))
        };
        add("gateway from an uplink's address", gateway, bound, exit);
        let bound = Question {
            source: Some(at("198.18.0.1")),
            ..make(at(FAR))
        };
        add("gateway from its local address", gateway, bound, "far");
        let outer = Question {
            mark: Some(setup.outer_mark()),
            ..make(at(EXIT))
        };
        add("gateway with the VPN's mark", gateway, outer, "internet");
        add(
            "far to a client",
            &tunnel.far,
            make(at("198.18.0.10")),
            "client1-lan0",
        );
        add("far to the gateway", &tunnel.far, make(at(OWN)), "gateway");
        if setup != Setup::WgQuick {
            add("client to the far subnet", client, make(at(SUBNET)), "far");
            add(
                "gateway to the far subnet",
                gateway,
                make(at(SUBNET)),
                "far",
            );
            add(
                "far to a local network",
                &tunnel.far,
                make(at(LOCAL)),
                "client1-lan0",
            );
        }
        add(
            "gateway to a local network",
            gateway,
            make(at(LOCAL)),
            "client1-lan0",
        );
        if !setup.takes_everything() {
            add(
                "far to the internet",
                &tunnel.far,
                make(at(INTERNET)),
                "internet",
            );
        }
    }
    Ok(cases)
}

/// Waits until a packet of the flow has entered the VPN.
async fn carried_soon(tunnel: &Tunnel, name: &str, talk: &Talk) -> Result<(), LabError> {
    let carried = || async { Ok(tunnel.carried(&talk.flow()).then_some(())) };
    eventually(name, Duration::from_secs(2), carried).await
}

fn reversed(key: &FlowKey) -> FlowKey {
    FlowKey {
        protocol: key.protocol,
        source: key.destination,
        destination: key.source,
    }
}

async fn outcome(
    lab: &Lab,
    tunnel: &Tunnel,
    case: &Case,
) -> Result<(Outcome, Option<Talk>), LabError> {
    let talk = match Talk::open(&case.from, case.question).await {
        Ok(talk) => talk,
        Err(error) => {
            let outcome = Outcome {
                name: case.name,
                by: error.to_string(),
                seen: String::new(),
                carried: false,
            };
            return Ok((outcome, None));
        }
    };
    let (by, seen) = match talk.ask().await? {
        Ok(answer) => {
            let seen = match lab.uplink_of(answer.seen) {
                Some(_number) => "an uplink".to_owned(),
                None => answer.seen.to_string(),
            };
            (answer.by, seen)
        }
        Err(reason) => (reason, String::new()),
    };
    let flow = talk.flow();
    let carried = tunnel.carried(&flow) || tunnel.carried(&reversed(&flow));
    let outcome = Outcome {
        name: case.name,
        by,
        seen,
        carried,
    };
    Ok((outcome, Some(talk)))
}

/// Asks all questions over new sockets.
async fn outcomes(
    lab: &Lab,
    tunnel: &Tunnel,
    cases: &[Case],
) -> Result<(Vec<Outcome>, Vec<Talk>), LabError> {
    let (mut all, mut talks) = (Vec::new(), Vec::new());
    for case in cases {
        let (outcome, talk) = outcome(lab, tunnel, case).await?;
        all.push(outcome);
        talks.extend(talk);
    }
    Ok((all, talks))
}

/// The lines in which two runs differ.
fn compare(phase: &str, with: &[Outcome], without: &[Outcome]) -> Result<(), String> {
    let mut text = String::new();
    for (with, without) in with.iter().zip(without) {
        if with != without {
            text += &format!("\n  with:    {with:?}\n  without: {without:?}");
        }
    }
    if text.is_empty() && with.len() == without.len() {
        Ok(())
    } else {
        Err(format!(
            "{phase}, the daemon changes where packets go:{text}"
        ))
    }
}

async fn carries_the_same(mode: Mode, variant: Variant) -> TestResult {
    let Variant {
        setup,
        order,
        connected,
    } = variant;
    let lab = Lab::builder().uplinks(3).build().await?;
    let (gateway, client) = (lab.gateway().node(), lab.client(1)?.node());
    let outer = Outer {
        mark: setup.outer_mark(),
        connected,
    };
    let tunnel = Tunnel::open(&lab, outer).await?;
    for address in [EXIT, INTERNET] {
        answer_at(lab.internet().node(), address.parse()?).await?;
    }
    client
        .must(ProgramSpec::line("ip address add 192.0.2.200/32 dev lo"))
        .await?;
    answer_at(client, "198.18.0.10".parse()?).await?;
    answer_at(client, LOCAL.parse()?).await?;
    answer_at(gateway, OWN.parse()?).await?;
    let route = "ip route add 192.0.2.0/24 via 198.18.0.10";
    gateway.must(ProgramSpec::line(route)).await?;
    setup.install(gateway).await?;
    gateway.nft(USERS_NAT).await?;

    let cases = cases(&lab, &tunnel, setup)?;
    let (without, talks) = outcomes(&lab, &tunnel, &cases).await?;
    for (case, outcome) in cases.iter().zip(&without) {
        assert_eq!(
            outcome.by, case.answered_by,
            "without the daemon: {outcome:?}"
        );
    }
    drop(talks);
    gateway
        .must(ProgramSpec::line("nft delete table inet users"))
        .await?;

    if order == Order::AfterDaemon {
        setup.remove(gateway).await?;
    }
    let daemon = start(&lab, mode).await?;
    if order == Order::AfterDaemon {
        setup.install(gateway).await?;
    }
    let (with, talks) = outcomes(&lab, &tunnel, &cases).await?;
    compare("with all uplinks up", &with, &without)?;

    let seen = tunnel.seen_from().ok_or("no outer packet came")?;
    let outer = lab
        .uplink_of(seen.ip())
        .ok_or_else(|| format!("the VPN comes from {seen}"))?;
    let dies = setup.dying_uplink(outer);
    let name = match dies {
        1 => "one",
        2 => "two",
        _ => "three",
    };
    lab.uplink(dies)?.black_hole().await?;
    for (case, expected) in cases.iter().zip(&without) {
        // Answers may be lost now, and so may be what comes from the far side.
        if expected.by == "far" && case.question.protocol == FlowProtocol::Udp {
            let talk = Talk::open(&case.from, case.question).await?;
            talk.say().await?;
            carried_soon(&tunnel, case.name, &talk).await?;
        }
    }
    until(&daemon, name, State::Down).await?;
    if connected {
        // Before it sends again: a VPN may be silent for long.
        let dead = lab.uplink(dies)?.gateway_address(Family::Ipv4);
        let dead = dead.ok_or("every uplink speaks IPv4")?;
        let forgotten = || async {
            let command = format!("conntrack -L -p udp --orig-port-src 51820 --reply-dst {dead}");
            let found = gateway.must(ProgramSpec::line(&command)).await?;
            Ok(found.is_empty().then_some(()))
        };
        eventually("the VPN's own flow is forgotten", VERDICT, forgotten).await?;
    }
    let away = || async {
        for talk in talks.iter().take(1) {
            talk.say().await?;
        }
        let seen = tunnel.seen_from().and_then(|seen| lab.uplink_of(seen.ip()));
        Ok((seen != Some(dies)).then_some(()))
    };
    eventually("the VPN goes by a survivor", VERDICT, away).await?;
    let (with, _) = outcomes(&lab, &tunnel, &cases).await?;
    compare("after a failover", &with, &without)?;
    // What the VPN carried before goes on; only connections through the dead uplink end.
    for ((case, expected), talk) in cases.iter().zip(&without).zip(&talks) {
        let stays_inside = expected.by != "internet" && case.question.source.is_none();
        if stays_inside {
            let answer = talk.ask().await?;
            let answer = answer.map_err(|error| format!("{}: {error}", case.name))?;
            assert_eq!(answer.by, expected.by, "{}", case.name);
        }
    }

    lab.uplink(dies)?.heal().await?;
    until(&daemon, name, State::Up).await?;
    let (with, _) = outcomes(&lab, &tunnel, &cases).await?;
    compare("after the uplink's return", &with, &without)?;
    daemon.terminate().await?;
    Ok(())
}
