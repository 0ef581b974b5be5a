//! A storm: 10,000 changes of states within seconds, told to a real broker and a real web server.

use std::time::Duration;

use failover::by_hand::Order;
use failover::config;
use failover::control::Request;
use failover::control::client::Conversation;
use failover::family::Family;
use failover::journal::{Event, Journal};
use failover::notify::Notifier;
use failover::status::{State, StatusDocument};
use failover_tests::daemon::Mode;
use failover_tests::{Lab, eventually};
use serde_json::{Value, json};

use crate::servers::{ADDRESS, Place, Result, USER};
use crate::{DELIVERY, SystemTest, TestResult, gateway, mqtt};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("a_storm_is_a_handful_of_messages", storm),
        SystemTest::new("a_daemon_in_a_storm_tells_the_end_of_it", daemon_in_a_storm),
    ]
}

const CHANGES: u32 = 10_000;
/// How many of them are made between two looks of the channels.
const AT_ONCE: u32 = 20;
const NAMES: [&str; 3] = ["fiber", "cable", "lte"];

fn family(state: State) -> Value {
    let share = if state == State::Up { 0.333 } else { 0.0 };
    json!({"state": state, "gateway": null, "source": null, "share": share, "rtt_ms": null,
        "jitter_ms": null, "loss": null, "reason": "", "held_back_s": null, "draining_until": null})
}

fn status(states: [State; 3]) -> Result<StatusDocument> {
    let uplinks: Vec<Value> = NAMES
        .iter()
        .zip(states)
        .zip(1..)
        .map(|((name, state), id)| {
            json!({"name": name, "id": id, "interface": format!("wan{id}"), "description": null,
                "weight": 1, "priority": 1, "state": state, "draining": false,
                "since": "2026-11-22T10:00:00Z", "reason": "", "ipv4": family(state),
                "ipv6": family(state), "flows": null,
                "rx_bytes": 0, "tx_bytes": 0, "rx_packets": 0, "tx_packets": 0})
        })
        .collect();
    let status = json!({"mode": "ebpf", "since": "2026-11-22T10:00:00Z", "problem": null,
        "flow_table": null, "uplinks": uplinks});
    Ok(serde_json::from_value(status)?)
}

/// Memory of a process, in kB.
fn resident(process: impl std::fmt::Display) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.ok_or("VmRSS is there")?.trim().parse()?)
}

async fn storm() -> TestResult {
    let lab = Lab::builder().build().await?;
    let place = Place::new(&lab, "storm")?;
    let _mosquitto = place.mosquitto().await?;
    let _httpd = place.httpd().await?;
    let config = config::parse(&format!(
        "uplinks: {{fiber: {{interface: wan1}}}}\nnotify:\n  home: {{mqtt: {{server: \"mqtts://{ADDRESS}\", user: {USER}, password: {{file: {}}}, ca: {}}}}}\n  phone: {{webhook: {{url: \"http://{ADDRESS}/cgi-bin/hook\"}}, at_most: 6/h}}\n",
        place.path("password").display(),
        place.path("ca.pem").display(),
    ))?;
    let done = lab.internet().node().run(move || blow(config));
    let (grown, last) = done.await?.map_err(|error: String| error)?;
    assert!(grown < 4_096, "{grown} kB");
    eventually(
        "the broker holds the end of the storm",
        DELIVERY,
        || async { Ok(matches!(mqtt::agrees(&place, &last).await, Ok(Ok(()))).then_some(())) },
    )
    .await?;
    let requests = place.requests()?;
    assert!(
        (1..=6).contains(&requests.len()),
        "{} requests",
        requests.len()
    );
    Ok(())
}

/// Makes the storm where the servers are; returns by how much the memory grew, and how it ended.
async fn blow(config: config::Config) -> std::result::Result<(u64, Value), String> {
    let told = |error: Box<dyn std::error::Error>| error.to_string();
    let journal = Journal::nowhere();
    let mut notifier = Notifier::new(journal.clone());
    notifier.present(status([State::Up; 3]).map_err(told)?);
    notifier.follow(&config.notify);
    let mut states = [State::Up; 3];
    let mut change = |number: u32| -> Result<()> {
        let index = usize::try_from(number / 2)? % NAMES.len();
        let (Some(state), Some(name)) = (states.get_mut(index), NAMES.get(index)) else {
            return Err("there is such an uplink".into());
        };
        let from = *state;
        *state = if from == State::Up {
            State::Down
        } else {
            State::Up
        };
        journal.note(Event::State {
            uplink: name.parse()?,
            family: Family::Ipv4,
            from,
            to: *state,
            reason: "a storm".to_owned(),
        });
        notifier.present(status(states)?);
        Ok(())
    };
    // What grows once has grown by then.
    for number in 0..CHANGES / 10 {
        change(number).map_err(told)?;
        if number.is_multiple_of(AT_ONCE) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let before = resident("self").map_err(told)?;
    for number in 0..CHANGES {
        change(number).map_err(told)?;
        if number.is_multiple_of(AT_ONCE) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let after = resident("self").map_err(told)?;
    // Until what gathered is told.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let last =
        serde_json::to_value(status(states).map_err(told)?).map_err(|error| error.to_string())?;
    notifier.finish(Duration::from_secs(2)).await;
    Ok((after.saturating_sub(before), last))
}

/// Orders that are given to a daemon, each of which changes the state of an uplink in both families.
const ORDERS: u32 = 300;

async fn daemon_in_a_storm() -> TestResult {
    let lab = Lab::builder().build().await?;
    let place = Place::new(&lab, "storm")?;
    let _mosquitto = place.mosquitto().await?;
    let _httpd = place.httpd().await?;
    let channels = format!(
        "{}\n  phone: {{webhook: {{url: \"http://{ADDRESS}/cgi-bin/hook\"}}, at_most: 6/h, on: [by_hand]}}",
        mqtt::channel(&place)
    );
    let daemon = mqtt::run(&lab, &gateway(Mode::Ebpf, &channels)).await?;
    let control = daemon.failover().control();
    let order = |number: u32| -> Result<()> {
        let order = if number.is_multiple_of(2) {
            Order::Disable
        } else {
            Order::Enable
        };
        let uplink = if number & 2 == 0 { "one" } else { "two" };
        let uplink = uplink.parse()?;
        let request = Request::ByHand { uplink, order };
        Conversation::begin(control, &request)?.answer()?;
        Ok(())
    };
    for number in 0..ORDERS / 3 {
        order(number)?;
    }
    let before = resident(daemon.pid())?;
    // The last one leaves an uplink disabled.
    for number in 0..=ORDERS {
        order(number)?;
    }
    let grown = resident(daemon.pid())?.saturating_sub(before);
    assert!(grown < 4_096, "{grown} kB");
    mqtt::until_it_agrees(&place, &daemon).await?;
    // What waits is told by one message when the rate allows it again.
    let status = daemon.failover().command("notify status").await?;
    assert!(
        status.stdout.contains("phone (webhook): last delivery"),
        "{status:?}"
    );
    let requests = place.requests()?;
    assert!(
        (1..=6).contains(&requests.len()),
        "{} requests",
        requests.len()
    );
    daemon.terminate().await?;
    Ok(())
}
