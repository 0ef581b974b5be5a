//! New flows during a fault: one after the other without a pause, so that it is seen until when
//! they are lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use failover_common::family::Family;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::error::LabError;
use crate::traffic::{Asked, Host, Protocol, Traffic};

/// The time from one new flow to the next.
pub(super) const EVERY: Duration = Duration::from_millis(20);
/// How long an answer is waited for: far above any delay of the lab.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A new UDP flow that was asked once.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    /// Before its first packet was sent.
    pub(super) opened: Instant,
    pub(super) asked: Asked,
}

/// New flows that are opened until [`finish`](Self::finish).
pub(super) struct Newcomers {
    work: JoinHandle<Result<(), LabError>>,
    done: Arc<Mutex<Vec<Newcomer>>>,
    stop: Arc<tokio::sync::Notify>,
}

impl Newcomers {
    /// Opens a new UDP flow every 20 ms from now on, IPv4 and IPv6 in turn.
    pub(super) fn start(client: &Host) -> Self {
        let done = Arc::new(Mutex::default());
        let stop = Arc::new(tokio::sync::Notify::new());
        let work = tokio::spawn(open_on(
            client.clone(),
            Arc::clone(&done),
            Arc::clone(&stop),
        ));
        Self { work, done, stop }
    }

    /// How many were answered and how many were not, of those that are decided.
    pub(super) fn so_far(&self) -> (usize, usize) {
        let done = lock(&self.done);
        let answered = done.iter().filter(|one| one.asked.is_ok()).count();
        (answered, done.len() - answered)
    }

    /// Opens no more, waits for the last ones and returns all.
    pub(super) async fn finish(self) -> Result<Vec<Newcomer>, LabError> {
        self.stop.notify_one();
        match self.work.await {
            Ok(result) => result?,
            Err(error) => {
                return Err(LabError::Io {
                    what: "open new flows all the time".to_owned(),
                    source: error.into(),
                });
            }
        }
        let mut done = std::mem::take(&mut *lock(&self.done));
        done.sort_by_key(|one| one.opened);
        Ok(done)
    }
}

fn lock(done: &Mutex<Vec<Newcomer>>) -> MutexGuard<'_, Vec<Newcomer>> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn open_on(
    client: Host,
    done: Arc<Mutex<Vec<Newcomer>>>,
    stop: Arc<tokio::sync::Notify>,
) -> Result<(), LabError> {
    let mut open = JoinSet::new();
    let mut next = interval(EVERY);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut families = Family::ALL.into_iter().cycle();
    let keep = |(opened, asked): (Instant, Result<Vec<Asked>, LabError>)| {
        let newcomers = asked?.into_iter().map(|asked| Newcomer { opened, asked });
        lock(&done).extend(newcomers);
        Ok::<(), LabError>(())
    };
    loop {
        tokio::select! {
            _ = next.tick() => {
                let Some(family) = families.next() else { break };
                let client = client.clone();
                let traffic = Traffic::new(Protocol::Udp, family, 1).within(PATIENCE);
                open.spawn(async move { (Instant::now(), client.burst(traffic).await) });
            }
            Some(Ok(one)) = open.join_next() => keep(one)?,
            () = stop.notified() => break,
        }
    }
    while let Some(Ok(one)) = open.join_next().await {
        keep(one)?;
    }
    Ok(())
}
