//! Whether what the daemon put into the kernel fits the interfaces that are there.

use std::io;

use aya::programs::{SchedClassifier, TcAttachType};
use failover::family::Family;
use futures_util::TryStreamExt as _;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::RouteMessageBuilder;

use super::subject::{End, Kind, Subject};
use crate::daemon::Mode;
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::{Node, ProgramSpec};
use crate::programs::has_tcx;

/// The table of an uplink is this one and its number.
const BASE_TABLE: u32 = 300;

/// Whether everything is right for an interface that has changed, or changed back.
pub(crate) async fn is_right(
    lab: &Lab,
    mode: Mode,
    subject: &Subject<'_>,
    kind: Kind,
    changed: bool,
) -> Result<bool, LabError> {
    let gateway = lab.gateway().node();
    let carries = !changed || kind == Kind::Readdressed;
    if let End::Uplink(uplink) = subject.end {
        let table = BASE_TABLE + u32::from(uplink.number());
        for family in Family::ALL {
            if has_default_route(gateway, table, family).await? != carries {
                return Ok(false);
            }
        }
        if kind == Kind::Readdressed && !uses_address(gateway, subject).await? {
            return Ok(false);
        }
    }
    if mode == Mode::Classic || !has_tcx() {
        return Ok(true);
    }
    let Some(name) = subject.name_during(kind, changed) else {
        return Ok(true);
    };
    // A downlink that is down, or has no address, may have its programs all the same.
    let wanted = carries || matches!(kind, Kind::SetDown | Kind::Readdressed);
    let sides: &[(TcAttachType, &str)] = match subject.end {
        End::Uplink(_) => &[(TcAttachType::Ingress, "fo_wan_in")],
        End::Downlink(_) => &[
            (TcAttachType::Ingress, "fo_lan_in"),
            (TcAttachType::Egress, "fo_lan_out"),
        ],
    };
    for (side, program) in sides {
        if count(gateway, &name, *side, program).await? != usize::from(wanted) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn count(
    gateway: &Node,
    interface: &str,
    side: TcAttachType,
    program: &'static str,
) -> Result<usize, LabError> {
    let name = interface.to_owned();
    let found = gateway
        .run(move || async move {
            let (_, programs) =
                SchedClassifier::query_tcx(name.as_str(), side).map_err(io::Error::other)?;
            let named = programs
                .iter()
                .filter(|found| found.name_as_str() == Some(program));
            Ok::<usize, io::Error>(named.count())
        })
        .await?;
    found.map_err(LabError::io(format!("list the programs of {interface}")))
}

async fn has_default_route(gateway: &Node, table: u32, family: Family) -> Result<bool, LabError> {
    let request: RouteMessage = match family {
        Family::Ipv4 => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        Family::Ipv6 => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    };
    let routes = gateway.netlink().route().get(request).execute();
    let routes: Vec<RouteMessage> = routes
        .try_collect()
        .await
        .map_err(LabError::netlink(gateway.name(), "list routes"))?;
    Ok(routes.iter().any(|route| {
        route.header.destination_prefix_length == 0
            && route.attributes.contains(&RouteAttribute::Table(table))
    }))
}

/// Whether rules and translation know an uplink's present addresses.
async fn uses_address(gateway: &Node, subject: &Subject<'_>) -> Result<bool, LabError> {
    for (family, option, keyword) in [(Family::Ipv4, "-4", "ip"), (Family::Ipv6, "-6", "ip6")] {
        let Some(address) = subject.address(family) else {
            return Ok(false);
        };
        let rules = format!("ip {option} rule show from {address}");
        if !mentions(gateway, &rules, &address).await? {
            return Ok(false);
        }
        let table = "nft list table inet failover";
        if !mentions(gateway, table, &format!("snat {keyword} to {address}")).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn mentions(gateway: &Node, command: &str, text: &str) -> Result<bool, LabError> {
    let printed = gateway.must(ProgramSpec::line(command)).await?;
    let mut places = printed.match_indices(text);
    // Not as the beginning of a longer address.
    Ok(places.any(|(at, found)| {
        let next = printed
            .get(at + found.len()..)
            .and_then(|rest| rest.chars().next());
        !next.is_some_and(|next| next.is_ascii_hexdigit() || matches!(next, '.' | ':'))
    }))
}
