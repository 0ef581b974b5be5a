//! A host on which nothing is wrong, with and without a daemon, and what `--fix` mends.

use failover_tests::{Daemon, Failover, KernelState, Lab, ProgramSpec};

use crate::{CONFIG, SystemTest, TestResult, doctor};

pub(crate) fn tests() -> Vec<SystemTest> {
    let mut tests = vec![
        SystemTest::new("doctor/a_healthy_host", || healthy(None)),
        SystemTest::new("doctor/fix", fix),
        SystemTest::new("doctor/a_filter_that_harms_a_running_daemon", filter),
        SystemTest::new("doctor/a_daemon_that_is_gone", gone),
        SystemTest::new("doctor/text_and_exit_codes", text),
        SystemTest::new("doctor/without_root", without_root),
    ];
    tests.extend(["classic", "ebpf"].map(|mode| {
        SystemTest::new(
            format!("doctor/a_healthy_host_with_a_daemon/{mode}"),
            move || healthy(Some(mode)),
        )
    }));
    tests
}

async fn healthy(mode: Option<&str>) -> TestResult {
    let lab = Lab::builder().build().await?;
    let mut config = CONFIG.to_owned();
    if let Some(mode) = mode {
        config.push_str(&format!("mode: {mode}\n"));
    }
    let failover = Failover::new(&lab, &config)?;
    let _daemon = match mode {
        Some(_) => Some(failover.run().await?),
        None => None,
    };
    let node = lab.gateway().node();
    let before = KernelState::of(node).await?;
    let said = doctor(&lab, &failover, &["--fix"]).await?;
    assert!(said.output.status.success(), "{said:?}");
    assert_eq!(said.ids(), [""; 0], "{said:?}");
    assert!(said.report.unseen.is_empty(), "{said:?}");
    match before.difference(&KernelState::of(node).await?) {
        None => Ok(()),
        Some(difference) => Err(difference.into()),
    }
}

async fn fix() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    let wrong = [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv4/conf/wan2/rp_filter", "1"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv6/conf/wan1/accept_ra", "1"),
    ];
    for (key, value) in wrong {
        node.set_sysctl(key, value).await?;
    }
    // What is not a setting is for a person.
    node.must(ProgramSpec::line(
        "ip rule add pref 1003 from 198.18.0.99 lookup main",
    ))
    .await?;
    let before = doctor(&lab, &failover, &[]).await?;
    let found = [
        "forwarding-ipv4",
        "forwarding-ipv6",
        "rp-filter",
        "rules-overlap",
    ];
    assert_eq!(before.ids(), found, "{before:?}");
    let after = doctor(&lab, &failover, &["--fix"]).await?;
    assert_eq!(after.ids(), ["rules-overlap"], "{after:?}");
    assert_eq!(after.output.status.code(), Some(1));
    let fixed = after.report.fixed.join("\n");
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/wan2/rp_filter", "2"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/wan1/accept_ra", "2"),
    ] {
        assert_eq!(node.sysctl(key).await?, value, "{key}");
        assert!(fixed.contains(key), "{key}: {fixed}");
    }
    let rules = node.must(ProgramSpec::line("ip rule")).await?;
    assert!(rules.contains("1003:"), "{rules}");
    Ok(())
}

async fn filter() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let daemon = Daemon::start(&lab, CONFIG).await?;
    node.set_sysctl("net/ipv4/conf/wan2/rp_filter", "1").await?;
    let said = doctor(&lab, daemon.failover(), &[]).await?;
    assert_eq!(said.ids(), ["rp-filter"], "{said:?}");
    assert_eq!(said.output.status.code(), Some(1));
    let said = doctor(&lab, daemon.failover(), &["--fix"]).await?;
    assert!(
        said.output.status.success() && said.ids().is_empty(),
        "{said:?}"
    );
    Ok(())
}

async fn gone() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = Daemon::start(&lab, CONFIG).await?;
    let failover = daemon.failover().clone();
    daemon.kill().await?;
    let said = doctor(&lab, &failover, &[]).await?;
    assert_eq!(said.ids(), ["not-running"], "{said:?}");
    assert!(
        said.output.status.success(),
        "a notice is no failure: {said:?}"
    );
    Ok(())
}

async fn text() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    let command = || {
        ProgramSpec::new(failover.binary())
            .arguments(["doctor", "--config"])
            .arguments([failover.config()])
    };
    let output = node.output(command()).await?;
    assert_eq!(output.stdout, "nothing wrong was found\n");
    node.set_sysctl("net/ipv4/ip_forward", "0").await?;
    let output = node.output(command()).await?;
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "problem: ",
        "[forwarding-ipv4]",
        "sysctl -w net.ipv4.ip_forward=1",
    ] {
        assert!(output.stdout.contains(part), "{output:?}");
    }
    assert!(output.stderr.contains("one thing is wrong"), "{output:?}");
    failover.rewrite("uplinks: {}")?;
    let output = node.output(command()).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stdout.is_empty() && output.stderr.contains("uplinks"),
        "{output:?}"
    );
    Ok(())
}

/// What takes root is named, and the rest is looked at.
async fn without_root() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    // Nobody may look into the folder where it was built. Another process copies it: nothing is run
    // that somebody may still write to.
    let binary = lab.files().join("failover");
    let copy = ProgramSpec::new("install")
        .arguments(["--mode=755"])
        .arguments([failover.binary(), &binary]);
    node.must(copy).await?;
    let command = || {
        ProgramSpec::new("setpriv")
            .arguments([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--no-new-privs",
            ])
            .arguments([&binary])
            .arguments(["doctor", "--json", "--config"])
            .arguments([failover.config()])
    };
    let said = crate::said(&lab, command()).await?;
    assert_eq!(said.output.status.code(), Some(4), "{said:?}");
    let unseen = said.report.unseen.join("\n");
    assert!(
        unseen.contains("nftables") && unseen.contains("root"),
        "{unseen}"
    );
    node.set_sysctl("net/ipv4/ip_forward", "0").await?;
    let said = crate::said(&lab, command()).await?;
    assert_eq!(said.ids(), ["forwarding-ipv4"], "{said:?}");
    assert_eq!(said.output.status.code(), Some(1), "{said:?}");
    Ok(())
}
