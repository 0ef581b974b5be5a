//! `failover demo`, as it is where only the binary was installed.

use std::path::Path;
use std::time::Duration;

use failover_tests::{Failover, Lab, Output, ProgramSpec};

use crate::permissions::{NOBODY, changed, copy};
use crate::{CONFIG, SystemTest, TestResult, one_line};

/// Longer than a brief demo takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("the_demo_needs_the_binary_alone", alone),
        SystemTest::new("the_demo_says_that_it_needs_root", not_root),
    ]
}

async fn alone() -> TestResult {
    let lab = Lab::builder().uplinks(1).build().await?;
    let gateway = lab.gateway().node();
    let binary = copy(&lab, &Failover::new(&lab, CONFIG)?).await?;
    let folder = lab.files().join("empty");
    std::fs::create_dir(&folder)?;
    let demo = format!(
        "cd {} && exec env -i PATH=/usr/bin:/bin {} demo --brief --json demo.json",
        folder.display(),
        binary.display()
    );
    let spec = ProgramSpec::new("sh").arguments(["-c", &demo]);
    let output = gateway.output(spec.limit(LIMIT)).await?;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let kept = output
        .stdout
        .lines()
        .filter(|line| line.starts_with("  ok "));
    assert!(kept.count() >= 5, "{}", told(&output));
    assert!(!output.stdout.contains("NOT MET"), "{}", told(&output));
    assert_eq!(output.stderr, "");
    assert_eq!(files(&folder)?, ["demo.json"]);
    let _result: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("demo.json"))?)?;
    Ok(())
}

async fn not_root() -> TestResult {
    let lab = Lab::builder().uplinks(1).build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let binary = copy(&lab, &failover).await?;
    let result = lab.files().join("demo.json");
    let spec = changed(NOBODY, &binary, "demo --json", &result);
    let output = lab.gateway().node().output(spec).await?;
    one_line(&output, 4, &["root", "sudo"])?;
    assert!(!result.exists());
    Ok(())
}

fn told(output: &Output) -> String {
    format!("{}\n{}{}", output.status, output.stdout, output.stderr)
}

fn files(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
