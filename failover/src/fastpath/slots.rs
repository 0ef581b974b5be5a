//! Which slots of pairs are free. One that was given up is written again only after all programs have
//! ended that may look at it.

use super::plane::Wait;
use super::waiting::Waiting;

/// The slots.
#[derive(Debug)]
pub struct Slots {
    capacity: u32,
    /// Those below were used at some time.
    used: u32,
    free: Vec<u32>,
    /// Those that were given up.
    waiting: Waiting<u32>,
}

impl Slots {
    /// So many, all free.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self {
            capacity,
            used: 0,
            free: Vec::new(),
            waiting: Waiting::default(),
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// All that are in use are below this one.
    #[must_use]
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// Takes a free one, if there is any.
    pub fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.used == self.capacity {
            return None;
        }
        self.used += 1;
        Some(self.used - 1)
    }

    /// Gives one up; it is free when that wait is over.
    pub fn give_up(&mut self, slot: u32, until: Wait) {
        self.waiting.push(slot, until);
    }

    /// All waits up to this one are over.
    pub fn waited(&mut self, wait: Wait) {
        while let Some(slot) = self.waiting.next(wait) {
            self.free.push(slot);
        }
    }

    /// Whether some wait.
    #[must_use]
    pub fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_was_given_up_is_free_when_its_wait_is_over() {
        let mut slots = Slots::new(2);
        assert_eq!(
            (slots.take(), slots.take(), slots.take()),
            (Some(0), Some(1), None)
        );
        slots.give_up(1, Wait(1));
        slots.give_up(0, Wait(2));
        assert_eq!(slots.take(), None);
        slots.waited(Wait(1));
        assert_eq!((slots.take(), slots.take()), (Some(1), None));
        slots.waited(Wait(2));
        assert_eq!(slots.take(), Some(0));
        assert!(!slots.are_waiting());
    }
}
