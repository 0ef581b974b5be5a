//! Uplinks that are neither well nor dead, and targets that are to blame themselves.

use failover::family::Family;
use failover_tests::daemon::{State, Status};
use failover_tests::{Lab, Percent, Protocol};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{Scene, THREE};

const FLAPPING: &str = "
uplinks:
  one: {interface: wan1, probe: {interval: 100ms, up_after: 2, max_hold: 30m}}
  two: {interface: wan2}
downlinks: [lan0]
";

/// An uplink that fails a second time is held back when it answers again, also by the next daemon, and
/// used at once when somebody trusts it.
pub(crate) async fn held_back(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), FLAPPING).await?;
    let uplink = scene.uplink(1)?;
    for state in [State::Up, State::Degraded] {
        uplink.black_hole().await?;
        both(scene, 1, State::Down).await?;
        uplink.heal().await?;
        both(scene, 1, state).await?;
    }
    let status = scene.daemon()?.status().await?;
    let one = status.uplink("one").ok_or("not in the status")?;
    assert!(
        one.reason.starts_with("answers, held back for 1 min "),
        "{status}"
    );
    assert!(one.reason.ends_with(" more after 2 failures"), "{status}");
    assert_eq!(of_new_flows(scene, 1).await?, 0);

    let left = one.ipv4.held_back_s.ok_or("not held back")?;
    scene.kill_daemon().await?;
    scene.run_daemon(FLAPPING).await?;
    let status = scene
        .until("it answers the next daemon", |status| {
            let one = status.uplink("one");
            one.is_some_and(|one| one.ipv4.reason.starts_with("answers, held back for "))
        })
        .await?;
    both(scene, 1, State::Degraded).await?;
    let one = status.uplink("one").ok_or("not in the status")?;
    let still = one.ipv4.held_back_s.ok_or("not held back any more")?;
    assert!(still > 30 && still <= left, "{left} s, then {still} s");
    assert!(one.reason.ends_with(" more after 2 failures"), "{status}");
    assert_eq!(of_new_flows(scene, 1).await?, 0);

    let daemon = scene.daemon()?;
    let failover = daemon.failover();
    let said = failover.command("trust one").await?;
    assert_eq!(said.stdout, "one is trusted again in IPv4 and IPv6\n");
    both(scene, 1, State::Up).await?;
    assert!(of_new_flows(scene, 1).await? > 40);
    let said = failover.command("trust one").await?;
    assert_eq!(
        said.stdout,
        "one is not held back; its failures are forgotten\n"
    );
    let told = failover.command("events").await?;
    assert!(
        told.stdout
            .contains("by hand: it was held back in IPv4 and IPv6"),
        "{told:?}"
    );
    let refused = failover.command("trust three").await?;
    assert!(!refused.status.success());
    assert!(
        refused.stderr.contains("the uplinks are one, two"),
        "{refused:?}"
    );
    Ok(())
}

const LIMITED: &str = "
uplinks:
  one: {interface: wan1}
  two:
    interface: wan2
    probe: {targets: [icmp://203.0.113.1, icmp://203.0.113.2, icmp://203.0.113.3, icmp://203.0.113.4,
                      'icmp://fd00:203::1', 'icmp://fd00:203::2', 'icmp://fd00:203::3',
                      'icmp://fd00:203::4'],
            window: 6s, max_loss: 25%, max_latency: 2s}
downlinks: [lan0]
";

/// An uplink that loses more than it may is left by new flows, says why, and is used again when it
/// has answered well for the whole window.
pub(crate) async fn poor(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), LIMITED).await?;
    let flows = scene
        .converse(Family::Ipv4, &[(Protocol::Udp, 40), (Protocol::Tcp, 40)])
        .await?;
    let part = Percent::new(50).ok_or("50 is a percentage")?;
    scene.uplink(2)?.loss(part).await?;
    both(scene, 2, State::Degraded).await?;
    let status = scene.daemon()?.status().await?;
    let two = status.uplink("two").ok_or("not in the status")?;
    let reason = &two.ipv4.reason;
    assert!(
        reason.contains("% of the probes are lost, ") || reason.contains(" targets answer"),
        "{status}"
    );
    assert_eq!(of_new_flows(scene, 2).await?, 0);
    scene.uplink(2)?.heal().await?;
    both(scene, 2, State::Up).await?;
    assert!(of_new_flows(scene, 2).await? > 40);
    flows.expect_unmoved(&[1, 2]).await?;
    Ok(())
}

/// All targets must answer, and one of them dies: the uplinks are judged without it.
pub(crate) async fn blamed(case: &Case) -> Outcome {
    let demanding: String = THREE
        .lines()
        .map(|line| line.replace('}', ", probe: {required: 2}}") + "\n")
        .collect();
    let scene = case.open(Lab::builder().uplinks(3), &demanding).await?;
    let before = scene.daemon()?.status().await?;
    let internet = scene.lab.internet().node();
    let dead = "table inet dead {
        chain input {
            type filter hook input priority filter; policy accept;
            ip daddr 203.0.113.1 icmp type echo-request drop
            ip6 daddr fd00:203::1 icmpv6 type echo-request drop
        }
    }";
    internet.nft(dead.to_owned()).await?;
    let aside = |status: &Status, expected: usize| {
        status.uplinks.iter().all(|uplink| {
            let families = [&uplink.ipv4, &uplink.ipv6];
            families
                .iter()
                .all(|family| family.targets_aside.len() == expected)
        })
    };
    scene
        .until("the target is set aside", |status| aside(status, 1))
        .await?;
    let log = scene.daemon()?.log();
    assert!(log.contains("a target is silent by its own fault, and is set aside"));
    // Long enough for all to be declared down by it.
    let uplink = scene.uplink(1)?;
    let sent = uplink.capture()?.probe_packets()?;
    scene
        .eventually("some rounds are sent", || async {
            Ok(uplink.capture()?.probe_packets()? > sent + 10 * 4)
        })
        .await?;
    let after = scene.daemon()?.status().await?;
    assert!(after.all(State::Up), "{after}");
    for (before, after) in before.uplinks.iter().zip(&after.uplinks) {
        assert_eq!(before.since, after.since, "{}", after.name);
    }
    internet.nft("delete table inet dead".to_owned()).await?;
    scene
        .until("the target counts again", |status| aside(status, 0))
        .await?;
    Ok(())
}

async fn both(scene: &Scene, uplink: u8, state: State) -> Outcome {
    for family in Family::ALL {
        scene.until_state(uplink, family, state).await?;
    }
    Ok(())
}

/// How many of a hundred new flows an uplink gets, in each family.
async fn of_new_flows(scene: &Scene, uplink: u8) -> Result<usize, Box<dyn std::error::Error>> {
    let mut count = 0;
    for family in Family::ALL {
        let tally = scene.new_flows(Protocol::Udp, family, 100).await?;
        count += tally.on(uplink);
    }
    Ok(count)
}
