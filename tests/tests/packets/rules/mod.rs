//! The user's rules: which uplink the first packet of a flow gets by them.

mod agreement;
mod deciding;
mod known;
mod switching;

use std::sync::Arc;

use failover::policy::{Policy, Sets};
use failover::uplink::UplinkName;
use failover::wanted::dataplane::DownlinkNumbers;
use failover_common::Affinity;
use failover_tests::programs::Loaded;

use crate::gateway::{BOTH, Failure, Gateway, Outcome};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        agreement::trials(),
        deciding::trials(),
        known::trials(),
        switching::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The uplinks as rules name them, in the order of their ids.
const UPLINK_NAMES: [&str; 3] = ["one", "two", "three"];
/// The downlinks as rules name them, in the order of their numbers.
const DOWNLINK_NAMES: [&str; 3] = ["lan0", "lan1", "lan2"];

/// A configuration that has these keys beside its uplinks and downlinks.
fn config(rules: &str) -> Result<failover::config::Config, Failure> {
    let text = format!(
        "uplinks: {{one: {{interface: wan1}}, two: {{interface: wan2}}, three: {{interface: wan3}}}}\n\
         downlinks: [lan0, lan1, lan2]\n{rules}\n"
    );
    failover::config::parse(&text).map_err(|error| format!("{error}\n{text}").into())
}

/// The policy of a configuration's keys.
fn policy(rules: &str) -> Result<Arc<Policy>, Failure> {
    Ok(Policy::of(&config(rules)?, &Sets::default()))
}

/// The numbers of the downlinks, 1 and above.
fn downlink_numbers() -> Result<DownlinkNumbers, Failure> {
    DOWNLINK_NAMES
        .iter()
        .zip(1..)
        .map(|(name, number)| Ok((name.parse()?, number)))
        .collect()
}

/// Has rules decide, under a generation: each pool's flows go to the uplinks that its first group
/// names.
pub(crate) fn decide(programs: &mut Loaded, generation: u8, rules: &str) -> Outcome {
    let policy = policy(rules)?;
    for (pool, via) in (1..).zip(&policy.vias) {
        let first = via.groups.first().ok_or("a pool without uplinks")?;
        let ids: Option<Vec<u8>> = first.0.iter().map(|(name, _)| id(name)).collect();
        let ids = ids.ok_or("a rule names an uplink that is not there")?;
        carry(programs, (pool, generation), &ids)?;
    }
    Ok(programs.set_rules(&policy, &downlink_numbers()?, generation)?)
}

/// The pool of the first rule, under generation 0, has these uplinks.
fn first_rule_has(gateway: &mut Gateway<'_>, uplinks: &[u8]) -> Outcome {
    carry(gateway.programs, (1, 0), uplinks)
}

/// A pool of a generation has these uplinks.
fn carry(programs: &mut Loaded, pool: (u16, u8), uplinks: &[u8]) -> Outcome {
    for family in BOTH {
        programs.select_for_rules(pool, family, Affinity::Flow, uplinks)?;
    }
    Ok(())
}

fn id(name: &UplinkName) -> Option<u8> {
    let place = UPLINK_NAMES.iter().position(|n| *n == name.as_str())?;
    u8::try_from(place + 1).ok()
}
