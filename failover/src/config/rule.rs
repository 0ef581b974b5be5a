//! A rule as the configuration has it: its named sets may be in files of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::model::FastPathSetting;
use super::tree::Place;
use crate::policy::{AddressSet, Matching, Otherwise, Rule, SetName, Sets, Via};

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleConfig {
    /// What people call it; unique.
    pub name: String,
    /// Where it stands in the file.
    pub place: Place,
    /// Which packets it is for.
    pub matching: MatchConfig,
    /// Which uplinks they may use.
    pub via: Via,
    /// What becomes of them when none of these is usable.
    pub otherwise: Otherwise,
    /// Whether its flows may take the fast path.
    pub fast_path: FastPathSetting,
}

/// Which packets a rule is for, as the configuration says it.
pub type MatchConfig = Matching<Addresses>;

/// Addresses that the configuration has, and sets that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Those that it has.
    pub inline: AddressSet,
    /// The sets.
    pub sets: BTreeSet<SetName>,
}

impl RuleConfig {
    /// Whether it says the same as another, wherever they stand.
    #[must_use]
    pub fn means(&self, other: &Self) -> bool {
        let Self {
            name: _,
            place: _,
            matching,
            via,
            otherwise,
            fast_path,
        } = self;
        *matching == other.matching
            && *via == other.via
            && *otherwise == other.otherwise
            && *fast_path == other.fast_path
    }

    /// The rule with the addresses of these sets. One that is not among them has no address.
    #[must_use]
    pub fn resolve(&self, sets: &Sets) -> Rule {
        let matching = self.matching.clone();
        Rule {
            name: self.name.clone(),
            matching: matching.with_addresses(|addresses| addresses.resolve(sets)),
            via: self.via.clone(),
            otherwise: self.otherwise,
            fast_path: self.fast_path,
        }
    }
}

impl Addresses {
    fn resolve(&self, sets: &Sets) -> Arc<AddressSet> {
        let mut named = self.sets.iter().filter_map(|name| sets.get(name));
        if let (true, Some(only), None) = (self.inline.is_empty(), named.next(), named.next()) {
            // The same for all rules that name it.
            return Arc::clone(only);
        }
        let named = self.sets.iter().filter_map(|name| sets.get(name));
        let all = named.map(AsRef::as_ref).chain([&self.inline]);
        Arc::new(AddressSet::union(all))
    }
}
