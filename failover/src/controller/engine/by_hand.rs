//! What operators do about uplinks by hand. Probes and their verdicts know nothing of it: an uplink
//! that takes part again is what they say.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;
use tracing::{info, warn};

use super::explaining::fallen;
use super::{Engine, Moment};
use crate::by_hand::{ByHand, Measure, Order};
use crate::controller::asked::NoSuchUplink;
use crate::controller::uplink::Uplink;
use crate::family::Family;
use crate::health::Health;
use crate::journal::Step;
use crate::select::{Standing, Tier};
use crate::state::RememberedByHand;
use crate::status::State;
use crate::uplink::{UplinkId, UplinkName};

/// A clock that people read has been set when it is so far from where it was expected: the end of a
/// drain is told anew then.
const JUMP: Duration = Duration::from_secs(60);

/// What is done about an uplink by hand.
#[derive(Clone, Copy, Debug)]
pub(in crate::controller) struct Hand {
    pub(in crate::controller) told: ByHand,
    /// When the time of a drain is over, by the clock that never jumps.
    ends: Option<Instant>,
}

/// An order was carried out, or was already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obeyed {
    /// What was done about the uplink by hand before.
    pub before: Option<ByHand>,
    /// What is now.
    pub now: Option<ByHand>,
}

/// Why an order is not carried out.
#[derive(Debug, Error)]
pub enum Disobeyed {
    /// No uplink has that name.
    #[error("{0}")]
    NoSuchUplink(String),
    /// Nothing is left that could drain.
    #[error(
        "{uplink} is {by_hand}, so nothing is left to drain; `failover enable {uplink}` brings it back"
    )]
    Disabled {
        /// The uplink.
        uplink: UplinkName,
        /// Since when.
        by_hand: ByHand,
    },
}

/// Something that was done about an uplink by hand, worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandNotice {
    /// The uplink.
    pub uplink: UplinkName,
    /// What.
    pub step: Step,
    /// When the time of a drain is over.
    pub until: Option<Timestamp>,
}

impl Hand {
    const fn disabled(since: Timestamp) -> Self {
        Self {
            told: ByHand {
                what: Measure::Disable,
                since,
                until: None,
            },
            ends: None,
        }
    }

    fn draining(time: Option<Duration>, now: Moment) -> Self {
        let after = |time| now.wall.checked_add(time).unwrap_or(Timestamp::MAX);
        Self {
            told: ByHand {
                what: Measure::Drain,
                since: now.wall,
                until: time.map(after),
            },
            ends: time.and_then(|time| now.at.checked_add(time)),
        }
    }

    /// What an earlier daemon was told. A clock that was put back makes a drain begin anew, and never
    /// last longer than that.
    fn resumed(told: ByHand, now: Moment) -> Self {
        let Some(until) = told.until else {
            return Self { told, ends: None };
        };
        let time = |from: Timestamp, to: Timestamp| {
            Duration::try_from(to.duration_since(from)).unwrap_or_default()
        };
        let left = time(told.since, until).saturating_sub(time(told.since, now.wall));
        let mut hand = Self::draining(Some(left), now);
        hand.told.since = told.since.min(now.wall);
        if told.since <= now.wall {
            hand.told.until = told.until;
        }
        hand
    }

    /// The clock that people read says so now. Returns whether it was set.
    fn follow_clock(&mut self, now: Moment) -> bool {
        let Some((ends, until)) = self.ends.zip(self.told.until) else {
            return false;
        };
        let left = ends.saturating_duration_since(now.at);
        let expected = now.wall.checked_add(left).unwrap_or(Timestamp::MAX);
        let jump = expected.duration_since(until);
        if jump.unsigned_abs() <= JUMP {
            return false;
        }
        self.told.until = Some(expected);
        self.told.since = self.told.since.checked_add(jump).unwrap_or(now.wall);
        true
    }
}

impl Engine {
    /// Does about an uplink what somebody wants. What is so already stays as it is.
    ///
    /// # Errors
    /// When there is no such uplink, and when one is to drain that is disabled.
    pub fn by_hand(
        &mut self,
        name: &UplinkName,
        order: Order,
        now: Moment,
    ) -> Result<Obeyed, Disobeyed> {
        NoSuchUplink::unless_among(&self.names(), name)
            .map_err(|unknown| Disobeyed::NoSuchUplink(unknown.to_string()))?;
        let before = self.by_name(name).and_then(|uplink| uplink.hand);
        let told = before.map(|hand| hand.told);
        let (after, step) = match (order, told) {
            (Order::Drain { .. }, Some(by_hand)) if by_hand.disables() => {
                let uplink = name.clone();
                return Err(Disobeyed::Disabled { uplink, by_hand });
            }
            (Order::Disable, Some(by_hand)) if by_hand.disables() => (before, None),
            (Order::Drain { time: None }, Some(ByHand { until: None, .. }))
            | (Order::Enable, None) => (before, None),
            (Order::Disable, _) => (Some(Hand::disabled(now.wall)), Some(Step::Disabled)),
            (Order::Drain { time }, _) => (Some(Hand::draining(time, now)), Some(Step::Draining)),
            (Order::Enable, Some(_)) => (None, Some(Step::Enabled)),
        };
        if let Some(step) = step {
            self.take_in_hand(name, after, step, now);
        }
        Ok(Obeyed {
            before: told,
            now: after.map(|hand| hand.told),
        })
    }

    fn take_in_hand(&mut self, name: &UplinkName, hand: Option<Hand>, step: Step, now: Moment) {
        if let Some(uplink) = self.named(name) {
            uplink.take_in_hand(hand);
        }
        self.hand_notices.push(HandNotice {
            uplink: name.clone(),
            step,
            until: hand.and_then(|hand| hand.told.until),
        });
        self.stale = true;
        self.tell(now);
    }

    /// Takes up what an earlier daemon was told. To be called before the first decision.
    pub fn resume_by_hand(&mut self, remembered: &RememberedByHand, now: Moment) {
        for uplink in self.uplinks.values_mut() {
            if let Some(told) = remembered.get(&uplink.name) {
                uplink.take_in_hand(Some(Hand::resumed(*told, now)));
                // It was told by the daemon that did it.
                uplink.notices(now);
            }
        }
    }

    /// What is done by hand, to be remembered over a restart.
    #[must_use]
    pub fn remembered_by_hand(&self) -> RememberedByHand {
        self.uplinks
            .values()
            .filter_map(|uplink| Some((uplink.name.clone(), uplink.hand?.told)))
            .collect()
    }

    /// What was done by hand since this was last asked.
    pub fn take_hand_notices(&mut self) -> Vec<HandNotice> {
        std::mem::take(&mut self.hand_notices)
    }

    /// The state of an uplink, which is the better of its families'.
    #[must_use]
    pub fn state_of(&self, name: &UplinkName) -> Option<State> {
        let uplink = self.by_name(name)?;
        let states = uplink.families.iter().map(|(_, family)| family.state());
        states.min()
    }

    /// The families in which nobody can take the place of an uplink that is out of use by hand, as last
    /// decided.
    #[must_use]
    pub fn irreplaceable(&self, name: &UplinkName) -> Vec<Family> {
        let found = self
            .id_of(name)
            .and_then(|id| Some((id, self.uplinks.get(&id)?)));
        let Some((id, uplink)) = found else {
            return Vec::new();
        };
        let Some(hand) = uplink.hand else {
            return Vec::new();
        };
        let alone = |family: &Family| {
            let pool = self.pools.get(*family);
            uplink.families.get(*family).state() != State::Absent
                && if hand.told.disables() {
                    !pool.tier.is_usable()
                } else {
                    pool.members.contains_key(&id)
                }
        };
        Family::ALL.into_iter().filter(alone).collect()
    }

    /// How an uplink stands to new flows: where another one is usable, nothing new goes to one that
    /// drains. It keeps its place, so that its return moves nobody else. One that is `down` for the sake
    /// of the question is down.
    pub(super) fn standing_for_new(
        &self,
        id: UplinkId,
        uplink: &Uplink,
        family: Family,
        down: Option<UplinkId>,
    ) -> Standing {
        let mut others = self
            .uplinks
            .iter()
            .filter(|(other, _)| Some(**other) != down);
        let state = uplink.families.get(family);
        if uplink.drains_by_hand() && others.any(|(_, other)| other.takes_over(family)) {
            Standing::Pathless
        } else if Some(id) == down {
            fallen(state.standing())
        } else {
            state.standing()
        }
    }

    /// Whether new flows would go by an uplink that is disabled by hand: nobody else gets them, and it
    /// is where the best default route of `main` leads.
    pub(super) fn is_closed(&self, family: Family) -> bool {
        let nobody = self.pools.get(family).tier == Tier::Nothing
            && self
                .rule_pools
                .iter()
                .all(|rule| rule.pools.get(family).is_none());
        let routes = self.view.default_routes.iter();
        let best = routes
            .filter(|route| nobody && route.family == family)
            .min_by_key(|route| route.metric);
        best.is_some_and(|best| {
            let leads_by = |disabled: bool| {
                let mut uplinks = self.uplinks.values();
                uplinks.any(|uplink| {
                    let state = uplink.families.get(family);
                    let same = state
                        .path()
                        .is_some_and(|path| path.interface == best.interface);
                    state.is_disabled() == disabled && same
                })
            };
            leads_by(true) && !leads_by(false)
        })
    }

    /// When the first time is over that was given by hand.
    pub(super) fn next_end_by_hand(&self) -> Option<Instant> {
        let ends = self.uplinks.values().filter_map(|uplink| uplink.hand?.ends);
        ends.min()
    }

    /// Disables what had time to drain until now.
    pub(super) fn end_drains_by_hand(&mut self, now: Moment) {
        let is_over = |hand: Hand| hand.ends.is_some_and(|end| end <= now.at);
        let over: Vec<UplinkName> = self
            .uplinks
            .values()
            .filter(|uplink| uplink.hand.is_some_and(is_over))
            .map(|uplink| uplink.name.clone())
            .collect();
        for name in over {
            let disabled = Hand::disabled(now.wall);
            self.take_in_hand(&name, Some(disabled), Step::Drained, now);
        }
    }

    /// The clock that people read may have been set.
    pub(super) fn follow_clock(&mut self, now: Moment) {
        for uplink in self.uplinks.values_mut() {
            let mut hand = uplink.hand;
            if hand.as_mut().is_some_and(|hand| hand.follow_clock(now)) {
                uplink.take_in_hand(hand);
                self.stale = true;
            }
        }
    }

    fn by_name(&self, name: &UplinkName) -> Option<&Uplink> {
        self.uplinks.get(&self.id_of(name)?)
    }
}

impl Uplink {
    /// From now on this is done about it by hand.
    pub(in crate::controller) fn take_in_hand(&mut self, hand: Option<Hand>) {
        self.hand = hand;
        for family in Family::ALL {
            let state = self.families.get_mut(family);
            state.by_hand = hand.map(|hand| hand.told);
        }
    }

    /// Whether it is there for the new flows of one that drains.
    fn takes_over(&self, family: Family) -> bool {
        let works = match self.families.get(family).standing() {
            Standing::Routed(health) => health != Health::Down,
            Standing::Pathless => false,
        };
        self.config.new_flows && works && !self.drains_by_hand()
    }

    /// Whether open flows may finish, by hand, while new ones go elsewhere.
    pub(in crate::controller) fn drains_by_hand(&self) -> bool {
        self.hand.is_some_and(|hand| !hand.told.disables())
    }
}

impl HandNotice {
    /// Writes it to the log.
    pub fn tell(&self) {
        let Self {
            uplink,
            step,
            until,
        } = self;
        match (step, until) {
            (Step::Disabled, _) => warn!(%uplink, "disabled by hand"),
            (Step::Draining, None) => {
                info!(%uplink, "draining by hand: open flows may finish, new ones go elsewhere");
            }
            (Step::Draining, Some(until)) => {
                info!(%uplink, %until, "draining by hand: open flows may finish, new ones go elsewhere");
            }
            (Step::Drained, _) => {
                warn!(%uplink, "the time of the drain is over: disabled until it is enabled by hand");
            }
            (Step::Enabled, _) => info!(%uplink, "enabled by hand"),
        }
    }
}

#[cfg(test)]
#[path = "by_hand_tests.rs"]
mod tests;
