//! The task of one channel: takes in what happens, and tells it when its outbox says so.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};
use tracing::{debug, info, warn};

use crate::family::Family;
use crate::journal::{Event, Journal, Noted};
use crate::notify::failure::NotSent;
use crate::notify::happening::Notice;
use crate::notify::message::Message;
use crate::notify::outbox::{Act, Batch, Bundling, Outbox};
use crate::notify::settings::{Carrier, ChannelConfig, ChannelName};
use crate::notify::{mail, mqtt, program, webhook};
use crate::status::{ChannelStatus, StatusDocument};
use crate::uplink::UplinkId;

/// How long an attempt may take. Programs have a limit of their own.
const ATTEMPT: Duration = Duration::from_secs(20);

/// By which uplinks new flows go now: their shares, to be compared only.
pub(super) type Selection = BTreeMap<(UplinkId, Family), u64>;

/// How things stand.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) status: Arc<StatusDocument>,
    pub(super) selection: Selection,
}

/// Tells a task that the daemon ends.
#[derive(Clone, Debug)]
pub(super) struct Closing(watch::Receiver<bool>);

impl Closing {
    pub(super) const fn new(told: watch::Receiver<bool>) -> Self {
        Self(told)
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Safe to be cancelled.
    pub(super) async fn begun(&mut self) {
        // Who would tell it is gone: that is the end, too.
        self.0.wait_for(|closing| *closing).await.ok();
    }
}

/// What is known of a channel, for `status`.
#[derive(Debug, Default)]
pub(super) struct ChannelState {
    waiting: u64,
    last_delivery: Option<Timestamp>,
    problem: Option<String>,
}

impl ChannelState {
    pub(super) fn of(state: &Mutex<Self>) -> MutexGuard<'_, Self> {
        // Nothing in here breaks off half-way.
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether that is news.
    pub(super) fn failed(&mut self, error: &NotSent) -> bool {
        let before = self.problem.replace(error.to_string());
        before.is_none()
    }

    /// Returns whether that is news.
    pub(super) fn connected(&mut self) -> bool {
        self.problem.take().is_some() || self.last_delivery.is_none()
    }

    pub(super) fn up_to_date(&mut self) {
        self.last_delivery = Some(Timestamp::now());
    }

    pub(super) fn status(&self, name: &ChannelName, kind: &str) -> ChannelStatus {
        ChannelStatus {
            name: name.to_string(),
            kind: kind.to_owned(),
            waiting: self.waiting,
            last_delivery: self.last_delivery,
            problem: self.problem.clone(),
        }
    }
}

/// From 0 to 1: attempts of many gateways are not to come at the same moment.
pub(super) fn chance() -> f64 {
    let drawn = RandomState::new().hash_one(0_u8);
    f64::from(u16::try_from(drawn & 0xffff).unwrap_or_default()) / f64::from(u16::MAX)
}

/// What a task is given.
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) config: ChannelConfig,
    pub(super) host: Arc<str>,
    /// What happened before it was begun.
    pub(super) before: Vec<Noted>,
    pub(super) happened: broadcast::Receiver<Noted>,
    pub(super) news: watch::Receiver<News>,
    pub(super) closing: Closing,
    pub(super) state: Arc<Mutex<ChannelState>>,
    pub(super) journal: Journal,
}

type Attempt = Pin<Box<dyn Future<Output = Result<(), NotSent>> + Send>>;

impl Channel {
    /// Works until told to end, and then for one more attempt.
    pub(super) async fn work(self) {
        self.warn_of_open_secrets().await;
        match self.config.carrier.clone() {
            Carrier::Mqtt(mqtt) => {
                let told = self.config.told.clone();
                let Self {
                    name,
                    host,
                    news,
                    closing,
                    state,
                    ..
                } = self;
                mqtt::keep(name, mqtt, told, host, news, closing, state).await;
            }
            _ => self.tell().await,
        }
    }

    async fn warn_of_open_secrets(&self) {
        let carrier = self.config.carrier.clone();
        let looked = tokio::task::spawn_blocking(move || carrier.warnings());
        let looked = tokio::time::timeout(ATTEMPT, looked).await;
        for warning in looked.into_iter().flatten().flatten() {
            warn!(channel = %self.name, "{warning}");
        }
    }

    async fn tell(mut self) {
        let bundling = match self.config.carrier {
            Carrier::Program(_) => Bundling::Each,
            _ => Bundling::All,
        };
        let mut outbox = Outbox::new(self.config.told.clone(), self.config.at_most, bundling);
        for noted in std::mem::take(&mut self.before) {
            take(&mut outbox, &noted);
        }
        let mut attempt: Option<Attempt> = None;
        let mut closing = false;
        let mut selection = self.news.borrow().selection.clone();
        loop {
            let now = Instant::now();
            if outbox.is_outdated(now) {
                debug!(channel = %self.name, "the selection changed: the attempt is begun anew");
                attempt = None;
                outbox.broken_off();
            }
            let mut next = None;
            match outbox.act(now) {
                Act::Wait(until) => next = until,
                Act::Send(batch) => attempt = Some(self.begin(&batch)),
            }
            ChannelState::of(&self.state).waiting = outbox.waiting();
            if closing && attempt.is_none() {
                return;
            }
            tokio::select! {
                biased;
                sent = running(&mut attempt) => {
                    attempt = None;
                    self.ended(&mut outbox, &sent);
                    if closing && sent.is_err() {
                        return;
                    }
                }
                noted = self.happened.recv() => match noted {
                    Ok(noted) => take(&mut outbox, &noted),
                    Err(broadcast::error::RecvError::Lagged(count)) => outbox.miss(count),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                changed = self.news.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let news = self.news.borrow_and_update();
                    if news.selection != selection {
                        selection.clone_from(&news.selection);
                        outbox.selection_changed();
                    }
                }
                // After what has happened until then.
                () = self.closing.begun(), if !closing => {
                    closing = true;
                    outbox.close();
                }
                () = until(next) => {}
            }
        }
    }

    fn begin(&self, batch: &Batch) -> Attempt {
        let message = Message::of(batch, &self.news.borrow().status, &self.host);
        let config = self.config.clone();
        Box::pin(async move { deliver(&config, &message).await })
    }

    fn ended(&self, outbox: &mut Outbox, sent: &Result<(), NotSent>) {
        let name = &self.name;
        let mut state = ChannelState::of(&self.state);
        match sent {
            Ok(()) => {
                outbox.delivered(Instant::now());
                state.last_delivery = Some(Timestamp::now());
                if state.problem.take().is_some() {
                    info!(channel = %name, "notifications are delivered again");
                }
            }
            Err(error) => {
                let given_up = outbox.failed(error.is_refused(), chance(), Instant::now());
                if state.failed(error) {
                    warn!(channel = %name, "a notification is not delivered: {error}; trying again");
                }
                if given_up > 0 {
                    warn!(channel = %name, given_up, "notifications are given up: {error}");
                    self.journal.note(Event::NotNotified {
                        channel: name.clone(),
                        count: given_up,
                        reason: error.to_string(),
                    });
                }
            }
        }
    }
}

fn take(outbox: &mut Outbox, noted: &Noted) {
    if let Some(notice) = Notice::of(&noted.event, noted.time) {
        outbox.take(notice, Instant::now());
    }
}

/// Waits for the attempt; for ever where there is none.
async fn running(attempt: &mut Option<Attempt>) -> Result<(), NotSent> {
    match attempt {
        Some(attempt) => attempt.await,
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

async fn deliver(config: &ChannelConfig, message: &Message) -> Result<(), NotSent> {
    let limit = match &config.carrier {
        Carrier::Program(program) => program.timeout + ATTEMPT,
        _ => ATTEMPT,
    };
    let sent = async {
        match &config.carrier {
            Carrier::Mail(mail) => mail::send(mail, message).await,
            Carrier::Mqtt(mqtt) => mqtt::test(mqtt, message).await,
            Carrier::Webhook(hook) => webhook::send(hook, message).await,
            Carrier::Program(program) => program::run(program, message).await,
        }
    };
    let late = |_| {
        Err(NotSent::yet(format!(
            "no answer within {} s",
            limit.as_secs()
        )))
    };
    tokio::time::timeout(limit, sent).await.unwrap_or_else(late)
}

/// Sends a test message by a channel.
///
/// # Errors
/// Why it was not delivered.
pub async fn test(config: &ChannelConfig) -> Result<(), NotSent> {
    let host = super::reach::host_name();
    deliver(config, &Message::test(&host)).await
}
