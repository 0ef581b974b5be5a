//! Flows that are asked again and again for as long as they are kept, with a record of each: every
//! answer that did not come, and every change of the address by which the server sees it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use failover_common::family::Family;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Answer, AskError, Asked, Flow, Host, Protocol, Traffic};
use crate::addressing;
use crate::error::LabError;

/// How long the first answer of each flow may take.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// How long a flow that should live is waited for. Far above any delay of the lab, so that an
/// answer that does not come within it is lost and not late.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for flows that are expected to lose answers: they ask again soon, so that it is seen
/// when they go on.
const IMPATIENCE: Duration = Duration::from_millis(250);

/// What flows are kept, and how they are asked.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// How many flows of each protocol and family.
    pub each: usize,
    /// The time from an answer to the next question of the same flow.
    pub every: Duration,
}

/// What was seen of a flow.
#[derive(Clone, Debug)]
pub struct KeptFlow {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its family.
    pub family: Family,
    /// By which address and port the server saw it at first.
    pub home: SocketAddr,
    /// By which it saw it last.
    pub seen: SocketAddr,
    /// How often the address or port changed.
    pub moves: u32,
    /// How many questions were answered.
    pub answered: u64,
    /// How many were not.
    pub lost: u64,
    /// When the last answered question was asked.
    pub last_answered: Instant,
    /// How it ended, if it did.
    pub ended: Option<AskError>,
}

impl KeptFlow {
    fn new(protocol: Protocol, family: Family, first: &Answer) -> Self {
        Self {
            protocol,
            family,
            home: first.seen,
            seen: first.seen,
            moves: 0,
            answered: 1,
            lost: 0,
            last_answered: first.asked,
            ended: None,
        }
    }

    /// The number of the uplink on which it began.
    #[must_use]
    pub fn home_uplink(&self) -> Option<u8> {
        addressing::uplink_of(self.home.ip())
    }

    /// The number of the uplink on which it was seen last.
    #[must_use]
    pub fn uplink(&self) -> Option<u8> {
        addressing::uplink_of(self.seen.ip())
    }

    fn note(&mut self, asked: Asked) {
        match asked {
            Ok(answer) => {
                self.answered += 1;
                self.last_answered = answer.asked;
                if answer.seen != self.seen {
                    self.moves += 1;
                    self.seen = answer.seen;
                }
            }
            Err(error) => {
                self.lost += 1;
                // Over UDP and ICMP the next question stands for itself.
                let over = self.protocol == Protocol::Tcp
                    && !matches!(error, AskError::Timeout | AskError::Unreachable(_));
                self.ended = over.then_some(error);
            }
        }
    }
}

/// Flows that are asked all the time.
#[derive(Debug)]
pub struct KeptFlows {
    records: Vec<Arc<Mutex<KeptFlow>>>,
    stop: watch::Sender<bool>,
}

impl Host {
    /// Opens flows of every protocol and family and asks them from now on. Those of the uplinks
    /// `doomed` are expected to lose answers.
    ///
    /// # Errors
    /// When one of them cannot be opened or gets no first answer.
    pub async fn keep(&self, keep: Keep, doomed: &[u8]) -> Result<KeptFlows, LabError> {
        self.keep_of(&Family::ALL, &Protocol::ALL, keep, doomed)
            .await
    }

    /// Opens flows of these families and protocols, likewise.
    ///
    /// # Errors
    /// When one of them cannot be opened or gets no first answer.
    pub async fn keep_of(
        &self,
        families: &[Family],
        protocols: &[Protocol],
        keep: Keep,
        doomed: &[u8],
    ) -> Result<KeptFlows, LabError> {
        let mut opened = Vec::new();
        for family in families.iter().copied() {
            for protocol in protocols.iter().copied() {
                let traffic = Traffic::new(protocol, family, keep.each).within(FIRST_ANSWER);
                let flows = self.open(traffic).await?;
                let first = flows.ask(FIRST_ANSWER).await?;
                for (flow, first) in flows.each_flow().iter().zip(first) {
                    let first = first.map_err(|first| LabError::Open {
                        traffic: traffic.to_string(),
                        count: keep.each,
                        failed: 1,
                        first,
                    })?;
                    let record = KeptFlow::new(protocol, family, &first);
                    opened.push((Arc::clone(flow), Arc::new(Mutex::new(record))));
                }
            }
        }
        let records = opened
            .iter()
            .map(|(_, record)| Arc::clone(record))
            .collect();
        let (stop, stopped) = watch::channel(false);
        let doomed = doomed.to_vec();
        self.node().start_task(move || async move {
            let mut work = JoinSet::new();
            let count = u32::try_from(opened.len()).unwrap_or(u32::MAX).max(1);
            for (index, (flow, record)) in (0..).zip(opened) {
                // Spread over the period, so that the questions do not come in bursts.
                let offset = keep.every * index / count;
                let stopped = stopped.clone();
                let home = lock(&record).home_uplink();
                let patience = match home.filter(|home| doomed.contains(home)) {
                    Some(_) => IMPATIENCE,
                    None => PATIENCE,
                };
                let pace = Pace {
                    offset,
                    every: keep.every,
                    patience,
                };
                work.spawn_local(ask_on(flow, record, pace, stopped));
            }
            while work.join_next().await.is_some() {}
        })?;
        Ok(KeptFlows { records, stop })
    }
}

/// How a flow is asked.
struct Pace {
    /// When first.
    offset: Duration,
    every: Duration,
    /// How long an answer is waited for.
    patience: Duration,
}

async fn ask_on(
    flow: Arc<tokio::sync::Mutex<Flow>>,
    record: Arc<Mutex<KeptFlow>>,
    pace: Pace,
    mut stopped: watch::Receiver<bool>,
) {
    let mut pause = pace.offset;
    // An error of the wait means that it was not told to stop within the time.
    while timeout(pause, stopped.wait_for(|stop| *stop))
        .await
        .is_err()
    {
        let asked = flow.lock().await.ask(pace.patience).await;
        let mut record = lock(&record);
        record.note(asked);
        if record.ended.is_some() {
            return;
        }
        pause = pace.every;
    }
}

fn lock(record: &Mutex<KeptFlow>) -> MutexGuard<'_, KeptFlow> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeptFlows {
    /// What was seen so far.
    #[must_use]
    pub fn so_far(&self) -> Vec<KeptFlow> {
        self.records
            .iter()
            .map(|record| lock(record).clone())
            .collect()
    }

    /// Asks no more, waits for the last answers and returns what was seen.
    pub async fn finish(self) -> Vec<KeptFlow> {
        self.stop.send_replace(true);
        // The receivers go with the tasks that ask.
        self.stop.closed().await;
        self.so_far()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(seen: &str) -> Answer {
        let now = Instant::now();
        Answer {
            seen: seen.parse().expect("an address"),
            asked: now,
            answered: now,
        }
    }

    #[test]
    fn a_flow_that_is_seen_elsewhere_has_moved() {
        let first = answer("198.18.11.2:1000");
        let mut flow = KeptFlow::new(Protocol::Udp, Family::Ipv4, &first);
        flow.note(Ok(answer("198.18.11.2:1000")));
        flow.note(Err(AskError::Timeout));
        flow.note(Err(AskError::Refused));
        flow.note(Ok(answer("198.18.12.2:1000")));
        assert_eq!((flow.answered, flow.lost, flow.moves), (3, 2, 1));
        assert_eq!((flow.home_uplink(), flow.uplink()), (Some(1), Some(2)));
        assert_eq!(flow.ended, None);
    }

    #[test]
    fn another_port_of_the_same_address_is_a_move_too() {
        let first = answer("198.18.11.2:1000");
        let mut flow = KeptFlow::new(Protocol::Udp, Family::Ipv4, &first);
        flow.note(Ok(answer("198.18.11.2:1001")));
        assert_eq!(flow.moves, 1);
    }

    #[test]
    fn only_connections_end() {
        let first = answer("198.18.11.2:1000");
        let mut flow = KeptFlow::new(Protocol::Tcp, Family::Ipv4, &first);
        flow.note(Err(AskError::Timeout));
        assert_eq!(flow.ended, None);
        flow.note(Err(AskError::Reset));
        assert_eq!(flow.ended, Some(AskError::Reset));
    }
}
