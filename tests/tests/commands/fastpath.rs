//! What is said of the fast path where there is none, and what `failover flush` answers.

use failover::family::Family;
use failover_tests::daemon::{Mode, State};
use failover_tests::{Daemon, Failover, Lab, Protocol, Traffic};
use serde_json::{Value, json};

use crate::{CONFIG, SystemTest, TestResult, VERDICT, one_line};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("flush_is_refused_in_classic_mode", classic),
        SystemTest::new("a_fast_path_that_is_switched_off_is_told_as_such", off),
    ]
}

type Error = Box<dyn std::error::Error>;

async fn running(lab: &Lab, more: &str) -> Result<Daemon, Error> {
    let daemon = Daemon::start(lab, &format!("{CONFIG}{more}")).await?;
    daemon
        .wait_until("all are up", VERDICT, |status| status.all(State::Up))
        .await?;
    Ok(daemon)
}

async fn json_of(failover: &Failover, line: &str) -> Result<Value, Error> {
    let output = failover.command(line).await?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    Ok(serde_json::from_str(&output.stdout)?)
}

/// That no flow takes a fast path, and that this is told where flows are; returns why status says so.
async fn told_as_off(lab: &Lab, daemon: &Daemon) -> Result<String, Error> {
    let failover = daemon.failover();
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 2);
    let flows = lab.client(1)?.open(traffic).await?;
    flows.ask(VERDICT).await?;
    let listed = json_of(failover, "flows --json").await?;
    let listed = listed.as_array().ok_or("flows are a list")?;
    assert_eq!(listed.len(), 2, "{listed:?}");
    for flow in listed {
        assert_eq!(flow.get("offloaded"), Some(&json!(false)), "{flow}");
        assert_eq!(flow.get("fastpath"), Some(&json!("off")), "{flow}");
    }
    let table = failover.command("flows").await?;
    assert!(!table.stdout.contains("PATH"), "{}", table.stdout);
    drop(flows);
    let status = json_of(failover, "status --json").await?;
    assert_eq!(status.pointer("/fastpath/on"), Some(&json!(false)));
    assert_eq!(status.pointer("/fastpath/flows"), Some(&json!(0)));
    let reason = status.pointer("/fastpath/reason").and_then(Value::as_str);
    Ok(reason.ok_or("no reason")?.to_owned())
}

async fn classic() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = running(&lab, &format!("mode: {}\n", Mode::Classic)).await?;
    let failover = daemon.failover();
    for line in ["flush", "flush --json"] {
        let output = failover.command(line).await?;
        one_line(&output, 1, &["classic mode has no fast path"])?;
    }
    assert_eq!(
        told_as_off(&lab, &daemon).await?,
        "classic mode has no fast path"
    );
    let table = failover.command("status").await?;
    assert!(!table.stdout.contains("Fast path"), "{}", table.stdout);
    daemon.terminate().await?;
    Ok(())
}

async fn off() -> TestResult {
    let lab = Lab::builder().build().await?;
    let more = format!("mode: {}\nfastpath: off\n", Mode::Ebpf);
    let daemon = running(&lab, &more).await?;
    let failover = daemon.failover();
    let reason = told_as_off(&lab, &daemon).await?;
    assert!(reason.contains("fastpath: off"), "{reason}");
    let table = failover.command("status").await?;
    let foot = format!("\nFast path: off: {reason}.\n");
    assert!(table.stdout.contains(&foot), "{}", table.stdout);

    let rules = "rules:\n  - {name: voice, via: [one, two], fastpath: off}\n";
    let auto = more.replace("fastpath: off\n", "");
    failover.rewrite(&format!("{CONFIG}{auto}{rules}"))?;
    let reloaded = failover.command("reload").await?;
    assert_eq!(
        reloaded.stdout,
        "reloaded: fastpath off -> auto, rule voice added; nothing else\n"
    );
    failover.rewrite(&format!(
        "{CONFIG}{auto}{}",
        rules.replace(", fastpath: off", "")
    ))?;
    let reloaded = failover.command("reload").await?;
    assert_eq!(
        reloaded.stdout,
        "reloaded: rule voice changed; nothing else\n"
    );
    daemon.terminate().await?;
    Ok(())
}
