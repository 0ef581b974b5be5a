//! Who gets new flows by latency and by load, as users and providers see it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::daemon::{State, Status};
use failover_tests::{Lab, ProgramSpec, Protocol, Tally, Traffic, addressing};
use tokio::net::UdpSocket;

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

/// Flows that are there at once, and those that come one by one.
const AT_ONCE: usize = 20;
const FLOWS: usize = 60;
/// From one flow to the next: 1.3 Mbit more in a second, so that what comes until it is seen that an
/// uplink is full finds room.
const PAUSE: Duration = Duration::from_millis(400);
/// What the server sends by each flow: half a Mbit per second.
const TICK: Duration = Duration::from_millis(20);
const DATAGRAM: usize = 1250;
/// A busy machine makes up for so many ticks at most.
const MOST_BEHIND: u32 = 5;
const PORT: u16 = 5070;
const WATCH: u8 = b'W';
const STOP: u8 = b'S';

/// The first uplink takes flows up to its share, the next takes the rest; each stays where it began,
/// also when there is room again, which is used by new ones.
pub(crate) async fn overflow(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), LIMITED).await?;
    let provider = scene.uplink(1)?.provider();
    let shaped = "tc qdisc add dev access root tbf rate 20mbit burst 64kb latency 200ms";
    provider.must(ProgramSpec::line(shaped)).await?;
    for family in Family::ALL {
        serve(scene, family).await?;
    }
    until_all_by(scene, 1).await?;

    let mut flows = Vec::new();
    let mut next = tokio::time::Instant::now();
    for number in 0..FLOWS {
        let family = if number % 2 == 0 {
            Family::Ipv4
        } else {
            Family::Ipv6
        };
        flows.push(Watching::begin(scene, family).await?);
        if number >= AT_ONCE {
            next += PAUSE;
            tokio::time::sleep_until(next).await;
        } else {
            next = tokio::time::Instant::now();
        }
    }
    let rate = |status: &Status, name: &str| -> Option<u64> { status.uplink(name)?.rx_bits_per_s };
    let status = scene
        .until("the first is full", |status| {
            let one = status.uplink("one");
            one.is_some_and(|one| one.full == Some(true)) && all_by(status, 2)
        })
        .await?;
    let one = rate(&status, "one").ok_or("not measured")?;
    assert!((12_000_000..21_500_000).contains(&one), "{one}: {status}");
    assert_eq!(rate(&status, "two"), None, "it has no capacity");

    for flow in &flows {
        flow.send(WATCH).await?;
    }
    let on = wheres(scene, &flows)?;
    let count = |number| on.values().filter(|uplink| **uplink == number).count();
    // 31 flows are 16 Mbit; what comes until that is seen goes there, too.
    assert!(
        (26..=48).contains(&count(1)),
        "{} of {FLOWS} by wan1",
        count(1)
    );
    assert_eq!(count(1) + count(2), FLOWS);

    for flow in &flows {
        flow.send(STOP).await?;
    }
    until_all_by(scene, 1).await?;
    for flow in &flows {
        flow.send(STOP).await?;
    }
    assert_eq!(wheres(scene, &flows)?, on, "none has moved");
    scene.expect_no_strays_since(None)
}

/// By which provider each flow was seen to go: by one only.
fn wheres(scene: &Scene, flows: &[Watching]) -> Result<BTreeMap<(Family, u16), u8>> {
    let mut seen: BTreeMap<(Family, u16), BTreeSet<u8>> = BTreeMap::new();
    for uplink in scene.lab.uplinks() {
        for flow in uplink.capture()?.flows()? {
            if flow.key.destination.port() == PORT {
                // The translation keeps ports where it can, and here nobody else has them.
                let key = (Family::of(flow.key.source.ip()), flow.key.source.port());
                seen.entry(key).or_default().insert(uplink.number());
            }
        }
    }
    let mut found = BTreeMap::new();
    for flow in flows {
        let uplinks = seen.get(&flow.key).ok_or("a flow was seen nowhere")?;
        let [uplink] = uplinks.iter().copied().collect::<Vec<u8>>()[..] else {
            return Err(format!("{:?} was seen at {uplinks:?}", flow.key).into());
        };
        found.insert(flow.key, uplink);
    }
    Ok(found)
}

/// A client that watches what the server sends.
struct Watching {
    socket: UdpSocket,
    key: (Family, u16),
}

impl Watching {
    async fn begin(scene: &Scene, family: Family) -> Result<Self> {
        let server = *addressing::servers(family).first().ok_or("no server")?;
        let node = scene.client()?.node();
        let socket = node
            .run(move || async move {
                let socket = UdpSocket::bind((addressing::any(family), 0)).await?;
                socket.connect(SocketAddr::new(server, PORT)).await?;
                // Used from another thread's runtime from now on.
                socket.into_std()
            })
            .await??;
        let socket = UdpSocket::from_std(socket)?;
        let key = (family, socket.local_addr()?.port());
        let watching = Self { socket, key };
        watching.send(WATCH).await?;
        Ok(watching)
    }

    async fn send(&self, what: u8) -> Outcome {
        self.socket.send(&[what]).await?;
        Ok(())
    }
}

/// Sends to all who watch.
async fn serve(scene: &Scene, family: Family) -> Outcome {
    let server = *addressing::servers(family).first().ok_or("no server")?;
    let at = SocketAddr::new(server, PORT);
    let internet = scene.lab.internet().node();
    let socket = internet
        .run(move || async move { UdpSocket::bind(at).await })
        .await??;
    internet.start_task(move || async move {
        let socket = Rc::new(socket);
        let mut watchers: BTreeSet<SocketAddr> = BTreeSet::new();
        let datagram = [0_u8; DATAGRAM];
        let begin = Instant::now();
        let mut ticks = 0_u32;
        let mut asked = [0_u8; 16];
        loop {
            let next = begin + TICK * (ticks + 1);
            tokio::select! {
                Ok((_, peer)) = socket.recv_from(&mut asked) => match asked[0] {
                    WATCH => { watchers.insert(peer); }
                    _ => { watchers.remove(&peer); }
                },
                () = tokio::time::sleep_until(next.into()) => {
                    let behind = u32::try_from(begin.elapsed().as_millis() / TICK.as_millis());
                    let due = behind.unwrap_or(u32::MAX).saturating_sub(ticks);
                    ticks += due;
                    for watcher in &watchers {
                        for _ in 0..due.min(MOST_BEHIND) {
                            // What finds no room is lost, as on any line.
                            socket.try_send_to(&datagram, *watcher).ok();
                        }
                    }
                }
            }
        }
    })?;
    Ok(())
}
