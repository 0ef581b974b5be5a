//! Programs: what they are given, and what becomes of those that hang, fork or fail.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use failover_tests::daemon::{Mode, State};
use failover_tests::{Lab, eventually};
use serde_json::Value;

use crate::servers::Result;
use crate::{DELIVERY, SystemTest, TestResult, gateway, start, text};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![SystemTest::new(
        "a_program_is_given_the_facts_and_one_that_hangs_is_killed_with_all_it_began",
        given_and_killed,
    )]
}

fn script(lab: &Lab, name: &str, words: &str) -> Result<String> {
    let path = lab.files().join(name);
    fs::write(&path, format!("#!/bin/sh\n{words}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path.display().to_string())
}

async fn given_and_killed() -> TestResult {
    let lab = Lab::builder().build().await?;
    let folder = lab.files().display();
    let good = script(
        &lab,
        "good.sh",
        &format!(
            "f={folder}/given.$FAILOVER_FAMILY; {{ echo \"$1 $FAILOVER_EVENT $FAILOVER_UPLINK $FAILOVER_STATE $FAILOVER_FROM $FAILOVER_INTERFACE\"; cat; }} > $f.part; mv $f.part $f"
        ),
    )?;
    // In the background something goes on that holds the pipes open.
    let hangs = script(
        &lab,
        "hangs.sh",
        &format!("sleep 1000 & echo $! >> {folder}/children; echo $$ >> {folder}/children; wait"),
    )?;
    let channels = format!(
        "  good: {{program: {{run: [{good}, word]}}}}\n  hangs: {{program: {{run: {hangs}, timeout: 1s}}}}\n  missing: {{program: {{run: /nowhere/hook}}}}\n  life: {{program: {{run: [{good}, life]}}, on: [started, stopped]}}"
    );
    let daemon = start(&lab, &gateway(Mode::Classic, &channels)).await?;
    lab.uplink(1)?.black_hole().await?;
    for family in ["ipv4", "ipv6"] {
        let file = lab.files().join(format!("given.{family}"));
        let given = eventually("the program is called", DELIVERY, || async {
            Ok(fs::read_to_string(&file).ok())
        })
        .await?;
        let (said, facts) = given.split_once('\n').ok_or("a line and JSON")?;
        assert_eq!(said, "word down one down up wan1");
        let facts: Value = serde_json::from_str(facts)?;
        assert_eq!(
            (text(&facts, "/event"), text(&facts, "/family")),
            ("down", family)
        );
        assert_eq!(text(&facts, "/uplinks/1/name"), "two");
        let gateways = [("ipv4", "198.18.11.1"), ("ipv6", "fd00:18:11::1")];
        assert!(gateways.contains(&(family, text(&facts, "/gateway"))));
    }
    let told = eventually("those that fail are told", DELIVERY, || async {
        let output = daemon.failover().command("notify status").await?;
        let all = ["did not end within 1s and was killed", "No such file"];
        Ok(all
            .iter()
            .all(|part| output.stdout.contains(part))
            .then_some(output.stdout))
    })
    .await?;
    assert!(told.contains("good (program): last delivery"), "{told}");
    let children = fs::read_to_string(lab.files().join("children"))?;
    // Of the first run; another one may be on its way.
    for child in children.lines().take(2) {
        let killed = || async {
            let status = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            Ok((status.is_empty() || status.contains(" Z ")).then_some(()))
        };
        eventually("what it began is killed", DELIVERY, killed).await?;
    }
    assert!(daemon.status().await?.is("two", State::Up));
    let life = || fs::read_to_string(lab.files().join("given."));
    let began = life()?;
    assert!(began.starts_with("life started "), "{began}");
    // It waits for no program, but has the last word told.
    daemon.terminate().await?;
    let ended = life()?;
    assert!(ended.starts_with("life stopped "), "{ended}");
    Ok(())
}
