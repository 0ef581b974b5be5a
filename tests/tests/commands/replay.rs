//! `failover trace` and `failover replay`: what became of an uplink can be played again, as it was and
//! with other settings.

use std::fs;
use std::path::{Path, PathBuf};

use failover_tests::daemon::State;
use failover_tests::{Daemon, Failover, Lab, LabError, Output, ProgramSpec};
use serde_json::Value;

use crate::events::{Outcome, state_folder};
use crate::{CONFIG, SystemTest, TestResult, VERDICT, one_line};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("replay_says_what_was_and_what_would_have_been", night),
        SystemTest::new("replay_goes_on_after_a_kill_and_a_torn_line", killed),
        SystemTest::new("traces_that_cannot_be_written_or_read_say_why", refusals),
    ]
}

fn trace_of(lab: &Lab, uplink: &str) -> PathBuf {
    state_folder(lab).join(format!("traces/{uplink}.jsonl"))
}

/// `failover replay`, which no daemon is asked for.
async fn replay(lab: &Lab, failover: &Failover, options: &[&str]) -> Result<Output, LabError> {
    let spec = ProgramSpec::new(failover.binary())
        .arguments(["replay"])
        .arguments([trace_of(lab, "one")])
        .arguments(options.iter().copied())
        .variable("TZ", "UTC")
        .limit(VERDICT);
    lab.gateway().node().output(spec).await
}

async fn report(lab: &Lab, failover: &Failover, options: &[&str]) -> Outcome<Value> {
    let options: Vec<&str> = options.iter().copied().chain(["--json"]).collect();
    let output = replay(lab, failover, &options).await?;
    if !output.status.success() {
        return Err(format!("{output:?}").into());
    }
    Ok(serde_json::from_str(&output.stdout)?)
}

fn families(report: &Value) -> &[Value] {
    let families = report.get("families").and_then(Value::as_array);
    families.map_or(&[], Vec::as_slice)
}

/// The changes of a course: `up down`.
fn changes(family: &Value, course: &str) -> Vec<String> {
    let changes = family.pointer(&format!("/{course}/changes"));
    let changes = changes.and_then(Value::as_array).into_iter().flatten();
    changes
        .map(|change| {
            let state = |key| change.get(key).and_then(Value::as_str).unwrap_or_default();
            format!("{} {}", state("from"), state("to"))
        })
        .collect()
}

async fn wait(daemon: &Daemon, state: State) -> Result<(), LabError> {
    let what = format!("one is {state:?}");
    let found = daemon.wait_until(&what, VERDICT, |status| {
        status
            .uplink("one")
            .is_some_and(|one| one.ipv4.state == state && one.ipv6.state == state)
    });
    found.await.map(drop)
}

/// It dies and returns, into that state.
async fn outage(lab: &Lab, daemon: &Daemon, then: State) -> Result<(), LabError> {
    lab.uplink(1)?.black_hole().await?;
    wait(daemon, State::Down).await?;
    lab.uplink(1)?.heal().await?;
    wait(daemon, then).await
}

async fn night() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let daemon = failover.run().await?;
    wait(&daemon, State::Up).await?;
    let file = trace_of(&lab, "one").display().to_string();
    let said = failover.command("trace one --for 10m").await?;
    assert_eq!(said.stdout, format!("one is traced into {file}\n"));
    let said = failover.command("trace one").await?;
    assert_eq!(said.stdout, format!("one is traced already, into {file}\n"));
    outage(&lab, &daemon, State::Up).await?;
    let said = failover.command("trace one --stop").await?;
    assert_eq!(
        said.stdout,
        format!("one is traced no more; the trace is {file}\n")
    );
    let written = fs::metadata(&file)?.len();

    let played = report(&lab, &failover, &[]).await?;
    assert_eq!(families(&played).len(), 2, "{played:#}");
    for family in families(&played) {
        assert_eq!(changes(family, "own"), ["up down", "down up"], "{played:#}");
    }
    let flag = played.get("same_as_recorded").and_then(Value::as_bool);
    assert_eq!(flag, Some(true));

    // With more patience it would have stayed up.
    let other = lab.files().join("patient.yaml");
    fs::write(
        &other,
        format!("{CONFIG}  down_after: 100\n  interval: 1s\n"),
    )?;
    let other = other.display().to_string();
    let compared = report(&lab, &failover, &["--config", &other]).await?;
    for family in families(&compared) {
        assert_eq!(
            changes(family, "own"),
            ["up down", "down up"],
            "{compared:#}"
        );
        assert_eq!(changes(family, "other"), [""; 0], "{compared:#}");
    }
    let output = replay(&lab, &failover, &["--config", &other]).await?;
    for words in [
        "WITH patient.yaml",
        "IPv4: it would not have gone down",
        "IPv6: it would not have gone down",
        "interval: 500ms -> 1s",
        "the verdicts are those that were recorded",
    ] {
        assert!(output.stdout.contains(words), "{words}: {}", output.stdout);
    }

    // Nothing is added to what has ended.
    lab.uplink(1)?.black_hole().await?;
    wait(&daemon, State::Down).await?;
    assert_eq!(fs::metadata(&file)?.len(), written);

    // Where a verdict is missing, that is said.
    tampered(Path::new(&file))?;
    let output = replay(&lab, &failover, &[]).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        output
            .stdout
            .contains("recorded nothing, played `up → down"),
        "{output:?}"
    );
    Ok(())
}

/// Takes the verdict out that it went down.
fn tampered(file: &Path) -> std::io::Result<()> {
    let text = fs::read_to_string(file)?;
    let lines = text
        .lines()
        .filter(|line| !line.contains("\"verdict\":[\"up\",\"down\""));
    fs::write(
        file,
        lines.map(|line| format!("{line}\n")).collect::<String>(),
    )
}

async fn killed() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let daemon = failover.run().await?;
    wait(&daemon, State::Up).await?;
    assert!(failover.command("trace one").await?.status.success());
    outage(&lab, &daemon, State::Up).await?;
    daemon.kill().await?;
    let file = trace_of(&lab, "one");
    let torn = fs::read_to_string(&file)? + "[12345,\"ipv4\",{\"rou";
    fs::write(&file, torn)?;

    let daemon = failover.run().await?;
    wait(&daemon, State::Up).await?;
    assert!(failover.command("trace one").await?.status.success());
    // The one before it is remembered.
    outage(&lab, &daemon, State::Degraded).await?;
    // Its end is the end of the trace.
    daemon.terminate().await?;
    let played = report(&lab, &failover, &[]).await?;
    for family in families(&played) {
        let twice = ["up down", "down up", "up down", "down degraded"];
        assert_eq!(changes(family, "own"), twice, "{played:#}");
    }
    let same = played.get("same_as_recorded").and_then(Value::as_bool);
    assert_eq!(same, Some(true), "{played:#}");
    let count = |key| played.get(key).and_then(Value::as_array).map(Vec::len);
    assert_eq!(count("gaps"), Some(1), "{played:#}");
    let senseless = played.get("senseless_lines").and_then(Value::as_u64);
    assert_eq!(senseless, Some(1), "{played:#}");
    Ok(())
}

async fn refusals() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let absent = replay(&lab, &failover, &[]).await?;
    one_line(&absent, 1, &["cannot read the trace", "No such file"])?;
    let daemon = failover.run().await?;
    wait(&daemon, State::Up).await?;
    let unknown = failover.command("trace three").await?;
    one_line(&unknown, 1, &["three", "the uplinks are one, two"])?;
    let file = trace_of(&lab, "one");
    let never = failover.command("trace one --stop").await?;
    assert!(never.stdout.starts_with("one was not traced"), "{never:?}");

    let folder = state_folder(&lab).join("traces");
    fs::write(&folder, "in the way")?;
    let refused = failover.command("trace one").await?;
    one_line(&refused, 1, &["cannot write the trace", "one.jsonl"])?;
    fs::remove_file(&folder)?;
    let begun = failover.command("trace one").await?;
    assert_eq!(
        begun.stdout,
        format!("one is traced into {}\n", file.display())
    );
    failover.command("trace one --stop").await?;

    fs::write(&file, "a diary\n{}\n[]\n")?;
    let foreign = replay(&lab, &failover, &[]).await?;
    one_line(&foreign, 1, &["is no trace", "failover trace"]).map_err(Into::into)
}
