//! `failover clean` leaves the kernel as it was found, however the daemon ended; beside a running
//! daemon it does nothing.

use std::path::Path;

use failover_tests::daemon::State;
use failover_tests::{
    Daemon, Failover, KernelState, Lab, Output, ProgramSpec, RpFilter, eventually,
};

use crate::foreign::{BITS, ask_all, connection_marks, install, same};
use crate::{Mode, SystemTest, TestResult, VERDICT, config, start, until};

pub(crate) fn tests(mode: Mode) -> Vec<SystemTest> {
    let mut tests = vec![
        SystemTest::new(format!("{mode}_clean_beside_a_daemon_refuses"), move || {
            beside(mode)
        }),
        SystemTest::new(format!("{mode}_a_second_daemon_refuses"), move || {
            second(mode)
        }),
        SystemTest::new(
            format!("{mode}_clean_where_nothing_is_changes_nothing"),
            move || nothing(mode),
        ),
        SystemTest::new(
            format!("{mode}_a_setting_that_the_user_changed_since_stays"),
            move || user_setting(mode),
        ),
        SystemTest::new(
            format!("{mode}_a_table_emptied_by_others_is_cleaned"),
            move || half_there(mode),
        ),
    ];
    for (name, end) in [("kill", End::Kill), ("terminate", End::Terminate)] {
        for (when, fails_over) in [("", false), ("_and_a_failover", true)] {
            tests.push(SystemTest::new(
                format!("{mode}_clean_after_{name}{when}_leaves_what_was_found"),
                move || after(mode, end, fails_over),
            ));
        }
    }
    tests
}

/// The marks of a table in which there are probes only.
const PROBES: [u32; 3] = [0x8100_0000, 0x8200_0000, 0x8300_0000];

#[derive(Clone, Copy)]
enum End {
    Kill,
    Terminate,
}

impl End {
    async fn of(self, daemon: Daemon) -> Result<(), failover_tests::LabError> {
        match self {
            Self::Kill => daemon.kill().await.map(drop),
            Self::Terminate => daemon.terminate().await.map(drop),
        }
    }
}

async fn lab() -> Result<Lab, failover_tests::LabError> {
    let lab = Lab::builder().uplinks(3).rp_filter(RpFilter::Strict);
    lab.build().await
}

/// Everything in a folder of the BPF file system.
fn pins(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(pins(&path)?);
        }
    }
    Ok(found)
}

fn good(output: &Output) -> Result<(), String> {
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{}: {}", output.status, output.stderr))
    }
}

async fn after(mode: Mode, end: End, fails_over: bool) -> TestResult {
    let lab = lab().await?;
    let gateway = lab.gateway().node();
    let talks = install(&lab).await?;
    for answer in ask_all(&talks).await? {
        answer?;
    }
    let before = KernelState::of(gateway).await?;
    assert_eq!(connection_marks(gateway).await?, [BITS]);

    let daemon = start(&lab, mode).await?;
    let failover = daemon.failover().clone();
    for answer in ask_all(&talks).await? {
        answer?;
    }
    if fails_over {
        lab.uplink(1)?.black_hole().await?;
        until(&daemon, "one", State::Down).await?;
        // TCP flows of the dead uplink end; what matters is that entries of all kinds are there.
        ask_all(&talks).await?;
        lab.uplink(1)?.heal().await?;
    }
    let marks = connection_marks(gateway).await?;
    assert!(
        marks.iter().any(|mark| mark & 0xff00_0000 != 0),
        "the daemon marks connections: {marks:x?}"
    );
    let changed = gateway.sysctl("net/ipv4/conf/wan1/rp_filter").await?;
    assert_eq!(changed, "2", "strict filtering is off on uplinks");
    end.of(daemon).await?;
    assert!(
        before
            .difference(&KernelState::of(gateway).await?)
            .is_some()
    );

    good(&failover.command("clean").await?)?;
    same(&before, &KernelState::of(gateway).await?)?;
    assert_eq!(connection_marks(gateway).await?, [BITS]);
    assert_eq!(pins(&lab.bpffs())?, Vec::<String>::new());

    good(&failover.command("clean").await?)?;
    same(&before, &KernelState::of(gateway).await?)?;
    Ok(())
}

async fn beside(mode: Mode) -> TestResult {
    let lab = lab().await?;
    let gateway = lab.gateway().node();
    let talks = install(&lab).await?;
    let daemon = start(&lab, mode).await?;
    for answer in ask_all(&talks).await? {
        answer?;
    }
    let before = KernelState::of(gateway).await?;
    let output = daemon.failover().command("clean").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    refusal(&output, daemon.pid())?;
    same(&before, &KernelState::of(gateway).await?)?;
    for answer in ask_all(&talks).await? {
        answer?;
    }
    daemon.status().await?;
    daemon.terminate().await?;
    Ok(())
}

/// One line that says that a daemon runs, which one, and what to do.
fn refusal(output: &Output, pid: u32) -> Result<(), String> {
    let one_line = output.stderr.trim_end().lines().count() == 1;
    let wanted = ["running", &pid.to_string(), "stop it"];
    if one_line && wanted.iter().all(|part| output.stderr.contains(part)) {
        Ok(())
    } else {
        Err(format!("{wanted:?} in one line: {}", output.stderr))
    }
}

async fn second(mode: Mode) -> TestResult {
    let lab = lab().await?;
    let gateway = lab.gateway().node();
    let daemon = start(&lab, mode).await?;
    let probing = || async { Ok((connection_marks(gateway).await? == PROBES).then_some(())) };
    eventually("connections of probes are marked", VERDICT, probing).await?;
    let before = KernelState::of(gateway).await?;
    let output = daemon.failover().command("run --quiet").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    refusal(&output, daemon.pid())?;
    same(&before, &KernelState::of(gateway).await?)?;
    daemon.status().await?;
    daemon.terminate().await?;
    Ok(())
}

async fn nothing(mode: Mode) -> TestResult {
    let lab = lab().await?;
    let gateway = lab.gateway().node();
    let _talks = install(&lab).await?;
    let before = KernelState::of(gateway).await?;
    let failover = Failover::new(&lab, &config(mode))?;
    for _ in 0..2 {
        good(&failover.command("clean").await?)?;
        same(&before, &KernelState::of(gateway).await?)?;
    }
    Ok(())
}

async fn user_setting(mode: Mode) -> TestResult {
    let lab = lab().await?;
    let gateway = lab.gateway().node();
    let daemon = start(&lab, mode).await?;
    let failover = daemon.failover().clone();
    daemon.terminate().await?;
    gateway
        .set_sysctl("net/ipv4/conf/wan1/rp_filter", "0")
        .await?;
    good(&failover.command("clean").await?)?;
    for (interface, value) in [("wan1", "0"), ("wan2", "1")] {
        let key = format!("net/ipv4/conf/{interface}/rp_filter");
        assert_eq!(gateway.sysctl(&key).await?, value, "{key}");
    }
    Ok(())
}

/// Others removed parts of it, and put their own where it was.
async fn half_there(mode: Mode) -> TestResult {
    let lab = lab().await?;
    let gateway = lab.gateway().node();
    let before = KernelState::of(gateway).await?;
    let daemon = start(&lab, mode).await?;
    let failover = daemon.failover().clone();
    daemon.kill().await?;
    for command in [
        "nft delete table inet failover",
        "ip rule del pref 1001",
        "ip route flush table 302",
        "ip rule add pref 1000 from 198.18.0.77 lookup 301",
        "ip route add 192.0.2.7 via 198.18.12.1 table 301",
    ] {
        gateway.must(ProgramSpec::line(command)).await?;
    }
    good(&failover.command("clean").await?)?;
    // What was added stays: it is not the daemon's, wherever it stands.
    for command in [
        "ip rule del pref 1000 from 198.18.0.77 lookup 301",
        "ip route del 192.0.2.7 via 198.18.12.1 table 301",
    ] {
        gateway.must(ProgramSpec::line(command)).await?;
    }
    same(&before, &KernelState::of(gateway).await?)?;
    Ok(())
}
