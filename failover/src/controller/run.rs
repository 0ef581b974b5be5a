//! The daemon's loop.
//!
//! One task owns the engine and the applier and waits for whatever comes first:
//!
//! | source | what comes | cancelled when another comes first |
//! | --- | --- | --- |
//! | watch | something changed in the kernel | safe: a channel |
//! | probes | news of a round | safe: a channel |
//! | users' traffic | it is not answered, or is again | safe: a channel |
//! | control socket | a question | safe: a channel |
//! | the configuration | what is in the file, after it was asked for | safe: a channel |
//! | the files of sets | one has changed | safe: a channel |
//! | the counters of probes | what they say, after they were asked for | safe: a channel |
//! | timers | a delayed look, a retry, a second deletion, an audit | safe: absolute moments |
//! | signals | the end, or that the configuration is to be read again | safe |
//!
//! Changing the kernel is never cancelled: it runs to its end inside the loop.

mod answering;
mod by_hand;
mod carrying_out;
mod hearing;
mod loads;
mod metered;
mod notifying;
mod noting;
mod timing;
mod traces;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tracing::error;

use crate::control::server::Question;
use crate::controller::apply::{Applier, Kernel};
use crate::controller::apply_error::ApplyErrors;
use crate::controller::engine::{Engine, Forget, Moment};
use crate::controller::metering::{Metering, READ};
use crate::controller::reloading::Reloading;
use crate::controller::remembered::Remembered;
use crate::controller::set_files::SetFiles;
use crate::controller::timers::Timers;
use crate::dataplane::{Steering, TrafficReport};
use crate::fastpath::standing::FastPath;
use crate::journal::Journal;
use crate::kernel::network::NetworkObserver;
use crate::kernel::watch::Change;
use crate::notify::Notifier;
use crate::probe::{Prober, Report, Witness};
use crate::replay::Traces;
use crate::resets::Resets;
use crate::service::Service;
use crate::state::Store;
use crate::track::TrackFile;
use crate::wanted::Wanted;

/// Addresses and routes change in bursts: one look serves all that come within this time.
const GATHER: Duration = Duration::from_millis(15);
/// How often what sends no events (kernel settings) and what may have been missed is looked at.
const AUDIT: Duration = Duration::from_secs(30);

/// The channels that the loop listens to.
#[derive(Debug)]
pub struct Inputs {
    /// What changes in the kernel.
    pub changes: mpsc::Receiver<Change>,
    /// What probes bring.
    pub reports: mpsc::Receiver<Report>,
    /// What users' traffic says.
    pub traffic: mpsc::Receiver<TrafficReport>,
    /// What the commands ask.
    pub questions: mpsc::Receiver<Question>,
    /// SIGHUP: the configuration is to be read again.
    pub hangup: Signal,
}

/// The daemon at work.
#[derive(Debug)]
pub struct Daemon<K, S> {
    pub(super) engine: Engine,
    applier: Applier<K, S>,
    observer: NetworkObserver,
    pub(super) prober: Prober,
    resets: Resets,
    store: Store,
    pub(super) reloading: Reloading,
    pub(super) set_files: SetFiles,
    metering: Metering,
    remembered: Remembered,
    pub(super) journal: Journal,
    pub(super) notifier: Notifier,
    /// No uplink works, and that was told.
    offline: bool,
    /// Something was decided since it was last said how things stand.
    untold: bool,
    traces: Traces,
    pub(super) service: Service,
    track_file: TrackFile,
    /// Who can be asked whether users are answered.
    witness: Option<Arc<dyn Witness>>,
    /// Who knows which flows bypass the stack, if any can.
    fast_path: Option<Arc<dyn FastPath>>,
    timers: Timers,
    /// What was last decided, and whether the kernel may be in another state.
    wanted: Wanted,
    /// What was last decided to be forgotten, and is not yet.
    forget: BTreeSet<Forget>,
    suspect: bool,
    /// The last reading of how much uplinks carry failed, and that was told.
    loads_unread: bool,
    pub(super) problem: Option<String>,
    /// Flows that are to be forgotten a second time.
    again: BTreeSet<Forget>,
}

pub(super) fn moment() -> Moment {
    Moment {
        at: Instant::now(),
        wall: Timestamp::now(),
    }
}

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// A daemon whose engine knows the network, and which has changed nothing yet.
    pub fn new(
        engine: Engine,
        applier: Applier<K, S>,
        observer: NetworkObserver,
        prober: Prober,
        resets: Resets,
        store: Store,
        reloading: Reloading,
    ) -> Self {
        Self {
            traces: Traces::new(&engine.config().state_dir),
            engine,
            applier,
            observer,
            prober,
            resets,
            store,
            reloading,
            set_files: SetFiles::nowhere(),
            metering: Metering::nowhere(),
            remembered: Remembered::default(),
            journal: Journal::nowhere(),
            service: Service::default(),
            track_file: TrackFile::default(),
            notifier: Notifier::new(Journal::nowhere()),
            offline: false,
            untold: false,
            witness: None,
            fast_path: None,
            timers: Timers::new(Instant::now() + AUDIT, Instant::now() + READ),
            wanted: Wanted::default(),
            forget: BTreeSet::new(),
            suspect: true,
            loads_unread: false,
            problem: None,
            again: BTreeSet::new(),
        }
    }

    /// What was kept when a daemon last ran: written again when it changes.
    #[must_use]
    pub fn having_kept(mut self, remembered: Remembered) -> Self {
        self.remembered = remembered;
        self
    }

    /// Follows files of sets so.
    #[must_use]
    pub fn following(mut self, set_files: SetFiles) -> Self {
        self.set_files = set_files;
        self
    }

    /// Has what probes take counted so.
    #[must_use]
    pub fn metering(mut self, metering: Metering) -> Self {
        self.metering = metering;
        self
    }

    /// Has what happens noted there.
    #[must_use]
    pub fn noting(mut self, journal: Journal) -> Self {
        self.notifier = Notifier::new(journal.clone());
        self.journal = journal;
        self
    }

    /// Has that service manager told how the daemon is.
    #[must_use]
    pub fn telling(mut self, service: Service) -> Self {
        self.service = service;
        self
    }

    /// Has that one asked whether users are answered.
    #[must_use]
    pub fn asking(mut self, witness: Option<Arc<dyn Witness>>) -> Self {
        self.witness = witness;
        self
    }

    /// Has that one asked about the fast path.
    #[must_use]
    pub fn with_fast_path(mut self, fast_path: Option<Arc<dyn FastPath>>) -> Self {
        self.fast_path = fast_path;
        self
    }

    /// Brings the kernel into the wanted state for the first time.
    ///
    /// # Errors
    /// When that fails, other than for single programs, which are tried again. What another daemon
    /// left in place stays; where there was nothing, nothing is left.
    pub async fn begin(&mut self) -> Result<(), ApplyErrors> {
        let untouched = self.applier.nothing_installed().await;
        self.decide();
        match self.apply().await {
            Err(errors) if !errors.only_of_programs() => {
                if untouched && let Err(left) = self.applier.remove_all().await {
                    error!(%left, "could not take out again what was put into the kernel");
                }
                return Err(errors);
            }
            applied => self.note(applied),
        }
        self.begin_metering().await;
        // Not before: a probe's connection that nobody marks as one is taken for a flow of the
        // uplink as soon as its answer comes in.
        self.prober.set_plans(self.engine.probe_plans());
        self.remember();
        self.track();
        self.tell_how_things_stand();
        self.notifier.follow(&self.engine.config().notify);
        Ok(())
    }

    /// Works until told to stop. The kernel stays as it is.
    pub async fn work(&mut self, mut inputs: Inputs, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        self.service.ready(&self.engine.status(Instant::now()));
        loop {
            // Here and nowhere else: a loop that hangs, or whose work does, is no longer alive.
            self.timers.alive = self.service.alive(Instant::now());
            let timer = tokio::time::sleep_until(self.timers.next().into());
            tokio::select! {
                () = &mut stop => {
                    self.service.stopping();
                    return self.end();
                }
                Some(change) = inputs.changes.recv() => {
                    self.changed(change);
                    while let Ok(change) = inputs.changes.try_recv() {
                        self.changed(change);
                    }
                    self.act().await;
                }
                Some(report) = inputs.reports.recv() => {
                    self.reported(&report);
                    while let Ok(report) = inputs.reports.try_recv() {
                        self.reported(&report);
                    }
                    // Most confirm what is known, and there are many of them.
                    if self.engine.is_stale() || self.suspect {
                        self.act().await;
                    } else {
                        self.trace();
                    }
                }
                Some(report) = inputs.traffic.recv() => {
                    self.heard(report);
                    while let Ok(report) = inputs.traffic.try_recv() {
                        self.heard(report);
                    }
                    self.act().await;
                }
                Some(question) = inputs.questions.recv() => {
                    self.answer(question).await;
                    self.act().await;
                }
                Some(()) = inputs.hangup.recv() => self.begin_reload(None),
                Some(read) = self.reloading.read() => {
                    self.reload(read).await;
                    self.act().await;
                }
                Some(news) = self.set_files.read() => {
                    self.take_set(news);
                    self.act().await;
                }
                Some(counters) = self.metering.read() => {
                    self.metered(&counters);
                    self.act().await;
                }
                () = timer => {
                    self.timers().await;
                    self.act().await;
                }
            }
        }
    }

    /// Looks at the network anew, together with what changes next.
    pub(super) fn look_soon(&mut self) {
        self.timers.look.get_or_insert(Instant::now() + GATHER);
    }

    /// Decides, if anything changed, and carries out. A new decision waits for nothing: what fails on
    /// one uplink holds up no other's failover. What is only to be repaired waits for a look that is
    /// due at once, since what was decided may be outdated by what broke it; what failed waits for
    /// its time.
    async fn act(&mut self) {
        let now = Instant::now();
        self.trace();
        match self.engine.look_again() {
            // It came meanwhile, or the look has failed and waits for its next try.
            Some(look) if look <= now => {
                self.timers.look.get_or_insert(now + GATHER);
            }
            look => self.timers.look = self.timers.look.into_iter().chain(look).min(),
        }
        self.time_loads(now);
        let stale = self.engine.is_stale();
        let news = stale && self.decide();
        if stale {
            self.prober.set_plans(self.engine.probe_plans());
            for (uplink, family) in self.engine.awaited() {
                self.prober.suspect(uplink, family);
            }
        }
        if news {
            self.timers.retry.settled();
        }
        let at_once = now + GATHER;
        let looks = self.timers.look.is_some_and(|look| look <= at_once);
        if self.suspect && (news || !(looks || self.timers.retry.is_waiting())) {
            self.try_apply().await;
        }
        // After the change: a slow disk holds up no failover, and a daemon that crashes between the
        // two learns once more who is dead, and forgets its flows.
        if stale {
            self.remember();
            self.service.status(|| self.engine.status(now));
        }
        if self.untold {
            self.tell_how_things_stand();
        }
        self.track();
    }

    /// Tells who watches the track file how the uplinks stand. What could not be written is tried again
    /// with whatever comes next.
    fn track(&mut self) {
        let path = self.engine.config().track_file.as_deref();
        self.track_file.keep(path, self.engine.track_value());
    }
}
