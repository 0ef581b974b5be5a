//! The entries of an uplink that works whose flows can go elsewhere.
//!
//! The kernel leaves out those of other uplinks; which of the rest can leave, it cannot say.

use std::io;

use netlink_packet_netfilter::conntrack::ConntrackMessage;

use super::message::{self, Entry};
use super::session::{Session, Verdict};
use super::tracked;
use crate::flows::{Leaving, Protocol, TrackedFlow};
use crate::kernel::Forgotten;
use crate::mark::Mark;

/// Lists them.
pub(super) fn list(session: &mut Session, leaving: &Leaving) -> io::Result<Vec<TrackedFlow>> {
    let mut flows = Vec::new();
    each(session, leaving, |_, flow| {
        flows.push(flow);
        Verdict::Leave
    })?;
    Ok(flows)
}

/// Deletes them.
pub(super) fn delete(session: &mut Session, leaving: &Leaving) -> io::Result<Forgotten> {
    let mut connections = Vec::new();
    let count = each(session, leaving, |entry, flow| {
        if flow.protocol == Protocol::TCP {
            connections.push(flow);
        }
        Verdict::Change(ConntrackMessage::Delete(entry.key_with_id()))
    })?;
    Ok(Forgotten { count, connections })
}

fn each(
    session: &mut Session,
    leaving: &Leaving,
    mut decide: impl FnMut(&Entry<'_>, TrackedFlow) -> Verdict,
) -> io::Result<usize> {
    let family = message::family(leaving.family);
    let mut changed = 0;
    // Those of the uplink, and those that others took our bits from.
    for mark in [leaving.mark, Mark(0)] {
        changed +=
            session.each(
                family,
                message::mark(mark, leaving.mask),
                |entry| match tracked::read(entry).filter(|flow| leaving.has(flow)) {
                    Some(flow) => decide(entry, flow),
                    None => Verdict::Leave,
                },
            )?;
    }
    Ok(changed)
}
