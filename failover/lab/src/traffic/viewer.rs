//! Viewers: flows of a known rate towards users. A server sends each viewer a datagram every 20 ms,
//! whatever the way carries; what finds no room is lost, as on any line.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use failover_common::family::Family;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use tokio::net::UdpSocket;

use super::Host;
use crate::addressing::{any, first_server, uplink_of};
use crate::error::LabError;
use crate::lab::Lab;

const PORT: u16 = 5070;
const PER_SECOND: u64 = 50;
const TICK: Duration = Duration::from_millis(1000 / PER_SECOND);
const DATAGRAM: u16 = 1250;
/// A busy machine makes up for so many ticks at most: more would look like another rate.
const MOST_BEHIND: u32 = 10;
/// A viewer's own thread may wait for its turn.
const RECEIVE_BUFFER: usize = 1 << 20;

const WATCH: u8 = b'W';
const STOP: u8 = b'S';

/// What a datagram takes of a line, in bits, Ethernet headers included.
#[must_use]
pub const fn bits(family: Family) -> u64 {
    let headers = match family {
        Family::Ipv4 => 14 + 20 + 8,
        Family::Ipv6 => 14 + 40 + 8,
    };
    (DATAGRAM as u64 + headers) * 8
}

/// What a viewer takes of a line, in bits per second.
#[must_use]
pub const fn rate(family: Family) -> u64 {
    bits(family) * PER_SECOND
}

/// Starts the server, at the first server's address of each family.
///
/// # Errors
/// When somebody is at its port already.
pub async fn serve(lab: &Lab) -> Result<(), LabError> {
    for family in Family::ALL {
        let internet = lab.internet();
        internet.serve_udp(family, PORT, send_to_all).await?;
    }
    Ok(())
}

async fn send_to_all(socket: UdpSocket) {
    let mut viewers: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    let begin = Instant::now();
    let mut ticks = 0_u32;
    let mut asked = [0_u8; 1];
    loop {
        let next = begin + TICK * (ticks + 1);
        tokio::select! {
            Ok((_, peer)) = socket.recv_from(&mut asked) => match asked {
                [WATCH] => { viewers.entry(peer).or_default(); }
                _ => { viewers.remove(&peer); }
            },
            () = tokio::time::sleep_until(next.into()) => {
                let passed = u32::try_from(begin.elapsed().as_millis() / TICK.as_millis());
                let due = passed.unwrap_or(u32::MAX).saturating_sub(ticks);
                ticks += due;
                for (viewer, number) in &mut viewers {
                    for _ in 0..due.min(MOST_BEHIND) {
                        *number += 1;
                        socket.try_send_to(&datagram(*viewer, *number), *viewer).ok();
                    }
                }
            }
        }
    }
}

/// The datagram of a number, which says as whom the server sees the viewer.
fn datagram(viewer: SocketAddr, number: u64) -> Vec<u8> {
    let mut bytes = format!("{number} {} ", viewer.ip()).into_bytes();
    bytes.resize(DATAGRAM.into(), b'.');
    bytes
}

fn read(datagram: &[u8]) -> Option<(u64, IpAddr)> {
    let text = str::from_utf8(datagram).ok()?;
    let mut words = text.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// What came to a viewer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Viewed {
    /// Datagrams.
    pub received: u64,
    /// The number of the last one: as many were sent.
    pub sent: u64,
    /// How many came by each uplink.
    pub by: BTreeMap<u8, u64>,
}

/// A client that has something sent to it.
#[derive(Debug)]
pub struct Viewer {
    socket: Arc<std::net::UdpSocket>,
    viewed: Arc<Mutex<Viewed>>,
}

impl Viewer {
    /// Begins to watch, from a port of its own.
    ///
    /// # Errors
    /// When the host has no address of the family.
    pub async fn begin(host: &Host, family: Family) -> Result<Self, LabError> {
        let server = SocketAddr::new(first_server(family), PORT);
        let viewed = Arc::new(Mutex::new(Viewed::default()));
        let noted = Arc::clone(&viewed);
        let socket = host
            .node()
            .run(move || async move {
                let socket = UdpSocket::bind((any(family), 0)).await?;
                setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)?;
                socket.connect(server).await?;
                let socket = socket.into_std()?;
                let reading = Rc::new(UdpSocket::from_std(socket.try_clone()?)?);
                tokio::task::spawn_local(async move { note_all(&reading, &noted).await });
                Ok::<_, io::Error>(Arc::new(socket))
            })
            .await?
            .map_err(LabError::io(format!("watch {server}")))?;
        let viewer = Self { socket, viewed };
        viewer.say(WATCH)?;
        Ok(viewer)
    }

    /// Wants no more.
    ///
    /// # Errors
    /// When it cannot be said.
    pub fn stop(&self) -> Result<(), LabError> {
        self.say(STOP)
    }

    /// Sends the server what it knows already: a packet of the flow towards it.
    ///
    /// # Errors
    /// When it cannot be said.
    pub fn ask_again(&self) -> Result<(), LabError> {
        self.say(WATCH)
    }

    /// What came so far.
    #[must_use]
    pub fn viewed(&self) -> Viewed {
        lock(&self.viewed).clone()
    }

    fn say(&self, what: u8) -> Result<(), LabError> {
        let sent = self.socket.send(&[what]);
        sent.map(drop)
            .map_err(LabError::io("ask the server of viewers"))
    }
}

fn lock(viewed: &Mutex<Viewed>) -> MutexGuard<'_, Viewed> {
    viewed.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn note_all(socket: &UdpSocket, viewed: &Mutex<Viewed>) {
    let mut buffer = [0_u8; DATAGRAM as usize];
    loop {
        // An error belongs to something that was sent, not to the socket.
        let Ok(length) = socket.recv(&mut buffer).await else {
            continue;
        };
        let Some((number, seen_as)) = buffer.get(..length).and_then(read) else {
            continue;
        };
        let mut viewed = lock(viewed);
        viewed.received += 1;
        viewed.sent = viewed.sent.max(number);
        if let Some(uplink) = uplink_of(seen_as) {
            *viewed.by.entry(uplink).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_tells_its_number_and_who_is_seen() {
        for viewer in ["198.18.11.2:4000", "[fd00:18:11::2]:4000"] {
            let viewer: SocketAddr = viewer.parse().unwrap();
            let bytes = datagram(viewer, 77);
            assert_eq!(bytes.len(), usize::from(DATAGRAM));
            assert_eq!(read(&bytes), Some((77, viewer.ip())));
        }
        assert_eq!(read(b"7"), None);
    }

    #[test]
    fn a_rate_is_that_of_frames() {
        assert_eq!(rate(Family::Ipv4), 1292 * 8 * 50);
    }
}
