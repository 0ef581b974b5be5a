//! What users' traffic says about an uplink, and what that is worth beside probes.
//!
//! Traffic alone decides nothing: probes are sent at once where it is not answered, and theirs is the
//! word. But it makes their word weigh more or less. Where nothing of what users sent to several hosts
//! is answered, the silence of confirming rounds counts as that of regular ones does. Where users are
//! answered by several hosts while probes are silent, the uplink is not dead, whatever keeps the
//! targets from answering.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// So many hosts must be silent, or answer: one may be dead, and another be near.
const HOSTS: u32 = 3;
/// For how long nobody must have answered: a line that stumbles is not dead.
const LASTS: Duration = Duration::from_millis(500);
/// For how long it is known that nobody answers. It is told again and again, less and less often.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// How young an answer must be to speak for an uplink whose probes are silent.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// News of users' traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// Packets that want an answer have none.
    Unanswered(Unanswered),
    /// There are answers.
    Answered {
        /// When the last one came.
        #[serde(with = "super::stored::moment")]
        at: Instant,
        /// By how many hosts in the last second or two, about: up to 64.
        hosts: u32,
    },
}

/// Packets of users that have no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// When the first of them was sent.
    #[serde(with = "super::stored::moment")]
    pub since: Instant,
    /// To how many hosts, about: up to 64.
    pub hosts: u32,
    /// How many; 9999 for more.
    pub packets: u32,
}

/// What is known of users' traffic.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Evidence {
    unanswered: Option<(Unanswered, Told)>,
    answered: Option<(Told, u32)>,
}

/// A moment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Told(#[serde(with = "super::stored::moment")] Instant);

impl Evidence {
    /// Takes in news.
    pub(super) fn learn(&mut self, now: Instant, news: Traffic) {
        match news {
            Traffic::Unanswered(unanswered) => self.unanswered = Some((unanswered, Told(now))),
            Traffic::Answered { at, hosts } => {
                self.answered = Some((Told(at), hosts));
                if self
                    .unanswered
                    .is_some_and(|(unanswered, _)| unanswered.since <= at)
                {
                    self.unanswered = None;
                }
            }
        }
    }

    /// Nothing is known of the way that packets take now.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A probe that was sent then is answered.
    pub(super) fn probe_answered(&mut self, sent_at: Instant) {
        if self
            .unanswered
            .is_some_and(|(unanswered, _)| unanswered.since <= sent_at)
        {
            self.unanswered = None;
        }
    }

    /// What is known to have no answer now.
    pub(super) fn unanswered(&self, now: Instant) -> Option<Unanswered> {
        let (unanswered, Told(told)) = self.unanswered?;
        (now.saturating_duration_since(told) <= SILENT_FOR).then_some(unanswered)
    }

    /// Since when the silence of probes is no wonder: nobody answers users either.
    pub(super) fn corroborates(&self, now: Instant) -> Option<Instant> {
        self.unanswered(now)
            .filter(|unanswered| unanswered.hosts >= HOSTS)
            .filter(|unanswered| now.saturating_duration_since(unanswered.since) >= LASTS)
            .map(|unanswered| unanswered.since)
    }

    /// How many hosts answer users, although probes are silent since then; `None` where they do not.
    pub(super) fn contradicts(&self, silent_since: Instant, now: Instant) -> Option<u32> {
        let (Told(at), hosts) = self.answered?;
        let fresh = now.saturating_duration_since(at) <= ANSWERED_WITHIN;
        (fresh && at > silent_since && hosts >= HOSTS).then_some(hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn unanswered(since: Instant, hosts: u32) -> Traffic {
        Traffic::Unanswered(Unanswered {
            since,
            hosts,
            packets: 10,
        })
    }

    #[test]
    fn one_dead_host_and_a_port_scan_corroborate_nothing() {
        let start = Instant::now();
        let mut evidence = Evidence::default();
        for (hosts, corroborates) in [(1, false), (2, false), (3, true), (60, true)] {
            evidence.learn(start + ms(100), unanswered(start, hosts));
            let found = evidence.corroborates(start + ms(500));
            assert_eq!(found.is_some(), corroborates, "{hosts} hosts");
        }
        let too_soon = evidence.corroborates(start + ms(499));
        assert_eq!(too_soon, None, "it may be a stumble");
    }

    #[test]
    fn any_answer_ends_a_silence_and_an_old_one_does_not() {
        let start = Instant::now() + ms(1000);
        let later = start + ms(600);
        let mut evidence = Evidence::default();
        evidence.learn(start, unanswered(start, 5));
        let old = Traffic::Answered {
            at: start - ms(1),
            hosts: 9,
        };
        evidence.learn(start, old);
        assert!(evidence.corroborates(later).is_some());
        evidence.probe_answered(start - ms(1));
        assert!(evidence.corroborates(later).is_some(), "sent before");
        evidence.probe_answered(start + ms(1));
        assert!(evidence.corroborates(later).is_none());
        evidence.learn(start, unanswered(start, 5));
        let at = start + ms(5);
        evidence.learn(at, Traffic::Answered { at, hosts: 1 });
        assert!(evidence.corroborates(later).is_none());
    }

    #[test]
    fn what_is_not_told_again_is_not_known_any_more() {
        let start = Instant::now();
        let mut evidence = Evidence::default();
        evidence.learn(start, unanswered(start, 5));
        assert!(evidence.corroborates(start + SILENT_FOR).is_some());
        assert!(evidence.corroborates(start + SILENT_FOR + ms(1)).is_none());
    }

    #[test]
    fn several_hosts_that_answer_now_contradict_silent_probes() {
        let start = Instant::now();
        let mut evidence = Evidence::default();
        let at = start + ms(1000);
        let news = |hosts| Traffic::Answered { at, hosts };
        evidence.learn(at, news(2));
        assert_eq!(evidence.contradicts(start, at), None, "these may be near");
        evidence.learn(at, news(14));
        assert_eq!(evidence.contradicts(start, at), Some(14));
        assert_eq!(evidence.contradicts(at, at), None, "none came since");
        assert_eq!(evidence.contradicts(start, at + ms(1001)), None, "long ago");
    }
}
