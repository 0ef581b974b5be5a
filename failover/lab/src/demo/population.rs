//! The kept flows by what the death of an uplink means for them.

use std::time::Instant;

use super::DEAD;
use super::figures::KeptFigures;
use crate::traffic::{KeptFlow, KeptFlows, Protocol};

pub(super) fn is_of_dead(flow: &KeptFlow) -> bool {
    flow.home_uplink() == Some(DEAD)
}

pub(super) fn is_connection_of_dead(flow: &KeptFlow) -> bool {
    is_of_dead(flow) && flow.protocol == Protocol::Tcp
}

/// The flows of the dead uplink that can go on by another address.
pub(super) fn refugees(flows: &[KeptFlow]) -> impl Iterator<Item = &KeptFlow> {
    flows
        .iter()
        .filter(|flow| is_of_dead(flow) && flow.protocol != Protocol::Tcp)
}

pub(super) fn has_gone_on(flow: &KeptFlow, detected: Instant) -> bool {
    flow.last_answered > detected && flow.uplink().is_some_and(|uplink| uplink != DEAD)
}

pub(super) fn survivors(kept: &KeptFlows) -> KeptFigures {
    let flows = kept.so_far();
    KeptFigures::of(flows.iter().filter(|flow| !is_of_dead(flow)))
}

/// For a live line.
pub(super) fn survivors_so_far(kept: &KeptFlows) -> String {
    let survivors = survivors(kept);
    format!(
        "flows of cable and lte: {} answers, {} lost",
        survivors.questions - survivors.lost,
        survivors.lost
    )
}
