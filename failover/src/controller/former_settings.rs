//! Kernel settings of interfaces that are no uplink's any more: they get back what they had.

use tracing::info;

use crate::controller::apply::{Applier, Kernel};
use crate::controller::apply_error::ApplyError;
use crate::dataplane::Steering;
use crate::interface::InterfaceName;
use crate::state::ChangedSysctl;
use crate::wanted::sysctls::interface_of;

use std::collections::BTreeSet;

impl<K: Kernel, S: Steering> Applier<K, S> {
    /// Restores what was changed for other interfaces than the uplinks'.
    pub(super) fn restore_former(
        &mut self,
        uplinks: &BTreeSet<InterfaceName>,
    ) -> Result<(), ApplyError> {
        let former: Vec<(String, ChangedSysctl)> = self
            .facts
            .sysctls
            .iter()
            .filter(|(key, _)| {
                interface_of(key)
                    .is_some_and(|name| !uplinks.iter().any(|uplink| uplink.as_str() == name))
            })
            .map(|(key, changed)| (key.clone(), changed.clone()))
            .collect();
        for (key, changed) in former {
            self.restore(&key, &changed)?;
            info!(
                key,
                to = changed.found,
                "no uplink needs a kernel setting any more"
            );
            self.facts.sysctls.remove(&key);
            self.store.keep_installed(&self.facts)?;
        }
        Ok(())
    }
}
