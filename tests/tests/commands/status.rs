//! What `failover status` shows is what is so.

use std::time::{Duration, SystemTime};

use failover::family::Family;
use failover_tests::daemon::{FamilyStatus, State, Status};
use failover_tests::{Daemon, Lab, LabError, Node, ProgramSpec, Protocol, Tally, Traffic};
use serde_json::Value;

use crate::{SystemTest, TestResult, VERDICT, on_a_terminal};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("status_json_has_the_documented_fields", fields),
        SystemTest::new("status_tells_gateways_sources_and_shares", values),
        SystemTest::new("status_counts_live_flows_and_traffic", counts),
        SystemTest::new("status_is_a_table_with_colours_on_a_terminal_only", table),
    ]
}

/// Weights of 3 and 1, a standby, and one that gets no new flows.
const CONFIG: &str = r#"
uplinks:
  fiber: {interface: wan1, id: 7, weight: 3}
  cable: {interface: wan2, id: 9}
  lte: {interface: wan3, priority: 2}
  line: {interface: wan4, new_flows: false}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
"#;

async fn lab() -> Result<Lab, LabError> {
    let lab = Lab::builder().uplinks(4).uplink_without(2, Family::Ipv6);
    lab.build().await
}

async fn start(lab: &Lab) -> Result<Daemon, LabError> {
    let daemon = Daemon::start(lab, CONFIG).await?;
    let up = |status: &Status| {
        status.all(State::Up)
            && status
                .uplinks
                .iter()
                .all(|uplink| both_verdicts(uplink.name == "cable", uplink))
    };
    daemon.wait_until("all uplinks are up", VERDICT, up).await?;
    Ok(daemon)
}

fn both_verdicts(ipv4_only: bool, uplink: &failover_tests::daemon::UplinkStatus) -> bool {
    uplink.ipv4.state == State::Up && (ipv4_only || uplink.ipv6.state == State::Up)
}

/// What a value must be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Number,
    Whole,
    Truth,
    TextOrNull,
    NumberOrNull,
    Moment,
    Map,
    MapOrNull,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Number => value.is_number(),
            Self::Whole => value.is_u64(),
            Self::Truth => value.is_boolean(),
            Self::TextOrNull => value.is_string() || value.is_null(),
            Self::NumberOrNull => value.is_number() || value.is_null(),
            Self::Moment => value.as_str().is_some_and(is_rfc3339),
            Self::Map => value.is_object(),
            Self::MapOrNull => value.is_object() || value.is_null(),
        }
    }
}

/// A date and time in UTC as RFC 3339 writes it, with or without a fraction of a second.
fn is_rfc3339(text: &str) -> bool {
    let pattern = "0000-00-00T00:00:00";
    let (head, tail) = text.split_at_checked(pattern.len()).unwrap_or((text, ""));
    let same = head.len() == pattern.len()
        && head.chars().zip(pattern.chars()).all(|(found, wanted)| {
            if wanted == '0' {
                found.is_ascii_digit()
            } else {
                found == wanted
            }
        });
    let fraction = tail.strip_suffix('Z').unwrap_or("no UTC");
    same && (fraction.is_empty()
        || fraction
            .strip_prefix('.')
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())))
}

const DAEMON: &[(&str, Kind)] = &[
    ("mode", Kind::Text),
    ("since", Kind::Moment),
    ("flow_table", Kind::MapOrNull),
    ("fastpath", Kind::Map),
];
const UPLINK: &[(&str, Kind)] = &[
    ("name", Kind::Text),
    ("id", Kind::Whole),
    ("interface", Kind::Text),
    ("weight", Kind::Whole),
    ("priority", Kind::Whole),
    ("state", Kind::Text),
    ("draining", Kind::Truth),
    ("by_hand", Kind::MapOrNull),
    ("since", Kind::Moment),
    ("reason", Kind::Text),
    ("ipv4", Kind::Map),
    ("ipv6", Kind::Map),
    ("flows", Kind::Whole),
    ("rx_bytes", Kind::Whole),
    ("tx_bytes", Kind::Whole),
    ("rx_packets", Kind::Whole),
    ("tx_packets", Kind::Whole),
];
const FAMILY: &[(&str, Kind)] = &[
    ("state", Kind::Text),
    ("gateway", Kind::TextOrNull),
    ("source", Kind::TextOrNull),
    ("share", Kind::Number),
    ("rtt_ms", Kind::NumberOrNull),
    ("loss", Kind::NumberOrNull),
    ("reason", Kind::Text),
];

/// The fields that are missing or of another kind.
fn wrong(value: &Value, fields: &[(&str, Kind)]) -> Vec<String> {
    let fits =
        |(name, kind): &&(&str, Kind)| !value.get(*name).is_some_and(|found| kind.fits(found));
    let wrong = fields.iter().filter(fits);
    wrong
        .map(|(name, kind)| format!("{name} is no {kind:?}: {:?}", value.get(*name)))
        .collect()
}

async fn fields() -> TestResult {
    let lab = lab().await?;
    let daemon = start(&lab).await?;
    let output = daemon.failover().command("status --json").await?;
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let document: Value = serde_json::from_str(&output.stdout)?;
    let mut problems = wrong(&document, DAEMON);
    let uplinks = document
        .get("uplinks")
        .and_then(Value::as_array)
        .ok_or("uplinks is a list")?;
    assert_eq!(uplinks.len(), 4);
    for uplink in uplinks {
        problems.extend(wrong(uplink, UPLINK));
        for family in ["ipv4", "ipv6"] {
            problems.extend(wrong(uplink.get(family).unwrap_or(&Value::Null), FAMILY));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    let status = daemon.status().await?;
    let mut moments = vec![status.since.clone()];
    moments.extend(status.uplinks.iter().map(|uplink| uplink.since.clone()));
    for moment in moments {
        let seconds = seconds(lab.gateway().node(), &moment).await?;
        assert!(now.abs_diff(seconds) < 60, "{moment} is about now");
    }
    daemon.terminate().await?;
    Ok(())
}

/// A moment as seconds since 1970.
async fn seconds(node: &Node, moment: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let spec = ProgramSpec::new("date").arguments(["--date", moment, "+%s"]);
    Ok(node.must(spec).await?.trim().parse()?)
}

fn close(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() < 0.01
}

async fn values() -> TestResult {
    let lab = lab().await?;
    let daemon = start(&lab).await?;
    let status = daemon.status().await?;
    assert_eq!(status.mode, "ebpf");
    for (name, number, id, weight, priority) in [
        ("fiber", 1, Some(7), 3, 1),
        ("cable", 2, Some(9), 1, 1),
        ("lte", 3, None, 1, 2),
        ("line", 4, None, 1, 1),
    ] {
        let found = status.uplink(name).ok_or(name)?;
        assert_eq!(found.interface, format!("wan{number}"));
        assert!(id.is_none_or(|id| found.id == id), "{name}: {}", found.id);
        assert_eq!((found.weight, found.priority), (weight, priority), "{name}");
        assert!(!found.draining && !found.reason.is_empty(), "{name}");
        let uplink = lab.uplink(number)?;
        for (family, told) in [(Family::Ipv4, &found.ipv4), (Family::Ipv6, &found.ipv6)] {
            told_truly(&format!("{name} {family}"), uplink, family, told);
        }
    }
    let shares = |family: fn(&failover_tests::daemon::UplinkStatus) -> f64| {
        ["fiber", "cable", "lte", "line"].map(|name| status.uplink(name).map_or(-1.0, family))
    };
    let ipv4 = shares(|uplink| uplink.ipv4.share);
    let ipv6 = shares(|uplink| uplink.ipv6.share);
    for (found, wanted) in ipv4.iter().zip([0.75, 0.25, 0.0, 0.0]) {
        assert!(close(*found, wanted), "{ipv4:?}");
    }
    for (found, wanted) in ipv6.iter().zip([1.0, 0.0, 0.0, 0.0]) {
        assert!(close(*found, wanted), "{ipv6:?}");
    }
    lab.uplink(1)?.carrier_loss().await?;
    let status = daemon
        .wait_until("fiber is down", VERDICT, |status| {
            status.is("fiber", State::Down)
        })
        .await?;
    let fiber = status.uplink("fiber").ok_or("it is configured")?;
    assert!(fiber.reason.contains("carrier"), "{}", fiber.reason);
    assert_eq!((fiber.ipv4.share, fiber.ipv6.share), (0.0, 0.0));
    let cable = status.uplink("cable").ok_or("it is configured")?;
    assert!(close(cable.ipv4.share, 1.0), "{status}");
    let lte = status.uplink("lte").ok_or("it is configured")?;
    assert!(
        close(lte.ipv6.share, 1.0) && close(lte.ipv4.share, 0.0),
        "{status}"
    );
    daemon.terminate().await?;
    Ok(())
}

/// Next hop, source and round-trip time of a family.
fn told_truly(what: &str, uplink: &failover_tests::Uplink, family: Family, told: &FamilyStatus) {
    let text = |address: Option<std::net::IpAddr>| address.map(|address| address.to_string());
    assert_eq!(told.gateway, text(uplink.next_hop(family)), "{what}");
    assert_eq!(told.source, text(uplink.gateway_address(family)), "{what}");
    if uplink.has(family) {
        assert_eq!(told.state, State::Up, "{what}");
        assert!(
            told.rtt_ms.is_some_and(|rtt| rtt > 0.0 && rtt < 1000.0),
            "{what}"
        );
        assert_eq!(told.loss, Some(0.0), "{what}");
    } else {
        assert_eq!(told.state, State::Absent, "{what}");
        assert_eq!((told.rtt_ms, told.loss), (None, None), "{what}");
    }
}

async fn counts() -> TestResult {
    let lab = lab().await?;
    let daemon = start(&lab).await?;
    let before = daemon.status().await?;
    assert!(
        before.uplinks.iter().all(|uplink| uplink.flows == 0),
        "probes are no flows: {:?}",
        before
            .uplinks
            .iter()
            .map(|uplink| uplink.flows)
            .collect::<Vec<_>>()
    );
    let mut tallies = Vec::new();
    let mut open = Vec::new();
    for (host, count) in [(lab.client(1)?, 60), (lab.gateway(), 20)] {
        for protocol in Protocol::ALL {
            for family in Family::ALL {
                let flows = host.open(Traffic::new(protocol, family, count)).await?;
                let asked = flows.ask(Duration::from_secs(2)).await?;
                tallies.extend(asked);
                open.push(flows);
            }
        }
    }
    let tally = Tally::of(&tallies);
    assert_eq!(tally.answered(), 480, "{tally}");
    let after = daemon.status().await?;
    for (number, name) in [(1, "fiber"), (2, "cable"), (3, "lte"), (4, "line")] {
        let now = after.uplink(name).ok_or(name)?;
        let then = before.uplink(name).ok_or(name)?;
        let flows = u64::try_from(tally.on(number))?;
        assert_eq!(now.flows, flows, "{name}: {tally}");
        // Each flow is a question and an answer at least; probes come on top.
        for (now, then, least) in [
            (now.rx_packets, then.rx_packets, flows),
            (now.tx_packets, then.tx_packets, flows),
            (now.rx_bytes, then.rx_bytes, flows * 28),
            (now.tx_bytes, then.tx_bytes, flows * 28),
        ] {
            assert!(now >= then + least, "{name}: {then} became {now}");
        }
    }
    drop(open);
    daemon.terminate().await?;
    Ok(())
}

async fn table() -> TestResult {
    let lab = lab().await?;
    let daemon = start(&lab).await?;
    lab.uplink(3)?.carrier_loss().await?;
    daemon
        .wait_until("lte is down", VERDICT, |status| {
            status.is("lte", State::Down)
        })
        .await?;
    let output = daemon.failover().command("status").await?;
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let text = &output.stdout;
    assert!(!text.contains('\u{1b}'), "no colour: {text}");
    for (name, parts) in [
        ("fiber", ["wan1 198.18.11.1", "IPv4", "up", "75 %"]),
        ("cable", ["wan2 198.18.12.1", "IPv4", "up", "25 %"]),
        ("lte", ["wan3", "IPv4", "down", "no carrier"]),
        ("line", ["wan4 198.18.14.1", "IPv4", "up", "0 %"]),
    ] {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .ok_or(name)?;
        for part in parts {
            assert!(line.contains(part), "{part} in the line of {name}:\n{text}");
        }
    }
    assert!(text.lines().all(|line| line == line.trim_end()), "{text}");

    // The same on a terminal.
    let command = format!(
        "{} status --control {}",
        daemon.failover().binary().display(),
        daemon.failover().control().display()
    );
    let node = lab.gateway().node();
    let coloured = node.must(on_a_terminal(&command)).await?;
    assert!(coloured.contains("\u{1b}[32mup\u{1b}[0m"), "{coloured:?}");
    assert!(coloured.contains("\u{1b}[31mdown\u{1b}[0m"), "{coloured:?}");
    daemon.terminate().await?;
    Ok(())
}
