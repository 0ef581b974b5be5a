//! The thread of the fast path, and what others hold of it.
//!
//! It waits for offers and for news, and asks the kernel in batches. Offers have a share of one
//! processor and no more: what is not taken is offered again. So neither a flood of short flows, of which
//! none is offered, nor one of long ones takes the daemon's time from anything else.
//!
//! | file | what it does |
//! | --- | --- |
//! | `offers` | takes offers to their end |
//! | `looks` | looks at what is due, and at what sends no news |

mod looks;
mod offers;

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use failover_common::{Flow, FlowKey};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::warn;

use super::edge::Surroundings;
use super::offloads::Offloads;
use super::plane::Plane;
use super::settings::Settings;
use super::standing::{FastPath, FastPathStatus, Standing, Why};
use crate::causes::in_one_line;
use crate::monotonic::now_ns;

/// For each moment that offers take, so many pass before the next ones.
const REST: u32 = 3;
/// How often entries are looked at, a part of them each time.
const TICK: Duration = Duration::from_millis(50);
/// How often the programs are told that the daemon is there, and that is looked at which sends no news.
const ROUND: Duration = Duration::from_secs(1);
/// How often neighbours are kept fresh.
const FRESH: Duration = Duration::from_secs(5);
/// How long nobody listens to connection tracking any more after the last flow left.
const QUIET: Duration = Duration::from_secs(10);
/// How often it is looked at the end whether programs have ended, and how many times at most.
const ENDING_TURN: Duration = Duration::from_millis(5);
const ENDING_TURNS: u32 = 20;
/// How long it is waited after something failed.
const AGAIN: Duration = Duration::from_secs(5);

/// The fast path at work.
pub struct Worker<P> {
    offloads: Arc<Mutex<Offloads<P>>>,
    /// What it is to follow from its next turn on: whoever sets them waits for nobody.
    wanted: Arc<Mutex<Arc<Settings>>>,
    /// Says by being closed that it is to end, and by a byte that there is something to do.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl<P> fmt::Debug for Worker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl<P: Plane + 'static> Worker<P> {
    /// Begins. No flow takes the fast path before it is told its settings.
    ///
    /// # Errors
    /// When there is no thread, or no socket to wake it by.
    pub fn start<S: Surroundings + 'static>(plane: P, kernel: S) -> io::Result<Self> {
        let offered = plane.offered().try_clone_to_owned()?;
        let offloads =
            Offloads::new(plane).map_err(|error| io::Error::other(in_one_line(&error)))?;
        let offloads = Arc::new(Mutex::new(offloads));
        let wanted = Arc::default();
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let mut at_work = AtWork {
            offloads: Arc::clone(&offloads),
            wanted: Arc::clone(&wanted),
            kernel,
            offered,
            woken,
            next_offers: Instant::now(),
            listening: false,
            busy_until: Instant::now(),
            untold_until_ns: 0,
            trouble: None,
        };
        let thread = std::thread::Builder::new()
            .name("fast path".to_owned())
            .spawn(move || at_work.run())?;
        Ok(Self {
            offloads,
            wanted,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Has it follow other settings.
    pub fn set(&self, settings: Settings) {
        let mut wanted = lock(&self.wanted);
        if **wanted != settings {
            *wanted = Arc::new(settings);
            drop(wanted);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(mut wake) = self.wake.as_ref() {
            // What is full wakes it as well.
            let _full = wake.write(&[0]);
        }
    }
}

impl<P> Drop for Worker<P> {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread of the fast path broke off");
        }
    }
}

impl<P: Plane + 'static> FastPath for Worker<P> {
    fn standing(&self, key: &FlowKey, flow: &Flow) -> Standing {
        lock(&self.offloads).standing(key, flow, now_ns())
    }

    fn status(&self) -> FastPathStatus {
        lock(&self.offloads).status()
    }

    fn flush(&self) -> Result<u64, String> {
        Ok(lock(&self.offloads).flush())
    }
}

/// What is guarded is whole between any two of its changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct AtWork<P, S> {
    offloads: Arc<Mutex<Offloads<P>>>,
    wanted: Arc<Mutex<Arc<Settings>>>,
    kernel: S,
    offered: OwnedFd,
    woken: UnixStream,
    /// When offers are next taken.
    next_offers: Instant,
    /// Whether connection tracking tells of entries that end.
    listening: bool,
    /// Since when no flow takes the fast path, and how long it is still listened.
    busy_until: Instant,
    /// Until when flows may have begun of which nobody tells when they end.
    untold_until_ns: u64,
    /// What failed, and when it is tried again.
    trouble: Option<(String, Instant)>,
}

impl<P: Plane, S: Surroundings> AtWork<P, S> {
    fn run(&mut self) {
        let mut next_round = Instant::now();
        let mut next_tick = Instant::now();
        let mut next_fresh = Instant::now();
        let mut unread = true;
        loop {
            let (flows, waits) = {
                let offloads = self.offloads();
                (offloads.count() > 0, offloads.is_waiting())
            };
            let next = if flows || waits {
                next_tick.min(next_round)
            } else {
                next_round
            };
            if self.wait(next) {
                break;
            }
            let now = Instant::now();
            self.follow_settings();
            let news = self.kernel.news();
            unread |= self.offloads().hear(news);
            if unread && self.is_ready(now) {
                let read = self.read_around();
                unread = !self.went_well(read, now);
            }
            if next_tick <= now {
                next_tick = now + TICK;
                let looked = self.look();
                self.went_well(looked, now);
            }
            if next_round <= now {
                next_round = now + ROUND;
                let done = self.round(now);
                self.went_well(done, now);
            }
            if next_fresh <= now {
                next_fresh = now + FRESH;
                let stale = self.offloads().stale_neighbours();
                let asked = self.kernel.use_neighbours(&stale);
                self.went_well(asked, now);
            }
            if self.next_offers <= now && !unread && self.is_ready(now) {
                let taken = self.take_offers();
                self.went_well(taken, now);
                let took = now.elapsed();
                self.next_offers = now + took + took * REST;
            }
        }
        self.offloads().flush();
        // What moved last is counted with its flows when all programs have ended.
        for _ in 0..ENDING_TURNS {
            self.offloads().wait_is_over();
            if !self.offloads().is_waiting() {
                break;
            }
            std::thread::sleep(ENDING_TURN);
        }
        self.offloads().end();
    }

    fn follow_settings(&self) {
        let wanted = Arc::clone(&lock(&self.wanted));
        let mut offloads = self.offloads();
        if !Arc::ptr_eq(&wanted, &offloads.settings()) {
            offloads.set(wanted);
        }
    }

    fn offloads(&self) -> MutexGuard<'_, Offloads<P>> {
        lock(&self.offloads)
    }

    /// Whether it may be tried again.
    fn is_ready(&self, now: Instant) -> bool {
        self.trouble.as_ref().is_none_or(|(_, until)| *until <= now)
    }

    /// Waits until there is something to do; returns whether it is the end.
    fn wait(&mut self, until: Instant) -> bool {
        let mut until = until;
        let now = Instant::now();
        // While something does not work nobody takes offers, and they would wake it at once.
        let ready = self.is_ready(now);
        let hungry = ready && self.next_offers <= now;
        if ready && !hungry {
            until = until.min(self.next_offers);
        }
        let time = until.saturating_duration_since(Instant::now());
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.woken.as_fd()];
        descriptors.extend(self.kernel.descriptors());
        if hungry {
            descriptors.push(self.offered.as_fd());
        }
        let mut polled: Vec<PollFd<'_>> = descriptors
            .into_iter()
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        let millis = time.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        if let Err(error) = poll(&mut polled, timeout) {
            warn!(%error, "the fast path cannot wait for news");
            std::thread::sleep(TICK);
        }
        let mut bytes = [0; 64];
        match self.woken.read(&mut bytes) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Notes how something went; what fails has all flows go by the stack for a while.
    fn went_well<T, E: std::error::Error + 'static>(
        &mut self,
        done: Result<T, E>,
        now: Instant,
    ) -> bool {
        match done {
            Ok(_) => true,
            Err(error) => {
                let error = in_one_line(&error);
                if self
                    .trouble
                    .as_ref()
                    .is_none_or(|(known, _)| *known != error)
                {
                    warn!(%error, "all flows go by the stack until it works again");
                }
                let why = Why::Broken(error.clone());
                self.offloads().set_broken(Some(why));
                self.trouble = Some((error, now + AGAIN));
                false
            }
        }
    }
}
