//! What is pinned: others' pins stay, wherever ours are, and ours go, wherever they were.

use std::path::{Path, PathBuf};

use failover_tests::Pinning as _;
use failover_tests::daemon::{Mode, State, Status};
use failover_tests::{Daemon, Failover, Lab, ProgramSpec, eventually};

use crate::{SystemTest, TestResult, VERDICT, config};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("pins_of_others_in_the_folder_stay", beside_others),
        SystemTest::new("pins_in_another_folder_go_with_a_restart", other_folder),
        SystemTest::new(
            "pins_in_another_folder_go_with_clean",
            other_folder_and_clean,
        ),
        SystemTest::new("a_bpf_file_system_that_was_mounted_is_unmounted", mounted),
        SystemTest::new(
            "a_bpf_file_system_that_others_use_stays_mounted",
            mounted_and_used,
        ),
        SystemTest::new("a_start_that_fails_leaves_no_program", failed_start),
        SystemTest::new(
            "ebpf_mode_needs_three_capabilities_beside_that_of_probes",
            few_capabilities,
        ),
    ]
}

/// The same binary with its pins in another folder.
fn with_folder(lab: &Lab, folder: &Path) -> Result<Failover, Box<dyn std::error::Error>> {
    let failover = Failover::new(lab, &config(Mode::Ebpf))?;
    change(&failover, "bpffs", folder)?;
    Ok(failover)
}

fn change(failover: &Failover, key: &str, path: &Path) -> std::io::Result<()> {
    let text = std::fs::read_to_string(failover.config())?;
    let beginning = format!("{key}: ");
    let changed: Vec<String> = text
        .lines()
        .map(|line| match line.starts_with(&beginning) {
            true => format!("{beginning}{}", path.display()),
            false => line.to_owned(),
        })
        .collect();
    std::fs::write(failover.config(), changed.join("\n"))
}

/// Pins a map of someone else's.
async fn pin(lab: &Lab, path: &Path) -> TestResult {
    let line = format!(
        "bpftool map create {} type hash key 4 value 4 entries 1 name theirs",
        path.display()
    );
    lab.gateway().node().must(ProgramSpec::line(&line)).await?;
    Ok(())
}

/// The names of what is in a folder, without what the kernel itself puts there.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".debug") {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

async fn clean(failover: &Failover) -> TestResult {
    let output = failover.command("clean").await?;
    assert!(output.status.success(), "{}", output.stderr);
    Ok(())
}

/// Starts the daemon, sees that programs are attached, and ends it as the service manager does.
async fn run_and_end(failover: &Failover) -> TestResult {
    let daemon = failover.run().await?;
    working(&daemon).await?;
    daemon.terminate().await?;
    Ok(())
}

async fn working(daemon: &Daemon) -> TestResult {
    let all_up = |status: &Status| status.all(State::Up);
    let status = daemon
        .wait_until("all uplinks are up", VERDICT, all_up)
        .await?;
    assert_eq!(status.mode, "ebpf");
    Ok(())
}

async fn lab() -> Result<Lab, failover_tests::LabError> {
    Lab::builder().uplinks(3).build().await
}

/// How many programs of ours hang on interfaces of the gateway, by their links.
async fn attached(lab: &Lab) -> Result<usize, failover_tests::LabError> {
    let node = lab.gateway().node();
    let mut count = 0;
    for interface in ["lan0", "wan1", "wan2", "wan3"] {
        count += node.run(move || async move { programs(interface) }).await?;
    }
    Ok(count)
}

fn programs(interface: &str) -> usize {
    use aya::programs::{SchedClassifier, TcAttachType};
    [TcAttachType::Ingress, TcAttachType::Egress]
        .into_iter()
        .filter_map(|side| SchedClassifier::query_tcx(interface, side).ok())
        .map(|(_, programs)| programs.len())
        .sum()
}

async fn expect_attached(lab: &Lab, wanted: usize) -> TestResult {
    // A link whose pin is removed goes a moment later.
    let what = format!("{wanted} programs are attached");
    let found = || async { Ok((attached(lab).await? == wanted).then_some(())) };
    eventually(&what, VERDICT, found).await?;
    Ok(())
}

/// The programs of two places on `lan0` and one on each uplink.
const ALL: usize = 5;

async fn beside_others() -> TestResult {
    let lab = lab().await?;
    let folder = lab.bpffs();
    std::fs::create_dir(folder.join("vendor"))?;
    pin(&lab, &folder.join("vendor").join("theirs")).await?;
    pin(&lab, &folder.join("theirs")).await?;
    let failover = with_folder(&lab, &folder)?;
    run_and_end(&failover).await?;
    run_and_end(&failover).await?;
    clean(&failover).await?;
    assert_eq!(names(&folder)?, ["theirs", "vendor"]);
    assert_eq!(names(&folder.join("vendor"))?, ["theirs"]);
    expect_attached(&lab, 0).await
}

async fn other_folder() -> TestResult {
    let lab = lab().await?;
    run_and_end(&with_folder(&lab, &lab.bpffs().join("first"))?).await?;
    let failover = with_folder(&lab, &lab.bpffs().join("second"))?;
    run_and_end(&failover).await?;
    assert_eq!(names(&lab.bpffs())?, ["second"]);
    expect_attached(&lab, ALL).await?;
    clean(&failover).await?;
    assert_eq!(names(&lab.bpffs())?, Vec::<String>::new());
    expect_attached(&lab, 0).await
}

async fn other_folder_and_clean() -> TestResult {
    let lab = lab().await?;
    run_and_end(&with_folder(&lab, &lab.bpffs().join("first"))?).await?;
    clean(&with_folder(&lab, &lab.bpffs().join("second"))?).await?;
    assert_eq!(names(&lab.bpffs())?, Vec::<String>::new());
    expect_attached(&lab, 0).await
}

fn own_folder(lab: &Lab) -> PathBuf {
    lab.files().join("own")
}

fn is_mounted(folder: &Path) -> std::io::Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let folder = folder.display().to_string();
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(&folder)))
}

async fn mounted() -> TestResult {
    let lab = lab().await?;
    let folder = own_folder(&lab);
    let failover = with_folder(&lab, &folder)?;
    run_and_end(&failover).await?;
    assert!(is_mounted(&folder)?);
    expect_attached(&lab, ALL).await?;
    // The next daemon finds everything where it was.
    run_and_end(&failover).await?;
    expect_attached(&lab, ALL).await?;
    clean(&failover).await?;
    assert!(!is_mounted(&folder)?);
    expect_attached(&lab, 0).await
}

async fn mounted_and_used() -> TestResult {
    let lab = lab().await?;
    let folder = own_folder(&lab);
    let failover = with_folder(&lab, &folder)?;
    run_and_end(&failover).await?;
    pin(&lab, &folder.join("theirs")).await?;
    clean(&failover).await?;
    assert_eq!(names(&folder)?, ["theirs"]);
    expect_attached(&lab, 0).await?;
    nix::mount::umount(&folder)?;
    Ok(())
}

async fn failed_start() -> TestResult {
    let lab = lab().await?;
    let failover = Failover::new(&lab, &config(Mode::Ebpf))?;
    // A folder cannot be made in a file.
    change(
        &failover,
        "control",
        &failover.config().join("control.sock"),
    )?;
    let output = failover.command("run").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(names(&lab.bpffs())?, Vec::<String>::new());
    expect_attached(&lab, 0).await
}

/// Those that the service file gives: not CAP_SYS_ADMIN, without which the kernel does not tell which
/// programs hang where.
async fn few_capabilities() -> TestResult {
    let lab = lab().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, &config(Mode::Ebpf))?;
    let spec = ProgramSpec::new("setpriv")
        .arguments(["--bounding-set=-all,+net_admin,+net_raw,+bpf,+perfmon"])
        .arguments([failover.binary(), Path::new("run"), Path::new("--config")])
        .arguments([failover.config()]);
    let daemon = node.start(spec).await?;
    let status = || async {
        let output = failover.command("status --json").await?;
        let ready = output.status.success() && output.stdout.contains("\"ebpf\"");
        Ok(ready.then_some(output.stdout))
    };
    eventually("the daemon answers", VERDICT, status).await?;
    for state in ["down", "up"] {
        let line = format!("ip link set wan1 {state}");
        node.must(ProgramSpec::line(&line)).await?;
    }
    let seen = || async { Ok(daemon.stderr().contains("uplink=one").then_some(())) };
    eventually("the daemon has seen the change", VERDICT, seen).await?;
    expect_attached(&lab, ALL).await?;
    let log = daemon.stderr();
    // Routes by a link that goes down and up may be refused for a moment; programs are not.
    let complaints: Vec<_> = log
        .lines()
        .filter(|line| line.contains("eBPF program") || line.contains("routes alone"))
        .collect();
    assert_eq!(complaints, Vec::<&str>::new());
    let told = log.lines().filter(|line| line.contains("attached fo_"));
    assert_eq!(told.count(), ALL, "each program is told once: {log}");
    // Somebody takes a program off, and its pin leads nowhere.
    let index = node.interface_index("wan2").await?;
    let pin = lab.pins().links().join(format!("{index}-wan_in"));
    let detach = format!("bpftool link detach pinned {}", pin.display());
    node.must(ProgramSpec::line(&detach)).await?;
    node.must(ProgramSpec::line("ip link set wan1 down"))
        .await?;
    let said = "somebody took our program off";
    let noticed = || async { Ok(daemon.stderr().contains(said).then_some(())) };
    eventually("the daemon has noticed", VERDICT, noticed).await?;
    expect_attached(&lab, ALL).await?;
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait(VERDICT).await?;
    clean(&failover).await
}
