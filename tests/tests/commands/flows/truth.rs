//! Users' flows: each is listed, once, and as another program counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::addressing::{SERVER_PORT, servers};
use failover_tests::daemon::{FlowTable, Mode};
use failover_tests::{Daemon, Flows, Lab, Node, ProgramSpec, Protocol, Traffic};

use super::{Entry, conntrack, link_layer, list, name, printed, run, start, written};
use crate::{TestResult, on_a_terminal, one_line};

/// Flows of each protocol and family.
const COUNT: usize = 12;
const PATIENT: Duration = Duration::from_secs(5);

type Error = Box<dyn std::error::Error>;

/// A protocol, as the documents and `conntrack` write it.
const fn word(protocol: Protocol, family: Family) -> &'static str {
    match (protocol, family) {
        (Protocol::Tcp, _) => "tcp",
        (Protocol::Udp, _) => "udp",
        (Protocol::Icmp, Family::Ipv4) => "icmp",
        (Protocol::Icmp, Family::Ipv6) => "icmpv6",
    }
}

/// Opens flows and asks each of them twice; returns them with the uplinks by which they are seen.
async fn open(
    lab: &Lab,
    protocol: Protocol,
    family: Family,
) -> Result<(Flows, Vec<Option<u8>>), Error> {
    let flows = lab
        .client(1)?
        .open(Traffic::new(protocol, family, COUNT))
        .await?;
    let first = flows.ask(PATIENT).await?;
    let mut uplinks = Vec::new();
    for (first, second) in first.into_iter().zip(flows.ask(PATIENT).await?) {
        let uplink = first?.uplink();
        assert_eq!(second?.uplink(), uplink);
        uplinks.push(uplink);
    }
    Ok((flows, uplinks))
}

/// What `conntrack` lists, by family and protocol, without what changes with time alone.
type Tracked = BTreeMap<(Family, Protocol), BTreeSet<String>>;

/// What is listed by us and by `conntrack`, at a moment at which no packet is on its way: the last
/// answer of a connection is acknowledged only after a while.
async fn quiet(lab: &Lab, daemon: &Daemon) -> Result<(Vec<Entry>, Tracked), Error> {
    let gateway = lab.gateway().node();
    let begin = Instant::now();
    loop {
        let before = tracked(gateway).await?;
        let listed = list(daemon, "").await?;
        let after = tracked(gateway).await?;
        let acknowledged = listed.iter().all(|entry| entry.idle_ms.is_some());
        if acknowledged && before == after {
            return Ok((listed, after));
        }
        if begin.elapsed() > PATIENT {
            return Err(format!("packets are on their way all the time: {after:#?}").into());
        }
    }
}

/// What a probe's connection has in its mark.
const PROBE: u32 = 0x8000_0000;

/// Whether a line of `conntrack` is about a probe's connection.
fn is_probe(line: &str) -> bool {
    let marks = words(line, "mark");
    let mut marks = marks.iter().filter_map(|mark| mark.parse::<u32>().ok());
    marks.any(|mark| mark & PROBE != 0)
}

async fn tracked(gateway: &Node) -> Result<Tracked, Error> {
    let mut tracked = Tracked::new();
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let lines = conntrack(gateway, family, word(protocol, family)).await?;
            // Probes never rest.
            let users = lines.iter().filter(|line| !is_probe(line));
            let kept = users.map(|line| {
                let words = line.split_whitespace();
                let kept = words.filter(|word| word.contains('=') && !word.contains("time="));
                kept.collect::<Vec<_>>().join(" ")
            });
            tracked.insert((family, protocol), kept.collect());
        }
    }
    Ok(tracked)
}

/// The values of `NAME=VALUE` in a line.
fn words(line: &str, name: &str) -> Vec<String> {
    line.split_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
        .collect()
}

/// Packets and bytes of a flow as `conntrack` tells them, out and in.
fn counts(tracked: &Tracked, protocol: Protocol, family: Family, port: u16) -> Option<[u64; 4]> {
    let (name, port) = match protocol {
        Protocol::Icmp => ("id", port.to_string()),
        Protocol::Tcp | Protocol::Udp => ("sport", port.to_string()),
    };
    let line = tracked
        .get(&(family, protocol))?
        .iter()
        .find(|line| words(line, name).first() == Some(&port))?;
    let number = |name: &str, place: usize| words(line, name).get(place)?.parse().ok();
    Some([
        number("packets", 0)?,
        number("bytes", 0)?,
        number("packets", 1)?,
        number("bytes", 1)?,
    ])
}

pub(super) async fn exact_counts(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, mode).await?;
    assert_eq!(printed(&daemon, "flows --json").await?, "[]\n");
    let mut open_flows = Vec::new();
    for protocol in Protocol::ALL {
        for family in Family::ALL {
            let (flows, uplinks) = open(&lab, protocol, family).await?;
            open_flows.push((protocol, family, flows, uplinks));
        }
    }
    let (listed, tracked) = quiet(&lab, &daemon).await?;
    assert_eq!(listed.len(), open_flows.len() * COUNT, "{listed:#?}");
    for (protocol, family, flows, uplinks) in &open_flows {
        let client = lab.client(1)?.address(*family).ok_or("no address")?;
        let servers = servers(*family);
        for (index, (flow, uplink)) in flows.each_flow().iter().zip(uplinks).enumerate() {
            let port = flow.lock().await.local().port();
            let found: Vec<&Entry> = listed
                .iter()
                .filter(|entry| {
                    entry.protocol == word(*protocol, *family) && entry.inside_port == Some(port)
                })
                .collect();
            let [entry] = found.as_slice() else {
                return Err(format!("{protocol} {family} {port}: {found:#?}").into());
            };
            let server = servers.get(index % servers.len()).ok_or("no server")?;
            let wanted = (
                written(*family),
                client.to_string(),
                server.to_string(),
                (*protocol != Protocol::Icmp).then_some(SERVER_PORT),
            );
            let (inside, outside) = (entry.inside.clone(), entry.outside.clone());
            assert_eq!(
                (entry.family.as_str(), inside, outside, entry.outside_port),
                wanted
            );
            assert_eq!(entry.uplink, name(*uplink), "{entry:?}");
            assert_eq!(Some(entry.uplink_id), *uplink, "{entry:?}");
            assert_eq!(
                (entry.why.as_str(), entry.phase.as_str(), entry.confirmed),
                ("hash", "established", true),
                "{entry:?}"
            );
            let [out, out_bytes, back, back_bytes] =
                counts(&tracked, *protocol, *family, port).ok_or("conntrack does not know it")?;
            if *protocol != Protocol::Tcp {
                assert_eq!((out, back), (2, 2), "two questions and two answers");
            }
            let header = link_layer(mode);
            assert_eq!(
                [
                    entry.out_packets,
                    entry.out_bytes,
                    entry.in_packets,
                    entry.in_bytes
                ],
                [
                    out,
                    out_bytes + out * header,
                    back,
                    back_bytes + back * header
                ]
                .map(Some),
                "{entry:?}"
            );
            let (age, idle) = (entry.age_ms.ok_or("age")?, entry.idle_ms.ok_or("idle")?);
            assert!(age < 60_000 && idle <= age, "{entry:?}");
        }
    }
    ends(&lab, &daemon, mode, open_flows).await
}

/// When the flows' ends are seen, they are closing.
async fn ends(
    lab: &Lab,
    daemon: &Daemon,
    mode: Mode,
    open: Vec<(Protocol, Family, Flows, Vec<Option<u8>>)>,
) -> TestResult {
    drop(open);
    let all_closing = || async {
        // A failure of the command is told by the last look, below.
        let listed = list(daemon, "").await.unwrap_or_default();
        let mut tcp = listed.iter().filter(|entry| entry.protocol == "tcp");
        Ok(tcp.all(|entry| entry.phase == "closing").then_some(()))
    };
    failover_tests::eventually("TCP flows are closing", PATIENT, all_closing).await?;
    let listed = list(daemon, "").await?;
    let closing = listed.iter().filter(|entry| entry.phase == "closing");
    assert_eq!(closing.count(), 2 * COUNT, "{listed:#?}");
    if mode == Mode::Classic {
        // What connection tracking has forgotten is no flow any more.
        let gateway = lab.gateway().node();
        gateway.must(ProgramSpec::line("conntrack -F")).await?;
        assert_eq!(printed(daemon, "flows --json").await?, "[]\n");
    }
    Ok(())
}

pub(super) async fn of_one_uplink(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, mode).await?;
    let mut flows = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for family in Family::ALL {
        let (open, uplinks) = open(&lab, Protocol::Udp, family).await?;
        flows.push(open);
        for uplink in uplinks {
            *seen.entry(name(uplink)).or_default() += 1;
        }
    }
    let mut sum = 0;
    for uplink in ["one", "two"] {
        let listed = list(&daemon, &format!("--uplink {uplink}")).await?;
        assert!(listed.iter().all(|entry| entry.uplink == uplink));
        let count = seen.get(uplink).copied().unwrap_or_default();
        assert_eq!(listed.len(), count, "{uplink}");
        sum += count;
        let status = daemon.status().await?;
        let status = status.uplink(uplink).ok_or("it is configured")?;
        assert_eq!(status.flows, u64::try_from(count)?, "as the status tells");
        let table = printed(&daemon, &format!("flows --uplink {uplink}")).await?;
        assert_eq!(table.matches("  hash  ").count(), count, "{table}");
    }
    assert_eq!(
        (list(&daemon, "").await?.len(), sum),
        (2 * COUNT, 2 * COUNT)
    );

    let unknown = daemon.failover().command("flows --uplink three").await?;
    one_line(&unknown, 1, &["`three`", "one, two"])?;
    let unknown = daemon
        .failover()
        .command("flows --json --uplink three")
        .await?;
    one_line(&unknown, 1, &["`three`", "one, two"])?;
    let no_name = daemon.failover().command("flows --uplink no/name").await?;
    assert_eq!(no_name.status.code(), Some(2), "{no_name:?}");
    daemon.terminate().await?;
    Ok(())
}

pub(super) async fn table(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, mode).await?;
    let (few, _) = open(&lab, Protocol::Udp, Family::Ipv4).await?;
    let (more, _) = open(&lab, Protocol::Tcp, Family::Ipv6).await?;
    let text = printed(&daemon, "flows").await?;
    let lines: Vec<&str> = text.lines().collect();
    let heading = lines.get(2).copied().unwrap_or_default();
    assert_eq!(
        lines.first().copied(),
        Some(format!("mode {mode}, {} flows", 2 * COUNT).as_str())
    );
    // There is one more where there is a fast path.
    let headings: Vec<&str> = heading
        .split_whitespace()
        .filter(|heading| mode == Mode::Classic || *heading != "PATH")
        .collect();
    assert_eq!(
        headings.join(" "),
        "PROTOCOL INSIDE OUTSIDE UPLINK WHY PHASE AGE IDLE SENT PACKETS RECEIVED PACKETS"
    );
    let rows: Vec<&str> = lines.iter().skip(3).copied().collect();
    assert_eq!(rows.len(), 2 * COUNT, "{text}");
    // A connection has a handshake beside its two questions.
    let protocols: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.split_whitespace().next())
        .collect();
    assert_eq!(
        protocols,
        [["tcp"; COUNT], ["udp"; COUNT]].concat(),
        "{text}"
    );
    assert!(rows.iter().all(|row| row.len() == heading.len()), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour: {text}");
    drop((few, more));

    // The same on a terminal.
    let failover = daemon.failover();
    let command = format!(
        "{} flows --control {}",
        failover.binary().display(),
        failover.control().display()
    );
    let node = lab.gateway().node();
    let coloured = node.must(on_a_terminal(&command)).await?;
    assert!(
        coloured.contains("\u{1b}[32mestablished\u{1b}[0m"),
        "{coloured:?}"
    );
    daemon.terminate().await?;
    Ok(())
}

pub(super) async fn uncounted(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway: &Node = lab.gateway().node();
    for key in ["acct", "timestamp"] {
        let key = format!("net/netfilter/nf_conntrack_{key}");
        gateway.set_sysctl(&key, "0").await?;
    }
    let daemon = run(&lab, mode).await?;
    let (flows, _) = open(&lab, Protocol::Udp, Family::Ipv4).await?;
    let listed = list(&daemon, "").await?;
    assert_eq!(listed.len(), COUNT);
    let classic = mode == Mode::Classic;
    for entry in &listed {
        let counts = [
            entry.age_ms,
            entry.out_packets,
            entry.out_bytes,
            entry.in_packets,
            entry.in_bytes,
        ];
        assert!(
            counts.iter().all(|count| count.is_none() == classic),
            "{entry:?}"
        );
        assert!(entry.idle_ms.is_some_and(|idle| idle < 20_000), "{entry:?}");
    }
    let table = printed(&daemon, "flows").await?;
    assert_eq!(table.contains("nf_conntrack_acct=1"), classic, "{table}");
    drop(flows);
    daemon.terminate().await?;
    Ok(())
}

pub(super) async fn table_in_status(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, mode).await?;
    let mut flows = Vec::new();
    for family in Family::ALL {
        flows.push(open(&lab, Protocol::Udp, family).await?);
    }
    let count = u64::try_from(2 * COUNT)?;
    let wanted = match mode {
        // There is no such table.
        Mode::Classic => None,
        Mode::Ebpf => Some(FlowTable {
            capacity: 262_144,
            entries: count,
            live: count,
            entered: count,
            evicted: 0,
            held_off: 0,
        }),
    };
    assert_eq!(daemon.status().await?.flow_table, wanted);
    let text = printed(&daemon, "status").await?;
    assert_eq!(text.contains("Flow table: 24 of 262144"), wanted.is_some());
    daemon.terminate().await?;
    Ok(())
}
