//! `failover events`: what happened is told in order and with its reason, while it happens and
//! afterwards, whether or not a daemon runs.

use std::path::PathBuf;

use failover_tests::daemon::State;
use failover_tests::{Daemon, Failover, Lab, LabError, Output, Program, ProgramSpec, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{CONFIG, SystemTest, TestResult, VERDICT, on_a_terminal};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("events_tell_a_night_as_it_was", night),
        SystemTest::new("events_wait_where_the_disk_is_full", full_disk),
    ]
}

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

pub(crate) fn lines(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    text.lines().map(serde_json::from_str).collect()
}

pub(crate) async fn events(failover: &Failover, options: &str) -> Outcome<Vec<Value>> {
    let output = failover
        .command(&format!("events --json {options}"))
        .await?;
    if !output.status.success() || !output.stderr.is_empty() {
        return Err(format!("{output:?}").into());
    }
    Ok(lines(&output.stdout)?)
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(event: &Value) -> Option<u64> {
    event.get("seq").and_then(Value::as_u64)
}

/// What a state event is about: `two ipv4 up down`.
fn change(event: &Value) -> Option<String> {
    let fields = ["uplink", "family", "from", "to"].map(|field| text(event, field));
    (text(event, "kind") == "state").then(|| fields.join(" "))
}

/// Waits until an uplink's change of both families is among what `program` printed.
async fn until_followed(program: &Program, what: &str) -> Result<(), LabError> {
    eventually(what, VERDICT, || async {
        let printed = program.stdout();
        let found = |family| {
            let what = what.replacen(' ', &format!(" {family} "), 1);
            lines(&printed).is_ok_and(|lines| lines.iter().filter_map(change).any(|c| c == what))
        };
        Ok((found("ipv4") && found("ipv6")).then_some(()))
    })
    .await
}

fn said(output: &Output, words: &str) -> Result<(), String> {
    if output.status.success() && output.stdout == words && output.stderr.is_empty() {
        Ok(())
    } else {
        Err(format!("expected `{words}`: {output:?}"))
    }
}

async fn all_up(daemon: &Daemon) -> Result<(), LabError> {
    let up = daemon.wait_until("all are up", VERDICT, |status| status.all(State::Up));
    up.await.map(drop)
}

async fn night() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let failover = Failover::new(&lab, CONFIG)?;
    let nothing = format!("no events yet in {}\n", state_folder(&lab).display());
    said(&failover.command("events").await?, &nothing)?;
    assert_eq!(events(&failover, "").await?.len(), 0);

    // It begins before there is anything, and goes on over all that follows.
    let follower = node
        .start(failover.program("events --follow --json"))
        .await?;
    let daemon = failover.run().await?;
    all_up(&daemon).await?;
    lab.uplink(2)?.carrier_loss().await?;
    until_followed(&follower, "two up down").await?;
    lab.uplink(2)?.heal().await?;
    until_followed(&follower, "two down up").await?;
    node.nft("delete table inet failover").await?;
    until_printed(&follower, "\"repaired\"").await?;
    failover.rewrite(&CONFIG.replace("id: 1}", "id: 1, weight: 3}"))?;
    assert!(failover.command("reload").await?.status.success());
    failover.rewrite("uplinks: {}")?;
    assert_eq!(failover.command("reload").await?.status.code(), Some(1));
    failover.rewrite(CONFIG)?;
    until_printed(&follower, "\"reload_refused\"").await?;

    daemon.kill().await?;
    let night = events(&failover, "").await?;
    in_order(&night);
    let changes: Vec<String> = night.iter().filter_map(change).collect();
    for family in ["ipv4", "ipv6"] {
        let of_two: Vec<&String> = changes
            .iter()
            .filter(|change| change.starts_with(&format!("two {family} ")))
            .collect();
        let expected = [("unknown", "up"), ("up", "down"), ("down", "up")];
        assert_eq!(
            of_two,
            expected
                .map(|(from, to)| format!("two {family} {from} {to}"))
                .each_ref(),
            "{changes:#?}"
        );
    }
    let kinds: Vec<&str> = night.iter().map(|event| text(event, "kind")).collect();
    assert_eq!(kinds.first(), Some(&"started"));
    assert_eq!(
        kinds.last_chunk(),
        Some(&["repaired", "reloaded", "reload_refused"]),
        "{kinds:?}"
    );
    let carrier = |event: &&Value| text(event, "to") == "down";
    for down in night.iter().filter(carrier) {
        assert!(text(down, "reason").contains("carrier"), "{down}");
    }
    tables(&lab, &failover, &night).await?;
    filters(&failover, &night).await?;

    // It was killed while it wrote, say.
    let file = state_folder(&lab).join("events.jsonl");
    let whole = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{whole}{{\"seq\":9999,\"ti"))?;
    let output = failover.command("events --json").await?;
    assert_eq!(
        (lines(&output.stdout)?, output.status.code()),
        (night.clone(), Some(0))
    );
    assert_eq!(
        output.stderr.matches("a line of the journal").count(),
        1,
        "{output:?}"
    );

    let daemon = failover.run().await?;
    let log = daemon.terminate().await?;
    assert_eq!(
        log.matches("the journal ends within a line").count(),
        1,
        "{log}"
    );
    until_printed(&follower, "\"stopped\"").await?;
    assert!(failover.command("clean").await?.status.success());
    let all = events(&failover, "").await?;
    in_order(&all);
    let (before, after) = all.split_at_checked(night.len()).ok_or("events are gone")?;
    assert_eq!(before, night);
    assert_eq!(
        after.first().map(|event| text(event, "kind")),
        Some("started")
    );
    let interrupted = |event: Option<&Value>| {
        event
            .and_then(|event| event.get("interrupted"))
            .and_then(Value::as_bool)
    };
    assert_eq!(
        (interrupted(night.first()), interrupted(after.first())),
        (Some(false), Some(true))
    );
    assert_eq!(
        after.last().map(|event| text(event, "kind")),
        Some("stopped")
    );

    // Who followed all the time saw the same, once.
    assert_eq!(lines(&follower.stdout())?, all);
    assert_eq!(follower.stderr(), "");
    follower.signal(Signal::SIGINT);
    assert_eq!(follower.wait(VERDICT).await?.code(), Some(0));
    Ok(())
}

pub(crate) fn state_folder(lab: &Lab) -> PathBuf {
    lab.files().join("state")
}

async fn until_printed(program: &Program, what: &str) -> Result<(), LabError> {
    let printed = || async { Ok(program.stdout().contains(what).then_some(())) };
    eventually(what, VERDICT, printed).await
}

/// Numbers go on by one, and times do not go back.
fn in_order(events: &[Value]) {
    for (expected, event) in (1..).zip(events) {
        assert_eq!(number(event), Some(expected), "{event}");
    }
    let times: Vec<&str> = events.iter().map(|event| text(event, "time")).collect();
    assert!(times.is_sorted(), "{times:#?}");
    let written = "2026-11-21T02:13:04.512Z";
    assert!(
        times
            .iter()
            .all(|time| time.len() == written.len() && time.ends_with('Z')),
        "{times:#?}"
    );
}

/// What a person sees, in a file and on a terminal.
async fn tables(lab: &Lab, failover: &Failover, night: &[Value]) -> TestResult {
    let node = lab.gateway().node();
    let utc = failover.program("events").variable("TZ", "UTC");
    let table = node.must(utc).await?;
    let died = night
        .iter()
        .find(|event| text(event, "to") == "down")
        .ok_or("two died")?;
    let when = text(died, "time").replace('T', " ");
    let (when, _) = when.split_once('.').ok_or("there are milliseconds")?;
    let told = table
        .lines()
        .find(|line| line.contains("up → down"))
        .ok_or("it is told")?;
    assert!(
        told.starts_with(when) && told.contains("two") && told.contains(text(died, "reason")),
        "{when}: {told}"
    );
    assert!(
        !table.contains('\u{1b}') && table.starts_with("WHEN "),
        "{table}"
    );
    let binary = failover.binary().display();
    let config = failover.config().display();
    let command = format!("stty cols 72; {binary} events --config {config}");
    let terminal = node.must(on_a_terminal(&command)).await?;
    assert!(
        terminal.contains("\u{1b}[31mup → down\u{1b}[0m"),
        "{terminal:?}"
    );
    for line in terminal.lines() {
        let plain = line.replace("\u{1b}[0m", "").replace("\u{1b}[31m", "");
        let plain = plain.replace("\u{1b}[32m", "").replace("\u{1b}[33m", "");
        assert!(plain.trim_end().chars().count() <= 72, "{plain:?}");
    }
    // Nothing new happens, and it is noticed all the same that nobody reads any more.
    let command = format!("{binary} events --follow --config {config} | head -n 1");
    let head = ProgramSpec::new("sh")
        .arguments(["-c", &command])
        .limit(VERDICT);
    assert!(node.must(head).await?.starts_with("WHEN "));
    Ok(())
}

async fn filters(failover: &Failover, night: &[Value]) -> TestResult {
    let one = events(failover, "--uplink one").await?;
    let about_one: Vec<&Value> = night
        .iter()
        .filter(|event| text(event, "uplink") == "one" || text(event, "kind") == "reloaded")
        .collect();
    assert_eq!(one.iter().collect::<Vec<_>>(), about_one);
    let last = events(failover, "--last 2").await?;
    assert!(last.len() == 2 && night.ends_with(&last), "{last:#?}");
    assert_eq!(events(failover, "--since 1h").await?, night);
    let down = night
        .iter()
        .position(|event| text(event, "to") == "down")
        .ok_or("two died")?;
    let (_, since) = night.split_at(down);
    let moment = since
        .first()
        .map(|event| text(event, "time"))
        .unwrap_or_default();
    let found = events(failover, &format!("--since {moment}")).await?;
    assert_eq!(found, since);
    let none = failover.command("events --uplink three").await?;
    said(&none, "no such events\n")?;
    assert_eq!(events(failover, "--uplink three").await?.len(), 0);
    Ok(())
}

async fn full_disk() -> TestResult {
    let lab = Lab::builder().build().await?;
    let node = lab.gateway().node();
    let folder = state_folder(&lab);
    let must = async |line: String| node.must(ProgramSpec::line(&line)).await.map(drop);
    must(format!("mkdir {}", folder.display())).await?;
    must(format!(
        "mount -t tmpfs -o size=256k failover-test {}",
        folder.display()
    ))
    .await?;
    let daemon = Daemon::start(&lab, CONFIG).await?;
    all_up(&daemon).await?;
    let failover = daemon.failover().clone();
    let before = events(&failover, "").await?;
    let filler = folder.join("filler");
    let pages = format!("dd if=/dev/zero of={} bs=4096", filler.display());
    let filled = node.output(ProgramSpec::line(&pages)).await?;
    assert!(filled.stderr.contains("No space left"), "{filled:?}");
    // What is left is the rest of the journal's last page.
    let wrong: String = (0..8).map(|n| format!("wrong{n}: 1\n")).collect();
    failover.rewrite(&wrong)?;
    let mut refused = 0;
    while !daemon.log().contains("cannot write the journal") {
        assert!(refused < 18, "there is always room");
        assert_eq!(failover.command("reload").await?.status.code(), Some(1));
        refused += 1;
    }
    failover.rewrite(CONFIG)?;
    let log = daemon.log();
    assert_eq!(log.matches("cannot write the journal").count(), 1, "{log}");
    let meanwhile = events(&failover, "").await?;
    assert!(meanwhile.starts_with(&before), "{meanwhile:#?}");
    must(format!("rm {}", filler.display())).await?;
    let written = || async {
        let output = failover.command("events --json").await?;
        let refusals = output.stdout.matches("\"reload_refused\"").count();
        Ok((refusals == refused).then_some(()))
    };
    eventually("what waited is written", VERDICT, written).await?;
    let all = events(&failover, "").await?;
    assert!(all.starts_with(&meanwhile) && meanwhile.len() < all.len());
    in_order(&all);
    daemon.terminate().await?;
    must(format!("umount {}", folder.display())).await?;
    Ok(())
}
