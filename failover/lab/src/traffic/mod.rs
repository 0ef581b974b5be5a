//! Users' traffic: flows over UDP, TCP and ICMP that learn by which uplink they are seen.

mod flow;
mod host;
mod kept;
mod stream;
pub mod viewer;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use failover_common::family::Family;
use thiserror::Error;

use crate::addressing;

pub use flow::Flow;
pub use host::{Flows, Host};
pub use kept::{Keep, KeptFlow, KeptFlows};
pub use stream::{Stream, StreamPlan, Streamed};

/// What a flow speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP to a server of the internet, each flow from a port of its own.
    Udp,
    /// TCP to a server of the internet, each flow a connection.
    Tcp,
    /// ICMP or `ICMPv6` echo, each flow with an identifier of its own.
    Icmp,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Icmp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Icmp => "ICMP",
        })
    }
}

/// What traffic is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub(crate) protocol: Protocol,
    pub(crate) family: Family,
    pub(crate) count: usize,
    pub(crate) source: Option<IpAddr>,
    pub(crate) limit: Duration,
    pub(crate) at_once: usize,
}

/// A server's kernel drops answers to more than 173 echo requests at once: its own socket for them has room
/// for so many that are on their way (`icmp_sk_init`, net/ipv4/icmp.c), and on a slow machine all are.
const ECHOES_AT_ONCE: usize = 128;

impl Traffic {
    /// So many flows, spread over the servers of the internet.
    #[must_use]
    pub const fn new(protocol: Protocol, family: Family, count: usize) -> Self {
        Self {
            protocol,
            family,
            count,
            source: None,
            limit: Duration::from_secs(2),
            at_once: match protocol {
                Protocol::Udp | Protocol::Tcp => 256,
                Protocol::Icmp => ECHOES_AT_ONCE,
            },
        }
    }

    /// Binds the flows to a source address; by default the kernel chooses.
    #[must_use]
    pub const fn from_address(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// How long a flow may take to open, and how long a burst waits for each answer; 2 s by
    /// default.
    #[must_use]
    pub const fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How many flows are opened at the same time; by default 256, of ICMP half as many.
    #[must_use]
    pub const fn at_once(mut self, count: usize) -> Self {
        self.at_once = count;
        self
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.family)
    }
}

/// An answer to a question asked over a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Address and port by which the server sees the flow; the port of an ICMP flow is 0.
    pub seen: SocketAddr,
    /// When it was asked.
    pub asked: Instant,
    /// When the answer came.
    pub answered: Instant,
}

impl Answer {
    /// The number of the uplink by whose address the server sees the flow.
    #[must_use]
    pub fn uplink(&self) -> Option<u8> {
        addressing::uplink_of(self.seen.ip())
    }
}

/// Why a question asked over a flow was not answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AskError {
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection was reset.
    #[error("connection reset")]
    Reset,
    /// The server ended the connection.
    #[error("connection closed")]
    Closed,
    /// The connection was refused, or the UDP port is unreachable.
    #[error("connection refused")]
    Refused,
    /// There is no way to the server.
    #[error("unreachable: {0}")]
    Unreachable(io::ErrorKind),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Timeout,
            kind @ (io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown) => Self::Unreachable(kind),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// What an ask returned.
pub type Asked = Result<Answer, AskError>;

/// How many answers came by which uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers by the number of the uplink, as the server saw them.
    pub by_uplink: BTreeMap<u8, usize>,
    /// Answers that were seen by another address than an uplink's.
    pub elsewhere: usize,
    /// Questions that were not answered.
    pub unanswered: usize,
}

impl Tally {
    /// Counts answers.
    pub fn of<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> Self {
        let mut tally = Self::default();
        for result in asked {
            match result.as_ref().map(Answer::uplink) {
                Ok(Some(uplink)) => *tally.by_uplink.entry(uplink).or_default() += 1,
                Ok(None) => tally.elsewhere += 1,
                Err(_) => tally.unanswered += 1,
            }
        }
        tally
    }

    /// How many came by an uplink.
    #[must_use]
    pub fn on(&self, uplink: u8) -> usize {
        self.by_uplink.get(&uplink).copied().unwrap_or_default()
    }

    /// How many were answered, by whatever uplink.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.by_uplink.values().sum::<usize>() + self.elsewhere
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (uplink, count) in &self.by_uplink {
            write!(f, "wan{uplink}: {count}, ")?;
        }
        write!(
            f,
            "elsewhere: {}, unanswered: {}",
            self.elsewhere, self.unanswered
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_the_address_that_the_server_saw() {
        let now = Instant::now();
        let seen = |address: &str| {
            Ok(Answer {
                seen: address.parse().expect("an address"),
                asked: now,
                answered: now,
            })
        };
        let asked = [
            seen("198.18.12.2:1000"),
            seen("[fd00:18:12::2]:1000"),
            seen("198.18.0.10:1000"),
            Err(AskError::Timeout),
        ];
        let tally = Tally::of(&asked);
        assert_eq!((tally.on(2), tally.on(1)), (2, 0));
        assert_eq!(tally.to_string(), "wan2: 2, elsewhere: 1, unanswered: 1");
    }
}
