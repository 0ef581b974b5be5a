//! Starting where not everything is there yet, and what a daemon writes where.

use failover::family::Family;
use failover_tests::daemon::{State, Status};
use failover_tests::{Daemon, Failover, Lab, Protocol, Tally, Traffic, eventually};
use nix::sys::signal::Signal;

use crate::refusals::ended;
use crate::{CONFIG, SystemTest, TestResult, VERDICT};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("an_interface_that_comes_later_is_no_error", later),
        SystemTest::new("no_interface_at_all_is_no_error", none_yet),
        SystemTest::new("the_log_goes_to_standard_error_only", log),
        SystemTest::new("check_says_ok_and_touches_nothing", check),
    ]
}

async fn later() -> TestResult {
    let lab = Lab::builder().build().await?;
    lab.uplink(2)?.remove_interface().await?;
    let daemon = Daemon::start(&lab, CONFIG).await?;
    let status = daemon
        .wait_until("one is up", VERDICT, |status| status.is("one", State::Up))
        .await?;
    let two = status.uplink("two").ok_or("it is configured")?;
    assert_eq!(two.state, State::Down, "{status}");
    assert!(
        two.reason.contains("wan2") || two.reason.contains("interface"),
        "{}",
        two.reason
    );
    assert_eq!((two.ipv4.share, two.ipv6.share), (0.0, 0.0));
    let traffic = Traffic::new(Protocol::Tcp, Family::Ipv4, 20);
    let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
    assert_eq!(tally.on(1), 20, "{tally}");

    lab.uplink(2)?.remake_interface().await?;
    let both = |status: &Status| {
        status
            .uplink("two")
            .is_some_and(|two| two.ipv4.state == State::Up && two.ipv6.state == State::Up)
    };
    daemon.wait_until("two is up", VERDICT, both).await?;
    for family in Family::ALL {
        let traffic = Traffic::new(Protocol::Tcp, family, 60);
        let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
        assert_eq!(tally.answered(), 60, "{tally}");
        assert!(tally.on(2) > 10, "{tally}");
    }
    daemon.terminate().await?;
    Ok(())
}

async fn none_yet() -> TestResult {
    let lab = Lab::builder().build().await?;
    for uplink in lab.uplinks() {
        uplink.remove_interface().await?;
    }
    let daemon = Daemon::start(&lab, CONFIG).await?;
    let status = daemon.status().await?;
    assert!(status.all(State::Down), "{status}");
    lab.uplink(1)?.remake_interface().await?;
    daemon
        .wait_until("one is up", VERDICT, |status| status.is("one", State::Up))
        .await?;
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 20);
    let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
    assert_eq!(tally.on(1), 20, "{tally}");
    daemon.terminate().await?;
    Ok(())
}

async fn log() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    let program = node.start(failover.program("run -v")).await?;
    let up = |log: &str| log.matches("to=\"up\"").count() >= 4;
    eventually("all uplinks are up", VERDICT, || async {
        match program.ended() {
            Some(status) => Err(ended(node, status.to_string(), program.stderr())),
            None => Ok(up(&program.stderr()).then_some(())),
        }
    })
    .await?;
    program.signal(Signal::SIGTERM);
    let status = program.wait(VERDICT).await?;
    assert!(status.success(), "{status}");
    assert_eq!(program.stdout(), "");
    let log = program.stderr();
    assert!(log.contains("ready") && log.contains("stopped"), "{log}");
    assert!(log.contains("DEBUG"), "-v shows debug messages: {log}");
    assert!(!log.contains('\u{1b}'), "no colour: {log}");

    let quiet = node.start(failover.program("run -qq")).await?;
    eventually("the daemon answers", VERDICT, || async {
        let output = failover.command("status").await?;
        Ok(output.status.success().then_some(()))
    })
    .await?;
    quiet.signal(Signal::SIGINT);
    assert!(quiet.wait(VERDICT).await?.success());
    assert_eq!(
        (quiet.stdout(), quiet.stderr()),
        (String::new(), String::new())
    );
    Ok(())
}

async fn check() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    let before = failover_tests::KernelState::of(node).await?;
    let output = failover.command("check").await?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("ok\n", "")
    );
    let after = failover_tests::KernelState::of(node).await?;
    assert_eq!(before.difference(&after), None);
    assert!(!lab.files().join("state").exists());
    Ok(())
}
