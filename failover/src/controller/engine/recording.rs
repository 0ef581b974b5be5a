//! What an uplink is judged by, put down for those who want to play it again.

use super::{Engine, Moment};
use crate::controller::uplink::Uplink;
use crate::family::{Family, PerFamily};
use crate::replay::{Begin, Entry};
use crate::uplink::UplinkName;

impl Engine {
    /// From now on all is put down that an uplink is judged by. Returns what is known of it by now, and
    /// what was put down before and not taken is gone; `None` when there is no such uplink.
    pub fn record(&mut self, name: &UplinkName, now: Moment) -> Option<Begin> {
        let uplink = self.named(name)?;
        let families =
            PerFamily::from_fn(|family| uplink.families.get_mut(family).machine().record());
        let (config, probe) = (&uplink.config, &uplink.config.probe);
        Some(Begin::new(
            name,
            &config.interface,
            probe,
            now.at,
            now.wall,
            families,
        ))
    }

    /// What was put down since this was last asked; `None` when nothing is put down, since nobody asked
    /// for it or the uplink is another one now.
    pub fn take_recorded(&mut self, name: &UplinkName) -> Option<Vec<Entry>> {
        let uplink = self.named(name)?;
        let mut entries = Vec::new();
        for family in Family::ALL {
            entries.extend(uplink.families.get_mut(family).machine().take()?);
        }
        Some(entries)
    }

    /// Nothing is put down any more.
    pub fn stop_recording(&mut self, name: &UplinkName) {
        if let Some(uplink) = self.named(name) {
            for family in Family::ALL {
                uplink.families.get_mut(family).machine().stop();
            }
        }
    }

    pub(super) fn named(&mut self, name: &UplinkName) -> Option<&mut Uplink> {
        let id = self.id_of(name)?;
        self.uplinks.get_mut(&id)
    }
}
