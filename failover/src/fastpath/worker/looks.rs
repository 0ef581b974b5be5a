//! What the thread of the fast path looks at now and then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::info;

use super::{AtWork, QUIET};
use crate::fastpath::edge::Surroundings;
use crate::fastpath::facts::Kept;
use crate::fastpath::hops::Around;
use crate::fastpath::offloads::nanos;
use crate::fastpath::plane::Plane;
use crate::fastpath::standing::Why;
use crate::monotonic::now_ns;

/// How many looks at a part of the entries it takes to have seen all.
const PARTS: u32 = 20;
/// Flows whose ways are asked again at once, after routes changed.
const DOUBTED: usize = 2048;
/// How long after the kernel was last seen not to tell of flows that end others may have begun of which it
/// does not: two rounds.
const UNTOLD_UNTIL: Duration = Duration::from_secs(2);
/// Why no flow may take the fast path where nobody tells when its connection ends.
const UNTOLD: &str = "net.netfilter.nf_conntrack_events is 0: nobody tells when connection tracking \
                      forgets a flow";

impl<P: Plane, S: Surroundings> AtWork<P, S> {
    /// Reads interfaces and neighbours anew.
    pub(super) fn read_around(&mut self) -> Result<(), S::Error> {
        let around = Around {
            ports: self.kernel.ports()?,
            neighbours: self.kernel.neighbours()?,
        };
        self.offloads().look_around(around);
        Ok(())
    }

    /// Looks at some entries, and at some whose routes may have changed.
    pub(super) fn look(&mut self) -> Result<(), S::Error> {
        let (due, doubted) = {
            let mut offloads = self.offloads();
            offloads.wait_is_over();
            let most = offloads.span() / PARTS + 1;
            (offloads.look(most, now_ns()), offloads.doubted(DOUBTED))
        };
        if !due.is_empty() {
            let upkeep: Vec<_> = due.iter().map(|(_, upkeep)| *upkeep).collect();
            let kept = self.kernel.keep(&upkeep)?;
            let mut offloads = self.offloads();
            for ((key, _), kept) in due.iter().zip(kept) {
                if kept == Kept::Gone {
                    offloads.forget(key);
                }
            }
        }
        if !doubted.is_empty() {
            let packets: Vec<_> = doubted
                .iter()
                .flat_map(|(_, packets, _)| *packets)
                .collect();
            let ways = self.kernel.ways(&packets)?;
            let mut offloads = self.offloads();
            for ((slot, _, known), found) in doubted.iter().zip(ways.as_chunks::<2>().0) {
                offloads.rerouted(*slot, *known, *found);
            }
        }
        Ok(())
    }

    /// Looks at interfaces again: a router's advertisement or a setting that changes what of IPv6 they
    /// take is no news of theirs.
    fn look_at_ports(&mut self) -> Result<(), S::Error> {
        let ports = self.kernel.ports()?;
        self.offloads().ports_are(ports);
        Ok(())
    }

    /// Looks at what sends no news, and tells the programs that the daemon is there.
    pub(super) fn round(&mut self, now: Instant) -> Result<(), S::Error> {
        let settings = self.offloads().settings();
        if settings.is_on {
            self.look_at_ports()?;
            let mut obstacles = BTreeMap::new();
            for interface in settings.names.keys() {
                let found = self.kernel.obstacle(*interface, &settings.programs)?;
                obstacles.extend(found.map(|what| (*interface, what)));
            }
            let lifetimes = self.kernel.lifetimes();
            let told_since_ns = self.kernel.tells_since_ns();
            if told_since_ns.is_none() {
                self.untold_until_ns = now_ns().saturating_add(nanos(UNTOLD_UNTIL));
            }
            let ipsec = self.kernel.has_ipsec_policies()?;
            let trouble = !self.is_ready(now);
            let mut offloads = self.offloads();
            let since_ns = told_since_ns.unwrap_or_default();
            offloads.set_told_since(since_ns.max(self.untold_until_ns));
            offloads.set_lifetimes(lifetimes);
            offloads.set_obstacles(obstacles);
            if self.untold_until_ns > now_ns() {
                offloads.set_broken(Some(Why::Broken(UNTOLD.to_owned())));
            } else if ipsec {
                offloads.set_broken(Some(Why::Ipsec));
            } else if !trouble {
                offloads.set_broken(None);
            }
            drop(offloads);
            if !trouble && let Some((error, _)) = self.trouble.take() {
                info!(error, "the fast path works again");
            }
        }
        let mut offloads = self.offloads();
        let now_ns = now_ns();
        offloads.forget_refusals(now_ns);
        offloads.renew_lease(now_ns);
        let busy = offloads.count() > 0;
        drop(offloads);
        if busy {
            self.busy_until = now + QUIET;
        } else if self.listening && self.busy_until <= now {
            self.kernel.stop_listening();
            self.listening = false;
        }
        Ok(())
    }
}
