//! The state machine of one uplink and family.

mod telling;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Health;
use super::damping::{Damping, KeptDamping};
use super::quality::Quality;
use super::reason::{LinkLoss, Reason};
use super::round::{Places, PlanNumber, Round, Verdict};
use super::thresholds::{Thresholds, demand};
use super::traffic::{Evidence, Traffic};
use super::window::{Silence, Window};

/// A change of health.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// What it was.
    pub from: Health,
    /// What it is now.
    pub to: Health,
    /// When.
    pub at: Instant,
    /// Why.
    pub reason: Reason,
}

/// Whether an uplink gets anything through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Life {
    /// Not known yet.
    Unknown,
    Alive,
    Dead,
}

/// The health of one uplink for one family; the module says in which order evidence counts. Written
/// out and read back it goes on as if nothing had been.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    thresholds: Thresholds,
    aside: Places,
    life: Life,
    /// As it was last told.
    health: Health,
    /// The link is lost: nothing that a round says counts.
    link: Option<LinkLoss>,
    /// Rounds that were sent earlier say nothing about the path of now.
    #[serde(with = "super::stored::moment_if_any")]
    not_before: Option<Instant>,
    plan: PlanNumber,
    window: Window,
    quality: Quality,
    damping: Damping,
    /// What users' traffic says.
    #[serde(default)]
    traffic: Evidence,
    /// So many hosts answer users, although too few targets answer.
    #[serde(default)]
    contradicted: Option<u32>,
    silence: Option<Silence>,
    smoothed_rtt: Option<Duration>,
    /// What is said as long as no round has been decided.
    unproven: Reason,
}

impl Machine {
    /// A machine that begins with `initial`: the remembered state after a restart, which counts
    /// until the first verdict and is left by the same rules as ever, or `Unknown`.
    #[must_use]
    pub fn new(thresholds: Thresholds, initial: Health) -> Self {
        let aside = Places::NONE;
        let mut quality = Quality::new(thresholds.quality);
        let life = match initial {
            Health::Unknown => Life::Unknown,
            Health::Up => Life::Alive,
            Health::Degraded => {
                quality.was_bad();
                Life::Alive
            }
            Health::Down => Life::Dead,
        };
        Self {
            thresholds,
            aside,
            life,
            health: initial,
            link: None,
            not_before: None,
            plan: PlanNumber::default(),
            window: Window::new(thresholds.longest_row(), demand(thresholds, aside)),
            quality,
            damping: Damping::new(thresholds.max_hold),
            traffic: Evidence::default(),
            contradicted: None,
            silence: None,
            smoothed_rtt: None,
            unproven: Reason::NotProbed { health: initial },
        }
    }

    /// The verdict of now.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// What the link lost, if it did.
    #[must_use]
    pub const fn link_loss(&self) -> Option<&LinkLoss> {
        self.link.as_ref()
    }

    /// The targets without which it judges.
    #[must_use]
    pub const fn judges_without(&self) -> Places {
        self.aside
    }

    /// What it takes to change its verdict.
    #[must_use]
    pub const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// Takes in what is known of a round. It may be told again when more of it is known.
    ///
    /// What was sent before the link was lost, before the path changed, or by an older plan, is
    /// ignored; so is everything while the link is lost. A newer plan restarts all counts.
    pub fn round(&mut self, now: Instant, round: &Round) -> Option<Transition> {
        let outdated =
            round.plan < self.plan || self.not_before.is_some_and(|moment| round.sent_at < moment);
        if self.link.is_some() || outdated {
            return None;
        }
        if round.plan > self.plan {
            self.plan = round.plan;
            self.restart_counts();
        }
        let news = self.window.learn(round);
        self.quality.learn(round, &news.settled);
        if news.first_answer {
            self.smooth(round.quickest());
        }
        let verdict = news.verdict?;
        if verdict == Verdict::Good {
            self.traffic.probe_answered(round.sent_at);
        }
        self.note_silence(now, round, verdict);
        let reason = self.weigh(now, round.sequence, verdict);
        self.quality.judge();
        self.settle(now, reason)
    }

    /// Whether a verdict that is new changes what is known of the uplink's life, and why.
    fn weigh(&mut self, now: Instant, sequence: u64, verdict: Verdict) -> Option<Reason> {
        let (needed, next) = match (self.life, verdict) {
            (Life::Unknown, Verdict::Good) => (1, Life::Alive),
            (Life::Dead, Verdict::Good) => (self.thresholds.up_after, Life::Alive),
            (Life::Unknown | Life::Alive, Verdict::Bad) => (self.thresholds.down_after, Life::Dead),
            (Life::Alive, Verdict::Good) => {
                if !self.window.overruled(sequence, verdict) {
                    self.contradicted = None;
                }
                return None;
            }
            (Life::Dead, Verdict::Bad) => return None,
        };
        let needed = needed.max(1);
        let corroborated = self.corroborated(now, verdict);
        let row = self.window.row_around(sequence, verdict, corroborated);
        if row < usize::from(needed) || self.window.overruled(sequence, verdict) {
            return None;
        }
        if next == Life::Dead {
            self.contradicted = self.contradiction(now);
            if self.contradicted.is_some() {
                return None;
            }
        }
        if let Some(silence) = self.silence.as_mut().filter(|_| next == Life::Dead) {
            let counted = u64::try_from(row).unwrap_or(u64::MAX);
            silence.rounds = silence.rounds.max(counted);
        }
        let reason = match self.life {
            Life::Unknown if verdict == Verdict::Good => Reason::FirstAnswer,
            Life::Dead => Reason::Recovered { rounds: needed },
            Life::Unknown | Life::Alive => self.reason(now),
        };
        self.live(now, next);
        Some(reason)
    }

    /// Since when the silence of confirming rounds counts.
    fn corroborated(&self, now: Instant, verdict: Verdict) -> Option<Instant> {
        self.traffic
            .corroborates(now)
            .filter(|_| verdict == Verdict::Bad)
    }

    /// How many hosts answer users, if that speaks against the silence of probes. Against a target
    /// that says what is wrong, such as a page that is another one, it does not.
    fn contradiction(&self, now: Instant) -> Option<u32> {
        let silence = self.silence?;
        let (round, _) = self.window.last_decided()?;
        let silent = round.is_silence();
        self.traffic
            .contradicts(silence.since, now)
            .filter(|_| silent)
    }

    fn live(&mut self, now: Instant, next: Life) {
        match (self.life, next) {
            (Life::Alive, Life::Dead) => self.damping.failed(now),
            (Life::Dead, Life::Alive) => {
                self.damping.returned(now);
                // The time for which it was dead says nothing about how well it answers now.
                self.quality.begin_anew();
            }
            _ => {}
        }
        self.life = next;
        self.contradicted = None;
    }

    /// Says what has become of the health. `reason`: why its life is another now.
    fn settle(&mut self, now: Instant, reason: Option<Reason>) -> Option<Transition> {
        let poor = self.damping.hold(now).is_some()
            || self.quality.complaint().is_some()
            || self.contradicted.is_some();
        let to = match self.life {
            Life::Unknown => Health::Unknown,
            Life::Alive if poor => Health::Degraded,
            Life::Alive => Health::Up,
            Life::Dead => Health::Down,
        };
        let from = self.health;
        // What is silent is not trusted more for it.
        let unearned = (from, to) == (Health::Degraded, Health::Up) && self.is_doubtful();
        if from == to || unearned {
            return None;
        }
        self.health = to;
        let reason = match (to, reason) {
            (Health::Degraded, _) | (_, None) => self.reason(now),
            (_, Some(reason)) => reason,
        };
        Some(Transition {
            from,
            to,
            at: now,
            reason,
        })
    }

    /// The silence of these targets is their own fault: rounds are judged by the others.
    pub fn set_aside(&mut self, now: Instant, aside: Places) -> Option<Transition> {
        if std::mem::replace(&mut self.aside, aside) == aside {
            return None;
        }
        self.window.demand(demand(self.thresholds, aside));
        self.quality.set_aside(aside);
        self.silence = self.window.silence();
        self.quality.judge();
        self.settle(now, None)
    }

    /// Trusts it although it failed again and again.
    pub fn forgive(&mut self, now: Instant) -> Option<Transition> {
        self.damping.forgive();
        self.settle(now, None)
    }

    /// Takes in what users' traffic says. It decides nothing by itself.
    pub fn traffic(&mut self, now: Instant, news: Traffic) {
        if self.link.is_none() {
            self.traffic.learn(now, news);
        }
    }

    /// The link can carry nothing: down at once, without waiting for a probe. May be told again.
    pub fn link_lost(&mut self, now: Instant, why: LinkLoss) -> Option<Transition> {
        self.restart_counts();
        self.link = Some(why.clone());
        self.live(now, Life::Dead);
        self.settle(now, Some(Reason::LinkLost(why)))
    }

    /// The link can carry something again, which proves nothing: what was down must earn its good
    /// rounds. Told of a link that was not lost it does nothing.
    pub fn link_back(&mut self, now: Instant) {
        if self.link.take().is_some() {
            self.not_before = Some(now);
            self.unproven = Reason::LinkBack;
        }
    }

    /// Packets take another path (gateway, source address, interface): the verdict stays until
    /// rounds over the new path say otherwise, and all counts restart.
    pub fn path_changed(&mut self, now: Instant) {
        self.not_before = Some(now);
        self.restart_counts();
    }

    /// From now on it takes this to change the verdict. The verdict stays, and so does what is known
    /// of the last rounds.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
        self.window
            .see(thresholds.longest_row(), demand(thresholds, self.aside));
        self.quality.set(thresholds.quality);
        self.damping.set(thresholds.max_hold);
    }

    /// It failed as often when an earlier daemon ran. To be told before anything else.
    pub fn resume_damping(&mut self, kept: &KeptDamping, now: Instant, wall: Timestamp) {
        self.damping.resume(kept, now, wall);
    }

    fn restart_counts(&mut self) {
        self.traffic.clear();
        self.contradicted = None;
        self.window.clear();
        self.quality.clear();
        self.silence = None;
        self.smoothed_rtt = None;
        self.unproven = Reason::NotProbed {
            health: self.health,
        };
    }

    /// Keeps count of a silence for longer than the window reaches back.
    fn note_silence(&mut self, now: Instant, round: &Round, verdict: Verdict) {
        let corroborated = self.corroborated(now, verdict);
        match (self.silence.as_mut(), verdict) {
            (Some(silence), Verdict::Bad) => {
                if !self.window.overruled(round.sequence, verdict) {
                    let counts = round.counts(corroborated);
                    silence.since = silence.since.min(round.sent_at);
                    silence.rounds = silence.rounds.saturating_add(counts.into());
                }
            }
            (None, _) | (_, Verdict::Good) => self.silence = self.window.silence(),
        }
    }

    fn smooth(&mut self, sample: Option<Duration>) {
        if let Some(sample) = sample {
            self.smoothed_rtt = Some(
                self.smoothed_rtt
                    .map_or(sample, |smooth| smooth - smooth / 8 + sample / 8),
            );
        }
    }
}
