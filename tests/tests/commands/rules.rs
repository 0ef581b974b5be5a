//! What `failover check` says of rules, and what becomes of sets whose files change.

use std::path::{Path, PathBuf};

use failover_tests::daemon::State;
use failover_tests::{Daemon, Failover, Lab, eventually};
use serde_json::Value;

use crate::{CONFIG, SystemTest, TestResult, VERDICT};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("check_warns_of_rules_with_the_places_of_both", warnings),
        SystemTest::new("a_broken_set_keeps_what_was_good", broken_set),
    ]
}

type Error = Box<dyn std::error::Error>;

async fn warnings() -> TestResult {
    let lab = Lab::builder().build().await?;
    let rules = "rules:
  - {name: net, match: {source: 198.18.0.0/24}, via: [one]}
  - {name: part, match: {source: 198.18.0.7, protocol: tcp}, via: [two]}
  - {name: mail, match: {protocol: tcp, ports: [25]}, via: [two]}
  - {name: never, match: {source: 198.18.0.0/24, protocol: icmpv6}, via: [two]}
  - {name: alike, match: {protocol: tcp, ports: [25], dscp: ef}, via: [two]}
";
    let failover = Failover::new(&lab, &format!("{}{rules}", CONFIG.trim_start()))?;
    let file = failover.config().display();
    let output = failover.command("check").await?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, "ok\n");
    let expected = [
        "9:5: rule `part` can never match: all of its packets match rule `net` at 8:5 before",
        "10:5: rule `mail` overlaps with rule `net` at 8:5, which sends what matches both to [one] instead of [two]",
        "11:5: rule `never` can never match: its protocol is not spoken in the family of its addresses",
        "12:5: rule `alike` can never match: all of its packets match rule `mail` at 10:5 before",
    ];
    let expected = expected.map(|words| format!("warning: {file}:{words}"));
    let said: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(said, expected);
    Ok(())
}

/// A set in a file, and a rule for it.
struct Listed {
    lab: Lab,
    file: PathBuf,
}

const SERVER: &str = "203.0.113.11";

impl Listed {
    fn write(&self, text: &str) -> Result<(), Error> {
        Ok(std::fs::write(&self.file, text)?)
    }

    fn failover(&self) -> Result<Failover, Error> {
        let file = self.file.display();
        let rules = format!(
            "sets: {{list: {file}}}\nrules:\n  - {{name: listed, match: {{destination: list}}, via: [two]}}\n"
        );
        Ok(Failover::new(&self.lab, &format!("{CONFIG}{rules}"))?)
    }
}

/// The name of the rule that the server's flows match.
async fn rule(failover: &Failover) -> Result<Option<String>, Error> {
    let line = format!("explain --from 198.18.0.10:4000 --to {SERVER}:443 --json");
    let output = failover.command(&line).await?;
    let explained: Value = serde_json::from_str(&output.stdout)?;
    let name = explained.pointer("/new_flow/rule/name");
    Ok(name.and_then(Value::as_str).map(str::to_owned))
}

async fn until_rule(failover: &Failover, wanted: Option<&str>) -> TestResult {
    let what = format!("rule {wanted:?} decides");
    eventually(&what, VERDICT, || async {
        let found = rule(failover).await;
        let found = found.map_err(|error| failover_tests::LabError::Layout {
            reason: error.to_string(),
        })?;
        Ok((found.as_deref() == wanted).then_some(()))
    })
    .await?;
    Ok(())
}

async fn until_told(daemon: &Daemon, words: &str) -> TestResult {
    eventually(words, VERDICT, || async {
        let output = daemon.failover().command("events").await?;
        let line: String = output
            .stdout
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        Ok(line.contains(words).then_some(()))
    })
    .await?;
    Ok(())
}

fn problem(status: &str, file: &Path) -> Result<(), Error> {
    let told = format!("{}:2: found `nonsense`", file.display());
    if status.contains(&told) {
        Ok(())
    } else {
        Err(format!("`{told}` is not in\n{status}").into())
    }
}

async fn broken_set() -> TestResult {
    let lab = Lab::builder().build().await?;
    let file = lab.files().join("list.txt");
    let listed = Listed { lab, file };
    // Nothing was ever kept of it: there is nothing to go on with.
    listed.write("203.0.113.0/24\nnonsense\n")?;
    let failover = listed.failover()?;
    let output = failover.command("check").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = format!(
        "{}:2: found `nonsense`, allowed: an address",
        listed.file.display()
    );
    assert!(output.stderr.starts_with(&told), "{output:?}");

    listed.write("# the server's network\n203.0.113.0/24\n")?;
    let daemon = failover.run().await?;
    daemon
        .wait_until("all are up", VERDICT, |status| status.all(State::Up))
        .await?;
    assert_eq!(rule(&failover).await?.as_deref(), Some("listed"));

    listed.write("198.51.100.0/24\nnonsense\n")?;
    until_told(&daemon, "set not reloaded").await?;
    assert_eq!(rule(&failover).await?.as_deref(), Some("listed"));
    problem(&failover.command("status").await?.stdout, &listed.file)?;
    let refused = failover.command("reload").await?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    problem(&refused.stderr, &listed.file)?;

    daemon.kill().await?;
    let daemon = failover.run().await?;
    assert_eq!(rule(&failover).await?.as_deref(), Some("listed"));
    problem(&failover.command("status").await?.stdout, &listed.file)?;

    listed.write("198.51.100.0/24\n")?;
    until_rule(&failover, None).await?;
    let status = failover.command("status").await?.stdout;
    assert!(problem(&status, &listed.file).is_err(), "{status}");
    listed.write("203.0.113.0/24\n")?;
    until_rule(&failover, Some("listed")).await?;
    until_told(&daemon, "set reloaded list has 1").await?;
    daemon.terminate().await?;
    Ok(())
}
