//! The key `probe`, of all uplinks and of one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::model::{Budget, Passive, ProbeConfig, QualityLimits};
use super::problem::Problem;
use super::quality::Limits;
use super::section::{Given, Keys, Problems, Read, Section, Value};
use super::target::{Target, read};
use super::value::{duration, integer, size, word};
use crate::family::Family;

const KEYS: Keys = Keys {
    known: &[
        "targets",
        "interval",
        "timeout",
        "required",
        "down_after",
        "up_after",
        "window",
        "max_loss",
        "max_latency",
        "max_jitter",
        "max_hold",
        "passive",
        "budget",
    ],
    later: &[],
};

/// The most targets: each is asked over every uplink in every round.
const MOST_TARGETS: usize = 16;
const INTERVALS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(3600)];
const PASSIVE: [(&str, Passive); 2] = [("auto", Passive::Auto), ("off", Passive::Off)];
const HOLDS: [Duration; 2] = [Duration::ZERO, Duration::from_secs(24 * 3600)];
const BUDGETS: RangeInclusive<u64> = 10_000..=1_000_000_000_000;
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(60)];

impl Default for ProbeConfig {
    /// Four resolvers that answer everywhere, twice a second.
    fn default() -> Self {
        let targets = [
            IpAddr::from(Ipv4Addr::new(1, 1, 1, 1)),
            IpAddr::from(Ipv4Addr::new(9, 9, 9, 9)),
            IpAddr::from(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
            IpAddr::from(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe)),
        ];
        Self {
            targets: targets.into_iter().map(Target::Icmp).collect(),
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            required: 1,
            down_after: 3,
            up_after: 5,
            quality: QualityLimits::default(),
            max_hold: Duration::from_secs(30 * 60),
            passive: Passive::Auto,
            budget: Budget::Auto,
        }
    }
}

/// Reads `probe`. What it does not say is as in `base`; without one, which has problems of its own
/// then, nothing is compared with it.
pub(super) fn probe(value: &Value<'_>, base: Option<&ProbeConfig>) -> Read<ProbeConfig> {
    let mut section = Section::open(value, &KEYS)?;
    let targets = section.read("targets", targets);
    let interval = section.read("interval", |v| duration(v, range(INTERVALS)));
    let timeout = section.read("timeout", |v| duration(v, range(TIMEOUTS)));
    let most = u16::try_from(MOST_TARGETS).unwrap_or(u16::MAX);
    let required = section.read("required", |v| integer(v, 1..=most));
    let down_after = section.read("down_after", |v| integer(v, 1..=1000));
    let up_after = section.read("up_after", |v| integer(v, 1..=1000));
    let limits = Limits::read(&mut section);
    let max_hold = section.read("max_hold", |v| duration(v, range(HOLDS)));
    let passive = section.read("passive", |v| word(v, &PASSIVE));
    let budget = section.read("budget", budget);
    if let Some(problem) = more_required_than_asked(&targets, &required, base) {
        section.problem(problem);
    }
    let base = base.cloned().unwrap_or_default();
    section.finish(Some(ProbeConfig {
        targets: targets.or(base.targets),
        interval: interval.or(base.interval),
        timeout: timeout.or(base.timeout),
        required: required.or(base.required),
        down_after: down_after.or(base.down_after),
        up_after: up_after.or(base.up_after),
        quality: limits.or(base.quality),
        max_hold: max_hold.or(base.max_hold),
        passive: passive.or(base.passive),
        budget: budget.or(base.budget),
    }))
}

fn more_required_than_asked(
    targets: &Given<'_, Vec<Target>>,
    required: &Given<'_, u16>,
    base: Option<&ProbeConfig>,
) -> Option<Problem> {
    let asked = match targets {
        Given::Good(targets, _) => targets,
        Given::Absent => &base?.targets,
        Given::Bad => return None,
    };
    let wanted = match required {
        Given::Good(wanted, _) => *wanted,
        Given::Absent => base?.required,
        Given::Bad => return None,
    };
    let most = most_of_a_family(asked);
    if usize::from(wanted) <= most {
        return None;
    }
    if let Some((_, at)) = required.good() {
        let allowed = format!("1 to {most}, as many as there are targets of one family");
        return Some(at.problem(allowed));
    }
    let (_, at) = targets.good()?;
    Some(at.problem_with(
        format!("only {most} of one family"),
        format!("{wanted} or more of one family, as `probe.required` says"),
    ))
}

fn budget(value: &Value<'_>) -> Read<Budget> {
    match value.spelled() {
        Some("auto") => Ok(Budget::Auto),
        Some("none") => Ok(Budget::None),
        _ => size(value, "auto, none or ", BUDGETS).map(Budget::Bytes),
    }
}

const fn range([least, most]: [Duration; 2]) -> RangeInclusive<Duration> {
    least..=most
}

fn most_of_a_family(targets: &[Target]) -> usize {
    Family::ALL
        .into_iter()
        .map(|family| {
            targets
                .iter()
                .filter(|target| target.is_asked_in(family) && !target.is_gateway())
                .count()
        })
        .max()
        .unwrap_or(0)
}

fn targets(value: &Value<'_>) -> Read<Vec<Target>> {
    let allowed = format!("a list of 1 to {MOST_TARGETS} targets, such as [icmp://192.0.2.1]");
    let items = value.list(&allowed, read::target)?;
    if items.is_empty() || items.len() > MOST_TARGETS {
        let found = format!("{} targets", items.len());
        return Err(value.problem_with(found, allowed).into());
    }
    if items.iter().all(|(target, _)| target.is_gateway()) {
        let allowed = "another target beside arp://gateway, which cannot tell whether the internet \
             is behind the gateway";
        return Err(value.problem_with("only arp://gateway", allowed).into());
    }
    let mut seen = BTreeSet::new();
    let again: Vec<_> = items
        .iter()
        .filter(|(target, _)| !seen.insert(target))
        .map(|(_, at)| at.problem_with(format!("{} again", at.found()), "each target once"))
        .collect();
    if again.is_empty() {
        Ok(items.into_iter().map(|(target, _)| target).collect())
    } else {
        Err(Problems(again))
    }
}
