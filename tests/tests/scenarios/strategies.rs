//! Who gets new flows by latency and by load, as users and providers see it.

use std::time::Duration;

use failover::family::Family;
use failover_tests::daemon::{State, Status};
use failover_tests::traffic::viewer::{self, Viewer};
use failover_tests::{Lab, ProgramSpec, Protocol, Tally, Traffic};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{PATIENT, Scene, of};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// All new flows go by an uplink, in both families.
async fn until_all_by(scene: &Scene, number: u8) -> Result<Status> {
    let what = format!("new flows go by wan{number}");
    let status = scene.until(&what, |status| all_by(status, number)).await?;
    for family in Family::ALL {
        let tally = scene.new_flows(Protocol::Udp, family, 30).await?;
        assert_eq!(tally.on(number), 30, "{tally}");
    }
    Ok(status)
}

fn all_by(status: &Status, number: u8) -> bool {
    Family::ALL
        .into_iter()
        .all(|family| of(status, number, family).is_some_and(|found| found.share > 0.999))
}

const NEAREST: &str = r#"
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0]
strategy: least_latency
probe: {targets: ["icmp://203.0.113.1", "tcp://[fd00:203::11]:7007"], interval: 200ms, timeout: 5s, window: 6s, max_hold: 0s}
"#;

/// What a line adds to a round trip. A busy machine adds some milliseconds of its own.
const NEAR: Duration = Duration::from_millis(40);
const FAR: Duration = Duration::from_millis(150);
const FARTHEST: Duration = Duration::from_millis(400);
/// A tenth better than [`FAR`]: a near equal.
const BETTER: Duration = Duration::from_millis(135);
const JITTER: Duration = Duration::from_millis(20);
/// For how many rounds of probes near equals are looked at, at least: two windows.
const ROUNDS: u64 = 60;

/// The lines of providers are late by different times, and probes and flows with them.
pub(crate) async fn least_latency(case: &Case) -> Outcome {
    let scene = case.prepare(Lab::builder()).await?;
    let (one, two) = (scene.uplink(1)?, scene.uplink(2)?);
    one.latency(NEAR, JITTER).await?;
    two.latency(FAR, JITTER).await?;
    scene.run_daemon(NEAREST).await?;
    scene.until_all_up().await?;
    until_all_by(scene, 1).await?;
    let on_one = scene
        .converse(Family::Ipv4, &[(Protocol::Udp, 20), (Protocol::Tcp, 20)])
        .await?;
    assert_eq!(on_one.on(1), 40);

    one.latency(FARTHEST, JITTER).await?;
    let status = until_all_by(scene, 2).await?;
    for family in Family::ALL {
        let found = of(&status, 1, family).ok_or("no such uplink")?;
        assert_eq!(
            found.state,
            State::Up,
            "it is left since it is late: {status}"
        );
        // The mean of the window holds answers from before: it was not waited for its end.
        let mean = found.rtt_ms.ok_or("not measured")?;
        assert!(mean < 380.0, "{mean}: {status}");
    }
    on_one.expect_unmoved(&[1]).await?;
    let on_two = scene
        .converse(Family::Ipv6, &[(Protocol::Udp, 20), (Protocol::Tcp, 20)])
        .await?;
    assert_eq!(on_two.on(2), 40);

    one.latency(BETTER, JITTER).await?;
    near_equals_take_no_turns(scene).await?;

    // The one that leads dies.
    two.carrier_loss().await?;
    until_all_by(scene, 1).await?;
    on_one.expect_unmoved(&[1]).await
}

/// One new flow after the other goes by the second uplink, while the first answers a little sooner.
async fn near_equals_take_no_turns(scene: &Scene) -> Outcome {
    let address = scene.uplink(1)?.gateway_address(Family::Ipv4);
    let address = address.ok_or("no address")?;
    let rounds = || {
        let requests = scene.lab.internet().echo_requests();
        requests.get(&address).copied().unwrap_or_default()
    };
    let daemon = scene.daemon()?;
    let before = rounds();
    let looked_long_enough = || async {
        for family in Family::ALL {
            let traffic = Traffic::new(Protocol::Udp, family, 1).within(PATIENT);
            let tally = Tally::of(&scene.lab.client(1)?.burst(traffic).await?);
            assert_eq!(tally.on(2), 1, "{family}: {tally}");
        }
        let status = daemon.status().await?;
        let sooner = Family::ALL.into_iter().all(|family| {
            let late = |number| of(&status, number, family)?.rtt_ms;
            late(1) < late(2)
        });
        Ok(sooner && rounds() - before >= ROUNDS)
    };
    scene
        .eventually("a near equal has answered often", looked_long_enough)
        .await
}

const LIMITED: &str = "
uplinks:
  one: {interface: wan1, capacity: 20Mbit, weight: 2}
  two: {interface: wan2}
downlinks: [lan0]
strategy: {overflow: 80%}
";
const CAPACITY: u64 = 20_000_000;

/// Flows that leave room, those with which the first uplink is full, and all, which are half as much
/// again as it can carry.
const ROOM: usize = 27;
const FULL: usize = 34;
const ALL: usize = 60;
/// As many of its flows end that it is full still, and then so many more that it is not.
const END_FIRST: usize = 6;
const END_THEN: usize = 8;

/// The first uplink takes flows up to its share, the next takes the rest; each stays where it began,
/// also when there is room again, which is used by new ones.
pub(crate) async fn overflow(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), LIMITED).await?;
    let provider = scene.uplink(1)?.provider();
    let shaped = "tc qdisc add dev access root tbf rate 20mbit burst 64kb latency 200ms";
    provider.must(ProgramSpec::line(shaped)).await?;
    viewer::serve(&scene.lab).await?;
    until_all_by(scene, 1).await?;
    // 80 % of the capacity, and 15 points less, are between these.
    assert!(offered(ROOM) * 100 < CAPACITY * 75 && CAPACITY * 85 < offered(FULL) * 100);
    assert!(offered(FULL - END_FIRST) * 100 > CAPACITY * 70);
    assert!(offered(FULL - END_FIRST - END_THEN) * 100 < CAPACITY * 60);

    let mut flows = Vec::new();
    watch(scene, &mut flows, ROOM).await?;
    let status = until_one_carries(scene, ROOM).await?;
    assert!(
        all_by(&status, 1) && is_full(&status) == Some(false),
        "{status}"
    );
    watch(scene, &mut flows, FULL).await?;
    let full = |status: &Status| is_full(status) == Some(true) && all_by(status, 2);
    scene.until("the first is full", full).await?;
    tells_of_the_full(scene).await?;
    watch(scene, &mut flows, ALL).await?;
    let status = until_one_carries(scene, FULL).await?;
    assert!(full(&status), "{status}");
    let two = status.uplink("two").ok_or("no such uplink")?;
    assert_eq!(two.rx_bits_per_s, None, "it has no capacity");
    let by = until_all_see_more(scene, &flows).await?;
    let wanted: Vec<u8> = (0..ALL).map(|n| if n < FULL { 1 } else { 2 }).collect();
    assert_eq!(by, wanted);

    for flow in flows.iter().take(END_FIRST) {
        flow.stop()?;
    }
    let status = until_one_carries(scene, FULL - END_FIRST).await?;
    assert!(full(&status), "{status}");
    for flow in flows.iter().skip(END_FIRST).take(END_THEN) {
        flow.stop()?;
    }
    until_all_by(scene, 1).await?;
    let status = until_one_carries(scene, FULL - END_FIRST - END_THEN).await?;
    assert_eq!(is_full(&status), Some(false), "{status}");
    for flow in &flows {
        flow.ask_again()?;
    }
    assert_eq!(
        until_all_see_more(scene, &flows).await?,
        wanted,
        "none has moved"
    );
    scene.expect_no_strays_since(None)
}

/// What so many flows take, of which every other one is of IPv6, in bits per second.
fn offered(flows: usize) -> u64 {
    let families = Family::ALL.into_iter().cycle();
    families.take(flows).map(viewer::rate).sum()
}

fn is_full(status: &Status) -> Option<bool> {
    status.uplink("one")?.full
}

/// Has new ones watch until there are so many.
async fn watch(scene: &Scene, flows: &mut Vec<Viewer>, until: usize) -> Outcome {
    for family in Family::ALL.into_iter().cycle().skip(flows.len() % 2) {
        if flows.len() == until {
            break;
        }
        flows.push(Viewer::begin(scene.client()?, family).await?);
    }
    Ok(())
}

/// Waits until the first uplink carries what so many flows take, within 4 %.
async fn until_one_carries(scene: &Scene, flows: usize) -> Result<Status> {
    let wanted = offered(flows);
    let what = format!("wan1 carries {flows} flows, {wanted} bit/s");
    let carries = |status: &Status| {
        let rate = status.uplink("one").and_then(|one| one.rx_bits_per_s);
        rate.is_some_and(|rate| rate.abs_diff(wanted) * 100 < wanted * 4)
    };
    scene.until(&what, carries).await
}

/// `explain` names the uplink that is passed over.
async fn tells_of_the_full(scene: &Scene) -> Outcome {
    let daemon = scene.daemon()?;
    let flow = "explain --from 198.18.0.10:4000 --to 203.0.113.11:443";
    let told = daemon.failover().command(flow).await?.stdout;
    assert!(told.contains("  full        one: passed over\n"), "{told}");
    let json = daemon.failover().command(&format!("{flow} --json")).await?;
    let told: serde_json::Value = serde_json::from_str(&json.stdout)?;
    let pool = told.pointer("/new_flow/pool").ok_or("no pool")?;
    assert_eq!(pool["full"], serde_json::json!(["one"]), "{pool}");
    assert_eq!(pool["strategy"], "overflow 80%", "{pool}");
    Ok(())
}

/// By which uplink each flow has come since it began, which is one, once more has come by all.
async fn until_all_see_more(scene: &Scene, flows: &[Viewer]) -> Result<Vec<u8>> {
    let received = || flows.iter().map(|flow| flow.viewed().received);
    let before: Vec<u64> = received().collect();
    let more = || async { Ok(received().zip(&before).all(|(now, before)| now > *before)) };
    scene
        .eventually("something more comes to all", more)
        .await?;
    let by = flows.iter().map(|flow| {
        let viewed = flow.viewed();
        match viewed.by.keys().copied().collect::<Vec<u8>>()[..] {
            [uplink] => Ok(uplink),
            _ => Err(format!("a flow came by several: {viewed:?}").into()),
        }
    });
    by.collect()
}
