//! A kernel that is none: keeps in memory what it is told, in what order, and fails when asked to.
//!
//! For tests of what stands on the traits. Clones share one state, so that a test can look at it
//! while the controller has the others.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::former_address::{EntryAddresses, FormerAddress};
use super::{Conntrack, Firewall, Forgotten, RoutingTables, Sysctls};
use crate::family::Family;
use crate::flows::{Leaving, Protocol, TrackedFlow};
use crate::mark::{Mark, MarkMask};
use crate::wanted::routing::{Routing, RoutingChange};

/// Something that was done, in the order in which it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A route or rule was changed.
    Routing(RoutingChange),
    /// The nftables table was replaced.
    ReplaceFirewall(String),
    /// The nftables table was removed.
    RemoveFirewall,
    /// An uplink's entries of a family were deleted.
    ForgetUplink(Family, Mark, MarkMask),
    /// The entries of flows that can leave an uplink were deleted.
    ForgetLeaving(Family, Mark),
    /// The entries of an address that an uplink had were deleted.
    ForgetFormer(FormerAddress),
    /// The unmarked entries of an address were deleted.
    ForgetUnmarked(IpAddr, MarkMask),
    /// Our bits were cleared in all entries.
    ClearMarks(MarkMask),
    /// A setting was written.
    Sysctl {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
}

/// The failure that a test asked for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Injected(pub &'static str);

/// A connection tracking entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its first packet came from.
    pub source: IpAddr,
    /// Where its replies go.
    pub reply_destination: IpAddr,
    /// Its mark, others' bits included.
    pub mark: u32,
    /// What is told of it when it is deleted, if it is one of a TCP connection.
    pub connection: Option<TrackedFlow>,
}

/// What the kernel holds. Tests may change it, as other programs would.
#[derive(Debug, Default)]
pub struct State {
    /// Our routes and rules.
    pub routing: Routing,
    /// Our nftables table.
    pub firewall: Option<String>,
    /// Whether someone else touched that table since it was replaced.
    pub firewall_touched: bool,
    /// The connection tracking table.
    pub entries: Vec<Entry>,
    /// The flows in it of which more is known.
    pub flows: Vec<TrackedFlow>,
    /// The settings that exist.
    pub sysctls: BTreeMap<String, String>,
    /// What was done.
    pub log: Vec<Operation>,
    /// What the next calls that change anything come to: a failure, or (`None`) nothing special.
    pub failures: VecDeque<Option<Injected>>,
}

impl State {
    fn record(&mut self, operation: Operation) -> Result<(), Injected> {
        if let Some(Some(failure)) = self.failures.pop_front() {
            return Err(failure);
        }
        self.log.push(operation);
        Ok(())
    }

    fn forget(&mut self, chosen: impl Fn(&Entry) -> bool) -> Forgotten {
        let gone: Vec<Entry> = self.entries.extract_if(.., |entry| chosen(entry)).collect();
        Forgotten {
            count: gone.len(),
            connections: gone
                .into_iter()
                .filter_map(|entry| entry.connection)
                .collect(),
        }
    }
}

/// All four traits over one [`State`].
#[derive(Clone, Debug, Default)]
pub struct RecordingKernel {
    state: Arc<Mutex<State>>,
}

impl RecordingKernel {
    /// The state, to be looked at and changed. Not to be kept over an `await`.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done since this was last asked.
    #[must_use]
    pub fn take_log(&self) -> Vec<Operation> {
        std::mem::take(&mut self.state().log)
    }

    /// Lets the call after `calls` others fail that changes anything; it is not recorded and changes
    /// nothing.
    pub fn fail_after(&self, calls: usize, message: &'static str) {
        let mut state = self.state();
        state.failures.extend(std::iter::repeat_n(None, calls));
        state.failures.push_back(Some(Injected(message)));
    }
}

impl RoutingTables for RecordingKernel {
    type Error = Injected;

    async fn installed(&mut self) -> Result<Routing, Injected> {
        Ok(self.state().routing.clone())
    }

    async fn change(&mut self, change: &RoutingChange) -> Result<(), Injected> {
        let mut state = self.state();
        state.record(Operation::Routing(change.clone()))?;
        state.routing.carry_out(change);
        Ok(())
    }
}

impl Firewall for RecordingKernel {
    type Error = Injected;

    async fn replace(&mut self, ruleset: &str) -> Result<(), Injected> {
        let mut state = self.state();
        state.record(Operation::ReplaceFirewall(ruleset.to_owned()))?;
        state.firewall = Some(ruleset.to_owned());
        state.firewall_touched = false;
        Ok(())
    }

    async fn intact(&mut self) -> Result<bool, Injected> {
        let state = self.state();
        Ok(state.firewall.is_some() && !state.firewall_touched)
    }

    async fn remove(&mut self) -> Result<(), Injected> {
        let mut state = self.state();
        state.record(Operation::RemoveFirewall)?;
        state.firewall = None;
        Ok(())
    }
}

impl Conntrack for RecordingKernel {
    type Error = Injected;

    async fn forget_uplink(
        &mut self,
        family: Family,
        mark: Mark,
        mask: MarkMask,
    ) -> Result<Vec<TrackedFlow>, Injected> {
        let mut state = self.state();
        state.record(Operation::ForgetUplink(family, mark, mask))?;
        let forgotten = state.forget(|entry| {
            Family::of(entry.source) == family && entry.mark & mask.bits() == mark.0
        });
        Ok(forgotten.connections)
    }

    async fn leaving(&mut self, leaving: &Leaving) -> Result<Vec<TrackedFlow>, Injected> {
        let state = self.state();
        let flows = state.flows.iter().filter(|flow| leaving.has(flow));
        Ok(flows.cloned().collect())
    }

    async fn forget_leaving(&mut self, leaving: &Leaving) -> Result<Forgotten, Injected> {
        let mut state = self.state();
        state.record(Operation::ForgetLeaving(leaving.family, leaving.mark))?;
        let gone = state.flows.extract_if(.., |flow| leaving.has(flow));
        let gone: Vec<TrackedFlow> = gone.collect();
        Ok(Forgotten {
            count: gone.len(),
            connections: gone
                .into_iter()
                .filter(|flow| flow.protocol == Protocol::TCP)
                .collect(),
        })
    }

    async fn forget_former(&mut self, former: FormerAddress) -> Result<Forgotten, Injected> {
        let mut state = self.state();
        state.record(Operation::ForgetFormer(former))?;
        Ok(state.forget(|entry| {
            former.has(&EntryAddresses {
                mark: Mark(entry.mark),
                source: Some(entry.source),
                destination: None,
                reply_destination: Some(entry.reply_destination),
            })
        }))
    }

    async fn forget_unmarked(
        &mut self,
        address: IpAddr,
        mask: MarkMask,
    ) -> Result<Forgotten, Injected> {
        let mut state = self.state();
        state.record(Operation::ForgetUnmarked(address, mask))?;
        Ok(state
            .forget(|entry| entry.reply_destination == address && entry.mark & mask.bits() == 0))
    }

    async fn clear_marks(&mut self, mask: MarkMask) -> Result<usize, Injected> {
        let mut state = self.state();
        state.record(Operation::ClearMarks(mask))?;
        let mut count = 0;
        for entry in &mut state.entries {
            if entry.mark & mask.bits() != 0 {
                entry.mark &= mask.others();
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Sysctls for RecordingKernel {
    type Error = Injected;

    fn read(&self, key: &str) -> Result<Option<String>, Injected> {
        Ok(self.state().sysctls.get(key).cloned())
    }

    fn write(&mut self, key: &str, value: &str) -> Result<(), Injected> {
        let mut state = self.state();
        if !state.sysctls.contains_key(key) {
            return Err(Injected("no such setting"));
        }
        state.record(Operation::Sysctl {
            key: key.to_owned(),
            value: value.to_owned(),
        })?;
        state.sysctls.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::UplinkId;

    #[tokio::test]
    async fn it_keeps_the_order_and_fails_when_asked() {
        let kernel = RecordingKernel::default();
        let mask = MarkMask::DEFAULT;
        let mark = mask.flow(UplinkId::try_from(1).unwrap());
        kernel.state().entries.push(Entry {
            source: "198.18.0.2".parse().unwrap(),
            reply_destination: "198.18.11.2".parse().unwrap(),
            mark: mark.0 | 7,
            connection: None,
        });
        let mut given_away = kernel.clone();
        kernel.fail_after(1, "no");
        given_away.replace("table inet failover { }").await.unwrap();
        assert_eq!(
            given_away.forget_uplink(Family::Ipv4, mark, mask).await,
            Err(Injected("no"))
        );
        assert_eq!(given_away.state().entries.len(), 1);
        given_away
            .forget_uplink(Family::Ipv4, mark, mask)
            .await
            .unwrap();
        assert_eq!(given_away.state().entries.len(), 0);
        assert_eq!(
            kernel.take_log(),
            [
                Operation::ReplaceFirewall("table inet failover { }".to_owned()),
                Operation::ForgetUplink(Family::Ipv4, mark, mask),
            ]
        );
    }
}
