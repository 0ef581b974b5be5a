//! What names stood for, for as long as that holds, and longer where nothing better is known.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::DomainName;
use crate::probe::kinds::message::Answered;

/// Answers hold as long as they say, but at least and at most this: a probe twice a second is no
/// reason to ask for a name as often, and a page that moves is found again.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_hours(1);
/// How long a name that has no address of the family is not asked for again.
const NONE: Duration = Duration::from_mins(1);
/// How long an answer is used after its end when no resolver answers (RFC 8767, section 5).
const STALE: Duration = Duration::from_hours(24);
/// How long resolvers are not asked again while there is such an answer.
const PUT_OFF: Duration = Duration::from_secs(10);

/// Names and their addresses of one family.
#[derive(Debug, Default)]
pub(super) struct Cache(BTreeMap<DomainName, Entry>);

#[derive(Debug)]
struct Entry {
    /// The one that is given stands first.
    addresses: Vec<IpAddr>,
    fresh_until: Instant,
    stale_until: Instant,
}

/// What is known of a name; `None` is a name without addresses.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It holds.
    Fresh(Option<IpAddr>),
    /// It did.
    Stale(Option<IpAddr>),
    /// Nothing.
    Nothing,
}

impl Cache {
    pub(super) fn find(&self, name: &DomainName, now: Instant) -> Known {
        match self.0.get(name) {
            Some(entry) if now < entry.fresh_until => Known::Fresh(entry.first()),
            Some(entry) if now < entry.stale_until => Known::Stale(entry.first()),
            _ => Known::Nothing,
        }
    }

    /// Remembers an answer, and gives an address of it: the one that was given last, where it is
    /// among them. That a name has none is not believed while it had some lately: routers without
    /// their line answer like that.
    pub(super) fn put(
        &mut self,
        name: &DomainName,
        answered: Answered,
        now: Instant,
    ) -> Option<IpAddr> {
        let mut addresses = answered.addresses;
        let held = self.0.get(name).filter(|held| now < held.stale_until);
        let before = held.and_then(Entry::first);
        if addresses.is_empty() && before.is_some() {
            return before;
        }
        if let Some(place) = addresses.iter().position(|found| Some(*found) == before) {
            addresses.rotate_left(place);
        }
        let (fresh, stale) = if addresses.is_empty() {
            (NONE, Duration::ZERO)
        } else {
            (answered.lifetime.clamp(SHORTEST, LONGEST), STALE)
        };
        let entry = Entry {
            addresses,
            fresh_until: now + fresh,
            stale_until: now + fresh + stale,
        };
        let first = entry.first();
        self.0.insert(name.clone(), entry);
        first
    }

    /// Uses what is known of a name for a while longer.
    pub(super) fn put_off(&mut self, name: &DomainName, now: Instant) {
        if let Some(entry) = self.0.get_mut(name) {
            entry.fresh_until = entry.stale_until.min(now + PUT_OFF);
        }
    }

    /// Gives another address of a name from now on, where it has another.
    pub(super) fn pass_over(&mut self, name: &DomainName, address: IpAddr) {
        if let Some(entry) = self.0.get_mut(name)
            && entry.first() == Some(address)
        {
            entry.addresses.rotate_left(1);
        }
    }
}

impl Entry {
    fn first(&self) -> Option<IpAddr> {
        self.addresses.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Host, Target};

    fn name() -> DomainName {
        let config = crate::config::parse(
            "uplinks: {a: {interface: eth1}}\nprobe: {targets: [tcp://example.org:1]}\n",
        )
        .unwrap();
        let uplink = config.uplinks.into_values().next().unwrap();
        match uplink.probe.targets.into_iter().next() {
            Some(Target::Tcp(to)) => match to.host {
                Host::Name(name) => name,
                Host::Address(_) => panic!("a name"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn answered(addresses: &[u8], lifetime: u64) -> Answered {
        Answered {
            records: true,
            truncated: false,
            addresses: addresses.iter().map(|last| address(*last)).collect(),
            lifetime: Duration::from_secs(lifetime),
        }
    }

    #[test]
    fn an_answer_holds_within_bounds_and_serves_a_day_longer_when_nothing_better_is_known() {
        let (name, start) = (name(), Instant::now());
        for (told, held) in [(0, 10), (300, 300), (u64::from(u32::MAX), 3600)] {
            let mut cache = Cache::default();
            cache.put(&name, answered(&[1], told), start);
            let after = |seconds| cache.find(&name, start + Duration::from_secs(seconds));
            assert_eq!(after(held - 1), Known::Fresh(Some(address(1))));
            assert_eq!(after(held), Known::Stale(Some(address(1))));
            assert_eq!(after(held + 86_399), Known::Stale(Some(address(1))));
            assert_eq!(after(held + 86_400), Known::Nothing);
        }
    }

    #[test]
    fn resolvers_are_left_alone_for_a_while_after_they_were_asked_again() {
        let (name, start) = (name(), Instant::now());
        let mut cache = Cache::default();
        cache.put(&name, answered(&[1], 60), start);
        let later = start + Duration::from_secs(60);
        cache.put_off(&name, later);
        let after = |seconds| cache.find(&name, later + Duration::from_secs(seconds));
        assert_eq!(after(9), Known::Fresh(Some(address(1))));
        assert_eq!(after(10), Known::Stale(Some(address(1))));
    }

    #[test]
    fn a_name_without_addresses_is_asked_for_again_after_a_minute() {
        let (name, start) = (name(), Instant::now());
        let mut cache = Cache::default();
        assert_eq!(cache.put(&name, answered(&[], 3600), start), None);
        let after = |seconds| cache.find(&name, start + Duration::from_secs(seconds));
        assert_eq!(after(59), Known::Fresh(None));
        assert_eq!(after(60), Known::Nothing);
    }

    #[test]
    fn a_name_that_had_addresses_has_none_only_when_a_day_has_passed() {
        let (name, start) = (name(), Instant::now());
        let mut cache = Cache::default();
        cache.put(&name, answered(&[1], 60), start);
        let mut empty = |after| {
            let now = start + Duration::from_secs(after);
            cache.put(&name, answered(&[], 60), now)
        };
        assert_eq!(empty(60), Some(address(1)));
        assert_eq!(empty(60 + 86_399), Some(address(1)));
        assert_eq!(empty(60 + 86_400), None);
    }

    #[test]
    fn an_address_that_works_is_kept_and_another_follows_one_that_does_not() {
        let (name, now) = (name(), Instant::now());
        let mut cache = Cache::default();
        assert_eq!(
            cache.put(&name, answered(&[1, 2, 3], 60), now),
            Some(address(1))
        );
        cache.pass_over(&name, address(1));
        assert_eq!(cache.find(&name, now), Known::Fresh(Some(address(2))));
        // Two that were on their way to the same address count once.
        cache.pass_over(&name, address(1));
        assert_eq!(cache.find(&name, now), Known::Fresh(Some(address(2))));
        // Resolvers change the order at each answer.
        assert_eq!(
            cache.put(&name, answered(&[3, 1, 2], 60), now),
            Some(address(2))
        );
        assert_eq!(cache.put(&name, answered(&[4], 60), now), Some(address(4)));
    }
}
