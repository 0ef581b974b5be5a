//! Checks of settings against each other: ids, gateways and interfaces of several uplinks.

use super::problem::Problem;
use super::section::{Given, Value};
use super::uplinks::Claims;
use crate::mark::MarkMask;

/// More uplinks than the mask can tell apart.
pub(super) fn too_many(count: usize, uplinks: &Value<'_>, mask: MarkMask) -> Option<Problem> {
    let most = mask.max_id();
    (u32::try_from(count).unwrap_or(u32::MAX) > most).then(|| {
        uplinks.problem_with(
            format!("{count} uplinks"),
            format!("at most {most}, as many as `marks.mask` {mask} can tell apart"),
        )
    })
}

/// Ids that the mask has no room for.
pub(super) fn ids_beyond_mask(claims: &[Claims<'_>], mask: MarkMask) -> Vec<Problem> {
    claims
        .iter()
        .filter_map(|claim| claim.id.good())
        .filter(|(id, _)| !mask.holds(**id))
        .map(|(_, at)| {
            at.problem(format!(
                "1 to {}, as `marks.mask` {mask} has no room for more",
                mask.max_id()
            ))
        })
        .collect()
}

/// Ids that two uplinks claim.
pub(super) fn same_ids(claims: &[Claims<'_>]) -> Vec<Problem> {
    conflicts(claims, |first, second| {
        let (id, at) = second.id.good()?;
        let (other, before) = first.id.good()?;
        (id == other).then(|| {
            at.problem("an id that no other uplink has").hint(format!(
                "`{}` has it at {}",
                first.name,
                before.place()
            ))
        })
    })
}

/// Uplinks that lead the same way: on one interface each needs a gateway of its own.
pub(super) fn same_way(claims: &[Claims<'_>]) -> Vec<Problem> {
    conflicts(claims, |first, second| {
        let (one, _) = first.interface.good()?;
        let (other, at) = second.interface.good()?;
        if one != other {
            return None;
        }
        let unlearnable = || {
            at.problem_with(
                format!("`{one}`, the interface of `{}` too", first.name),
                "an interface of its own, or a `gateway` or `gateway6` given for both uplinks",
            )
        };
        same_gateway(first.name, &first.gateway, &second.gateway)
            .or_else(|| same_gateway(first.name, &first.gateway6, &second.gateway6))
            .or_else(|| (!(has_gateway(first) && has_gateway(second))).then(unlearnable))
    })
}

/// A gateway is given, or was meant to be: its own problem is enough then.
fn has_gateway(claim: &Claims<'_>) -> bool {
    fn given<A>(gateway: &Given<'_, Option<A>>) -> bool {
        gateway.is_bad() || matches!(gateway.good(), Some((Some(_), _)))
    }
    given(&claim.gateway) || given(&claim.gateway6)
}

fn same_gateway<A: PartialEq>(
    name: &str,
    first: &Given<'_, Option<A>>,
    second: &Given<'_, Option<A>>,
) -> Option<Problem> {
    let (Some(one), _) = first.good()? else {
        return None;
    };
    let (Some(other), at) = second.good()? else {
        return None;
    };
    (one == other).then(|| {
        at.problem(format!(
            "another gateway than that of `{name}`, which has the same interface"
        ))
    })
}

/// For each uplink the conflict with the first of those before it that it does not go with.
fn conflicts<'a>(
    claims: &[Claims<'a>],
    conflict: impl Fn(&Claims<'a>, &Claims<'a>) -> Option<Problem>,
) -> Vec<Problem> {
    claims
        .iter()
        .enumerate()
        .filter_map(|(position, second)| {
            claims
                .iter()
                .take(position)
                .find_map(|first| conflict(first, second))
        })
        .collect()
}
