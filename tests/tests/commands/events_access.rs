//! Who may read events, and from where.

use failover_tests::{Failover, Lab, ProgramSpec};

use crate::events::{events, lines, state_folder};
use crate::permissions::{NOBODY, changed, copy};
use crate::{CONFIG, SystemTest, TestResult, one_line};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("events_are_for_those_who_may_read_them", permissions),
        SystemTest::new("events_need_a_place_and_a_time_that_exist", refusals),
    ]
}

async fn permissions() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    failover.run().await?.terminate().await?;
    let folder = state_folder(&lab);
    let modes = ["events.jsonl", "ids.json"].map(|name| mode(&folder.join(name)));
    let [journal, ids] = modes;
    assert_eq!(journal?, ids?);

    let binary = copy(&lab, &failover).await?;
    let by_config = || changed(NOBODY, &binary, "events --json --config", failover.config());
    let by_folder = || changed(NOBODY, &binary, "events --json --state-dir", &folder);
    let must = async |line: String| node.must(ProgramSpec::line(&line)).await.map(drop);
    let file = folder.join("events.jsonl");
    must(format!("chmod 755 {}", folder.display())).await?;
    must(format!(
        "chmod 644 {} {}",
        file.display(),
        failover.config().display()
    ))
    .await?;
    for spec in [by_config(), by_folder()] {
        assert_eq!(
            lines(&node.must(spec).await?)?,
            events(&failover, "").await?
        );
    }
    must(format!("chmod 600 {}", failover.config().display())).await?;
    let config = failover.config().display().to_string();
    one_line(
        &node.output(by_config()).await?,
        4,
        &[&config, "--state-dir"],
    )?;
    node.must(by_folder()).await?;
    must(format!("chmod 600 {}", file.display())).await?;
    one_line(
        &node.output(by_folder()).await?,
        4,
        &["not permitted", "events.jsonl", "root"],
    )?;
    must(format!("chmod 700 {}", folder.display())).await?;
    one_line(
        &node.output(by_folder()).await?,
        4,
        &["not permitted", "events.jsonl", "root"],
    )?;
    Ok(())
}

fn mode(path: &std::path::Path) -> std::io::Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::metadata(path)?.permissions().mode())
}

async fn refusals() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    for (line, parts) in [
        ("events --since soon", &["soon", "2h"]),
        ("events --last none", &["none", "--last"]),
    ] {
        let output = failover.command(line).await?;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            parts.iter().all(|part| output.stderr.contains(part)),
            "{output:?}"
        );
    }
    // A file that is wrong is no reason not to know what happened.
    failover.rewrite("uplinks: {}")?;
    let output = failover.command("events").await?;
    one_line(&output, 1, &["failover check", "--state-dir"])?;
    let binary = failover.binary();
    let by_folder = ProgramSpec::new(binary)
        .arguments(["events", "--state-dir"])
        .arguments([state_folder(&lab)]);
    assert!(node.must(by_folder).await?.starts_with("no events yet"));
    std::fs::remove_file(failover.config())?;
    let output = failover.command("events").await?;
    one_line(&output, 1, &["No such file", "--state-dir"]).map_err(Into::into)
}
