//! Whose flows are owed to be forgotten, until somebody says that they are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use super::Engine;
use crate::controller::uplink::Life;
use crate::family::Family;
use crate::select::{Pool, Tier};
use crate::uplink::UplinkId;

/// Flows that are to be forgotten: their next packet is a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forget {
    /// All of an uplink in one family.
    Uplink(UplinkId, Family),
    /// Those of an uplink that works, in one family, that can go elsewhere.
    Leaving {
        /// The uplink.
        uplink: UplinkId,
        /// The family.
        family: Family,
        /// The address to which it translates.
        source: Option<IpAddr>,
    },
    /// Those of an uplink that have an address which it has no more.
    Former {
        /// The uplink.
        uplink: UplinkId,
        /// The address.
        address: IpAddr,
        /// Another interface has it: an entry without any mark may be another uplink's.
        elsewhere: bool,
    },
    /// All from or translated to the address of an uplink that died, whose mark others overwrite.
    Unmarked(IpAddr),
}

impl Engine {
    /// These flows are forgotten.
    pub fn forgotten(&mut self, flows: &BTreeSet<Forget>) {
        for flows in flows {
            match *flows {
                Forget::Uplink(id, family) => {
                    self.taken_out.remove(&(id, family));
                    self.owed.remove(&(id, family));
                    self.settle_all_departures(id, family);
                }
                Forget::Leaving { uplink, family, .. } => {
                    self.settle_owed_departures(uplink, family);
                }
                Forget::Former {
                    uplink, address, ..
                } => {
                    self.former.remove(&(uplink, address));
                }
                // Goes with its uplink.
                Forget::Unmarked(_) => {}
            }
        }
    }

    /// What is to be forgotten whatever becomes of the uplinks.
    pub(super) fn owed_anyway(&self) -> BTreeSet<Forget> {
        let mut forget: BTreeSet<Forget> = self
            .former
            .iter()
            .map(|&(uplink, address)| self.former(uplink, address))
            .collect();
        for (&(id, family), source) in &self.taken_out {
            forget.insert(Forget::Uplink(id, family));
            let source = self.unshared(id, family, *source);
            forget.extend(source.map(Forget::Unmarked));
        }
        forget
    }

    fn former(&self, uplink: UplinkId, address: IpAddr) -> Forget {
        let mut addresses = self.view.addresses.iter();
        Forget::Former {
            uplink,
            address,
            elsewhere: addresses.any(|own| own.address == address),
        }
    }

    /// Whether users are with this router. The other router of a pair tells the connections that it has,
    /// and is told those that are forgotten here: while it has the virtual addresses, they are its own.
    pub(super) fn has_the_users(&self, family: Family) -> bool {
        let uplinks = self.uplinks.values();
        let mut shared = uplinks
            .filter_map(|uplink| uplink.config.virtual_address(family))
            .peekable();
        shared.peek().is_none()
            || shared.any(|address| self.view.addresses.iter().any(|own| own.address == address))
    }

    /// The flows of uplinks that died, once there is another one to go to.
    pub(super) fn owed_of(&self, family: Family) -> BTreeSet<Forget> {
        let mut forget = BTreeSet::new();
        for &(id, owed) in self.owed.iter().filter(|(_, owed)| *owed == family) {
            let Some(uplink) = self.uplinks.get(&id) else {
                continue;
            };
            let state = uplink.families.get(owed);
            // It is on its way back, and its flows with it: they wait for the next verdict.
            if state.answers() && !state.is_disabled() {
                continue;
            }
            if !self.is_trusted(self.pools.get(family), family, state.silent_since()) {
                continue;
            }
            forget.insert(Forget::Uplink(id, owed));
            let source = self.unshared(id, family, state.last_source());
            forget.extend(source.map(Forget::Unmarked));
        }
        forget
    }

    /// Whether one of those that new flows go to is beyond doubt: it has answered what was asked since
    /// the dead one fell silent. When all uplinks die at once, one is found out first: its flows must
    /// not be forgotten in favour of others that are as dead, and were not asked since.
    pub(super) fn is_trusted(&self, pool: &Pool, family: Family, since: Option<Instant>) -> bool {
        let mut members = pool.members.keys();
        members.any(|id| {
            self.uplinks.get(id).is_some_and(|uplink| {
                let state = uplink.families.get(family);
                !state.is_doubtful() && since.is_none_or(|since| state.has_answered_since(since))
            })
        })
    }

    /// Whose word is waited for before flows are forgotten in their favour.
    #[must_use]
    pub fn awaited(&self) -> BTreeSet<(UplinkId, Family)> {
        let mut awaited = BTreeSet::new();
        for &(id, family) in &self.owed {
            let pool = self.pools.get(family);
            let Some(dead) = self.uplinks.get(&id) else {
                continue;
            };
            let since = dead.families.get(family).silent_since();
            if pool.tier.is_usable()
                && self.has_the_users(family)
                && !self.is_trusted(pool, family, since)
            {
                awaited.extend(pool.members.keys().map(|member| (*member, family)));
            }
        }
        awaited
    }

    /// The address of an uplink, unless another one that gets packets through has it too: nothing
    /// tells then whose a flow from there is that others took the mark from, and it keeps its
    /// translation wherever it goes.
    pub(super) fn unshared(
        &self,
        id: UplinkId,
        family: Family,
        source: Option<IpAddr>,
    ) -> Option<IpAddr> {
        let is_anothers = |source: &IpAddr| {
            self.uplinks.iter().any(|(other, uplink)| {
                let state = uplink.families.get(family);
                let theirs = state.path().filter(|_| state.is_alive());
                *other != id && theirs.is_some_and(|path| path.source == *source)
            })
        };
        source.filter(|source| !is_anothers(source))
    }

    /// Notes whose flows are owed to be forgotten: of uplinks that died since the last decision,
    /// and of all that are dead when the last resort ends, because all of them were tried.
    pub(super) fn settle_debts(&mut self, family: Family, before: Tier) {
        let last_resort_ends =
            before == Tier::LastResort && self.pools.get(family).tier.is_usable();
        for (&id, uplink) in &mut self.uplinks {
            match uplink.life(family) {
                // Its flows can go on where they are.
                Life::Alive => {
                    self.owed.remove(&(id, family));
                }
                Life::Died => {
                    self.owed.insert((id, family));
                }
                Life::Dead if last_resort_ends => {
                    self.owed.insert((id, family));
                }
                Life::Dead | Life::Kept => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "debts_tests.rs"]
mod tests;
