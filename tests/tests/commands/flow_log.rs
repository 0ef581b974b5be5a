//! What the log tells of new flows in eBPF mode, and that it costs nothing where it tells nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aya::programs::loaded_programs;
use failover::family::Family;
use failover_tests::traffic::Answer;
use failover_tests::{Daemon, Failover, Host, Lab, Protocol, Traffic, eventually};

use crate::{CONFIG, SystemTest, TestResult, VERDICT};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("each_new_flow_is_logged_once_at_debug_level", each),
        SystemTest::new(
            "the_log_of_new_flows_is_limited_and_counts_the_rest",
            limited,
        ),
        SystemTest::new("the_log_of_new_flows_costs_nothing_when_it_is_off", off),
    ]
}

/// Lines that a processor may write in a second.
const LINES: usize = 100;
/// Flows that come at once.
const MANY: usize = 5000;

/// How a line about a new flow begins, behind time and level.
const NEW: &str = " DEBUG new flow ";
/// How one ends that tells how many were left out.
const LEFT_OUT: &str = " new flows are not told";

async fn start(lab: &Lab, level: &str) -> Result<Daemon, Box<dyn std::error::Error>> {
    let failover = Failover::new(lab, &format!("{CONFIG}\nmode: ebpf\n"))?;
    let spec = failover.program("run").variable("RUST_LOG", level);
    let daemon = failover.run_as(spec).await?;
    daemon
        .wait_until("both uplinks are up", VERDICT, |status| {
            status.all(failover_tests::daemon::State::Up)
        })
        .await?;
    Ok(daemon)
}

/// What the lines say of new flows, behind their beginnings.
fn told(log: &str) -> Vec<&str> {
    log.lines()
        .filter_map(|line| Some(line.split_once(NEW)?.1))
        .collect()
}

/// How many flows were left out, as far as that was told.
fn left_out(log: &str) -> usize {
    log.lines()
        .filter_map(|line| line.strip_suffix(LEFT_OUT))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

async fn answers(
    client: &Host,
    traffic: Traffic,
) -> Result<Vec<Answer>, Box<dyn std::error::Error>> {
    let asked = client.burst(traffic.within(VERDICT)).await?;
    Ok(asked.into_iter().collect::<Result<_, _>>()?)
}

async fn each() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, "failover=debug").await?;
    let client = lab.client(1)?;
    let mut opened = 0;
    for (protocol, number) in [(Protocol::Udp, 17), (Protocol::Tcp, 6)] {
        for (family, inside) in [
            (Family::Ipv4, "198.18.0.10:"),
            (Family::Ipv6, "[fd00:18::10]:"),
        ] {
            let answers = answers(client, Traffic::new(protocol, family, 12)).await?;
            opened += answers.len();
            let log = eventually("all flows are logged", VERDICT, || async {
                let log = daemon.log();
                Ok((told(&log).len() >= opened).then_some(log))
            })
            .await?;
            for answer in answers {
                // The translation keeps the port while nobody else has it.
                let port = answer.seen.port();
                let uplink = answer.uplink().ok_or("not by an uplink")?;
                let line = |line: &&str| {
                    line.starts_with(&format!("{inside}{port} "))
                        && line.ends_with(&format!("protocol {number} uplink {uplink} hash"))
                };
                let lines: Vec<_> = told(&log).into_iter().filter(line).collect();
                assert_eq!(lines.len(), 1, "{inside}{port} on {uplink}: {log}");
            }
        }
    }
    // A second question is no new flow.
    let flows = client
        .open(Traffic::new(Protocol::Icmp, Family::Ipv6, 5))
        .await?;
    for _ in 0..2 {
        for asked in flows.ask(VERDICT).await? {
            asked?;
        }
    }
    let marker = answers(client, Traffic::new(Protocol::Udp, Family::Ipv4, 1)).await?;
    let log = eventually("the last flow is logged", VERDICT, || async {
        let log = daemon.log();
        let last = format!(
            "198.18.0.10:{} ",
            marker.first().map_or(0, |flow| flow.seen.port())
        );
        Ok(told(&log)
            .last()
            .is_some_and(|line| line.starts_with(&last))
            .then_some(log))
    })
    .await?;
    assert_eq!(told(&log).len(), opened + 5 + 1, "{log}");
    let icmp = |line: &&&str| line.contains("protocol 58 uplink ");
    assert_eq!(told(&log).iter().filter(icmp).count(), 5, "{log}");
    assert_eq!(left_out(&log), 0, "{log}");
    daemon.terminate().await?;
    Ok(())
}

async fn limited() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, "failover=debug").await?;
    let client = lab.client(1)?;
    let began = Instant::now();
    let many = Traffic::new(Protocol::Udp, Family::Ipv4, MANY);
    answers(client, many).await?;
    let seconds = usize::try_from(began.elapsed().as_secs())? + 2;
    let processors = std::thread::available_parallelism()?.get();
    let lines = told(&daemon.log()).len();
    assert!(
        lines <= LINES * processors * seconds,
        "{lines} lines in {seconds} s"
    );
    assert!(lines >= LINES, "{lines} lines");

    // The number of those that were left out comes with the next line of the same processor. Ports
    // are used again: fewer flows begin than are opened.
    eventually("all flows are told or counted", VERDICT * 3, || async {
        let few = Traffic::new(Protocol::Udp, Family::Ipv6, 8).within(VERDICT);
        client.burst(few).await?;
        // Slow enough for all of them to be told.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let table = daemon.status().await?.flow_table;
        let entered = table.map_or(0, |table| table.entered);
        let log = daemon.log();
        let sum = told(&log).len() + left_out(&log);
        Ok((u64::try_from(sum) == Ok(entered)).then_some(()))
    })
    .await?;
    assert!(left_out(&daemon.log()) > 0);
    daemon.terminate().await?;
    Ok(())
}

/// The verified instructions and the translated bytes of each of a daemon's programs.
fn programs(daemon: &Daemon) -> Result<BTreeMap<String, (u32, u32)>, Box<dyn std::error::Error>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid()))? {
        let Ok(text) = std::fs::read_to_string(entry?.path()) else {
            continue;
        };
        let number = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        numbers.extend(number.and_then(|number| number.trim().parse::<u32>().ok()));
    }
    Ok(loaded_programs()
        // Programs of others come and go.
        .filter_map(Result::ok)
        .filter(|program| numbers.contains(&program.id()))
        .filter_map(|program| {
            let name = program.name_as_str()?.to_owned();
            let verified = program.verified_instruction_count()?;
            Some((name, (verified, program.size_translated()?)))
        })
        .collect())
}

async fn off() -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, "failover=debug").await?;
    let with = programs(&daemon)?;
    daemon.terminate().await?;
    let daemon = start(&lab, "failover=info").await?;
    let without = programs(&daemon)?;
    for name in ["fo_lan_in", "fo_lan_out"] {
        let of = |programs: &BTreeMap<_, _>| programs.get(name).copied().ok_or("not loaded");
        let ((verified, size), (verified_with, size_with)) = (of(&without)?, of(&with)?);
        assert!(
            verified < verified_with && size < size_with,
            "{name}: {verified} instructions and {size} bytes, with its log {verified_with} and {size_with}"
        );
    }
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 50);
    answers(lab.client(1)?, traffic).await?;
    let log = daemon.terminate().await?;
    assert_eq!(told(&log).len() + left_out(&log), 0, "{log}");
    Ok(())
}
