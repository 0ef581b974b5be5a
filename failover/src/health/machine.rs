//! The state machine of one uplink and family.

use std::time::{Duration, Instant};

use super::Health;
use super::reason::{LinkLoss, Reason};
use super::round::{PlanNumber, Round, Verdict};
use super::window::{Silence, Window};
use crate::config::ProbeConfig;

/// What it takes to change a verdict. Zero counts as one everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Targets that must answer for a round to be good; all where fewer are asked.
    pub required: u16,
    /// Bad rounds in a row until down.
    pub down_after: u16,
    /// Good rounds in a row until up again.
    pub up_after: u16,
}

impl Thresholds {
    fn longest_row(self) -> u16 {
        self.down_after.max(self.up_after)
    }
}

impl From<&ProbeConfig> for Thresholds {
    fn from(probe: &ProbeConfig) -> Self {
        Self {
            required: probe.required,
            down_after: probe.down_after,
            up_after: probe.up_after,
        }
    }
}

/// A change of health.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The health of one uplink for one family; the module says in which order evidence counts.
#[derive(Clone, Debug)]
pub struct Machine {
    thresholds: Thresholds,
    health: Health,
    /// The link is lost: nothing that a round says counts.
    link: Option<LinkLoss>,
    /// Rounds that were sent earlier say nothing about the path of now.
    not_before: Option<Instant>,
    plan: PlanNumber,
    window: Window,
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
        Self {
            thresholds,
            health: initial,
            link: None,
            not_before: None,
            plan: PlanNumber::default(),
            window: Window::new(thresholds.longest_row()),
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
        let required = self.thresholds.required;
        let news = self.window.learn(round, required);
        if news.first_answer {
            self.smooth(round.quickest());
        }
        let verdict = news.verdict?;
        self.note_silence(round, verdict);

        let (needed, next) = match (self.health, verdict) {
            (Health::Unknown, Verdict::Good) => (1, Health::Up),
            (Health::Down, Verdict::Good) => (self.thresholds.up_after, Health::Up),
            (Health::Unknown | Health::Up, Verdict::Bad) => {
                (self.thresholds.down_after, Health::Down)
            }
            (Health::Up, Verdict::Good) | (Health::Down, Verdict::Bad) => return None,
        };
        let row = self.window.row_around(round.sequence, verdict, required);
        if row < usize::from(needed) || self.window.overruled(round.sequence, verdict, required) {
            return None;
        }
        let reason = match self.health {
            Health::Unknown if verdict == Verdict::Good => Reason::FirstAnswer,
            Health::Down => Reason::Recovered {
                rounds: needed.max(1),
            },
            Health::Unknown | Health::Up => self.reason(now),
        };
        self.change(now, next, reason)
    }

    /// The link can carry nothing: down at once, without waiting for a probe. May be told again.
    pub fn link_lost(&mut self, now: Instant, why: LinkLoss) -> Option<Transition> {
        self.restart_counts();
        self.link = Some(why.clone());
        self.change(now, Health::Down, Reason::LinkLost(why))
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
        self.window.see(thresholds.longest_row());
    }

    /// Why the health is what it is, as of `now`.
    #[must_use]
    pub fn reason(&self, now: Instant) -> Reason {
        if let Some(loss) = &self.link {
            return Reason::LinkLost(loss.clone());
        }
        let required = self.thresholds.required;
        let Some((round, verdict)) = self.window.last_decided(required) else {
            return self.unproven.clone();
        };
        let (answered, asked) = (round.answered(), round.asked());
        match (verdict, self.health) {
            (Verdict::Good, Health::Down) => Reason::Returning {
                answered,
                asked,
                good: self.window.good_row(required),
                needed: self.thresholds.up_after.max(1),
            },
            (Verdict::Good, Health::Unknown | Health::Up) => Reason::Answering { answered, asked },
            (Verdict::Bad, _) => {
                let silence = self.silence.unwrap_or(Silence {
                    since: round.sent_at,
                    rounds: 1,
                });
                Reason::Silent {
                    answered,
                    asked,
                    required: usize::from(required).clamp(1, asked.max(1)),
                    lasted: now.saturating_duration_since(silence.since),
                    rounds: silence.rounds,
                    cause: round.common_failure().map(ToString::to_string),
                }
            }
        }
    }

    /// Whether the last word was silence: what is up may be about to be declared down.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.silence.is_some()
    }

    /// Whether the last word was an answer: what is down may be about to return.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.silence.is_none() && self.window.any_answer()
    }

    /// The smoothed time of the quickest answer of a round (RFC 6298, alpha 1/8); `None` when
    /// nothing has answered for the last 60 rounds.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.smoothed_rtt.filter(|_| self.window.any_answer())
    }

    /// The fraction of probes without an answer, 0.0 to 1.0, over the last 60 rounds; `None` before
    /// the first outcome. A target that never answers while others do is left out.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        self.window.loss()
    }

    fn change(&mut self, at: Instant, to: Health, reason: Reason) -> Option<Transition> {
        let from = std::mem::replace(&mut self.health, to);
        (from != to).then_some(Transition {
            from,
            to,
            at,
            reason,
        })
    }

    fn restart_counts(&mut self) {
        self.window.clear();
        self.silence = None;
        self.smoothed_rtt = None;
        self.unproven = Reason::NotProbed {
            health: self.health,
        };
    }

    /// Keeps count of a silence for longer than the window reaches back.
    fn note_silence(&mut self, round: &Round, verdict: Verdict) {
        let required = self.thresholds.required;
        match (self.silence.as_mut(), verdict) {
            (Some(silence), Verdict::Bad) => {
                if !self.window.overruled(round.sequence, verdict, required) {
                    silence.since = silence.since.min(round.sent_at);
                    silence.rounds = silence.rounds.saturating_add(1);
                }
            }
            (None, _) | (_, Verdict::Good) => self.silence = self.window.silence(required),
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
