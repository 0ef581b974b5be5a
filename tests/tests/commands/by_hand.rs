//! What `failover disable`, `drain` and `enable` answer, and what is told of it afterwards.

use failover_tests::daemon::{Daemon, State};
use failover_tests::{Failover, Lab, Output};
use serde_json::Value;

use crate::permissions::{NOBODY, changed, copy};
use crate::{CONFIG, SystemTest, TestResult, VERDICT, one_line};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("what_is_done_by_hand_is_answered_and_told", answers),
        SystemTest::new("what_cannot_be_done_by_hand_is_refused", refusals),
        SystemTest::new("what_is_done_by_hand_outlives_a_reload", reload),
        SystemTest::new("what_cannot_be_kept_over_a_restart_is_said", unkept),
    ]
}

async fn running(lab: &Lab) -> Result<Daemon, Box<dyn std::error::Error>> {
    let daemon = Daemon::start(lab, CONFIG).await?;
    daemon
        .wait_until("all are up", VERDICT, |status| status.all(State::Up))
        .await?;
    Ok(daemon)
}

fn good(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    output.stdout.trim_end()
}

/// What is kept of an uplink.
fn kept(lab: &Lab, name: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(lab.files().join("state/by_hand.json"))?;
    let kept: Value = serde_json::from_str(&text)?;
    Ok(kept.get(name).cloned().unwrap_or(Value::Null))
}

async fn told(failover: &Failover, name: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let output = failover.command("status --json").await?;
    let document: Value = serde_json::from_str(&output.stdout)?;
    let uplinks = document.get("uplinks").and_then(Value::as_array);
    let named = |uplink: &&Value| uplink.get("name").is_some_and(|found| found == name);
    let uplink = uplinks.and_then(|uplinks| uplinks.iter().find(named));
    let uplink = uplink.ok_or("not in the status")?;
    Ok(uplink.get("by_hand").cloned().ok_or("no by_hand")?)
}

async fn answers() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = running(&lab).await?;
    let failover = daemon.failover();
    let enable = failover.command("enable one").await?;
    assert_eq!(good(&enable), "one is neither disabled nor draining");
    assert_eq!(told(failover, "one").await?, Value::Null);

    let disable = failover.command("disable one").await?;
    assert_eq!(good(&disable), "one is disabled");
    // Before it is answered.
    let at_once = daemon.status().await?;
    let one = at_once.uplink("one").ok_or("one is configured")?;
    assert_eq!((one.state, one.ipv4.share), (State::Disabled, 0.0));
    let by_hand = kept(&lab, "one")?;
    assert_eq!(by_hand.get("what"), Some(&Value::from("disable")));
    assert_eq!(told(failover, "one").await?, by_hand);
    let again = failover.command("disable one").await?;
    let since = good(&again).strip_prefix("one is disabled already, since ");
    assert!(since.is_some(), "{again:?}");
    let disable = failover.command("disable two").await?;
    assert_eq!(good(&disable), "two is disabled\nno other uplink is usable");
    let enable = failover.command("enable two").await?;
    assert_eq!(good(&enable), "two takes part again: it is up");

    let table = failover.command("status").await?.stdout;
    let line = table.lines().find(|line| line.starts_with("one "));
    let line = line.ok_or("one has a line")?;
    assert!(
        line.contains("  disabled  ") && line.contains("  0 %"),
        "{table}"
    );
    assert!(line.contains("disabled by hand since "), "{table}");
    assert!(
        table.contains("\none is disabled by hand since "),
        "{table}"
    );
    assert!(
        table.contains("; `failover enable one` ends that.\n"),
        "{table}"
    );

    good(&failover.command("enable one").await?);
    assert_eq!(kept(&lab, "one")?, Value::Null);
    let drain = failover.command("drain one --for 90m").await?;
    let said = good(&drain);
    assert!(
        said.starts_with("one is draining until ") && said.ends_with(", and is disabled then"),
        "{said}"
    );
    assert_eq!(told(failover, "one").await?, kept(&lab, "one")?);
    let table = failover.command("status").await?.stdout;
    assert!(table.contains("up, draining 1h"), "{table}");
    assert!(
        table.contains("\none is draining by hand since "),
        "{table}"
    );
    assert!(
        table.contains(", and new flows go elsewhere; `failover enable one` ends that.\n"),
        "{table}"
    );
    let drain = failover.command("drain two").await?;
    assert_eq!(
        good(&drain),
        "two is draining\nno other uplink is usable, so new flows use it until one is"
    );

    let events = failover.command("events --json").await?.stdout;
    let steps: Vec<String> = events
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &Value| event.get("kind").is_some_and(|kind| kind == "by_hand"))
        .filter_map(|event| Some(format!("{} {}", event.get("uplink")?, event.get("step")?)))
        .collect();
    assert_eq!(
        steps.join(", ").replace('"', ""),
        "one disabled, two disabled, two enabled, one enabled, one draining, two draining"
    );
    daemon.terminate().await?;
    Ok(())
}

async fn refusals() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let socket = failover.control().display().to_string();
    for command in ["disable one", "drain one", "enable one"] {
        let output = failover.command(command).await?;
        one_line(&output, 3, &[&socket, "failover run"])?;
    }
    let daemon = running(&lab).await?;
    for command in ["disable three", "drain three", "enable three"] {
        let output = failover.command(command).await?;
        one_line(&output, 1, &["no uplink `three`", "one, two"])?;
    }
    good(&failover.command("disable one").await?);
    for command in ["drain one", "drain one --for 10m"] {
        let output = failover.command(command).await?;
        one_line(&output, 1, &["one is disabled", "failover enable one"])?;
    }
    for time in ["0s", "500ms", "25h", "soon", "-5m"] {
        let output = failover.command(&format!("drain two --for={time}")).await?;
        assert_eq!(output.status.code(), Some(2), "{time}: {output:?}");
        assert!(output.stderr.contains(time), "{time}: {output:?}");
    }
    assert_eq!(told(&failover, "two").await?, Value::Null);
    let binary = copy(&lab, &failover).await?;
    for line in [
        "disable two --control",
        "drain two --control",
        "enable one --control",
    ] {
        let spec = changed(NOBODY, &binary, line, failover.control());
        let output = lab.gateway().node().output(spec).await?;
        one_line(&output, 4, &["not permitted", "root"])?;
    }
    let status = daemon.status().await?;
    assert!(status.is("one", State::Disabled) && status.is("two", State::Up));
    daemon.terminate().await?;
    Ok(())
}

async fn reload() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = running(&lab).await?;
    let failover = daemon.failover();
    good(&failover.command("disable one").await?);
    good(&failover.command("drain two").await?);
    let before = told(failover, "one").await?;
    failover.rewrite(&CONFIG.replace("id: 1", "id: 1, weight: 3"))?;
    good(&failover.command("reload").await?);
    assert_eq!(told(failover, "one").await?, before);
    failover.rewrite(&CONFIG.replace("one:", "eins:"))?;
    good(&failover.command("reload").await?);
    daemon
        .wait_until("it is another uplink", VERDICT, |status| {
            status.is("eins", State::Up)
        })
        .await?;
    assert_eq!(kept(&lab, "one")?, Value::Null);
    assert_eq!(told(failover, "eins").await?, Value::Null);
    let two = told(failover, "two").await?;
    assert_eq!(two.get("what"), Some(&Value::from("drain")));
    daemon.terminate().await?;
    Ok(())
}

async fn unkept() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = running(&lab).await?;
    let failover = daemon.failover();
    // Nothing can be written there, as on a full disk.
    let place = lab.files().join("state/by_hand.json.new");
    std::fs::create_dir(&place)?;
    let output = failover.command("disable one").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, "one is disabled\n");
    assert!(
        output.stderr.contains("will not be known after a restart"),
        "{output:?}"
    );
    assert!(daemon.status().await?.is("one", State::Disabled));
    std::fs::remove_dir(&place)?;
    let again = failover.command("disable one").await?;
    assert!(good(&again).starts_with("one is disabled already"));
    assert_ne!(kept(&lab, "one")?, Value::Null);
    daemon.terminate().await?;
    Ok(())
}
