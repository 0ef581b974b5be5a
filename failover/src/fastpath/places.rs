//! Which places of the programs' table directions of flows have. A direction is where its key leads, or
//! near to that where others were first. One that was given up is written again only after all programs
//! have ended that may look at it.

use std::collections::{HashMap, HashSet};

use failover_common::KeyWords;
use failover_common::fastpath::TRIES;

use super::plane::Wait;
use super::waiting::Waiting;

/// The places: a power of two.
#[derive(Debug)]
pub struct Places {
    mask: u32,
    taken: HashSet<u32>,
    /// How many directions are elsewhere though a place is the first one that their key leads to.
    displaced: HashMap<u32, u8>,
    /// Those that were given up.
    waiting: Waiting<u32>,
}

/// How many directions are elsewhere than at the place that their keys lead to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// That place.
    pub home: u32,
    /// How many.
    pub count: u8,
}

impl Places {
    /// So many, all free.
    #[must_use]
    pub fn new(count: u32) -> Self {
        Self {
            mask: count.saturating_sub(1),
            taken: HashSet::new(),
            displaced: HashMap::new(),
            waiting: Waiting::default(),
        }
    }

    /// Takes a place for a key, if there is one, and what the programs are to be told for it.
    pub fn take(&mut self, key: &KeyWords) -> Option<(u32, Option<Displaced>)> {
        let (home, other) = key.homes();
        let home = home & self.mask;
        let place = (0..TRIES)
            .map(|nth| KeyWords::place(home, other, nth) & self.mask)
            .find(|place| !self.taken.contains(place))?;
        let displaced = if place == home {
            None
        } else {
            let count = self.displaced.get(&home).copied().unwrap_or_default();
            let count = count.checked_add(1)?;
            self.displaced.insert(home, count);
            Some(Displaced { home, count })
        };
        self.taken.insert(place);
        Some((place, displaced))
    }

    /// Gives a place up that a key had; it is free when that wait is over. Returns what the programs are
    /// to be told.
    pub fn give_up(&mut self, place: u32, key: &KeyWords, until: Wait) -> Option<Displaced> {
        self.waiting.push(place, until);
        let home = key.homes().0 & self.mask;
        if place == home {
            return None;
        }
        let count = self.displaced.get(&home).copied()?.saturating_sub(1);
        if count == 0 {
            self.displaced.remove(&home);
        } else {
            self.displaced.insert(home, count);
        }
        Some(Displaced { home, count })
    }

    /// All waits up to this one are over.
    pub fn waited(&mut self, wait: Wait) {
        while let Some(place) = self.waiting.next(wait) {
            self.taken.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use failover_common::{Family, OffloadKey, Side};

    use super::*;

    /// Keys that lead to the same place of so many first.
    fn neighbours(mask: u32, count: usize) -> Vec<KeyWords> {
        let keys = (0..).map(|port| KeyWords([1, 0, 2, 0, port]));
        let wanted = KeyWords([1, 0, 2, 0, 0]).homes().0 & mask;
        let same = keys.filter(|key| key.homes().0 & mask == wanted);
        same.take(count).collect()
    }

    #[test]
    fn directions_of_one_home_move_aside_and_that_is_told() {
        let mut places = Places::new(64);
        let keys = neighbours(63, 3);
        let home = keys[0].homes().0 & 63;
        assert_eq!(places.take(&keys[0]), Some((home, None)));
        let told = |count| Some(Displaced { home, count });
        assert_eq!(places.take(&keys[1]), Some(((home + 1) & 63, told(1))));
        assert_eq!(places.take(&keys[2]), Some(((home + 2) & 63, told(2))));
        let left = places.give_up((home + 1) & 63, &keys[1], Wait(1));
        assert_eq!(left, told(1));
        assert_eq!(places.give_up(home, &keys[0], Wait(1)), None);
        let left = places.give_up((home + 2) & 63, &keys[2], Wait(2));
        assert_eq!(left, told(0));
    }

    #[test]
    fn a_place_that_was_given_up_is_free_when_its_wait_is_over() {
        let mut places = Places::new(1);
        let key = KeyWords([7; 5]);
        assert_eq!(places.take(&key), Some((0, None)));
        assert_eq!(places.take(&key), None);
        assert_eq!(places.give_up(0, &key, Wait(3)), None);
        places.waited(Wait(2));
        assert_eq!(places.take(&key), None);
        places.waited(Wait(3));
        assert_eq!(places.take(&key), Some((0, None)));
    }

    #[test]
    fn a_half_full_table_has_room_for_nearly_all() {
        const PLACES: u32 = 1 << 16;
        for pattern in 0..3 {
            let mut places = Places::new(PLACES);
            let key = |number: u64| match pattern {
                // Ports in turn, addresses in turn, and both ends of addresses as words of IPv6.
                0 => KeyWords([0x0a00_12c6, 0, 0x0171_00cb, 0, number << 16]),
                1 => KeyWords([number << 8, 0, 0x0171_00cb, 0, 0x0006_2328]),
                _ => KeyWords([0xfd, number, 0xfd, number.swap_bytes(), 0x0006_2328]),
            };
            let full =
                (0..u64::from(PLACES / 2)).filter(|number| places.take(&key(*number)).is_none());
            assert!(full.count() < 100, "pattern {pattern}");
            let moved: u32 = places
                .displaced
                .values()
                .map(|count| u32::from(*count))
                .sum();
            assert!(moved < PLACES / 2 / 3, "pattern {pattern}: {moved}");
        }
    }

    const KEYS: u16 = 8192;

    /// Keys of one kind: by its number each differs little from the others.
    fn keys(family: Family, differ: impl Fn(u16, &mut OffloadKey)) -> Vec<KeyWords> {
        let address = |last: u8| {
            let mut address = [0; 16];
            match family {
                Family::Ipv4 => address[..4].copy_from_slice(&[198, 18, 0, last]),
                Family::Ipv6 => {
                    address[..4].copy_from_slice(&[0xfd, 0, 0, 0x18]);
                    address[15] = last;
                }
            }
            address
        };
        let number = |number| {
            let mut key = OffloadKey {
                source: address(10),
                destination: address(20),
                source_port: 40_000,
                destination_port: 443,
                protocol: 6,
                family,
                side: Side::Users,
                reserved: 0,
            };
            differ(number, &mut key);
            key.words()
        };
        (0..KEYS).map(number).collect()
    }

    #[test]
    fn keys_that_differ_little_lead_to_places_all_over_the_table() {
        let last_bytes = |at: usize| {
            move |number: u16, address: &mut [u8; 16]| {
                address[at..at + 2].copy_from_slice(&number.to_be_bytes());
            }
        };
        for (family, last) in [(Family::Ipv4, 2), (Family::Ipv6, 14), (Family::Ipv6, 6)] {
            let write = last_bytes(last);
            let kinds: [(&str, Vec<KeyWords>); 5] = [
                (
                    "source ports",
                    keys(family, |number, key| key.source_port = 10_000 + number),
                ),
                (
                    "destination ports",
                    keys(family, |number, key| key.destination_port = number),
                ),
                (
                    "sources",
                    keys(family, |number, key| write(number, &mut key.source)),
                ),
                (
                    "destinations",
                    keys(family, |number, key| write(number, &mut key.destination)),
                ),
                (
                    "sources and ports",
                    keys(family, |number, key| {
                        write(number / 128, &mut key.source);
                        key.source_port = 10_000 + number % 128;
                    }),
                ),
            ];
            for (what, keys) in kinds {
                // By chance, of twice as many places as keys a share of 1 - 1/sqrt(e) has one: 6446.
                let mask = u32::from(KEYS) * 2 - 1;
                for home in [
                    |key: &KeyWords| key.homes().0,
                    |key: &KeyWords| key.homes().1,
                ] {
                    let taken: BTreeSet<u32> = keys.iter().map(|key| home(key) & mask).collect();
                    assert!(taken.len() > 6200, "{family:?}, {what}: {}", taken.len());
                }
            }
        }
    }
}
