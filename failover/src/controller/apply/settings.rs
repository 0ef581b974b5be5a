//! Kernel settings: they are changed where they would break what the uplinks need, and get back what
//! they had when no interface needs the change any more.

use std::collections::BTreeSet;

use tracing::info;

use super::{Applier, Kernel};
use crate::controller::apply_error::ApplyError;
use crate::dataplane::Steering;
use crate::interface::InterfaceName;
use crate::state::ChangedSysctl;
use crate::wanted::sysctls::{
    RP_FILTER_ALL, SEND_REDIRECTS_ALL, interface_of, is_of_redirects, rp_filter, rp_filter_key,
    send_redirects, send_redirects_key,
};

impl<K: Kernel, S: Steering> Applier<K, S> {
    /// Brings the settings of these interfaces into the wanted state.
    pub(super) fn settings(
        &mut self,
        uplinks: &BTreeSet<InterfaceName>,
        without_redirects: &BTreeSet<InterfaceName>,
    ) -> Result<(), ApplyError> {
        let settled = (uplinks.clone(), without_redirects.clone());
        if self.settled.as_ref() == Some(&settled) {
            return Ok(());
        }
        let Some(all) = self.read(RP_FILTER_ALL)? else {
            return Ok(());
        };
        for interface in uplinks {
            self.setting(&rp_filter_key(interface), |own| rp_filter(&all, own))?;
        }
        for interface in without_redirects {
            self.setting(&send_redirects_key(interface), send_redirects)?;
        }
        if !without_redirects.is_empty() {
            self.setting(SEND_REDIRECTS_ALL, send_redirects)?;
        }
        self.settled = Some(settled);
        Ok(())
    }

    /// Notes a setting's value before it is changed for the first time.
    fn setting(
        &mut self,
        key: &str,
        wanted: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<(), ApplyError> {
        let Some(own) = self.read(key)? else {
            return Ok(());
        };
        let Some(wanted) = wanted(&own) else {
            return Ok(());
        };
        if !self.facts.sysctls.contains_key(key) {
            let changed = ChangedSysctl {
                found: own.clone(),
                set: wanted.to_owned(),
            };
            self.facts.sysctls.insert(key.to_owned(), changed);
            self.store.keep_installed(&self.facts)?;
        }
        self.write(key, wanted)?;
        info!(
            key,
            from = own,
            to = wanted,
            "changed a kernel setting; `failover clean` restores it"
        );
        Ok(())
    }

    /// Restores a setting that is still as we set it; one that somebody changed since is theirs.
    pub(super) fn restore(&mut self, key: &str, changed: &ChangedSysctl) -> Result<(), ApplyError> {
        match self.read(key)? {
            Some(value) if value == changed.set => self.write(key, &changed.found),
            _ => Ok(()),
        }
    }

    fn read(&self, key: &str) -> Result<Option<String>, ApplyError> {
        self.kernel.read(key).map_err(|source| ApplyError::Sysctl {
            key: key.to_owned(),
            source: source.into(),
        })
    }

    fn write(&mut self, key: &str, value: &str) -> Result<(), ApplyError> {
        self.kernel
            .write(key, value)
            .map_err(|source| ApplyError::Sysctl {
                key: key.to_owned(),
                source: source.into(),
            })
    }

    /// Restores what was changed for other interfaces than the uplinks', and for others than those that
    /// must send no redirects.
    pub(super) fn restore_former(
        &mut self,
        uplinks: &BTreeSet<InterfaceName>,
        without_redirects: &BTreeSet<InterfaceName>,
    ) -> Result<(), ApplyError> {
        let is_needed = |key: &str| {
            let interfaces = if is_of_redirects(key) {
                without_redirects
            } else {
                uplinks
            };
            match interface_of(key) {
                Some(name) => interfaces.iter().any(|needed| needed.as_str() == name),
                None => !is_of_redirects(key) || !interfaces.is_empty(),
            }
        };
        let former: Vec<(String, ChangedSysctl)> = self
            .facts
            .sysctls
            .iter()
            .filter(|(key, _)| !is_needed(key))
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
