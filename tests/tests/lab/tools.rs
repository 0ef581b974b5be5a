//! Programs, snapshots and the daemon's surroundings.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use failover_tests::daemon::State;
use failover_tests::{Failover, KernelState, Lab, LabError, Node, ProgramSpec, eventually};
use nix::sys::signal::Signal;

use super::{LabTest, TestResult};

pub(super) fn trials() -> Vec<LabTest> {
    vec![
        LabTest::new(
            "programs_run_in_the_namespace_and_their_failures_are_told",
            programs,
        ),
        LabTest::new("settings_belong_to_the_node", settings),
        LabTest::new("other_programs_reach_a_node_by_its_path", path),
        LabTest::new("a_snapshot_shows_what_stays", snapshot),
        LabTest::new("a_daemon_is_started_asked_and_ended", daemon),
        LabTest::new("a_daemon_that_fails_shows_its_log", failing_daemon),
        LabTest::new("a_lab_that_cannot_be_is_refused", impossible),
    ]
}

async fn programs() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let links = node.must(ProgramSpec::line("ip -brief link")).await?;
    assert!(links.contains("wan1") && links.contains("lan0"), "{links}");

    let spec = ProgramSpec::new("sh").arguments(["-c", "cat; echo bad >&2; exit 3"]);
    let failed = node.must(spec.input("good")).await;
    let message = failed.err().ok_or("it cannot succeed")?.to_string();
    for part in ["gateway", "exit status: 3", "bad", "good"] {
        assert!(message.contains(part), "{part} in: {message}");
    }
    let missing = node
        .must(ProgramSpec::new("failover-no-such-program"))
        .await;
    assert!(matches!(missing, Err(LabError::ProgramStart { .. })));
    let endless = ProgramSpec::line("sleep 1000").limit(Duration::from_millis(50));
    assert!(matches!(
        node.must(endless).await,
        Err(LabError::ProgramTimeout { .. })
    ));

    let program = node.start(ProgramSpec::line("sleep 1000")).await?;
    assert_eq!(program.ended(), None);
    program.signal(Signal::SIGTERM);
    assert!(!program.wait(Duration::from_secs(5)).await?.success());
    Ok(())
}

async fn settings() -> TestResult {
    let lab = Lab::builder()
        .rp_filter(failover_tests::RpFilter::Loose)
        .build()
        .await?;
    let key = "net/ipv4/conf/wan1/rp_filter";
    assert_eq!(lab.gateway().node().sysctl(key).await?, "2");
    let host = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range")?;
    let node = lab.client(1)?.node();
    node.set_sysctl("net/ipv4/ping_group_range", "7 8").await?;
    assert_eq!(node.sysctl("net/ipv4/ping_group_range").await?, "7\t8");
    let after = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range")?;
    assert_eq!(host, after, "the machine's own setting is as it was");
    Ok(())
}

async fn path() -> TestResult {
    let lab = Lab::builder().build().await?;
    let option = format!("--net={}", lab.gateway().node().namespace_path().display());
    // Started from another node, so that the path alone leads to the gateway.
    let spec = ProgramSpec::new("nsenter").arguments([option.as_str(), "ip", "-brief", "link"]);
    let links = lab.internet().node().must(spec).await?;
    assert!(links.contains("wan1"), "{links}");
    Ok(())
}

async fn snapshot() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let before = KernelState::of(node).await?;
    let again = KernelState::of(node).await?;
    assert_eq!(before.difference(&again), None);
    for (change, undo) in [
        ("ip rule add pref 1234 lookup 99", "ip rule del pref 1234"),
        (
            "ip -6 rule add pref 1234 lookup 99",
            "ip -6 rule del pref 1234",
        ),
        (
            "ip route add 192.0.2.0/24 dev wan1 table 99",
            "ip route flush table 99",
        ),
        (
            "ip -6 route add fd00:99::/64 dev wan1 table 99",
            "ip -6 route flush table 99",
        ),
        ("nft add table inet left", "nft delete table inet left"),
        (
            "tc qdisc add dev lan0 clsact",
            "tc qdisc del dev lan0 clsact",
        ),
        (
            "sysctl -q net.ipv4.tcp_fwmark_accept=1",
            "sysctl -q net.ipv4.tcp_fwmark_accept=0",
        ),
    ] {
        node.must(ProgramSpec::line(change)).await?;
        let changed = KernelState::of(node).await?;
        assert!(
            before.difference(&changed).is_some(),
            "{change} is not seen"
        );
        node.must(ProgramSpec::line(undo)).await?;
        let undone = KernelState::of(node).await?;
        assert_eq!(before.difference(&undone), None, "{undo}");
    }
    Ok(())
}

/// Answers as the daemon does, and takes a moment until it does.
const STAND_IN: &str = r#"#!/bin/sh
case "$1" in
run)
    echo "begins" >&2
    folder=$(dirname "$3")
    trap 'echo "ends" >&2; exit 0' TERM
    sleep 0.1
    touch "$folder/answers"
    while :; do sleep 0.02; done ;;
status)
    [ -e "$(dirname "$4")/answers" ] || exit 3
    cat <<'END'
{"mode": "classic", "since": "2026-11-20T10:00:00Z", "uplinks": [
  {"name": "fiber", "id": 1, "interface": "wan1", "weight": 1, "priority": 1, "state": "up",
   "draining": false, "since": "2026-11-20T10:00:01Z", "reason": "good",
   "ipv4": {"state": "up", "gateway": null, "source": null, "share": 1.0, "rtt_ms": null, "loss": null, "reason": "good"},
   "ipv6": {"state": "absent", "gateway": null, "source": null, "share": 0.0, "rtt_ms": null, "loss": null, "reason": "no address"},
   "flows": 0, "rx_bytes": 0, "tx_bytes": 0, "rx_packets": 0, "tx_packets": 0}]}
END
;;
*) exit 2 ;;
esac
"#;

fn stand_in(lab: &Lab, text: &str) -> Result<Failover, Box<dyn std::error::Error>> {
    let script = lab.files().join("stand-in");
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let config = "uplinks:\n  fiber: {interface: wan1}\n";
    Ok(Failover::with_binary(lab, script, config)?)
}

async fn daemon() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = stand_in(&lab, STAND_IN)?;
    let config = std::fs::read_to_string(failover.config())?;
    for key in ["uplinks:", "control: ", "state_dir: ", "bpffs: "] {
        let lines = config.lines().filter(|line| line.starts_with(key));
        assert_eq!(lines.count(), 1, "{key} in: {config}");
    }
    let daemon = failover.run().await?;
    let up = |status: &failover_tests::daemon::Status| status.is("fiber", State::Up);
    daemon
        .wait_until("fiber is up", Duration::from_secs(1), up)
        .await?;
    let never = daemon
        .wait_until("fiber is down", Duration::ZERO, |status| {
            status.is("fiber", State::Down)
        })
        .await;
    let message = never.err().ok_or("it cannot be down")?.to_string();
    assert!(
        message.contains("fiber is down") && message.contains("begins"),
        "{message}"
    );
    assert_eq!(failover.command("nonsense").await?.status.code(), Some(2));
    assert_eq!(daemon.terminate().await?, "begins\nends\n");

    let daemon = failover.run().await?;
    assert_eq!(daemon.kill().await?, "begins\n");
    Ok(())
}

async fn failing_daemon() -> TestResult {
    let lab = Lab::builder().build().await?;
    let script = "#!/bin/sh\n[ \"$1\" = run ] || exit 3\necho 'no such uplink' >&2\nexit 1\n";
    let error = stand_in(&lab, script)?
        .run()
        .await
        .err()
        .ok_or("it cannot be ready")?;
    let message = error.to_string();
    assert!(
        message.contains("no such uplink") && message.contains("exit status: 1"),
        "{message}"
    );
    Ok(())
}

async fn impossible() -> TestResult {
    for builder in [
        Lab::builder().uplinks(0),
        Lab::builder().uplinks(128),
        Lab::builder().clients(0),
        Lab::builder().downlinks([1; 10]),
        Lab::builder().uplink_without(3, failover::family::Family::Ipv4),
    ] {
        assert!(matches!(
            builder.build().await,
            Err(LabError::Layout { .. })
        ));
    }
    let lab = Lab::builder().build().await?;
    assert!(lab.uplink(0).is_err() && lab.uplink(3).is_err() && lab.client(2).is_err());
    // A node that ends while something waits for it says so.
    let node = Node::new("short").await?;
    let sleeper = node.start(ProgramSpec::line("sleep 1000")).await?;
    let pid = sleeper.pid();
    drop((node, sleeper));
    eventually(
        "the program went with its node",
        Duration::from_secs(5),
        || async {
            Ok(
                (!std::path::Path::new(&format!("/proc/{pid}/cmdline")).exists()
                    || std::fs::read(format!("/proc/{pid}/cmdline"))
                        .unwrap_or_default()
                        .is_empty())
                .then_some(()),
            )
        },
    )
    .await?;
    Ok(())
}
