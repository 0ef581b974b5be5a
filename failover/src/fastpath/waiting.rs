//! What was given up, in its order, until no program looks at it any more.

use std::collections::VecDeque;

use super::plane::Wait;

/// Things that wait.
#[derive(Debug)]
pub struct Waiting<T>(VecDeque<(T, Wait)>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Waiting<T> {
    /// One more waits until that is over. Waits are over in the order in which they began.
    pub fn push(&mut self, what: T, until: Wait) {
        self.0.push_back((what, until));
    }

    /// The next one for which the wait is over, when all waits up to this one are.
    pub fn next(&mut self, over: Wait) -> Option<T> {
        let first = self.0.pop_front_if(|(_, until)| *until <= over);
        first.map(|(what, _)| what)
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
