//! What a channel has not told yet, and when it is to try.
//!
//! There is one entry for each subject (an uplink in a family, say), whatever happens: it holds the
//! newest notice and how many there were. So it is as long as there are subjects, what is told is how
//! things stand when it is told, and a storm becomes one message. Time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::family::Family;
use crate::notify::happening::{Happening, Notice, Subject};
use crate::notify::settings::{Rate, Told};
use crate::status::State;
use crate::uplink::UplinkName;

/// How long a first notice waits for others that belong to it: an uplink dies in both families.
pub const GATHER: Duration = Duration::from_secs(2);
/// The first and the longest wait after a failed attempt.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// The same where somebody said no: asking often could lock an account.
const REFUSED: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(3600));
/// From a failure to the next attempt, at least: selections may change a hundred times in a second.
const SPACING: Duration = Duration::from_secs(1);
/// Notices whose subject had no newer one for so long are given up.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long an attempt may go on after the selection changed under it, at first and at most: it may
/// hang on a dead uplink, or just be slow.
const OUTDATED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));
/// How many subjects there may be: more than 127 uplinks have. Beyond that notices are counted only.
const MOST: usize = 600;

/// Whether a message tells all that there is to tell, or one subject at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bundling {
    /// All in one message: for people.
    All,
    /// A message for each subject, with its newest notice: for programs.
    Each,
}

/// What is to be told about one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The newest notice.
    pub newest: Notice,
    /// When the first happened that it stands for.
    pub first: Timestamp,
    /// How many notices it stands for.
    pub count: u64,
    since: Instant,
    newest_at: Instant,
    failures: u32,
}

/// What is told by one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What there is to tell, the oldest first.
    pub pending: Vec<Pending>,
    /// How many notices were lost because too much happened at once.
    pub missed: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing until then, or until something happens.
    Wait(Option<Instant>),
    /// To send this.
    Send(Batch),
}

/// The queue of a channel.
#[derive(Debug)]
pub struct Outbox {
    told: Told,
    rate: Rate,
    bundling: Bundling,
    pending: BTreeMap<Subject, Pending>,
    missed: u64,
    /// What the last notices that were taken in said of the states of uplinks.
    heard: BTreeMap<(UplinkName, Family), State>,
    /// When the messages that were sent are paid for (the generic cell rate algorithm).
    paid_at: Option<Instant>,
    attempt: Option<Attempt>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Nothing is sent before, whatever happens.
    not_before: Option<Instant>,
    /// Somebody said no last: another selection changes nothing about that.
    refused: bool,
    outdated_after: Duration,
    closing: bool,
}

#[derive(Debug)]
struct Attempt {
    since: Instant,
    outdated: bool,
    taken: BTreeMap<Subject, Pending>,
    missed: u64,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub const fn new(told: Told, rate: Rate, bundling: Bundling) -> Self {
        Self {
            told,
            rate,
            bundling,
            pending: BTreeMap::new(),
            missed: 0,
            heard: BTreeMap::new(),
            paid_at: None,
            attempt: None,
            failures: 0,
            retry_at: None,
            not_before: None,
            refused: false,
            outdated_after: OUTDATED.0,
            closing: false,
        }
    }

    /// How many notices wait, those of a running attempt too.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let running = self
            .attempt
            .iter()
            .flat_map(|attempt| attempt.taken.values());
        let count: u64 = self
            .pending
            .values()
            .chain(running)
            .map(|one| one.count)
            .sum();
        count + self.missed
    }

    /// Takes in what happened, if it is to be told.
    pub fn take(&mut self, notice: Notice, now: Instant) {
        if !self.is_told(&notice) {
            return;
        }
        let subject = notice.subject();
        let full = self.pending.len() >= MOST;
        match self.pending.get_mut(&subject) {
            Some(pending) => {
                pending.count += 1;
                pending.newest = notice;
                pending.newest_at = now;
            }
            None if full => self.miss(1),
            None => {
                let pending = Pending {
                    first: notice.time,
                    newest: notice,
                    count: 1,
                    since: now,
                    newest_at: now,
                    failures: 0,
                };
                self.pending.insert(subject, pending);
                // What fails for one subject is no reason to keep another waiting.
                if self.bundling == Bundling::Each {
                    self.retry_at = None;
                }
            }
        }
    }

    /// Notices were lost on the way here. Programs are told of what is known alone.
    pub const fn miss(&mut self, count: u64) {
        if matches!(self.bundling, Bundling::All) {
            self.missed = self.missed.saturating_add(count);
        }
    }

    fn is_told(&mut self, notice: &Notice) -> bool {
        if let Some(uplink) = &notice.uplink
            && !self.told.concerns(uplink)
        {
            return false;
        }
        if !self.told.on.contains(&notice.happening) {
            return false;
        }
        let (Some(uplink), Some(family), Some(state)) =
            (&notice.uplink, notice.family, notice.state)
        else {
            return true;
        };
        let before = self.heard.get(&(uplink.clone(), family)).copied();
        // Who was not told that it is bad need not be told that it is good again: so at a start, and
        // where `degraded` is not told.
        if notice.happening == Happening::Up
            && notice.from != Some(State::Down)
            && before.is_none_or(|before| before == State::Up)
        {
            return false;
        }
        if self.heard.len() < MOST {
            self.heard.insert((uplink.clone(), family), state);
        }
        true
    }

    /// What is to be done now.
    pub fn act(&mut self, now: Instant) -> Act {
        if let Some(attempt) = &self.attempt {
            return Act::Wait(
                attempt
                    .outdated
                    .then(|| attempt.since + self.outdated_after),
            );
        }
        let Some(oldest) = self.pending.values().map(|pending| pending.since).min() else {
            return Act::Wait(None);
        };
        let mut at = self.affordable_at(now).max(self.not_before.unwrap_or(now));
        if !self.closing {
            at = at.max(oldest + GATHER).max(self.retry_at.unwrap_or(oldest));
        }
        if now < at {
            return Act::Wait(Some(at));
        }
        let (taken, missed) = match self.bundling {
            Bundling::All => (
                std::mem::take(&mut self.pending),
                std::mem::take(&mut self.missed),
            ),
            Bundling::Each => (self.next_one().into_iter().collect(), 0),
        };
        let mut pending: Vec<Pending> = taken.values().cloned().collect();
        pending.sort_by_key(|pending| pending.first);
        self.attempt = Some(Attempt {
            since: now,
            outdated: false,
            taken,
            missed,
        });
        Act::Send(Batch { pending, missed })
    }

    /// Those that failed least first, and of these the oldest.
    fn next_one(&mut self) -> Option<(Subject, Pending)> {
        let (subject, _) = self
            .pending
            .iter()
            .min_by_key(|(_, pending)| (pending.failures, pending.since))?;
        let subject = subject.clone();
        self.pending.remove_entry(&subject)
    }

    fn affordable_at(&self, now: Instant) -> Instant {
        let per = self.rate.per.time();
        let room = per.saturating_sub(per / self.rate.count.max(1));
        self.paid_at
            .and_then(|paid| paid.checked_sub(room))
            .unwrap_or(now)
    }

    /// The message was delivered.
    pub fn delivered(&mut self, now: Instant) {
        self.attempt = None;
        self.failures = 0;
        self.retry_at = None;
        self.not_before = None;
        self.refused = false;
        self.outdated_after = OUTDATED.0;
        let each = self.rate.per.time() / self.rate.count.max(1);
        self.paid_at = Some(self.paid_at.map_or(now, |paid| paid.max(now)) + each);
    }

    /// It was not. `chance`, from 0 to 1, spreads the attempts of many. Returns what is given up.
    pub fn failed(&mut self, refused: bool, chance: f64, now: Instant) -> u64 {
        self.put_back(1);
        self.refused = refused;
        self.not_before = Some(now + SPACING);
        let (first, longest) = if refused { REFUSED } else { RETRY };
        let doubled = first
            .saturating_mul(1 << self.failures.min(10))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + doubled.mul_f64(0.75 + 0.5 * chance.clamp(0.0, 1.0)));
        let mut given_up = 0;
        self.pending.retain(|_, pending| {
            let old = now.saturating_duration_since(pending.newest_at) > MAX_AGE;
            given_up += if old { pending.count } else { 0 };
            !old
        });
        given_up
    }

    /// The attempt was broken off, to be begun anew at once.
    pub fn broken_off(&mut self) {
        self.put_back(0);
        self.retry_at = None;
        self.outdated_after = (self.outdated_after * 2).min(OUTDATED.1);
    }

    fn put_back(&mut self, failures: u32) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        self.missed += attempt.missed;
        for (subject, mut old) in attempt.taken {
            old.failures = old.failures.saturating_add(failures);
            match self.pending.get_mut(&subject) {
                Some(newer) => {
                    newer.count += old.count;
                    newer.first = old.first;
                    newer.since = old.since;
                    newer.failures = old.failures;
                }
                None => {
                    self.pending.insert(subject, old);
                }
            }
        }
    }

    /// The selection changed: what failed may work now, and what runs may hang.
    pub const fn selection_changed(&mut self) {
        if !self.refused {
            self.retry_at = None;
            self.failures = 0;
        }
        if let Some(attempt) = &mut self.attempt
            && matches!(self.bundling, Bundling::All)
        {
            attempt.outdated = true;
        }
    }

    /// Whether the running attempt is to be broken off.
    #[must_use]
    pub fn is_outdated(&self, now: Instant) -> bool {
        self.attempt
            .as_ref()
            .is_some_and(|attempt| attempt.outdated && attempt.since + self.outdated_after <= now)
    }

    /// Nothing comes after this: what there is is sent at once.
    pub const fn close(&mut self) {
        self.closing = true;
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
