//! What is made of what comes in: from the kernel, from probes, from users' traffic and from files of
//! sets.

use std::time::Instant;

use tracing::{info, warn};

use super::{Daemon, GATHER, moment};
use crate::controller::apply::Kernel;
use crate::controller::set_files::SetNews;
use crate::dataplane::{Steering, TrafficReport};
use crate::family::Family;
use crate::health::Traffic;
use crate::journal::Event;
use crate::kernel::watch::Change;
use crate::probe::Report;
use crate::uplink::UplinkId;

impl<K: Kernel, S: Steering> Daemon<K, S> {
    pub(super) fn changed(&mut self, change: Change) {
        let soon = Instant::now() + GATHER;
        match change {
            Change::Link { name, link } => {
                self.engine.link(&name, link, moment());
                // The kernel takes routes by a link that went down without saying so.
                self.suspect_routing();
                self.applier.suspect_settings();
                self.applier.suspect_steering();
                self.network_changed(soon);
            }
            Change::Neighbour {
                interface,
                address,
                mac,
            } => {
                self.engine
                    .neighbours(&[((interface, address), mac)].into());
            }
            Change::Addresses => {
                self.network_changed(soon);
            }
            Change::AddressGone | Change::Routes | Change::Rules => {
                self.suspect_routing();
                self.network_changed(soon);
            }
            Change::Firewall => {
                self.timers.inspect_firewall.get_or_insert(soon);
            }
            Change::Lost => {
                self.suspect_routing();
                self.network_changed(soon);
                self.timers.inspect_firewall.get_or_insert(soon);
            }
        }
    }

    /// Somebody may have changed what is ours.
    pub(super) fn suspect_routing(&mut self) {
        self.applier.suspect_routing();
        self.suspect = true;
    }

    /// The network is another one: it is looked at, and what it refused is tried again after that. What
    /// was decided stays the same where an address or a route went and came back in between.
    fn network_changed(&mut self, soon: Instant) {
        self.timers.look.get_or_insert(soon);
        self.timers.retry.hasten(soon);
    }

    pub(super) fn reported(&mut self, report: &Report) {
        let Report {
            uplink,
            family,
            round,
        } = report;
        // Before a silence is judged it is asked whether users are answered all the same.
        if round.misses_answers()
            && let Some(answered) = self.answered(*uplink, *family)
        {
            self.engine.traffic(*uplink, *family, answered, moment());
        }
        self.engine.round(*uplink, *family, round, moment());
    }

    pub(super) fn heard(&mut self, report: TrafficReport) {
        let TrafficReport {
            uplink,
            family,
            news,
        } = report;
        if self.engine.traffic(uplink, family, news, moment()) {
            self.prober.suspect(uplink, family);
        }
    }

    /// What is known of the last answer to users.
    fn answered(&self, uplink: UplinkId, family: Family) -> Option<Traffic> {
        let answered = self.witness.as_ref()?.answered(uplink, family)?;
        Some(Traffic::Answered {
            at: Instant::now().checked_sub(answered.age)?,
            hosts: answered.hosts,
        })
    }

    /// Follows a set whose file changed, or says why it stays as it is.
    pub(super) fn take_set(&mut self, news: SetNews) {
        let SetNews { name, file, read } = news;
        let told = match &read {
            Ok(set) => Ok(set.len()),
            Err(error) => Err(error.to_string()),
        };
        if !self
            .engine
            .take_set(&name, read.map_err(|error| error.to_string()))
        {
            return;
        }
        let event = match told {
            Ok(ranges) => {
                info!(set = %name, file = %file.display(), ranges, "a set has other addresses now");
                Event::SetReloaded { set: name, ranges }
            }
            Err(reason) => {
                warn!(set = %name, "the set stays as it was: {reason}");
                Event::SetRefused { set: name, reason }
            }
        };
        self.journal.note(event);
    }
}
