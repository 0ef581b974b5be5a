//! Where there is no BPF file system, one is mounted; what cannot be used is named.

use std::fs;
use std::path::Path;

use failover_tests::{Lab, LabError, Node, ProgramSpec};

use crate::hanging::{places, usual};
use crate::{CONFIG, Hook, SystemTest, TestResult, set_bpffs, started};

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    let mut tests = vec![
        SystemTest::new(
            format!("{hook}_a_file_system_is_mounted_and_unmounted"),
            move || mounted(hook),
        ),
        SystemTest::new(format!("{hook}_a_mount_that_others_use_stays"), move || {
            used(hook)
        }),
        SystemTest::new(
            format!("{hook}_a_folder_that_cannot_be_is_named"),
            move || refused(hook),
        ),
    ];
    // There is only one such place.
    if Hook::all().first() == Some(&hook) {
        tests.push(SystemTest::new(
            "it_is_mounted_at_the_usual_place",
            move || at_usual(hook),
        ));
    }
    tests
}

/// What is mounted at a place: type and source, the last one first.
async fn mounts(node: &Node, place: &Path) -> Result<Vec<String>, LabError> {
    let text = node
        .must(ProgramSpec::line("cat /proc/self/mountinfo"))
        .await?;
    let place = place.display().to_string();
    let here = text
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(place.as_str()))
        .filter_map(|line| line.split_once(" - "))
        .map(|(_, what)| what.split(' ').take(2).collect::<Vec<_>>().join(" "));
    Ok(here.collect::<Vec<_>>().into_iter().rev().collect())
}

async fn mounted(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let place = lab.files().join("pins");
    let failover = hook.failover(&lab, CONFIG)?;
    set_bpffs(&failover, &place)?;
    let daemon = started(&failover).await?;
    assert_eq!(mounts(gateway, &place).await?, ["bpf failover"]);
    assert_eq!(places(gateway).await?, usual(hook));
    assert!(daemon.log().contains("mounted a BPF file system"));
    daemon.kill().await?;
    let daemon = started(&failover).await?;
    assert_eq!(
        mounts(gateway, &place).await?,
        ["bpf failover"],
        "once only"
    );
    daemon.terminate().await?;
    for _ in 0..2 {
        let output = failover.command("clean").await?;
        assert!(output.status.success(), "{output:?}");
        assert!(
            mounts(gateway, &place).await?.is_empty(),
            "{}",
            output.stderr
        );
        assert!(!place.exists() && places(gateway).await?.is_empty());
    }

    // A folder of the user's stays.
    fs::create_dir(&place)?;
    started(&failover).await?.terminate().await?;
    let output = failover.command("clean").await?;
    assert!(output.status.success(), "{output:?}");
    assert!(mounts(gateway, &place).await?.is_empty() && place.exists());
    Ok(())
}

/// The kernel would unmount it with what others pinned, and that would be gone.
async fn used(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let place = lab.files().join("pins");
    let failover = hook.failover(&lab, CONFIG)?;
    set_bpffs(&failover, &place)?;
    started(&failover).await?.terminate().await?;
    let theirs = place.join("theirs");
    let create = format!(
        "bpftool map create {} type hash key 4 value 4 entries 8 name theirs",
        theirs.display()
    );
    gateway.must(ProgramSpec::line(&create)).await?;
    let output = failover.command("clean").await?;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.contains("stays mounted"), "{}", output.stderr);
    assert!(theirs.exists() && places(gateway).await?.is_empty());

    // One that somebody else mounted meanwhile is theirs, too.
    fs::remove_file(&theirs)?;
    started(&failover).await?.terminate().await?;
    let mount = format!("mount -t bpf user {}", place.display());
    gateway.must(ProgramSpec::line(&mount)).await?;
    let output = failover.command("clean").await?;
    assert!(output.status.success(), "{output:?}");
    let found = mounts(gateway, &place).await?;
    assert_eq!(found, ["bpf user", "bpf failover"]);
    for _ in found {
        let umount = format!("umount {}", place.display());
        gateway.must(ProgramSpec::line(&umount)).await?;
    }
    Ok(())
}

async fn at_usual(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let usual_place = Path::new("/sys/fs/bpf");
    // In this process' own mount namespace.
    for _ in mounts(gateway, usual_place).await? {
        gateway
            .must(ProgramSpec::line("umount /sys/fs/bpf"))
            .await?;
    }
    let folder = usual_place.join(format!("failover-{hook}"));
    let failover = hook.failover(&lab, CONFIG)?;
    set_bpffs(&failover, &folder)?;
    let daemon = started(&failover).await?;
    assert_eq!(mounts(gateway, usual_place).await?, ["bpf failover"]);
    assert!(folder.exists());
    daemon.terminate().await?;
    let output = failover.command("clean").await?;
    assert!(output.status.success(), "{output:?}");
    assert!(mounts(gateway, usual_place).await?.is_empty());
    assert!(places(gateway).await?.is_empty());
    Ok(())
}

/// Below a file, below what takes no folders, and with a dot, which the kernel keeps for itself.
async fn refused(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let file = lab.files().join("file");
    fs::write(&file, "")?;
    for place in [
        file.join("pins"),
        Path::new("/proc/failover").to_owned(),
        lab.bpffs().join("fail.over"),
    ] {
        let failover = hook.failover(&lab, CONFIG)?;
        set_bpffs(&failover, &place)?;
        let output = failover.command("run --quiet").await?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let named = |text: &str| text.contains(&place.display().to_string());
        assert!(
            named(&output.stderr),
            "{}: {}",
            place.display(),
            output.stderr
        );
        assert_eq!(
            output.stderr.trim_end().lines().count(),
            1,
            "{}",
            output.stderr
        );
        assert!(places(gateway).await?.is_empty());

        let auto = CONFIG.replace("mode: ebpf", "mode: auto");
        let failover = hook.failover(&lab, &auto)?;
        set_bpffs(&failover, &place)?;
        let daemon = failover.run().await?;
        assert_eq!(daemon.status().await?.mode, "classic");
        let log = daemon.log();
        assert!(
            log.lines().any(|line| line.contains("WARN") && named(line)),
            "{log}"
        );
        daemon.terminate().await?;
        let output = failover.command("clean").await?;
        assert!(output.status.success(), "{output:?}");
    }
    Ok(())
}
