//! Named sets of addresses, as files and as lists.

use std::fmt::Write as _;
use std::sync::Arc;

use failover::family::Family;
use failover::policy::{AddressRange, AddressSet, SetName};

use super::quoted;
use super::space::Side;
use crate::chance::Chance;

/// Of so many sets one is of users.
const USERS_EVERY: usize = 5;
/// The most addresses that it has: the space of users is small.
const MOST_USERS: usize = 400;

/// A set that rules name.
#[derive(Clone, Debug)]
pub(super) struct NamedSet {
    pub(super) name: String,
    pub(super) side: Side,
    ranges: Vec<AddressRange>,
}

/// So many sets that have so many ranges together.
pub(super) fn draw(ranges: usize, sets: usize, chance: &mut Chance) -> Vec<NamedSet> {
    let mut left = ranges;
    (0..sets)
        .map(|number| {
            let side = if number % USERS_EVERY == 1 {
                Side::Users
            } else {
                Side::Destinations
            };
            let share = left / (sets - number);
            let count = match side {
                Side::Users => share.min(MOST_USERS),
                Side::Destinations => share,
            };
            left -= count;
            let word = match side {
                Side::Users => "users",
                Side::Destinations => "list",
            };
            NamedSet {
                name: format!("{word}{number}"),
                side,
                ranges: (0..count).map(|_| one(side, chance)).collect(),
            }
        })
        .collect()
}

/// Addresses that are few beside all, in one of the forms in which they are written.
pub(super) fn one(side: Side, chance: &mut Chance) -> AddressRange {
    let family = *chance.pick(&Family::ALL).unwrap_or(&Family::Ipv4);
    few(side, family, chance)
}

/// The same of one family.
pub(super) fn few(side: Side, family: Family, chance: &mut Chance) -> AddressRange {
    match chance.below(8) {
        0..=2 => side.range(family, 1, chance),
        3 => side.prefix(family, 1, chance),
        4 => side.prefix(family, 2, chance),
        5 => side.prefix(family, 3, chance),
        _ => {
            let count = 2 + chance.below(6);
            side.range(family, count.into(), chance)
        }
    }
}

impl NamedSet {
    pub(super) fn file_name(&self) -> String {
        format!("{}.txt", self.name)
    }

    /// What a user would write into its file.
    pub(super) fn text(&self) -> String {
        let mut text = format!("# {} of random addresses\n\n", self.ranges.len());
        for (number, range) in self.ranges.iter().enumerate() {
            let comment = if number % 100 == 7 { "  # why" } else { "" };
            // Writing to a string does not fail.
            writeln!(text, "{range}{comment}").ok();
        }
        text
    }

    /// Its elements as a list in YAML, without the brackets.
    pub(super) fn quoted(&self) -> String {
        let elements: Vec<String> = self.ranges.iter().map(quoted).collect();
        elements.join(", ")
    }

    pub(super) fn addresses(&self) -> Option<(SetName, Arc<AddressSet>)> {
        let name = self.name.parse().ok()?;
        Some((name, Arc::new(AddressSet::of(self.ranges.iter().copied()))))
    }
}
