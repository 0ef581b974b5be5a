//! What became of an uplink in one family: its states one after the other, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::health::{Health, Machine};
use crate::status::State;

/// A moment of a trace, on the trace's own clock and by the clock on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// In nanoseconds, as in the trace.
    pub at: i64,
    /// By the clock on the wall, as far as the trace tells.
    pub wall: Timestamp,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When, by the clock on the wall.
    pub time: Timestamp,
    /// The state that was left.
    pub from: State,
    /// The state since then.
    pub to: State,
    /// Why.
    pub reason: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// The state of now.
    pub state: State,
    /// Its changes.
    pub changes: Vec<Change>,
    /// How long it was in each state.
    pub lasted: BTreeMap<State, Duration>,
}

impl Course {
    pub(super) const fn new(state: State) -> Self {
        Self {
            state,
            changes: Vec::new(),
            lasted: BTreeMap::new(),
        }
    }

    /// It went on as it was for a while.
    pub(super) fn goes_on(&mut self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let lasted = self.lasted.entry(self.state).or_default();
        *lasted = lasted.saturating_add(time);
    }

    /// It is in this state now.
    pub(super) fn becomes(&mut self, now: Stamp, state: State, reason: impl FnOnce() -> String) {
        let from = std::mem::replace(&mut self.state, state);
        if from != state {
            self.changes.push(Change {
                time: now.wall,
                from,
                to: state,
                reason: reason(),
            });
        }
    }

    /// How often it went down.
    #[must_use]
    pub fn downs(&self) -> usize {
        let down = |change: &&Change| change.to == State::Down;
        self.changes.iter().filter(down).count()
    }

    /// For how long it was observed.
    #[must_use]
    pub fn observed(&self) -> Duration {
        let add = |sum: Duration, time: &Duration| sum.saturating_add(*time);
        self.lasted.values().fold(Duration::ZERO, add)
    }
}

/// The state that is told of an uplink.
pub(super) const fn state(machine: &Machine, present: bool) -> State {
    if !present {
        return State::Absent;
    }
    match machine.health() {
        Health::Unknown => State::Unknown,
        Health::Up => State::Up,
        Health::Degraded => State::Degraded,
        Health::Down => State::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_for_the_state_that_it_was_spent_in() {
        let stamp = Stamp {
            at: 0,
            wall: Timestamp::UNIX_EPOCH,
        };
        let mut course = Course::new(State::Up);
        course.goes_on(Duration::from_secs(60));
        course.becomes(stamp, State::Up, || "nothing new".to_owned());
        course.becomes(stamp, State::Down, || "silent".to_owned());
        course.goes_on(Duration::from_secs(5));
        course.becomes(stamp, State::Up, || "back".to_owned());
        course.goes_on(Duration::from_secs(40));
        course.becomes(stamp, State::Down, || "silent".to_owned());
        assert_eq!((course.downs(), course.changes.len()), (2, 3));
        assert_eq!(
            course.lasted.get(&State::Up),
            Some(&Duration::from_secs(100))
        );
        assert_eq!(
            course.lasted.get(&State::Down),
            Some(&Duration::from_secs(5))
        );
        assert_eq!(course.observed(), Duration::from_secs(105));
    }
}
