//! MQTT over TLS, with a password, to mosquitto.

use std::collections::BTreeMap;

use failover_tests::daemon::{Mode, State};
use failover_tests::{Daemon, Lab, eventually};
use serde_json::Value;

use crate::servers::{ADDRESS, PASSWORD, Place, Result, USER};
use crate::{DELIVERY, MODES, SystemTest, TestResult, gateway, text};

pub(crate) fn tests() -> Vec<SystemTest> {
    let mut tests: Vec<SystemTest> = MODES
        .into_iter()
        .map(|mode| {
            let name = format!("{mode}_a_broker_behind_a_dead_uplink_holds_what_is_true");
            SystemTest::new(name, move || holds_what_is_true(mode))
        })
        .collect();
    tests.push(SystemTest::new(
        "a_broker_that_is_away_is_told_and_found_again",
        away,
    ));
    tests.push(SystemTest::new(
        "a_broker_may_know_us_by_a_certificate",
        certificate,
    ));
    tests
}

pub(crate) fn channel(place: &Place) -> String {
    format!(
        "  home: {{mqtt: {{server: \"mqtts://{ADDRESS}\", user: {USER}, password: {{env: LAB_PASSWORD}}, ca: {}, discovery: true}}}}",
        place.path("ca.pem").display(),
    )
}

/// A daemon that finds the password in its environment.
pub(crate) async fn run(lab: &Lab, config: &str) -> Result<Daemon> {
    let failover = failover_tests::Failover::new(lab, config)?;
    let run = failover.program("run").variable("LAB_PASSWORD", PASSWORD);
    let daemon = failover
        .run_as(run.variable("RUST_LOG", "failover=debug"))
        .await?;
    daemon
        .wait_until("all are up", DELIVERY, |status| status.all(State::Up))
        .await?;
    Ok(daemon)
}

/// Whether states at the broker are those of `status`.
pub(crate) async fn agrees(
    place: &Place,
    status: &Value,
) -> Result<std::result::Result<(), String>> {
    let retained: BTreeMap<String, String> = place
        .retained("failover/uplink/+/state")
        .await?
        .into_iter()
        .collect();
    let uplinks = status.pointer("/uplinks").and_then(Value::as_array);
    let uplinks = uplinks.ok_or("uplinks are a list")?;
    if uplinks.len() != retained.len() {
        return Ok(Err(format!("{retained:?}")));
    }
    for uplink in uplinks {
        let name = text(uplink, "/name");
        let Some(held) = retained.get(&format!("failover/uplink/{name}/state")) else {
            return Ok(Err(format!("{name} is not in {retained:?}")));
        };
        let held: Value = serde_json::from_str(held)?;
        for path in [
            "/state",
            "/ipv4/state",
            "/ipv6/state",
            "/ipv4/share",
            "/ipv6/share",
            "/since",
        ] {
            if held.pointer(path) != uplink.pointer(path) {
                return Ok(Err(format!("{path} of {name}: {held} is not {uplink}")));
            }
        }
    }
    Ok(Ok(()))
}

pub(crate) async fn until_it_agrees(place: &Place, daemon: &Daemon) -> TestResult {
    let agreed = eventually("the broker holds what is true", DELIVERY, || async {
        let output = daemon.failover().command("status --json").await?;
        let status = serde_json::from_str(&output.stdout).unwrap_or_default();
        Ok(matches!(agrees(place, &status).await, Ok(Ok(()))).then_some(()))
    });
    Ok(agreed
        .await
        .map_err(|error| format!("{error}\n{}", daemon.log()))?)
}

async fn until_retained(place: &Place, topic: &str, payload: Option<&str>) -> TestResult {
    let what = format!("{topic} is {payload:?}");
    Ok(eventually(&what, DELIVERY, || async {
        let held = place.retained(topic).await.unwrap_or_default();
        let held = held.first().map(|(_, payload)| payload.as_str());
        Ok((held == payload).then_some(()))
    })
    .await?)
}

const AVAILABILITY: &str = "failover/availability";

async fn holds_what_is_true(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let place = Place::new(&lab, "broker")?;
    let _mosquitto = place.mosquitto().await?;
    let config = gateway(mode, &channel(&place));
    let daemon = run(&lab, &config).await?;
    until_it_agrees(&place, &daemon).await?;
    until_retained(&place, AVAILABILITY, Some("online")).await?;
    let discovered = place.retained("homeassistant/+/+/+/config").await?;
    assert_eq!(discovered.len(), 2 * 6, "{discovered:?}");
    let connectivity = discovered
        .iter()
        .filter(|(topic, _)| topic.contains("binary_sensor"));
    for (_, payload) in connectivity {
        let config: Value = serde_json::from_str(payload)?;
        assert_eq!(text(&config, "/availability_topic"), AVAILABILITY);
        assert_eq!(text(&config, "/device_class"), "connectivity");
    }

    // The connection goes by the uplink that dies.
    lab.uplink(1)?.black_hole().await?;
    daemon
        .wait_until("one is down", DELIVERY, |status| {
            status.is("one", State::Down)
        })
        .await?;
    until_it_agrees(&place, &daemon).await?;

    // An uplink that is removed is forgotten there, too.
    let failover = daemon.failover();
    failover.rewrite(&config.replace("  two: {interface: wan2, id: 2, priority: 2}\n", ""))?;
    let output = failover.command("reload").await?;
    assert!(output.status.success(), "{output:?}");
    let gone = eventually("two is gone from the broker", DELIVERY, || async {
        let discovered = place.retained("homeassistant/+/+/+/config").await;
        let states = place.retained("failover/uplink/two/state").await;
        let gone = matches!((&discovered, &states), (Ok(six), Ok(none)) if six.len() == 6 && none.is_empty());
        Ok(gone.then_some(()))
    });
    // The only uplink that is left is dead.
    lab.uplink(1)?.heal().await?;
    gone.await?;

    if mode == Mode::Ebpf {
        daemon.terminate().await?;
    } else {
        daemon.kill().await?;
    }
    until_retained(&place, AVAILABILITY, Some("offline")).await
}

async fn away() -> TestResult {
    let lab = Lab::builder().build().await?;
    let place = Place::new(&lab, "broker")?;
    let daemon = run(&lab, &gateway(Mode::Classic, &channel(&place))).await?;
    let problem = eventually("the broker's absence is told", DELIVERY, || async {
        let output = daemon.failover().command("notify status").await?;
        Ok(output.stdout.contains("refused").then_some(output.stdout))
    })
    .await?;
    assert!(
        problem.contains("home (mqtt): nothing delivered yet"),
        "{problem}"
    );
    let mosquitto = place.mosquitto().await?;
    until_it_agrees(&place, &daemon).await?;
    assert_eq!(
        daemon.log().matches("MQTT: ").count(),
        2,
        "{}",
        daemon.log()
    );
    drop(mosquitto);
    assert!(daemon.status().await?.all(State::Up));
    daemon.terminate().await?;
    Ok(())
}

async fn certificate() -> TestResult {
    let lab = Lab::builder().build().await?;
    let place = Place::new(&lab, "broker")?;
    let _mosquitto = place.mosquitto_by_certificate().await?;
    let channel = |more: &str| {
        format!(
            "  home: {{mqtt: {{server: \"mqtts://{ADDRESS}\", ca: {}{more}}}}}",
            place.path("ca.pem").display()
        )
    };
    let ours = format!(
        ", certificate: {}, key: {}",
        place.path("client.pem").display(),
        place.path("client-key.pem").display()
    );
    for (more, status) in [(ours.as_str(), 0), ("", 1)] {
        let failover =
            failover_tests::Failover::new(&lab, &gateway(Mode::Classic, &channel(more)))?;
        let output = failover.command("notify test").await?;
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
    Ok(())
}
