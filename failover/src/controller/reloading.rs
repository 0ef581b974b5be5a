//! Reloads, one after the other: the file is read and checked beside the loop, and what came of it is
//! taken over inside of it.
//!
//! Who asks while the file is being read may have changed it since: it is read once more for them.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::config;
use crate::control::{Answer, Reply};
use crate::controller::apply::Kernel;
use crate::controller::run::{Daemon, moment};
use crate::dataplane::Steering;
use crate::journal::Event;
use crate::policy::{conflicts, loading};
use crate::reload::{Current, Plan, Refusal, ReloadError, Reloaded, plan};
use crate::state::Store;

/// How long reading may take. A file on a network that is down may never be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of reading the file.
pub(super) type Read = Result<Plan, ReloadError>;

/// The configuration file, and who waits for it.
#[derive(Debug)]
pub struct Reloading {
    file: PathBuf,
    store: Store,
    sender: mpsc::Sender<Read>,
    receiver: mpsc::Receiver<Read>,
    /// Who waits for what is being read; none when nothing is.
    reading: Option<Vec<Reply>>,
    /// Who came since then.
    next: Option<Vec<Reply>>,
}

impl Reloading {
    /// Nothing is read yet. The path of the file is absolute.
    #[must_use]
    pub fn new(file: PathBuf, store: Store) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        Self {
            file,
            store,
            sender,
            receiver,
            reading: None,
            next: None,
        }
    }

    /// What was read. Safe to be cancelled.
    pub(super) async fn read(&mut self) -> Option<Read> {
        self.receiver.recv().await
    }

    /// Wants the file to be read, for somebody who waits for it or for nobody. What runs now is asked
    /// for when it begins.
    fn ask(&mut self, reply: Option<Reply>, current: impl FnOnce() -> Current) {
        if self.reading.is_some() {
            self.next.get_or_insert_default().extend(reply);
        } else {
            self.reading = Some(reply.into_iter().collect());
            self.begin(current());
        }
    }

    /// Reads in a thread of its own, which the end of the daemon does not wait for.
    fn begin(&self, current: Current) {
        let (done, read) = oneshot::channel();
        let (file, store) = (self.file.clone(), self.store.clone());
        let spawned = thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || {
                let planned = read_and_plan(&file, &store, &current, || done.is_closed());
                // Nobody waits any more when it took too long.
                done.send(planned).ok();
            });
        let (file, sender) = (self.file.clone(), self.sender.clone());
        tokio::spawn(async move {
            let not_read = |reason: String| Err(ReloadError::NotRead { file, reason });
            let read = match spawned {
                Err(error) => not_read(error.to_string()),
                Ok(_) => match tokio::time::timeout(PATIENCE, read).await {
                    Ok(Ok(read)) => read,
                    Ok(Err(_)) => not_read("the thread that reads it broke off".to_owned()),
                    Err(_) => not_read(format!("it takes longer than {PATIENCE:?}")),
                },
            };
            sender.send(read).await.ok();
        });
    }

    /// Whether the file is being read.
    const fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Answers those who waited, and reads once more for those who came since.
    fn finish(&mut self, answer: &Answer, current: impl FnOnce() -> Current) {
        for reply in self.reading.take().into_iter().flatten() {
            let answer = answer.clone();
            tokio::spawn(async move { reply.finish(&answer).await });
        }
        if let Some(replies) = self.next.take() {
            self.reading = Some(replies);
            self.begin(current());
        }
    }
}

/// Ids are on the disk before anything is marked with them.
fn read_and_plan(
    file: &Path,
    store: &Store,
    current: &Current,
    too_late: impl FnOnce() -> bool,
) -> Read {
    let config = config::load(file)?;
    let ids = store.ids()?;
    let sets = loading::read_all(&config)?;
    for conflict in conflicts::told(&config, &sets, file) {
        warn!("{conflict}");
    }
    let plan = plan(current, config, file.to_owned(), ids.clone(), sets)?;
    if plan.remembered != ids && !too_late() {
        store.keep_ids(&plan.remembered)?;
    }
    Ok(plan)
}

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// Begins to read the configuration; what comes of it is for [`Self::reload`].
    pub(super) fn begin_reload(&mut self, reply: Option<Reply>) {
        self.service.reloading();
        let engine = &self.engine;
        self.reloading.ask(reply, || engine.current());
    }

    /// Follows what was read, or says why not.
    pub(super) async fn reload(&mut self, read: Read) {
        let answer = match read {
            Ok(plan) => Answer::Reloaded(self.follow(plan).await),
            Err(error) => {
                let refusal = Refusal::from(&error);
                error!("the configuration stays as it was: {refusal}");
                let reason = refusal.to_string();
                self.journal.note(Event::ReloadRefused { reason });
                Answer::NotReloaded(refusal)
            }
        };
        let engine = &self.engine;
        self.reloading.finish(&answer, || engine.current());
        if !self.reloading.is_reading() {
            self.service.ready(&engine.status(Instant::now()));
        }
    }

    async fn follow(&mut self, plan: Plan) -> Reloaded {
        // Before what follows from it.
        if !plan.changes.is_empty() {
            let changes = plan.changes.clone();
            self.journal.note(Event::Reloaded {
                changes,
                omitted: 0,
            });
        }
        if self.engine.retire(&plan.config, &plan.ids) {
            self.carry_out().await;
            self.prober.set_plans(self.engine.probe_plans());
        }
        self.engine
            .reconfigure(plan.config, &plan.ids, plan.sets, moment());
        self.set_files.follow(self.engine.config());
        // What nobody asked for until now, such as a new gateway's hardware address.
        self.look_soon();
        self.carry_out().await;
        // Not before: a new uplink's probes need its rules.
        self.prober.set_plans(self.engine.probe_plans());
        self.remember();
        self.tell_how_things_stand();
        self.notifier.follow(&self.engine.config().notify);
        let reloaded = Reloaded {
            changes: plan.changes,
            problem: self.problem.clone(),
        };
        info!("{reloaded}");
        reloaded
    }
}
