//! Interfaces come, go and change while the daemon runs.

use failover::family::Family;
use failover_tests::Pinning as _;
use failover_tests::daemon::{State, Status};
use failover_tests::{Daemon, Lab, LabError, Node, ProgramSpec, Protocol, Tally, Traffic};

use crate::hanging::{downlink, until, uplink, usual, wanted};
use crate::{CONFIG, Hook, SystemTest, TestResult, VERDICT};

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    vec![
        SystemTest::new(
            format!("{hook}_an_uplink_made_again_gets_its_program"),
            move || uplink_again(hook),
        ),
        SystemTest::new(
            format!("{hook}_a_downlink_that_comes_later_gets_its_programs"),
            move || later(hook),
        ),
        SystemTest::new(
            format!("{hook}_a_tun_made_again_gets_its_programs"),
            move || tun(hook),
        ),
        SystemTest::new(format!("{hook}_programs_follow_a_name"), move || {
            renamed(hook)
        }),
        SystemTest::new(format!("{hook}_down_and_up_changes_nothing"), move || {
            down_and_up(hook)
        }),
    ]
}

/// New flows of the client use both uplinks, and none goes unanswered.
async fn both_used(lab: &Lab, daemon: &Daemon) -> Result<(), LabError> {
    let all_up = |status: &Status| {
        status.problem.is_none()
            && status
                .uplinks
                .iter()
                .all(|uplink| uplink.ipv4.state == State::Up && uplink.ipv6.state == State::Up)
    };
    daemon
        .wait_until("all uplinks are up", VERDICT, all_up)
        .await?;
    for family in Family::ALL {
        let traffic = Traffic::new(Protocol::Udp, family, 60);
        let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
        assert_eq!(tally.answered(), 60, "{tally}");
        assert!(tally.on(1) > 10 && tally.on(2) > 10, "{tally}");
    }
    Ok(())
}

async fn run(node: &Node, commands: &[&str]) -> Result<(), LabError> {
    for command in commands {
        node.must(ProgramSpec::line(command)).await?;
    }
    Ok(())
}

async fn uplink_again(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let daemon = hook.start(&lab).await?;
    for _ in 0..2 {
        lab.uplink(2)?.remove_interface().await?;
        let [lan_in, lan_out] = downlink("lan0");
        let rest = wanted(hook, &[lan_in, lan_out, uplink("wan1")]);
        until(gateway, VERDICT, &rest).await?;
        lab.uplink(2)?.remake_interface().await?;
        until(gateway, VERDICT, &usual(hook)).await?;
        both_used(&lab, &daemon).await?;
    }
    let log = daemon.log();
    assert!(!log.contains("took our program off"), "nobody did: {log}");
    // A pin of an interface that is gone is gone, too.
    if hook == Hook::Tcx {
        let links = std::fs::read_dir(lab.pins().links())?;
        assert_eq!(links.count(), 4);
    }
    daemon.terminate().await?;
    Ok(())
}

async fn later(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let config = CONFIG.replace("[lan0]", "[lan0, lan7]");
    let daemon = crate::started(&hook.failover(&lab, &config)?).await?;
    until(gateway, VERDICT, &usual(hook)).await?;
    run(gateway, &["ip link add lan7 type bridge"]).await?;
    let both = &usual(hook) | &wanted(hook, &downlink("lan7"));
    until(gateway, VERDICT, &both).await?;
    run(gateway, &["ip link del lan7"]).await?;
    until(gateway, VERDICT, &usual(hook)).await?;
    both_used(&lab, &daemon).await?;
    daemon.terminate().await?;
    Ok(())
}

/// An interface without Ethernet header.
async fn tun(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let config = CONFIG.replace("[lan0]", "[lan0, tun5]");
    let daemon = crate::started(&hook.failover(&lab, &config)?).await?;
    let headless = [
        ("tun5", "ingress", "fo_lan_in_l3"),
        ("tun5", "egress", "fo_lan_out_l3"),
    ];
    for _ in 0..2 {
        let tun = gateway.add_tun("tun5").await?;
        let both = &usual(hook) | &wanted(hook, &headless);
        until(gateway, VERDICT, &both).await?;
        // The interface goes with it.
        drop(tun);
        until(gateway, VERDICT, &usual(hook)).await?;
    }
    both_used(&lab, &daemon).await?;
    daemon.terminate().await?;
    Ok(())
}

/// The name is what the configuration knows.
async fn renamed(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    // So that the addresses of IPv6 stay.
    gateway
        .set_sysctl("net/ipv6/conf/lan0/keep_addr_on_down", "1")
        .await?;
    let daemon = hook.start(&lab).await?;
    let rename = |from: &str, to: &str| {
        [
            format!("ip link set {from} down"),
            format!("ip link set {from} name {to}"),
            format!("ip link set {to} up"),
        ]
    };
    let uplinks = wanted(hook, &[uplink("wan1"), uplink("wan2")]);
    for command in rename("lan0", "old0") {
        run(gateway, &[&command]).await?;
    }
    until(gateway, VERDICT, &uplinks).await?;
    run(gateway, &["ip link add lan0 type bridge"]).await?;
    until(gateway, VERDICT, &usual(hook)).await?;
    run(gateway, &["ip link del lan0"]).await?;
    until(gateway, VERDICT, &uplinks).await?;
    for command in rename("old0", "lan0") {
        run(gateway, &[&command]).await?;
    }
    until(gateway, VERDICT, &usual(hook)).await?;
    both_used(&lab, &daemon).await?;
    let log = daemon.log();
    assert!(!log.contains("took our program off"), "nobody did: {log}");
    daemon.terminate().await?;
    Ok(())
}

async fn down_and_up(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    gateway
        .set_sysctl("net/ipv6/conf/lan0/keep_addr_on_down", "1")
        .await?;
    let daemon = hook.start(&lab).await?;
    let before = crate::hanging::listed(gateway).await?;
    for _ in 0..3 {
        run(gateway, &["ip link set lan0 down", "ip link set lan0 up"]).await?;
    }
    gateway.settled().await?;
    both_used(&lab, &daemon).await?;
    assert_eq!(
        crate::hanging::listed(gateway).await?,
        before,
        "the same programs"
    );
    let log = daemon.log();
    assert!(!log.contains("took our program off"), "nobody did: {log}");
    daemon.terminate().await?;
    Ok(())
}
