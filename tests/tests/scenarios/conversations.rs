//! Flows that stay open and are asked again after every step, each with the address by which its
//! server saw it at first.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::Instant;

use failover::family::Family;
use failover_tests::addressing::SERVER_PORT;
use failover_tests::traffic::{AskError, Asked};
use failover_tests::{Flows, Host, Protocol, Tally, Traffic, patient};

use crate::Outcome;
use crate::fastpath::looking::offloaded;
use crate::scene::{LIMIT, PATIENT, SILENCE, Scene};

/// Open flows, parted by protocol and uplink.
pub(crate) struct Conversations {
    parts: Vec<Part>,
    /// Whether clients of lost connections are told.
    told: bool,
    /// Connections whose clients were not told. They stay open, because the farewell of a connection
    /// that nothing is known of any more is not translated by the kernel.
    lost: Vec<Flows>,
}

/// Flows of one protocol on one uplink.
struct Part {
    traffic: Traffic,
    protocol: Protocol,
    uplink: u8,
    flows: Flows,
    /// How the server sees each of them.
    seen: Vec<SocketAddr>,
}

impl Conversations {
    /// Opens so many flows of each protocol and asks each. All must be answered, by an uplink's
    /// address.
    pub(crate) async fn open(
        host: &Host,
        family: Family,
        counts: &[(Protocol, usize)],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut parts = Vec::new();
        for (protocol, count) in counts {
            let traffic = Traffic::new(*protocol, family, *count).within(PATIENT);
            let flows = host.open(traffic).await?;
            let asked = flows.ask(PATIENT).await?;
            parts.extend(part(traffic, *protocol, flows, &asked));
        }
        Ok(Self {
            parts,
            told: true,
            lost: Vec::new(),
        })
    }

    /// The same where nobody is told that his connection is lost: it is the router's own, or it may go
    /// on by another uplink for all that the router knows, since others translate.
    pub(crate) fn untold(self) -> Self {
        Self {
            told: false,
            ..self
        }
    }

    /// How many are on an uplink.
    pub(crate) fn on(&self, uplink: u8) -> usize {
        self.parts
            .iter()
            .filter(|part| part.uplink == uplink)
            .map(|part| part.flows.len())
            .sum()
    }

    /// Asks all flows of some uplinks: each must be answered and be seen by the very same address
    /// and port as ever.
    pub(crate) async fn expect_unmoved(&self, uplinks: &[u8]) -> Outcome {
        for part in self.on_any(uplinks) {
            let asked = part.flows.ask(PATIENT).await?;
            let moved: Vec<String> = part
                .seen
                .iter()
                .zip(&asked)
                .filter_map(|(seen, asked)| match asked {
                    Ok(answer) if answer.seen == *seen => None,
                    Ok(answer) => Some(format!("{seen} is now {}", answer.seen)),
                    Err(error) => Some(format!("{seen}: {error}")),
                })
                .collect();
            assert!(
                moved.is_empty(),
                "{} of {} {part} flows did not stay as they were: {}",
                moved.len(),
                asked.len(),
                first_few(&moved)
            );
        }
        Ok(())
    }

    /// Asks all flows of some uplinks until those over TCP and UDP take the fast path.
    pub(crate) async fn until_fast(&self, scene: &Scene, uplinks: &[u8]) -> Outcome {
        let of_protocols = |part: &&Part| part.protocol != Protocol::Icmp;
        let parts = self.on_any(uplinks).filter(of_protocols);
        let wanted: usize = parts.map(|part| part.flows.len()).sum();
        let start = Instant::now();
        loop {
            self.expect_unmoved(uplinks).await?;
            let fast = offloaded(scene, SERVER_PORT).await?;
            if fast >= wanted {
                return Ok(());
            }
            assert!(
                start.elapsed() < patient(LIMIT),
                "{fast} of {wanted} flows take the fast path"
            );
        }
    }

    /// Asks all flows of some uplinks: none is answered.
    pub(crate) async fn expect_silence(&self, uplinks: &[u8]) -> Outcome {
        assert_eq!(self.first_answered(uplinks).await?, None);
        Ok(())
    }

    /// Asks the flows of these uplinks, up to some that are answered, which are told.
    pub(crate) async fn first_answered(
        &self,
        uplinks: &[u8],
    ) -> Result<Option<String>, Box<dyn std::error::Error>> {
        for part in self.on_any(uplinks) {
            let tally = Tally::of(&part.flows.ask(SILENCE).await?);
            if tally.answered() > 0 {
                return Ok(Some(format!("{part}: {tally}")));
            }
        }
        Ok(None)
    }

    /// Asks the flows over UDP and ICMP of an uplink that is no more: each must be answered, through
    /// one of `to`, where it belongs from now on. Connections over TCP cannot go on from another
    /// address: their clients, who only listen, are told so by a reset.
    pub(crate) async fn expect_moved(&mut self, from: u8, to: &[u8]) -> Outcome {
        let (gone, rest): (Vec<Part>, Vec<Part>) = std::mem::take(&mut self.parts)
            .into_iter()
            .partition(|part| part.uplink == from);
        self.parts = rest;
        for old in gone {
            if old.protocol == Protocol::Tcp && !self.told {
                self.lost.push(old.flows);
                continue;
            }
            if old.protocol == Protocol::Tcp {
                for ended in old.flows.wait_for_end(LIMIT).await? {
                    assert_eq!(ended, Ok(AskError::Reset), "{old}");
                }
                continue;
            }
            let asked = old.flows.ask(PATIENT).await?;
            let tally = Tally::of(&asked);
            let arrived: usize = to.iter().map(|uplink| tally.on(*uplink)).sum();
            assert_eq!(
                arrived,
                asked.len(),
                "{} flows of wan{from}, which must go on through {to:?}: {tally}",
                old.traffic
            );
            self.parts
                .extend(part(old.traffic, old.protocol, old.flows, &asked));
        }
        Ok(())
    }

    fn on_any(&self, uplinks: &[u8]) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .filter(move |part| uplinks.contains(&part.uplink))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (wan{})", self.traffic, self.uplink)
    }
}

/// Parts flows by the uplinks through which they were answered.
fn part(traffic: Traffic, protocol: Protocol, flows: Flows, asked: &[Asked]) -> Vec<Part> {
    let seen: Vec<Option<(u8, SocketAddr)>> = asked
        .iter()
        .map(|asked| {
            let answer = asked.as_ref().ok()?;
            Some((answer.uplink()?, answer.seen))
        })
        .collect();
    assert!(
        seen.iter().all(Option::is_some),
        "{traffic} flows that must be answered through an uplink: {}",
        Tally::of(asked)
    );
    let uplink = |index: usize| seen.get(index).copied().flatten().map(|(uplink, _)| uplink);
    flows
        .part_by(uplink)
        .into_iter()
        .filter_map(|(uplink, flows)| {
            let uplink = uplink?;
            let seen = seen.iter().flatten();
            Some(Part {
                traffic,
                protocol,
                uplink,
                flows,
                seen: seen
                    .filter(|(number, _)| *number == uplink)
                    .map(|(_, seen)| *seen)
                    .collect(),
            })
        })
        .collect()
}

fn first_few(all: &[String]) -> String {
    let mut text = String::new();
    for one in all.iter().take(8) {
        // Writing to a string does not fail.
        write!(text, "\n  {one}").ok();
    }
    text
}
