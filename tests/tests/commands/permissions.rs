//! What a user without privileges is told.

use std::path::PathBuf;

use failover_tests::{Daemon, Failover, KernelState, Lab, LabError, ProgramSpec};

use crate::{CONFIG, SystemTest, TestResult, one_line};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("without_root_the_missing_capability_is_named", not_root),
        SystemTest::new("one_missing_capability_is_named_alone", one_missing),
        SystemTest::new("the_daemon_answers_its_owner_only", status),
        SystemTest::new("check_needs_no_root", check),
    ]
}

/// Becomes nobody.
pub(crate) const NOBODY: [&str; 4] = [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--no-new-privs",
];

/// A copy of the binary that everybody may run, wherever it was built. Another process makes it: a
/// descriptor of ours, open for writing, would be inherited by whatever a test beside this one
/// starts, and the kernel runs nothing that somebody may still write to.
pub(crate) async fn copy(lab: &Lab, failover: &Failover) -> Result<PathBuf, LabError> {
    let copy = lab.files().join("failover");
    let spec = ProgramSpec::new("install")
        .arguments(["--mode=755"])
        .arguments([failover.binary(), &copy]);
    lab.gateway().node().must(spec).await?;
    Ok(copy)
}

/// A command with privileges changed by `setpriv`.
pub(crate) fn changed<'a>(
    options: impl IntoIterator<Item = &'a str>,
    binary: &std::path::Path,
    line: &str,
    file: &std::path::Path,
) -> ProgramSpec {
    ProgramSpec::new("setpriv")
        .arguments(options)
        .arguments([binary])
        .arguments(line.split_whitespace())
        .arguments([file])
}

async fn not_root() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    let binary = copy(&lab, &failover).await?;
    let before = KernelState::of(node).await?;
    for line in ["run --config", "clean --config"] {
        let output = node
            .output(changed(NOBODY, &binary, line, failover.config()))
            .await?;
        one_line(&output, 4, &["CAP_NET_ADMIN", "root"])?;
    }
    assert_eq!(before.difference(&KernelState::of(node).await?), None);
    assert!(!lab.files().join("state").exists(), "nothing is written");
    Ok(())
}

async fn one_missing() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    for (option, missing, there) in [
        ("--bounding-set=-net_raw", "CAP_NET_RAW", "CAP_NET_ADMIN"),
        ("--bounding-set=-net_admin", "CAP_NET_ADMIN", "CAP_NET_RAW"),
    ] {
        let spec = changed(
            [option],
            failover.binary(),
            "run --config",
            failover.config(),
        );
        let output = node.output(spec).await?;
        one_line(&output, 4, &[missing])?;
        assert!(!output.stderr.contains(there), "{output:?}");
    }
    Ok(())
}

async fn status() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = Daemon::start(&lab, CONFIG).await?;
    let failover = daemon.failover();
    let binary = copy(&lab, failover).await?;
    for line in [
        "status --control",
        "status --json --control",
        "reload --control",
    ] {
        let spec = changed(NOBODY, &binary, line, failover.control());
        let output = lab.gateway().node().output(spec).await?;
        one_line(&output, 4, &["not permitted", "root"])?;
    }
    daemon.status().await?;
    daemon.terminate().await?;
    Ok(())
}

async fn check() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let binary = copy(&lab, &failover).await?;
    let spec = changed(NOBODY, &binary, "check --config", failover.config());
    let output = lab.gateway().node().output(spec).await?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, "ok\n");
    assert!(output.stderr.is_empty(), "{output:?}");
    Ok(())
}
