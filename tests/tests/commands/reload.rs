//! `failover reload` and SIGHUP: what they say, and that a file that is wrong changes nothing.

use std::path::Path;

use failover_tests::daemon::State;
use failover_tests::{Daemon, KernelState, Lab, Output, ProgramSpec, eventually};
use serde_json::{Value, json};

use crate::broken::{Broken, TABLE};
use crate::{CONFIG, SystemTest, TestResult, VERDICT, one_line};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("a_reload_says_what_changed", says),
        SystemTest::new(
            "a_wrong_file_changes_nothing_and_is_told_as_by_check",
            wrong,
        ),
        SystemTest::new("keys_that_need_a_restart_are_refused_whole", fixed),
        SystemTest::new("reloads_come_one_after_the_other", at_once),
        SystemTest::new("a_file_that_is_slow_to_read_holds_up_nothing", slow),
    ]
}

/// How many of the broken configurations are tried with a daemon; `check` sees all of them.
const BROKEN: usize = 6;

fn said(output: &Output, text: &str) -> Result<(), String> {
    if output.status.success() && output.stdout == text && output.stderr.is_empty() {
        Ok(())
    } else {
        Err(format!("expected `{text}`: {output:?}"))
    }
}

async fn start(lab: &Lab) -> Result<Daemon, Box<dyn std::error::Error>> {
    let daemon = Daemon::start(lab, CONFIG).await?;
    daemon
        .wait_until("all are up", VERDICT, |status| status.all(State::Up))
        .await?;
    Ok(daemon)
}

fn weight_of_one(weight: u8) -> String {
    CONFIG.replace("id: 1}", &format!("id: 1, weight: {weight}}}"))
}

async fn until_logged(daemon: &Daemon, what: &str, times: usize) -> TestResult {
    let logged = || async { Ok((daemon.log().matches(what).count() >= times).then_some(())) };
    Ok(eventually(what, VERDICT, logged).await?)
}

async fn says() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab).await?;
    let failover = daemon.failover();
    said(&failover.command("reload").await?, "nothing differs\n")?;

    let three = weight_of_one(3)
        .replace("id: 2}", "id: 2}\n  spare: {interface: wan3, priority: 2}")
        .replace("[lan0]", "[lan0, lan1]");
    failover.rewrite(&three)?;
    let changed =
        "reloaded: uplink spare added, one: weight 1 -> 3, downlink lan1 added; nothing else\n";
    said(&failover.command("reload").await?, changed)?;
    until_logged(&daemon, changed.trim_end(), 1).await?;
    let status = daemon.status().await?;
    let one = status.uplink("one").ok_or("it stays")?;
    assert_eq!((one.weight, one.state), (3, State::Up));
    assert!(
        status.is("spare", State::Down),
        "it has no interface: {status}"
    );

    failover.rewrite(CONFIG)?;
    let output = failover.command("reload --json").await?;
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let document: Value = serde_json::from_str(&output.stdout)?;
    let expected = json!({"changes": [
        {"change": "uplink_changed", "uplink": "one", "key": "weight", "from": "3", "to": "1"},
        {"change": "uplink_removed", "uplink": "spare", "id": 3},
        {"change": "downlink_removed", "interface": "lan1"},
    ], "problem": null});
    assert_eq!(document, expected);

    failover.rewrite(&weight_of_one(7))?;
    daemon.hang_up();
    daemon
        .wait_until("one weighs 7", VERDICT, |status| {
            status.uplink("one").is_some_and(|one| one.weight == 7)
        })
        .await?;
    until_logged(&daemon, "reloaded: one: weight 1 -> 7; nothing else", 1).await?;
    daemon.terminate().await?;
    Ok(())
}

/// What `check` prints is what `reload` prints, and all of it is in the log each time.
async fn told_alike(daemon: &Daemon, times: usize) -> TestResult {
    let failover = daemon.failover();
    let checked = failover.command("check").await?;
    let reloaded = failover.command("reload").await?;
    assert_eq!(reloaded.status.code(), Some(1), "{reloaded:?}");
    assert_eq!(
        (&reloaded.stderr, &reloaded.stdout),
        (&checked.stderr, &checked.stdout)
    );
    daemon.hang_up();
    for line in checked.stderr.lines() {
        let words = line.trim_start_matches("failover: ");
        until_logged(daemon, words, 2).await?;
    }
    until_logged(daemon, "the configuration stays as it was", 2 * times).await
}

async fn wrong() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let daemon = start(&lab).await?;
    let file: &Path = daemon.failover().config();
    let before = KernelState::of(node).await?;
    let status = daemon.status().await?.to_string();
    let mut times = 0;
    let step = TABLE.len() / BROKEN;
    for broken in TABLE.iter().step_by(step.max(1)).map(Broken::from) {
        std::fs::write(file, &broken.bytes)?;
        times += 1;
        told_alike(&daemon, times).await?;
    }
    std::fs::remove_file(file)?;
    told_alike(&daemon, times + 1).await?;
    one_line(
        &daemon.failover().command("reload").await?,
        1,
        &["No such file"],
    )?;
    assert_eq!(before.difference(&KernelState::of(node).await?), None);
    assert!(daemon.status().await?.all(State::Up), "as it was: {status}");
    daemon.failover().rewrite(&weight_of_one(2))?;
    said(
        &daemon.failover().command("reload").await?,
        "reloaded: one: weight 1 -> 2; nothing else\n",
    )?;
    Ok(())
}

async fn fixed() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let daemon = start(&lab).await?;
    let failover = daemon.failover();
    let before = KernelState::of(node).await?;
    let refused = async |config: &str, parts: &[&str]| -> TestResult {
        failover.rewrite(config)?;
        for line in ["reload", "reload --json"] {
            let output = failover.command(line).await?;
            one_line(&output, 1, parts)?;
        }
        assert_eq!(before.difference(&KernelState::of(node).await?), None);
        let status = daemon.status().await?;
        assert_eq!(status.uplink("one").map(|one| one.weight), Some(1));
        Ok(())
    };
    let file = failover.config().display().to_string();
    let masked = format!("{}marks: {{mask: 0x0000ff00}}\n", weight_of_one(9));
    let parts = [&file, "`marks.mask` (0xff000000 -> 0x0000ff00)", "restart"];
    refused(&masked, &parts).await?;
    let mode = match daemon.status().await?.mode.as_str() {
        "ebpf" => "classic",
        _ => "ebpf",
    };
    let other = format!("{}mode: {mode}\n", weight_of_one(9));
    let parts = [&file, &format!("`mode` (auto -> {mode})"), "restart"];
    refused(&other, &parts).await?;
    // An id that was given, and is now claimed by another.
    let free = CONFIG.replace(", id: 1}", "}");
    failover.rewrite(&free)?;
    said(&failover.command("reload").await?, "nothing differs\n")?;
    let claimed = free.replace("id: 2}", "id: 2}\n  three: {interface: wan3, id: 1}");
    refused(&claimed, &["`uplinks.three.id` is 1", "`one`"]).await?;
    daemon.terminate().await?;
    Ok(())
}

async fn at_once() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab).await?;
    let failover = daemon.failover();
    let node = lab.gateway().node();
    let mut programs = Vec::new();
    for weight in 2..10 {
        failover.rewrite(&weight_of_one(weight))?;
        programs.push(node.start(failover.program("reload")).await?);
        daemon.hang_up();
    }
    for program in programs {
        let status = program.wait(VERDICT).await?;
        assert!(status.success(), "{}{}", program.stdout(), program.stderr());
        let said = program.stdout();
        assert!(
            said == "nothing differs\n" || said.starts_with("reloaded: one: weight"),
            "{said}"
        );
    }
    // Who asked last was answered after the file was read as it is now.
    let status = daemon.status().await?;
    assert_eq!(status.uplink("one").map(|one| one.weight), Some(9));
    daemon.terminate().await?;
    Ok(())
}

/// The file is a pipe that nobody writes into yet.
async fn slow() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab).await?;
    let failover = daemon.failover();
    let node = lab.gateway().node();
    failover.rewrite(&weight_of_one(5))?;
    let (file, written) = (failover.config(), lab.files().join("written.yaml"));
    std::fs::rename(file, &written)?;
    let pipe = ProgramSpec::new("mkfifo").arguments([file]);
    node.must(pipe).await?;
    let reload = node.start(failover.program("reload")).await?;
    lab.uplink(2)?.carrier_loss().await?;
    daemon
        .wait_until("two is down", VERDICT, |status| {
            status.is("two", State::Down)
        })
        .await?;
    assert_eq!(reload.ended(), None, "it waits: {}", reload.stderr());
    let write = ProgramSpec::new("dd")
        .arguments(["status=none"])
        .arguments([format!("if={}", written.display())])
        .arguments([format!("of={}", file.display())]);
    node.must(write).await?;
    assert!(reload.wait(VERDICT).await?.success(), "{}", reload.stderr());
    let status = daemon.status().await?;
    assert_eq!(status.uplink("one").map(|one| one.weight), Some(5));
    // Nobody writes any more, and it ends all the same.
    daemon.hang_up();
    daemon.terminate().await?;
    Ok(())
}
