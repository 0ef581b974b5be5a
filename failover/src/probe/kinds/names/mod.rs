//! Names of targets become addresses: resolved through the uplink that is probed, and remembered.
//!
//! Resolvers are those of `resolv.conf(5)`. One that the uplink cannot lead to, because it is this
//! host itself or a neighbour on another interface, is asked as any program asks it, without the
//! mark: where it gets its answers from is not ours to say. What proves the uplink is the connection
//! to the address, which never takes another way.

mod cache;
mod resolvers;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::dns::exchange;
use super::message::{Answered, Query};
use crate::config::{DomainName, Host, RecordType};
use crate::family::Family;
use crate::health::{DnsFailure, Failure};
use crate::kernel::next_hop::NextHops;
use crate::probe::way::{self, Way};
use cache::{Cache, Known};
use resolvers::Resolver;

/// Resolves names through one uplink in one family.
#[derive(Debug)]
pub(super) struct Names {
    way: Arc<Way>,
    cache: Mutex<Cache>,
}

impl Names {
    pub(super) fn new(way: Arc<Way>) -> Self {
        Self {
            way,
            cache: Mutex::default(),
        }
    }

    /// An address of the host. A name that is not known, or not well enough any more, is resolved
    /// within half of `timeout`; the other half is for the target. Where that fails an older answer
    /// is used.
    pub(super) async fn address(&self, host: &Host, timeout: Duration) -> Result<IpAddr, Failure> {
        let name = match host {
            Host::Address(address) => return Ok(*address),
            Host::Name(name) => name,
        };
        let known = self.cache().find(name, Instant::now());
        let (address, fresh) = match known {
            Known::Fresh(address) => (address, None),
            Known::Stale(address) => (address, Some(self.resolve(name, timeout / 2).await)),
            Known::Nothing => (None, Some(self.resolve(name, timeout / 2).await)),
        };
        let now = Instant::now();
        let address = match fresh {
            None => address,
            Some(Ok(answered)) => self.cache().put(name, answered, now),
            Some(Err(_)) if address.is_some() => {
                self.cache().put_off(name, now);
                address
            }
            Some(Err(failure)) => return Err(failure),
        };
        address.ok_or_else(|| Failure::NoAddress {
            name: name.to_string(),
            family: self.way.family,
        })
    }

    /// Whether an address of a host was good: after one that was not, the name's next one is given.
    pub(super) fn tried(&self, host: &Host, address: IpAddr, good: bool) {
        if let (Host::Name(name), false) = (host, good) {
            self.cache().pass_over(name, address);
        }
    }

    /// The cache is whole after every single step, so a panic elsewhere does not spoil it.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one resolver after the other, each for its share of the time.
    async fn resolve(&self, name: &DomainName, time: Duration) -> Result<Answered, Failure> {
        let failed = |why: String| Failure::Resolve {
            name: name.to_string(),
            why,
        };
        let end = Instant::now() + time;
        let resolvers = resolvers::read(self.way.family).await.map_err(failed)?;
        let mut why = String::new();
        for (place, resolver) in resolvers.iter().enumerate() {
            let left = u32::try_from(resolvers.len().saturating_sub(place)).unwrap_or(1);
            let share = end.saturating_duration_since(Instant::now()) / left.max(1);
            let asked = tokio::time::timeout(share, self.ask(resolver, name)).await;
            match asked.unwrap_or(Err(Failure::Timeout)) {
                Ok(answered) => return Ok(answered),
                // The others know no other names.
                Err(failure @ Failure::Dns(DnsFailure::NxDomain)) => {
                    return Err(failed(failure.to_string()));
                }
                Err(failure) => why = format!("{}: {failure}", resolver.address),
            }
        }
        Err(failed(why))
    }

    async fn ask(&self, resolver: &Resolver, name: &DomainName) -> Result<Answered, Failure> {
        let (family, record) = match self.way.family {
            Family::Ipv4 => (Family::Ipv4, RecordType::A),
            Family::Ipv6 => (Family::Ipv6, RecordType::Aaaa),
        };
        let socket = self.socket(resolver).await?;
        let mut answered = exchange(&socket, &Query::new(name, record)).await?;
        answered
            .addresses
            .retain(|address| Family::of(*address) == family && is_host(*address));
        Ok(answered)
    }

    async fn socket(&self, resolver: &Resolver) -> Result<UdpSocket, Failure> {
        let to = resolver.address;
        if !self.is_elsewhere(resolver).await? {
            return self
                .way
                .datagrams(self.way.scoped(to.ip(), to.port()))
                .await;
        }
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let direct = async {
            let socket = UdpSocket::bind(any).await?;
            socket.connect(to).await?;
            Ok(socket)
        };
        direct.await.map_err(|error| way::failure(&error))
    }

    /// Whether the uplink cannot lead to a resolver: it is this host, or a neighbour on another
    /// interface.
    async fn is_elsewhere(&self, resolver: &Resolver) -> Result<bool, Failure> {
        let address = resolver.address.ip();
        if address.is_loopback() {
            return Ok(true);
        }
        if resolver.is_link_local() {
            return Ok(false);
        }
        // An address that can be bound is this host's own.
        if UdpSocket::bind((address, 0)).await.is_ok() {
            return Ok(true);
        }
        let unknown =
            |error| Failure::NotSent(format!("no way to {address} can be found: {error}"));
        let mut next_hops = NextHops::open().map_err(unknown)?;
        let hop = next_hops.to(address).await.map_err(unknown)?;
        Ok(hop.is_some_and(|hop| hop.address == address && hop.interface != self.way.index))
    }
}

/// What a name may stand for: an answer that points at this host, or at many, proves nothing.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_unicast_link_local())
        }
    }
}
