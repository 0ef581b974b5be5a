//! What is refused, with a reason, before anything is touched.

use std::path::Path;

use failover_tests::{
    Failover, KernelState, Lab, LabError, Node, Output, ProgramSpec, without_nft,
};

use crate::broken::{Broken, TABLE, generated};
use crate::{CONFIG, SystemTest, TestResult, one_line};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("broken_configurations_are_refused", broken),
        SystemTest::new("a_file_that_cannot_be_read_is_named", unreadable),
        SystemTest::new("a_wrong_command_line_ends_with_2", command_lines),
        SystemTest::new("status_without_a_daemon_ends_with_3", no_daemon),
        SystemTest::new("a_missing_nft_is_named", no_nft),
        SystemTest::new("nft_is_found_where_a_path_lacks_it", short_path),
    ]
}

/// Where the daemon would write by default.
const DEFAULT_FOLDERS: [&str; 2] = ["/var/lib/failover", "/run/failover"];

/// What is in the folders where the daemon would write by default.
fn written() -> Vec<(String, Option<std::time::SystemTime>)> {
    let mut found = Vec::new();
    for folder in DEFAULT_FOLDERS {
        let modified = std::fs::metadata(folder).and_then(|found| found.modified());
        found.push((folder.to_owned(), modified.ok()));
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|found| found.modified());
            found.push((entry.path().display().to_string(), modified.ok()));
        }
    }
    found
}

fn unchanged(before: &KernelState, after: &KernelState) -> Result<(), String> {
    before.difference(after).map_or(Ok(()), Err)
}

/// That the command ended with 1 and printed every problem of the table, with its place, on standard
/// error and nothing else on standard output.
fn refused(output: &Output, file: &Path, broken: &Broken) -> Result<(), String> {
    let file = file.display();
    let expected: Vec<String> = broken
        .problems
        .iter()
        .map(|problem| format!("{file}:{problem}"))
        .collect();
    let complete = expected.iter().all(|line| {
        output
            .stderr
            .lines()
            .any(|printed| printed.ends_with(line.as_str()))
    });
    if output.status.code() == Some(1) && output.stdout.is_empty() && complete {
        return Ok(());
    }
    Err(format!(
        "{}: expected status 1 and\n{}\nfound {} and\n{}{}\n",
        broken.name,
        expected.join("\n"),
        output.status,
        output.stdout,
        output.stderr
    ))
}

async fn broken() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let binary = Failover::new(&lab, CONFIG)?.binary().to_owned();
    let before = KernelState::of(node).await?;
    let files = written();
    let folder = lab.files().join("broken");
    std::fs::create_dir(&folder)?;
    let mut wrong = String::new();
    for broken in TABLE.iter().map(Broken::from).chain(generated()) {
        let file = folder.join(format!("{}.yaml", broken.name));
        std::fs::write(&file, &broken.bytes)?;
        for command in ["check", "run", "clean"] {
            let spec = ProgramSpec::new(&binary)
                .arguments([command, "--config"])
                .arguments([&file]);
            let output = node.output(spec).await?;
            if let Err(problem) = refused(&output, &file, &broken) {
                wrong += &format!("{command} {problem}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    unchanged(&before, &KernelState::of(node).await?)?;
    assert_eq!(written(), files, "nothing is written");
    let left = std::fs::read_dir(lab.files())?;
    let names: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
    assert!(!names.iter().any(|name| name == "state"), "{names:?}");
    Ok(())
}

async fn unreadable() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    std::fs::remove_file(failover.config())?;
    let path = failover.config().display().to_string();
    for command in ["check", "run", "clean"] {
        let output = failover.command(command).await?;
        one_line(&output, 1, &[&path, "No such file"])?;
    }
    std::fs::create_dir(failover.config())?;
    for command in ["check", "run", "clean"] {
        let output = failover.command(command).await?;
        one_line(&output, 1, &[&path, "directory"])?;
    }
    Ok(())
}

async fn command_lines() -> TestResult {
    let lab = Lab::builder().build().await?;
    let binary = Failover::new(&lab, CONFIG)?.binary().to_owned();
    let node = lab.gateway().node();
    for line in [
        "nonsense",
        "--nonsense",
        "run --nonsense",
        "run --json",
        "check --control x",
        "status --config x",
        "status more",
        "check --config",
        "run -v -q",
    ] {
        let spec = ProgramSpec::new(&binary).arguments(line.split_whitespace());
        let output = node.output(spec).await?;
        assert_eq!(output.status.code(), Some(2), "`{line}`: {output:?}");
        assert!(output.stdout.is_empty(), "`{line}`: {output:?}");
        assert!(output.stderr.contains("--help"), "`{line}`: {output:?}");
        assert!(!output.stderr.contains('\u{1b}'), "`{line}`: {output:?}");
    }
    for line in ["--help", "--version", "run --help", "status --version"] {
        let spec = ProgramSpec::new(&binary).arguments(line.split_whitespace());
        let output = node.output(spec).await?;
        assert_eq!(output.status.code(), Some(0), "`{line}`: {output:?}");
        assert!(output.stderr.is_empty(), "`{line}`: {output:?}");
        assert!(output.stdout.contains("failover"), "`{line}`: {output:?}");
    }
    Ok(())
}

async fn no_daemon() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let socket = failover.control().display().to_string();
    for command in [
        "status",
        "status --json",
        "reload",
        "reload --json",
        "flush",
    ] {
        let output = failover.command(command).await?;
        one_line(&output, 3, &[&socket, "failover run"])?;
    }
    // A daemon that was killed leaves its socket behind.
    let daemon = failover.run().await?;
    daemon.kill().await?;
    assert!(failover.control().exists());
    let output = failover.command("status").await?;
    one_line(&output, 3, &[&socket])?;
    // The next one takes it over.
    let daemon = failover.run().await?;
    daemon.status().await?;
    daemon.terminate().await?;
    assert!(!failover.control().exists(), "it takes its socket away");
    // A file that is no socket.
    std::fs::write(failover.control(), "no socket")?;
    let output = failover.command("status").await?;
    one_line(&output, 3, &[&socket])?;
    Ok(())
}

async fn no_nft() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    let before = KernelState::of(node).await?;
    for command in ["run", "clean"] {
        let spec = ProgramSpec::new(failover.binary())
            .arguments(["--quiet", command, "--config"])
            .arguments([failover.config()]);
        let spec = without_nft(spec);
        let output = node.output(spec).await?;
        let log = output
            .stderr
            .lines()
            .filter(|line| line.starts_with("failover:"));
        assert_eq!(log.count(), 1, "{output:?}");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        for part in ["nft", "not installed", "apt-get install nftables"] {
            assert!(output.stderr.contains(part), "{part}: {output:?}");
        }
        unchanged(&before, &KernelState::of(node).await?)?;
    }
    Ok(())
}

async fn short_path() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let spec = failover.program("run").variable("PATH", "/nonexistent");
    let program = lab.gateway().node().start(spec).await?;
    failover_tests::eventually("the daemon is ready", crate::VERDICT, || async {
        match program.ended() {
            Some(status) => Err(ended(
                lab.gateway().node(),
                status.to_string(),
                program.stderr(),
            )),
            None => Ok(program.stderr().contains("ready").then_some(())),
        }
    })
    .await?;
    Ok(())
}

pub(crate) fn ended(node: &Node, status: String, output: String) -> LabError {
    LabError::ProgramFailed {
        node: node.name().to_owned(),
        command: "failover run".to_owned(),
        status,
        output,
    }
}
