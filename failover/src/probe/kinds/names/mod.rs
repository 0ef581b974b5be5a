//! Names of targets become addresses: resolved through the uplink that is probed, and remembered.
//!
//! Resolvers are those of `resolv.conf(5)`. One that the uplink cannot lead to, because it is this
//! host itself or a neighbour on another interface, is asked as any program asks it, without the
//! mark: where it gets its answers from is not ours to say. What proves the uplink is the connection
//! to the address, which never takes another way.

mod cache;
mod resolvers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tracing::debug;

use super::dns::exchange;
use super::message::{Answered, Query};
use crate::config::{DomainName, Host, RecordType};
use crate::family::Family;
use crate::health::{DnsFailure, Failure};
use crate::kernel::next_hop::NextHops;
use crate::probe::way::{self, Way};
use cache::{Cache, Known};
use resolvers::Resolver;

/// The names of one plan's targets.
#[derive(Debug)]
pub(super) struct Names {
    way: Arc<Way>,
    cache: Mutex<Cache>,
    /// What asks anew for names that are known already; ends with this value.
    refreshing: Mutex<JoinSet<()>>,
}

impl Names {
    pub(super) fn new(way: Arc<Way>) -> Self {
        Self {
            way,
            cache: Mutex::default(),
            refreshing: Mutex::default(),
        }
    }

    /// An address of the host. A name that is not known is resolved within half of `timeout`; the
    /// other half is for the target. One that was known is asked for beside the probe, so that no
    /// probe waits and none fails for want of a resolver.
    pub(super) async fn address(
        self: &Arc<Self>,
        host: &Host,
        timeout: Duration,
    ) -> Result<IpAddr, Failure> {
        let name = match host {
            Host::Address(address) => return Ok(*address),
            Host::Name(name) => name,
        };
        let known = self.cache().find(name, Instant::now());
        let address = match known {
            Known::Fresh(address) => address,
            Known::Stale(address) => {
                self.refresh(name, timeout / 2);
                address
            }
            Known::Nothing => {
                let answered = resolve(&self.way, name, timeout / 2).await?;
                self.cache().put(name, answered, Instant::now())
            }
        };
        address.ok_or_else(|| Failure::NoAddress {
            name: name.to_string(),
            family: self.way.family,
        })
    }

    fn refresh(self: &Arc<Self>, name: &DomainName, time: Duration) {
        self.cache().put_off(name, Instant::now());
        let (way, name, names) = (Arc::clone(&self.way), name.clone(), Arc::downgrade(self));
        let mut refreshing = lock(&self.refreshing);
        while refreshing.try_join_next().is_some() {}
        refreshing.spawn(async move {
            let resolved = resolve(&way, &name, time).await;
            let Some(names) = names.upgrade() else {
                return;
            };
            match resolved {
                Ok(answered) => {
                    names.cache().put(&name, answered, Instant::now());
                }
                Err(why) => {
                    let (uplink, family) = (&way.uplink, way.family);
                    debug!(%uplink, %family, "an older answer is used: {why}");
                }
            }
        });
    }

    /// Whether an address of a host was good: after one that was not, the name's next one is given.
    pub(super) fn tried(&self, host: &Host, address: IpAddr, good: bool) {
        if let (Host::Name(name), false) = (host, good) {
            self.cache().pass_over(name, address);
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }
}

/// What is locked is whole after every single step, so a panic elsewhere does not spoil it.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks one resolver after the other, each for its share of the time.
async fn resolve(way: &Way, name: &DomainName, time: Duration) -> Result<Answered, Failure> {
    let failed = |why: String| Failure::Resolve {
        name: name.to_string(),
        why,
    };
    let end = Instant::now() + time;
    let resolvers = resolvers::read(way.family).await.map_err(failed)?;
    let mut why = String::new();
    for (place, resolver) in resolvers.iter().enumerate() {
        let left = u32::try_from(resolvers.len().saturating_sub(place)).unwrap_or(1);
        let share = end.saturating_duration_since(Instant::now()) / left.max(1);
        let asked = tokio::time::timeout(share, ask(way, resolver, name)).await;
        match asked.unwrap_or(Err(Failure::Timeout)) {
            Ok(answered) if answered.addresses.is_empty() && answered.truncated => {
                why = format!(
                    "{}: no address in an answer too long for UDP",
                    resolver.address
                );
            }
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

async fn ask(way: &Way, resolver: &Resolver, name: &DomainName) -> Result<Answered, Failure> {
    let record = match way.family {
        Family::Ipv4 => RecordType::A,
        Family::Ipv6 => RecordType::Aaaa,
    };
    let socket = socket(way, resolver).await?;
    let mut answered = exchange(&socket, &Query::new(name, record)).await?;
    answered
        .addresses
        .retain(|address| Family::of(*address) == way.family && is_host(*address));
    Ok(answered)
}

async fn socket(way: &Way, resolver: &Resolver) -> Result<UdpSocket, Failure> {
    let to = resolver.address;
    if !is_elsewhere(way, resolver).await? {
        return way.datagrams(way.scoped(to.ip(), to.port())).await;
    }
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
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
async fn is_elsewhere(way: &Way, resolver: &Resolver) -> Result<bool, Failure> {
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
    let unknown = |error| Failure::NotSent(format!("no way to {address} can be found: {error}"));
    let mut next_hops = NextHops::open().map_err(unknown)?;
    let hop = next_hops.to(address).await.map_err(unknown)?;
    Ok(hop.is_some_and(|hop| hop.address == address && hop.interface != way.index))
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
