//! Programs as targets: what is an answer, and that nothing of them is left.

use std::time::{Duration, Instant};

use failover::health::{ExecFailure, Failure, Outcome};
use failover::probe::ProbePlan;

use crate::kinds::{PATIENT, SHORT, Written, asked, once};
use crate::network::{Network, provider};
use crate::{next, plans, prober, whole, within_5_s};

/// A process of this name that has not ended. Names are unique to the test.
fn is_running(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let own = entry.file_name().to_str() == Some(&std::process::id().to_string());
        let words = String::from_utf8_lossy(&line);
        !own && words.split('\0').any(|found| found == word)
    })
}

/// Whether a child of this process has ended and nobody has asked how.
pub(crate) fn has_zombies() -> bool {
    let parent = std::process::id().to_string();
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let text = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let facts = text.rsplit(')').next().unwrap_or_default();
        let mut facts = facts.split_whitespace();
        facts.next() == Some("Z") && facts.next() == Some(&parent)
    })
}

pub(crate) async fn end_another_child() {
    let status = tokio::process::Command::new("true").status().await;
    assert!(status.unwrap().success());
}

pub(crate) async fn until_none_runs(word: &str) {
    within_5_s("the program and what it began are killed", async {
        while is_running(word) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) fn shell(script: &str) -> String {
    format!("{{exec: /bin/sh, args: [-c, \"{script}\"]}}")
}

pub(crate) fn answering(place: usize) {
    let network = Network::new();
    let family = ["ipv4", "ipv6"][place];
    let facts = format!(
        "[ $FAILOVER_UPLINK = fiber ] && [ $FAILOVER_INTERFACE = wan1 ] && \
         [ $FAILOVER_FAMILY = {family} ] && [ $FAILOVER_SOURCE = {} ] && \
         [ $FAILOVER_GATEWAY = {} ] && [ $FAILOVER_MARK = 0x81000000 ]",
        crate::source(1)[place],
        provider(1)[place],
    );
    let missing = "/nowhere/at-all";
    let not_run = format!("{missing}: No such file or directory (os error 2)");
    let no = |failure| Some(Failure::Exec(failure));
    for (text, failure) in [
        ("exec:/bin/true".to_owned(), None),
        (shell(&facts), None),
        (shell("exit 3"), no(ExecFailure::Exit(3))),
        (shell("kill -9 $$"), no(ExecFailure::Signal(9))),
        (format!("exec:{missing}"), no(ExecFailure::NotRun(not_run))),
    ] {
        let plan = once(&network, place, &text, PATIENT);
        let outcome = network.on_gateway(async || asked(plan).await);
        match failure {
            None => assert!(
                matches!(outcome, Outcome::Answered { .. }),
                "{text}: {outcome:?}"
            ),
            Some(failure) => assert_eq!(outcome, Outcome::Failed(failure), "{text}"),
        }
    }
}

pub(crate) fn hanging(place: usize) {
    let network = Network::new();
    let seconds = |number: u32| format!("{}.{}{place}", 600 + number, std::process::id());
    let (hangs, forks, leaves) = (seconds(1), seconds(2), seconds(3));
    for (script, word, answered) in [
        (format!("exec sleep {hangs}"), &hangs, false),
        (format!("sleep {forks} & wait"), &forks, false),
        (format!("sleep {leaves} & exit 0"), &leaves, true),
    ] {
        // What answers is given the time that a busy machine takes to begin it.
        let timeout = if answered { PATIENT } else { SHORT };
        let plan = once(&network, place, &shell(&script), timeout);
        network.on_gateway(async || {
            let begun = Instant::now();
            match asked(plan).await {
                Outcome::Answered { .. } => assert!(answered, "{script}"),
                Outcome::Failed(failure) => {
                    assert_eq!((failure, answered), (Failure::Timeout, false), "{script}");
                    assert!(begun.elapsed() >= SHORT);
                }
                Outcome::Outstanding | Outcome::Overdue => panic!("{script}: a whole round"),
            }
            until_none_runs(word).await;
        });
    }
}

/// While a program runs no other is begun, and all rounds are told what it says.
pub(crate) fn one_at_a_time(place: usize) {
    let network = Network::new();
    let runs = Written::new(&format!("runs-{place}"), "");
    let path = runs.0.display().to_string();
    let script = format!("echo begin >> {path}; sleep 0.3; echo end >> {path}");
    let plan = ProbePlan {
        interval: Duration::from_millis(50),
        ..once(&network, place, &shell(&script), PATIENT)
    };
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        prober.set_plans(plans(plan));
        let mut answered = 0;
        while answered < 8 {
            let round = next(&mut reports, whole).await;
            assert_eq!(round.answered(), 1, "{round:?}");
            answered += 1;
        }
    });
    let text = std::fs::read_to_string(&runs.0).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (place, line) in lines.iter().enumerate() {
        assert_eq!(
            *line,
            ["begin", "end"][place % 2],
            "one after the other: {lines:?}"
        );
    }
    let begun = lines.iter().filter(|line| **line == "begin").count();
    assert!(begun < 8, "{begun} runs for 8 rounds and more");
}
