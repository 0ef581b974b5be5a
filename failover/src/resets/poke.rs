//! Sends clients the packets that make them speak.
//!
//! They are sent as frames by a packet socket. A raw socket's would pass the output chains: a user's
//! firewall drops what pretends to come from elsewhere, and connection tracking takes it for a new
//! connection.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tracing::debug;

use super::packets::packets;
use crate::causes::in_one_line;
use crate::family::Family;
use crate::flows::LostConnection;
use crate::interface::InterfaceIndex;
use crate::kernel::RtnetlinkError;
use crate::kernel::next_hop::NextHops;
use crate::network::Neighbours;
use crate::sys::packet_address;

/// Protocol numbers of Ethernet (`include/uapi/linux/if_ether.h`).
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// Why clients could not be made to speak.
#[derive(Debug, Error)]
pub(super) enum PokeError {
    #[error("cannot open a packet socket, which needs CAP_NET_RAW")]
    Open(#[source] io::Error),
    #[error("cannot ask the kernel where they are")]
    Ask(#[source] RtnetlinkError),
    #[error("the daemon is ending")]
    Ending,
}

/// Knows where clients are.
pub(super) struct Poker {
    socket: Arc<Socket>,
    next_hops: NextHops,
    neighbours: Neighbours,
    outside: BTreeSet<InterfaceIndex>,
    /// Where to send what is for an address inside; nothing if it is not known.
    known: HashMap<IpAddr, Option<SockAddr>>,
}

impl Poker {
    pub(super) async fn open(outside: BTreeSet<InterfaceIndex>) -> Result<Self, PokeError> {
        // Without a protocol it is given no packets.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).map_err(PokeError::Open)?;
        let mut next_hops = NextHops::open().map_err(PokeError::Ask)?;
        let neighbours = next_hops.neighbours().await.map_err(PokeError::Ask)?;
        Ok(Self {
            socket: Arc::new(socket),
            next_hops,
            neighbours,
            outside,
            known: HashMap::new(),
        })
    }

    pub(super) async fn poke(&mut self, lost: &[LostConnection]) -> Result<(), PokeError> {
        let mut found = Vec::with_capacity(lost.len());
        for lost in lost {
            if let Some(place) = self.place(lost.inside.ip()).await? {
                found.push((place, *lost));
            }
        }
        let missing = lost.len() - found.len();
        if missing > 0 {
            debug!(missing, "clients whose place on the link is not known");
        }
        let socket = Arc::clone(&self.socket);
        tokio::task::spawn_blocking(move || send(&socket, &found))
            .await
            .map_err(|_| PokeError::Ending)
    }

    async fn place(&mut self, address: IpAddr) -> Result<Option<SockAddr>, PokeError> {
        if let Some(known) = self.known.get(&address) {
            return Ok(known.clone());
        }
        let hop = self.next_hops.to(address).await.map_err(PokeError::Ask)?;
        let place = hop
            .filter(|hop| !self.outside.contains(&hop.interface))
            .map(|hop| {
                let protocol = match Family::of(address) {
                    Family::Ipv4 => ETH_P_IP,
                    Family::Ipv6 => ETH_P_IPV6,
                };
                // Without one: a tunnel, or a host that has not been heard of for a long time. To
                // such the kernel refuses to send.
                let neighbour = self.neighbours.get(&(hop.interface, hop.address));
                packet_address(hop.interface.0, protocol, neighbour.map(|mac| mac.0))
            });
        self.known.insert(address, place.clone());
        Ok(place)
    }
}

fn send(socket: &Socket, to: &[(SockAddr, LostConnection)]) {
    for (place, lost) in to {
        for packet in packets(lost) {
            if let Err(error) = socket.send_to(&packet, place) {
                let error = in_one_line(&error);
                debug!(error, ?lost, "cannot send to a client");
            }
        }
    }
}
