//! ICMP identifiers. Raw sockets see the replies to everyone's requests, so each plan has its own
//! identifier, no two of this process the same, and none is used again soon.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What this process has given out. Raw sockets of all tasks share it whether they know or not.
static POOL: Mutex<Pool> = Mutex::new(Pool {
    taken: BTreeSet::new(),
    next: None,
});

struct Pool {
    taken: BTreeSet<u16>,
    next: Option<u16>,
}

/// An identifier that nobody else in this process has as long as this value lives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identifier(u16);

impl Identifier {
    /// Takes the next free one, all others being used before one is used again. `None` when all
    /// 65,536 are taken. The first is random, so that a restarted daemon does not take late replies
    /// to its predecessor for its own.
    pub(super) fn take() -> Option<Self> {
        let mut pool = pool();
        let from = pool.next.unwrap_or_else(random);
        let free = (0..=u16::MAX)
            .map(|step| from.wrapping_add(step))
            .find(|identifier| !pool.taken.contains(identifier))?;
        pool.taken.insert(free);
        pool.next = Some(free.wrapping_add(1));
        Some(Self(free))
    }

    pub(super) const fn get(&self) -> u16 {
        self.0
    }
}

impl Drop for Identifier {
    fn drop(&mut self) {
        pool().taken.remove(&self.0);
    }
}

/// A number that differs from start to start; it keeps nobody out who tries.
pub(in crate::probe::kinds) fn random() -> u16 {
    let [first, second, ..] = RandomState::new().hash_one(0_u8).to_ne_bytes();
    u16::from_ne_bytes([first, second])
}

/// The pool is whole after every single step, so a panic elsewhere does not spoil it.
fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_not_given_again_and_what_is_returned_not_soon() {
        let held = Identifier::take().unwrap();
        let mut given = BTreeSet::new();
        for _ in 0..10_000 {
            let identifier = Identifier::take().unwrap();
            assert_ne!(identifier, held);
            assert!(given.insert(identifier.get()), "{identifier:?} came again");
        }
    }
}
