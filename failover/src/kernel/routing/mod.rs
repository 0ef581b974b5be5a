//! Our routes and rules in the kernel, over rtnetlink.

pub(super) mod route;
mod rule;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol};
use nix::errno::Errno;
use thiserror::Error;
use tracing::warn;

use super::RoutingTables;
use super::rtnetlink::{Rtnetlink, RtnetlinkError};
use crate::family::Family;
use crate::wanted::routing::{PROTOCOL, Routing, RoutingChange, TableId};

/// How many requests are on their way at once: their answers fit into the socket's buffer.
const AT_ONCE: usize = 64;

/// Our routes and rules.
#[derive(Debug)]
pub struct NetlinkRouting {
    netlink: Rtnetlink,
}

/// Why routes or rules could not be read or changed.
#[derive(Debug, Error)]
pub enum RoutingError {
    /// There is no socket.
    #[error(transparent)]
    Open(RtnetlinkError),
    /// They could not be read.
    #[error("cannot read the {family} {what}: {source}")]
    Read {
        /// Routes or rules.
        what: &'static str,
        /// The family.
        family: Family,
        /// Why.
        source: RtnetlinkError,
    },
    /// A change was refused.
    #[error("the kernel refused `{command}`: {source}")]
    Change {
        /// The change, as a command of `ip`; interfaces are named by their index.
        command: String,
        /// Why.
        source: RtnetlinkError,
    },
}

impl NetlinkRouting {
    /// Opens a socket in the present network namespace, served by the present runtime.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, RoutingError> {
        Ok(Self {
            netlink: Rtnetlink::open().map_err(RoutingError::Open)?,
        })
    }

    /// The number of our socket, by which [`super::watch`] knows our own changes.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// How many routes and rules the kernel has told so far, also those that are not ours: what
    /// reading costs.
    #[must_use]
    pub const fn listed(&self) -> u64 {
        self.netlink.listed()
    }

    async fn read_routes(
        &mut self,
        family: Family,
        routing: &mut Routing,
    ) -> Result<(), RoutingError> {
        let request = RouteNetlinkMessage::GetRoute(route::ours(family));
        let found = self
            .netlink
            .dump(request)
            .await
            .map_err(|source| RoutingError::Read {
                what: "routes",
                family,
                source,
            })?;
        let mut taken = BTreeSet::new();
        let mut exceptions: BTreeMap<(TableId, Family), BTreeSet<IpNet>> = BTreeMap::new();
        for message in found {
            // Where the family is switched off the kernel answers with the other one's.
            let RouteNetlinkMessage::NewRoute(message) = message else {
                continue;
            };
            if message.header.address_family != route::address_family(family)
                || message.header.protocol != RouteProtocol::from(PROTOCOL)
            {
                continue;
            }
            if let Some((table, prefix)) = route::parse_exception(&message, family) {
                let prefixes = exceptions.entry((table, family)).or_default();
                prefixes.insert(prefix);
                continue;
            }
            match route::parse(&message) {
                Some(route) if taken.insert(route.table) => {
                    routing.routes.insert(route);
                }
                _ => self.remove_stray_route(message, family).await,
            }
        }
        let exceptions = exceptions.into_iter();
        routing
            .exceptions
            .extend(exceptions.map(|(place, prefixes)| (place, Arc::new(prefixes))));
        Ok(())
    }

    async fn remove_stray_route(&mut self, mut message: RouteMessage, family: Family) {
        warn!(
            %family,
            route = ?message,
            "removing a route with our protocol number {PROTOCOL} that is not one of ours"
        );
        // What the kernel only tells, and does not take back.
        message.header.flags = RouteFlags::empty();
        message
            .attributes
            .retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
        let request = RouteNetlinkMessage::DelRoute(message);
        if let Err(error) = accept(
            self.netlink.execute(request, 0).await,
            &[Errno::ESRCH, Errno::ENOENT, Errno::ENODEV],
        ) {
            warn!(%family, %error, "that route could not be removed");
        }
    }

    async fn read_rules(
        &mut self,
        family: Family,
        routing: &mut Routing,
    ) -> Result<(), RoutingError> {
        let request = RouteNetlinkMessage::GetRule(rule::all(family));
        let found = match self.netlink.dump(request).await {
            // The family is switched off.
            Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT as i32) => Vec::new(),
            answer => answer.map_err(|source| RoutingError::Read {
                what: "rules",
                family,
                source,
            })?,
        };
        for message in found {
            let RouteNetlinkMessage::NewRule(message) = message else {
                continue;
            };
            if !rule::is_ours(&message) {
                continue;
            }
            if rule::parse(&message).is_some_and(|rule| routing.rules.insert(rule)) {
                continue;
            }
            warn!(
                %family,
                rule = ?message,
                "removing a rule with our protocol number {PROTOCOL} that is not one of ours, \
                 or stands there twice"
            );
            let request = RouteNetlinkMessage::DelRule(message);
            if let Err(error) = accept(
                self.netlink.execute(request, 0).await,
                &[Errno::ENOENT, Errno::ESRCH],
            ) {
                warn!(%family, %error, "that rule could not be removed");
            }
        }
        Ok(())
    }
}

impl RoutingTables for NetlinkRouting {
    type Error = RoutingError;

    async fn installed(&mut self) -> Result<Routing, RoutingError> {
        let mut routing = Routing::default();
        for family in Family::ALL {
            self.read_routes(family, &mut routing).await?;
            self.read_rules(family, &mut routing).await?;
        }
        Ok(routing)
    }

    async fn change(&mut self, change: &RoutingChange) -> Result<(), RoutingError> {
        let (request, flags, done): (_, _, &[Errno]) = match change {
            RoutingChange::AddExceptions(table, family, prefixes) => {
                let request = |prefix: &IpNet| {
                    RouteNetlinkMessage::NewRoute(route::exception(*table, *family, *prefix))
                };
                let flags = NLM_F_CREATE | NLM_F_EXCL;
                let requests = prefixes.iter().map(request);
                return self
                    .change_all(change, requests, flags, &[Errno::EEXIST])
                    .await;
            }
            RoutingChange::DeleteExceptions(table, family, prefixes) => {
                let request = |prefix: &IpNet| {
                    RouteNetlinkMessage::DelRoute(route::exception(*table, *family, *prefix))
                };
                let gone = [Errno::ESRCH, Errno::ENOENT];
                let requests = prefixes.iter().map(request);
                return self.change_all(change, requests, 0, &gone).await;
            }
            RoutingChange::ReplaceRoute(route) => (
                RouteNetlinkMessage::NewRoute(route::message(route)),
                NLM_F_REPLACE | NLM_F_CREATE,
                &[],
            ),
            RoutingChange::DeleteRoute(route) => (
                RouteNetlinkMessage::DelRoute(route::place(route)),
                0,
                &[Errno::ESRCH, Errno::ENOENT],
            ),
            RoutingChange::AddRule(rule) => (
                RouteNetlinkMessage::NewRule(rule::message(rule)),
                // With "replace" the kernel makes a second, identical rule.
                NLM_F_CREATE | NLM_F_EXCL,
                // A family that is switched off (`ipv6.disable=1`) has no packets either.
                &[Errno::EEXIST, Errno::EAFNOSUPPORT],
            ),
            RoutingChange::DeleteRule(rule) => (
                RouteNetlinkMessage::DelRule(rule::message(rule)),
                0,
                &[Errno::ENOENT, Errno::ESRCH, Errno::EAFNOSUPPORT],
            ),
        };
        accept(self.netlink.execute(request, flags).await, done)
            .map_err(|source| refused(change, source))
    }
}

impl NetlinkRouting {
    /// Has all parts of one change carried out, some of them on their way at once.
    async fn change_all(
        &mut self,
        change: &RoutingChange,
        requests: impl Iterator<Item = RouteNetlinkMessage>,
        flags: u16,
        done: &[Errno],
    ) -> Result<(), RoutingError> {
        let mut requests = requests.peekable();
        while requests.peek().is_some() {
            let some: Vec<RouteNetlinkMessage> = requests.by_ref().take(AT_ONCE).collect();
            for result in self.netlink.execute_all(some, flags).await {
                accept(result, done).map_err(|source| refused(change, source))?;
            }
        }
        Ok(())
    }
}

fn refused(change: &RoutingChange, source: RtnetlinkError) -> RoutingError {
    RoutingError::Change {
        command: text::Command(change).to_string(),
        source,
    }
}

/// Takes the errors that say "it is so already" as success.
fn accept(result: Result<(), RtnetlinkError>, done: &[Errno]) -> Result<(), RtnetlinkError> {
    match result {
        Err(error)
            if done
                .iter()
                .any(|errno| error.errno() == Some(*errno as i32)) =>
        {
            Ok(())
        }
        other => other,
    }
}
