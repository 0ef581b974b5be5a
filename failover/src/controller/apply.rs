//! Brings the kernel into the wanted state and takes it out again.
//!
//! The order of a failover: settings, routes and rules, the way new flows are picked, the own
//! nftables table; and only when all of that is in place the dead uplink's flows are forgotten, so
//! that their next packet finds the new selection.
//!
//! Where the table is not in place yet it comes before routes and rules: it is what keeps flows that
//! are older than it on their uplink, and without it the rules would spread them over all.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tracing::{debug, info};

use crate::controller::apply_error::{ApplyError, ApplyErrors, Cause};
use crate::controller::engine::Forget;
use crate::dataplane::Steering;
use crate::family::Family;
use crate::flows::{Leaving, Surroundings, TrackedFlow};
use crate::interface::InterfaceName;
use crate::kernel::former_address::FormerAddress;
use crate::kernel::{Conntrack, Firewall, Forgotten, RoutingTables, Sysctls};
use crate::mark::MarkMask;
use crate::policy::Keeping;
use crate::state::{InstalledFacts, Store, StoreError};
use crate::uplink::UplinkId;
use crate::wanted::Wanted;
use crate::wanted::difference::difference;
use crate::wanted::routing::Routing;

/// The whole edge to the kernel.
pub trait Kernel: RoutingTables + Firewall + Conntrack + Sysctls + Send {}

impl<K: RoutingTables + Firewall + Conntrack + Sysctls + Send> Kernel for K {}

/// Keeps the kernel in the wanted state.
#[derive(Debug)]
pub struct Applier<K, S> {
    kernel: K,
    steering: S,
    store: Store,
    facts: InstalledFacts,
    marks: MarkMask,
    /// What is installed, while nobody else is known to have touched it.
    installed: Option<Routing>,
    /// The ruleset that is in place, likewise.
    ruleset: Option<String>,
    /// What tells the inside from the outside.
    surroundings: Surroundings,
    /// What stays where flows of an uplink are forgotten in part.
    keeping: BTreeMap<(UplinkId, Family), Keeping>,
    /// TCP connections that were forgotten since this was last asked.
    connections: Vec<TrackedFlow>,
    /// The settings were looked at, for these interfaces: uplinks', and those without redirects.
    settled: Option<(BTreeSet<InterfaceName>, BTreeSet<InterfaceName>)>,
}

impl<K: Kernel, S: Steering> Applier<K, S> {
    /// An applier that knows nothing of the kernel's state yet.
    ///
    /// # Errors
    /// When it cannot note that marks under this mask are used from now on.
    pub fn new(kernel: K, steering: S, store: Store, marks: MarkMask) -> Result<Self, StoreError> {
        let mut facts = store.installed()?;
        if facts.mark_masks.insert(marks.bits()) {
            store.keep_installed(&facts)?;
        }
        Ok(Self {
            kernel,
            steering,
            store,
            facts,
            marks,
            installed: None,
            ruleset: None,
            surroundings: Surroundings::default(),
            keeping: BTreeMap::new(),
            connections: Vec::new(),
            settled: None,
        })
    }

    /// Notes what tells the inside from the outside, and what stays where flows of an uplink are
    /// forgotten in part.
    pub fn look_around(
        &mut self,
        surroundings: Surroundings,
        keeping: BTreeMap<(UplinkId, Family), Keeping>,
    ) {
        self.surroundings = surroundings;
        self.keeping = keeping;
    }

    /// Somebody changed routes or rules: they are listed before the next change.
    pub fn suspect_routing(&mut self) {
        self.installed = None;
    }

    /// Interfaces may have been made anew, or somebody may have changed their settings: they are
    /// looked at before the next change.
    pub fn suspect_settings(&mut self) {
        self.settled = None;
    }

    /// Somebody may have changed the maps or taken programs off interfaces: they are looked at
    /// before the next change.
    pub fn suspect_steering(&mut self) {
        self.steering.suspect();
    }

    /// Whether none of our routes and rules is in the kernel; false where that cannot be told.
    pub async fn nothing_installed(&mut self) -> bool {
        match self.kernel.installed().await {
            Ok(found) => {
                let nothing = found == Routing::default();
                self.installed = Some(found);
                nothing
            }
            Err(_) => false,
        }
    }

    /// Looks whether the nftables table is as it was put there; if not, the next
    /// [`Self::apply`] puts it there again. Returns whether it was.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn inspect_firewall(&mut self) -> Result<bool, ApplyError> {
        let intact = self
            .kernel
            .intact()
            .await
            .map_err(|source| ApplyError::Firewall {
                what: "read",
                source: source.into(),
            })?;
        if !intact {
            self.ruleset = None;
        }
        Ok(intact)
    }

    /// Brings the kernel into the wanted state and then forgets flows. What fails does not keep the
    /// rest from being done; only when the nftables table is not as wanted, which would send the
    /// flows' next packets where they went before, flows are not forgotten.
    ///
    /// # Errors
    /// Everything that failed; then all of it is to be done again, forgetting too unless it is
    /// [only programs](ApplyErrors::only_of_programs) that are not in place.
    pub async fn apply(
        &mut self,
        wanted: &Wanted,
        uplinks: &BTreeSet<InterfaceName>,
        forget: &BTreeSet<Forget>,
    ) -> Result<(), ApplyErrors> {
        let mut errors = Vec::new();
        let settings = self.settings(uplinks, &wanted.without_redirects);
        errors.extend(settings.err());
        let published = if self.ruleset.is_none() {
            let published = self.publish(wanted).await;
            errors.extend(self.routing(&wanted.routing).await);
            published
        } else {
            errors.extend(self.routing(&wanted.routing).await);
            self.publish(wanted).await
        };
        let attached = self.steering.attach(&wanted.dataplane).await;
        errors.extend(
            attached
                .into_iter()
                .map(|error| ApplyError::Attach(error.into())),
        );
        match published {
            Ok(()) => {
                for flows in forget {
                    errors.extend(self.pick_anew(*flows).await.err());
                    errors.extend(self.forget(*flows).await.err());
                }
            }
            Err(error) => errors.push(error),
        }
        errors.extend(
            self.restore_former(uplinks, &wanted.without_redirects)
                .err(),
        );
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApplyErrors(errors))
        }
    }

    /// Has the flows of an uplink picked anew. Before connection tracking forgets them, so that none
    /// goes on to the dead uplink with a new entry.
    async fn pick_anew(&mut self, flows: Forget) -> Result<(), ApplyError> {
        let Forget::Uplink(id, family) = flows else {
            return Ok(());
        };
        self.steering
            .forget(id, family)
            .await
            .map_err(|error| ApplyError::Forget {
                flows,
                source: error.into(),
            })
    }

    /// Deletes the connection tracking entries of some flows.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn forget(&mut self, flows: Forget) -> Result<(), ApplyError> {
        let failed = |source: Cause| ApplyError::Forget { flows, source };
        match flows {
            Forget::Uplink(id, family) => {
                let connections = self
                    .kernel
                    .forget_uplink(family, self.marks.flow(id), self.marks)
                    .await
                    .map_err(|error| failed(error.into()))?;
                self.connections.extend(connections);
                Ok(())
            }
            Forget::Leaving {
                uplink,
                family,
                source,
            } => self.let_go(uplink, family, source).await.map_err(failed),
            Forget::Unmarked(address) => {
                let Forgotten { count, connections } = self
                    .kernel
                    .forget_unmarked(address, self.marks)
                    .await
                    .map_err(|error| failed(error.into()))?;
                self.connections.extend(connections);
                debug!(%address, count, "forgot flows that others took the mark from");
                Ok(())
            }
            Forget::Former {
                uplink,
                address,
                elsewhere,
            } => {
                let former = FormerAddress {
                    address,
                    mark: self.marks.flow(uplink),
                    mask: self.marks,
                    elsewhere,
                };
                let Forgotten { count, connections } = self
                    .kernel
                    .forget_former(former)
                    .await
                    .map_err(|error| failed(error.into()))?;
                self.connections.extend(connections);
                info!(%uplink, %address, count, "forgot the flows of an address that is gone");
                Ok(())
            }
        }
    }

    /// The TCP connections that were forgotten since this was last asked.
    pub fn take_connections(&mut self) -> Vec<TrackedFlow> {
        std::mem::take(&mut self.connections)
    }

    /// Forgets the flows of an uplink that works and that can go elsewhere. What picks is told first
    /// and connection tracking after that, so that no flow is entered there anew meanwhile.
    async fn let_go(
        &mut self,
        id: UplinkId,
        family: Family,
        source: Option<IpAddr>,
    ) -> Result<(), Cause> {
        let Some(keeping) = self.keeping.get(&(id, family)).cloned() else {
            // Nothing is known of the uplink any more.
            return Ok(());
        };
        let leaving = Leaving {
            family,
            mark: self.marks.flow(id),
            mask: self.marks,
            source,
            surroundings: self.surroundings.clone(),
            keeping,
        };
        let flows = self.kernel.leaving(&leaving).await?;
        let released = self.steering.release(id, family, &flows).await;
        let forgotten = match released {
            Ok(()) => self
                .kernel
                .forget_leaving(&leaving)
                .await
                .map_err(Cause::from),
            Err(error) => Err(error.into()),
        };
        self.steering.heed(id, family).await?;
        let Forgotten { count, connections } = forgotten?;
        self.connections.extend(connections);
        debug!(uplink = %id, %family, count, "forgot the flows that can go elsewhere");
        Ok(())
    }

    /// Takes everything of ours out of the kernel, whoever put it there and under whichever
    /// configuration. Goes on when something fails.
    ///
    /// # Errors
    /// Everything that failed.
    pub async fn remove_all(&mut self) -> Result<(), ApplyErrors> {
        let mut errors = Vec::new();
        let removed = self.steering.remove().await;
        errors.extend(
            removed
                .into_iter()
                .map(|error| ApplyError::Leftovers(error.into())),
        );
        self.suspect_routing();
        errors.extend(self.routing(&Routing::default()).await);
        if let Err(source) = self.kernel.remove().await {
            let source = source.into();
            errors.push(ApplyError::Firewall {
                what: "remove",
                source,
            });
        }
        for bits in self.facts.mark_masks.clone() {
            let Ok(mask) = MarkMask::new(bits) else {
                continue;
            };
            match self.kernel.clear_marks(mask).await {
                Ok(count) => debug!(count, %mask, "cleared connection marks"),
                Err(source) => errors.push(ApplyError::ClearMarks(source.into())),
            }
        }
        for (key, changed) in self.facts.sysctls.clone() {
            match self.restore(&key, &changed) {
                Ok(()) => {
                    self.facts.sysctls.remove(&key);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            self.facts = InstalledFacts::default();
        }
        errors.extend(
            self.store
                .keep_installed(&self.facts)
                .err()
                .map(ApplyError::Store),
        );
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApplyErrors(errors))
        }
    }

    /// Two passes at most: the kernel looks a new route's gateway up by the rules that are there, so
    /// a route may be refused until a rule that somebody removed is back.
    async fn routing(&mut self, wanted: &Routing) -> Vec<ApplyError> {
        let errors = self.routing_pass(wanted).await;
        if errors.is_empty() {
            return errors;
        }
        self.routing_pass(wanted).await
    }

    async fn routing_pass(&mut self, wanted: &Routing) -> Vec<ApplyError> {
        let installed = match self.installed.take() {
            Some(known) => known,
            None => match self.kernel.installed().await {
                Ok(found) => found,
                Err(source) => return vec![ApplyError::ListRouting(source.into())],
            },
        };
        let mut errors = Vec::new();
        for change in difference(wanted, &installed) {
            debug!(?change, "changing the routing");
            if let Err(source) = self.kernel.change(&change).await {
                errors.push(ApplyError::ChangeRouting(source.into()));
            }
        }
        if errors.is_empty() {
            self.installed = Some(wanted.clone());
        }
        errors
    }

    async fn publish(&mut self, wanted: &Wanted) -> Result<(), ApplyError> {
        self.steering
            .publish(&wanted.dataplane)
            .await
            .map_err(|error| ApplyError::Steering(error.into()))?;
        if self.ruleset.as_ref() == Some(&wanted.ruleset) {
            return Ok(());
        }
        self.ruleset = None;
        self.kernel
            .replace(&wanted.ruleset)
            .await
            .map_err(|source| ApplyError::Firewall {
                what: "replace",
                source: source.into(),
            })?;
        self.ruleset = Some(wanted.ruleset.clone());
        Ok(())
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
