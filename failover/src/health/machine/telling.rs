//! What the machine says of itself: why its health is what it is, and what was measured.

use std::time::{Duration, Instant};

use super::{Life, Machine};
use crate::health::damping::{Damping, Hold};
use crate::health::quality::Measured;
use crate::health::reason::{Reason, TrafficWord};
use crate::health::round::Verdict;
use crate::health::traffic::Unanswered;
use crate::health::window::Silence;

impl Machine {
    /// Why the health is what it is, as of `now`.
    #[must_use]
    pub fn reason(&self, now: Instant) -> Reason {
        if let Some(loss) = &self.link {
            return Reason::LinkLost(loss.clone());
        }
        let Some((round, verdict)) = self.window.last_decided() else {
            return self.unproven.clone();
        };
        let (answered, asked) = (round.answered(), round.asked());
        match (verdict, self.life) {
            (Verdict::Good, Life::Dead) => Reason::Returning {
                answered,
                asked,
                good: self.window.good_row(),
                needed: self.thresholds.up_after.max(1),
            },
            (Verdict::Good, Life::Unknown | Life::Alive) => {
                match (self.damping.hold(now), self.quality.complaint()) {
                    (Some(hold), _) => Reason::HeldBack(hold),
                    (None, Some(complaint)) => Reason::Poor(complaint),
                    (None, None) => Reason::Answering { answered, asked },
                }
            }
            (Verdict::Bad, _) => {
                let silence = self.silence.unwrap_or(Silence {
                    since: round.sent_at,
                    rounds: 1,
                });
                let required = self.thresholds.required;
                Reason::Silent {
                    answered,
                    asked,
                    required: usize::from(required).clamp(1, asked.max(1)),
                    lasted: now.saturating_duration_since(silence.since),
                    rounds: silence.rounds,
                    cause: round.common_failure().map(ToString::to_string),
                    traffic: self.traffic_word(now),
                }
            }
        }
    }

    /// Whether the last word was silence: what is up may be about to be declared down.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.silence.is_some()
    }

    /// Since when nothing is heard: when the first round was sent that was not answered.
    #[must_use]
    pub fn silent_since(&self) -> Option<Instant> {
        self.silence.as_ref().map(|silence| silence.since)
    }

    /// Whether the last word was an answer: what is down may be about to return.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.silence.is_none() && self.window.any_answer()
    }

    /// The smoothed time of the quickest answer of a round (RFC 6298, alpha 1/8); `None` when
    /// none of the last rounds was answered.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.smoothed_rtt.filter(|_| self.window.any_answer())
    }

    /// How well it answers, over the window.
    #[must_use]
    pub fn measured(&self) -> Measured {
        self.quality.measured()
    }

    /// Whether it is held back, since it failed again and again.
    #[must_use]
    pub fn hold(&self, now: Instant) -> Option<Hold> {
        self.damping.hold(now)
    }

    /// What it has to answer for.
    #[must_use]
    pub const fn damping(&self) -> &Damping {
        &self.damping
    }

    fn traffic_word(&self, now: Instant) -> Option<TrafficWord> {
        if let Some(hosts) = self.contradicted {
            return Some(TrafficWord::Answered { hosts });
        }
        let Unanswered {
            since,
            hosts,
            packets,
        } = self.traffic.unanswered(now)?;
        Some(TrafficWord::Unanswered {
            hosts,
            packets,
            lasted: now.saturating_duration_since(since),
        })
    }
}
