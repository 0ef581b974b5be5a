//! What can be seen of the fast path: by the commands, in the programs' maps, and by what passes netfilter.

use std::fmt::Write as _;
use std::net::SocketAddr;

use aya::maps::{Array, Map, MapData, MapError};
use failover::family::Family;
use failover_common::{Direction, NextHop, maps};
use failover_tests::Pinning as _;
use failover_tests::{LabError, ProgramSpec, addressing};
use serde::Deserialize;
use serde_json::Value;

use super::exchange::{Exchange, Plan};
use crate::Outcome;
use crate::scene::Scene;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A flow as `failover flows --json` lists it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Listed {
    pub(crate) protocol: String,
    pub(crate) inside_port: Option<u16>,
    pub(crate) outside_port: Option<u16>,
    pub(crate) offloaded: bool,
    pub(crate) fastpath: Option<String>,
    pub(crate) out_packets: u64,
    pub(crate) out_bytes: u64,
    pub(crate) in_packets: u64,
    pub(crate) in_bytes: u64,
}

/// The flows to or from a service.
pub(crate) async fn listed(scene: &Scene, port: u16) -> std::result::Result<Vec<Listed>, LabError> {
    let daemon = scene.daemon().map_err(|error| LabError::Io {
        what: "list flows".to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    let output = daemon.failover().command("flows --json").await?;
    let all: Vec<Listed> =
        serde_json::from_str(&output.stdout).map_err(|source| LabError::Status {
            source,
            text: output.stdout.clone(),
        })?;
    let ours = |flow: &Listed| {
        matches!(flow.protocol.as_str(), "tcp" | "udp")
            && (flow.inside_port == Some(port) || flow.outside_port == Some(port))
    };
    Ok(all.into_iter().filter(ours).collect())
}

/// How many flows to or from a service take the fast path.
pub(crate) async fn offloaded(scene: &Scene, port: u16) -> std::result::Result<usize, LabError> {
    let listed = listed(scene, port).await?;
    Ok(listed.iter().filter(|flow| flow.offloaded).count())
}

/// Waits until all flows of an exchange take the fast path.
pub(crate) async fn until_fast(scene: &Scene, port: u16, exchange: &Exchange) -> Outcome {
    let what = format!("all flows of port {port} take the fast path");
    let waited = scene
        .eventually(&what, || async {
            Ok(offloaded(scene, port).await? >= exchange.len())
        })
        .await;
    if let Err(error) = waited {
        let listed = listed(scene, port).await?;
        return Err(format!("{error}\n{listed:#?}").into());
    }
    exchange.expect_whole();
    Ok(())
}

/// Opens flows from the first client to a service on the internet and waits until they take the fast
/// path.
pub(crate) async fn fast_flows(
    scene: &Scene,
    family: Family,
    port: u16,
    plan: Plan,
) -> Result<Exchange> {
    let exchange = flows(scene, family, port, plan).await?;
    until_fast(scene, port, &exchange).await?;
    Ok(exchange)
}

/// Opens flows from the first client to a service on the internet.
pub(crate) async fn flows(
    scene: &Scene,
    family: Family,
    port: u16,
    plan: Plan,
) -> Result<Exchange> {
    let at = SocketAddr::new(server(family)?, port);
    let internet = scene.lab.internet().node();
    Exchange::begin(plan, scene.client()?.node(), &[at], (internet, at)).await
}

/// The address of a service on the internet.
pub(crate) fn server(family: Family) -> Result<std::net::IpAddr> {
    let first = addressing::servers(family).first().copied();
    Ok(first.ok_or("the internet has no address")?)
}

/// Has the gateway's netfilter count what it sees of services.
pub(crate) async fn observe(scene: &Scene, ports: &[u16]) -> Outcome {
    let mut rules = "table inet observer {\n".to_owned();
    for port in ports {
        writeln!(rules, "counter of_{port} {{}}")?;
    }
    rules.push_str("chain passing { type filter hook forward priority 0; policy accept;\n");
    for port in ports {
        for side in ["sport", "dport"] {
            writeln!(
                rules,
                "meta l4proto {{ tcp, udp }} th {side} {port} counter name of_{port}"
            )?;
        }
    }
    rules.push_str("}\n}\n");
    scene.lab.gateway().node().nft(rules).await?;
    Ok(())
}

/// How many packets of a service netfilter has seen.
pub(crate) async fn observed(scene: &Scene, port: u16) -> std::result::Result<u64, LabError> {
    let line = format!("nft -j list counter inet observer of_{port}");
    let text = scene.in_gateway(&line).await?;
    let answer: Value = serde_json::from_str(&text).map_err(|source| LabError::Status {
        source,
        text: text.clone(),
    })?;
    let parts = answer.get("nftables").and_then(Value::as_array);
    let packets = parts
        .into_iter()
        .flatten()
        .find_map(|part| part.pointer("/counter/packets"));
    packets.and_then(Value::as_u64).ok_or(LabError::Io {
        what: "read a counter".to_owned(),
        source: std::io::Error::other(text),
    })
}

/// How many directions of flows are on the fast path.
pub(crate) fn led(scene: &Scene) -> std::result::Result<usize, MapError> {
    const VALUE: usize = size_of::<Direction>();
    let map = MapData::from_pin(scene.lab.pins().map(maps::OFFLOAD))?;
    let map = Array::<_, [u8; VALUE]>::try_from(Map::Array(map))?;
    let mut count = 0;
    for value in map.iter() {
        let way: Direction = bytemuck::cast(value?);
        count += usize::from(way.id != 0);
    }
    Ok(count)
}

/// Whether packets of the fast path are sent to a hardware address.
pub(crate) fn is_sent_to(scene: &Scene, mac: [u8; 6]) -> std::result::Result<bool, MapError> {
    Ok(hops(scene)?.iter().any(|hop| hop.destination() == mac))
}

/// Whether packets of the fast path are sent from a hardware address.
pub(crate) fn is_sent_from(scene: &Scene, mac: [u8; 6]) -> std::result::Result<bool, MapError> {
    Ok(hops(scene)?.iter().any(|hop| hop.source() == mac))
}

/// The first next hops that are in use.
fn hops(scene: &Scene) -> std::result::Result<Vec<NextHop>, MapError> {
    const VALUE: usize = size_of::<NextHop>();
    let map = MapData::from_pin(scene.lab.pins().map(maps::NEXT_HOPS))?;
    let map = Array::<_, [u8; VALUE]>::try_from(Map::Array(map))?;
    let mut hops = Vec::new();
    for index in 0..64 {
        let hop: NextHop = bytemuck::cast(map.get(&index, 0)?);
        if hop.interface != 0 {
            hops.push(hop);
        }
    }
    Ok(hops)
}

/// What connection tracking says of the flows of a service: the seconds that each has left.
pub(crate) async fn timeouts(
    scene: &Scene,
    family: Family,
    protocol: &str,
    port: u16,
) -> std::result::Result<Vec<u64>, LabError> {
    let family = match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    let line = format!("conntrack -L -f {family} -p {protocol} --dport {port}");
    let gateway = scene.lab.gateway().node();
    let text = gateway.must(ProgramSpec::line(&line)).await?;
    let seconds = |line: &str| line.split_whitespace().nth(2)?.parse().ok();
    Ok(text.lines().filter_map(seconds).collect())
}
