//! Remembers what eBPF mode makes, before it is made: `failover clean` takes out that and nothing
//! else, whatever the configuration says by then.

use std::fs;
use std::path::Path;

use nix::net::if_::if_indextoname;

use crate::interface::InterfaceIndex;
use crate::state::{EbpfFacts, MadeMount, MadeQdisc, Store, StoreError};

/// What was made, as the state folder knows it.
#[derive(Debug)]
pub struct Made {
    store: Store,
    facts: EbpfFacts,
}

impl Made {
    /// What the state folder knows. Qdiscs of an earlier start of the kernel are gone.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let mut facts = store.ebpf()?;
        let boot = boot();
        facts.clsact.retain(|made| made.boot == boot);
        Ok(Self {
            store: store.clone(),
            facts,
        })
    }

    /// What is known.
    #[must_use]
    pub const fn facts(&self) -> &EbpfFacts {
        &self.facts
    }

    /// Maps and links are going to be pinned in a folder.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn note_folder(&mut self, folder: &Path) -> Result<(), StoreError> {
        if self.facts.folders.insert(folder.to_owned()) {
            self.keep()?;
        }
        Ok(())
    }

    /// Nothing of ours is in a folder any more.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn forget_folder(&mut self, folder: &Path) -> Result<(), StoreError> {
        if self.facts.folders.remove(folder) {
            self.keep()?;
        }
        Ok(())
    }

    /// A BPF file system is going to be mounted.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn note_mount(&mut self, made: MadeMount) -> Result<(), StoreError> {
        self.facts.mounted = Some(made);
        self.keep()
    }

    /// `clsact` is going to be added to an interface.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn note_clsact(&mut self, interface: InterfaceIndex) -> Result<(), StoreError> {
        let made = MadeQdisc {
            interface: interface.0,
            boot: boot(),
        };
        let known = &mut self.facts.clsact;
        if !known.contains(&made) {
            // A qdisc is gone with its interface, and numbers are not given out anew for long.
            known.retain(|made| if_indextoname(made.interface).is_ok());
            known.insert(made);
            self.keep()?;
        }
        Ok(())
    }

    /// Nothing is left but the qdiscs.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn forget_all_but_qdiscs(&mut self) -> Result<(), StoreError> {
        let clsact = std::mem::take(&mut self.facts.clsact);
        self.facts = EbpfFacts {
            clsact,
            ..EbpfFacts::default()
        };
        self.keep()
    }

    /// Nothing is left of all that.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn forget_all(&mut self) -> Result<(), StoreError> {
        self.facts = EbpfFacts::default();
        self.keep()
    }

    fn keep(&self) -> Result<(), StoreError> {
        self.store.keep_ebpf(&self.facts)
    }
}

/// Which start of the kernel this is; empty without procfs, where all starts count as one.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
