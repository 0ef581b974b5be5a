//! Nothing stays behind: no namespace, no process, no interface, no mount, no file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use failover_tests::{Lab, LabError, Node, ProgramSpec, eventually};

use super::{LabTest, TestResult};

/// Set in the environment of a process that builds a lab in order to be killed.
pub(super) const VICTIM: &str = "FAILOVER_LAB_VICTIM";

/// What the victim writes when it is ready to be killed.
const READY: &str = "ready";

pub(super) fn trials() -> Vec<LabTest> {
    vec![
        LabTest::new("nothing_is_left_when_a_lab_ends", normal_end),
        LabTest::new("nothing_is_left_when_the_process_is_killed", killed),
    ]
}

/// A namespace that is held open here, so that its number is given to no other, and nobody else
/// may hold.
struct Held {
    file: File,
    id: u64,
}

impl Held {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let id = file.metadata()?.ino();
        Ok(Self { file, id })
    }
}

/// Who is in a network namespace or holds it open: threads, and files.
fn holders(id: u64) -> Vec<String> {
    let name = format!("net:[{id}]");
    let mut found = Vec::new();
    let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    for process in entries("/proc".into()) {
        // Beside the processes there are links to the one that looks.
        if process.file_type().is_ok_and(|kind| kind.is_symlink()) {
            continue;
        }
        for thread in entries(process.path().join("task")) {
            let namespace = thread.path().join("ns/net");
            if fs::read_link(&namespace).is_ok_and(|target| target == Path::new(&name)) {
                found.push(namespace.display().to_string());
            }
        }
        for file in entries(process.path().join("fd")) {
            if fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&name)) {
                found.push(file.path().display().to_string());
            }
        }
    }
    found
}

/// Waits until nobody but this process's one open file holds any of the namespaces.
async fn until_released(held: &[Held]) -> Result<(), LabError> {
    use std::os::fd::AsRawFd;
    for Held { file, id } in held {
        let own = format!("/fd/{}", file.as_raw_fd());
        let mine = format!("/proc/{}", std::process::id());
        eventually(
            "the namespaces are released",
            Duration::from_secs(5),
            || async {
                let others = holders(*id)
                    .into_iter()
                    .filter(|path| !(path.starts_with(&mine) && path.ends_with(&own)))
                    .count();
                Ok((others == 0).then_some(()))
            },
        )
        .await?;
    }
    Ok(())
}

/// The names of the interfaces of the machine itself.
fn interfaces() -> std::io::Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/self/net/dev")?;
    let names = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    Ok(names.map(|name| name.trim().to_owned()).collect())
}

/// Mounts of a lab that processes outside of labs see.
fn foreign_mounts() -> std::io::Result<usize> {
    let text = fs::read_to_string("/proc/1/mountinfo")?;
    Ok(text
        .lines()
        .filter(|line| line.contains("failover-lab"))
        .count())
}

async fn normal_end() -> TestResult {
    let before = interfaces()?;
    let lab = Lab::builder().uplinks(3).clients(2).build().await?;
    let files = lab.files().to_owned();
    assert!(files.is_dir());
    let paths: Vec<PathBuf> = lab.nodes().map(Node::namespace_path).collect();
    let held: Result<Vec<Held>, _> = paths.iter().map(|path| Held::open(path)).collect();
    let held = held?;
    // Gateway, internet, switch, three providers, two clients.
    assert_eq!(held.len(), 8);
    for Held { id, .. } in &held {
        assert!(
            holders(*id).len() > 1,
            "the search finds who holds a namespace"
        );
    }
    let sleeper = lab
        .gateway()
        .node()
        .start(ProgramSpec::line("sleep 1000"))
        .await?;
    assert_eq!(interfaces()?, before);
    drop(sleeper);
    drop(lab);
    until_released(&held).await?;
    assert!(!files.exists());
    assert_eq!(interfaces()?, before);
    assert_eq!(foreign_mounts()?, 0);
    Ok(())
}

async fn killed() -> TestResult {
    let before = interfaces()?;
    let mut victim = Command::new(std::env::current_exe()?)
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = victim.stdout.take().ok_or("no pipe")?;
    let mut held = Vec::new();
    let mut ready = false;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == READY {
            ready = true;
            break;
        }
        held.push(Held::open(Path::new(&line))?);
    }
    assert!(ready, "the victim ended by itself");
    assert_eq!(held.len(), 5, "gateway, internet, two providers, a client");
    assert_eq!(foreign_mounts()?, 0);
    // The gateway comes first: its thread, its open file and the program in it.
    let gateway = held.first().ok_or("no gateway")?;
    let programs = |paths: Vec<String>| {
        let victims = format!("/proc/{}/", victim.id());
        let foreign = paths.into_iter().filter(|path| !path.starts_with(&victims));
        foreign.filter(|path| path.ends_with("ns/net")).count()
    };
    assert_eq!(
        programs(holders(gateway.id)),
        1,
        "the program is in the gateway"
    );
    victim.kill()?;
    victim.wait()?;
    until_released(&held).await?;
    assert_eq!(interfaces()?, before);
    assert_eq!(foreign_mounts()?, 0);
    Ok(())
}

/// Builds a lab, says where its namespaces are and waits to be killed. Ends by itself when the test
/// is gone.
pub(super) fn be_killed() -> ExitCode {
    match build_and_wait() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut output = std::io::stderr().lock();
            writeln!(output, "{error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn build_and_wait() -> TestResult {
    failover_tests::isolate()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let lab = Lab::builder().build().await?;
        let _sleeper = lab
            .gateway()
            .node()
            .start(ProgramSpec::line("sleep 1000"))
            .await?;
        let mut output = std::io::stdout().lock();
        for node in lab.nodes() {
            writeln!(output, "{}", node.namespace_path().display())?;
        }
        writeln!(output, "{READY}")?;
        output.flush()?;
        let mut rest = Vec::new();
        std::io::stdin().read_to_end(&mut rest)?;
        Ok(())
    })
}
