//! Networks behind interfaces that are no downlinks, as those of containers are: translated by
//! their own rules, sticky, and moved by a failover.

use std::collections::BTreeMap;

use failover_tests::addressing::servers;
use failover_tests::daemon::State;
use failover_tests::{Lab, LabError, Node, ProgramSpec};

use crate::exchange::{Question, Talk, answer_at};
use crate::{Mode, SystemTest, TestResult, start, until};

pub(crate) fn tests(mode: Mode) -> Vec<SystemTest> {
    vec![SystemTest::new(
        format!("{mode}_containers_are_sticky_and_fail_over"),
        move || sticky_and_fails_over(mode),
    )]
}

/// What Docker has for a network of its own.
const RULESET: &str = r#"table ip containers {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 192.0.2.0/24 oifname != "ctr0" masquerade
    }
}"#;

/// A node behind the gateway's interface `ctr0`.
async fn container(gateway: &Node) -> Result<Node, LabError> {
    let container = Node::new("container").await?;
    let namespace = container.namespace_path();
    let link = format!(
        "ip link add ctr0 type veth peer name eth0 netns {}",
        namespace.display()
    );
    for command in [
        link.as_str(),
        "ip address add 192.0.2.1/24 dev ctr0",
        "ip link set ctr0 up",
    ] {
        gateway.must(ProgramSpec::line(command)).await?;
    }
    for command in [
        "ip address add 192.0.2.10/24 dev eth0",
        "ip link set eth0 up",
        "ip route add default via 192.0.2.1",
    ] {
        container.must(ProgramSpec::line(command)).await?;
    }
    gateway.nft(RULESET).await?;
    Ok(container)
}

/// The uplink by which each flow is seen; every one must be answered.
async fn uplinks(lab: &Lab, talks: &[Talk]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut uplinks = Vec::new();
    for talk in talks {
        let answer = talk.ask().await??;
        let uplink = lab.uplink_of(answer.seen);
        uplinks.push(uplink.ok_or_else(|| format!("seen as {}", answer.seen))?);
    }
    Ok(uplinks)
}

async fn sticky_and_fails_over(mode: Mode) -> TestResult {
    let lab = Lab::builder().uplinks(3).build().await?;
    let gateway = lab.gateway().node();
    let container = container(gateway).await?;
    for server in servers(failover::family::Family::Ipv4) {
        answer_at(lab.internet().node(), server).await?;
    }
    // By ports, so that a few flows are enough to use every uplink.
    gateway
        .set_sysctl("net/ipv4/fib_multipath_hash_policy", "1")
        .await?;
    let daemon = start(&lab, mode).await?;

    let (mut datagrams, mut connections) = (Vec::new(), Vec::new());
    for server in servers(failover::family::Family::Ipv4)
        .into_iter()
        .cycle()
        .take(40)
    {
        datagrams.push(Talk::open(&container, Question::udp(server)).await?);
        connections.push(Talk::open(&container, Question::tcp(server)).await?);
    }
    let datagrams_by = uplinks(&lab, &datagrams).await?;
    let connections_by = uplinks(&lab, &connections).await?;
    let mut shares: BTreeMap<u8, usize> = BTreeMap::new();
    for uplink in &datagrams_by {
        *shares.entry(*uplink).or_default() += 1;
    }
    assert_eq!(shares.len(), 3, "all uplinks are used: {shares:?}");
    assert_eq!(uplinks(&lab, &datagrams).await?, datagrams_by);
    assert_eq!(uplinks(&lab, &connections).await?, connections_by);

    lab.uplink(1)?.black_hole().await?;
    until(&daemon, "one", State::Down).await?;
    let moved = uplinks(&lab, &datagrams).await?;
    for (before, after) in datagrams_by.iter().zip(&moved) {
        assert_ne!(*after, 1, "no flow stays on a dead uplink");
        assert!(*before == 1 || before == after, "{before} became {after}");
    }
    let survivors: Vec<(&Talk, u8)> = connections
        .iter()
        .zip(&connections_by)
        .filter(|(_, by)| **by != 1)
        .map(|(talk, by)| (talk, *by))
        .collect();
    for (talk, by) in &survivors {
        assert_eq!(lab.uplink_of(talk.ask().await??.seen), Some(*by));
    }

    lab.uplink(1)?.heal().await?;
    until(&daemon, "one", State::Up).await?;
    assert_eq!(uplinks(&lab, &datagrams).await?, moved, "they stay");
    for (talk, by) in &survivors {
        assert_eq!(lab.uplink_of(talk.ask().await??.seen), Some(*by));
    }
    daemon.terminate().await?;
    Ok(())
}
