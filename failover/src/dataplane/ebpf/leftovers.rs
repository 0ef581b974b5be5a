//! Takes everything out of the kernel that eBPF mode ever put there, whichever version did.
//!
//! It works where bpf(2) does not: removing a pin is removing a file, and filters go by netlink.

use std::fs;
use std::path::Path;

use nix::net::if_::if_nameindex;
use tracing::info;

use super::mount;
use super::pins::{PinError, Pins, list, unlink};
use super::program::PREFIX;
use super::steering::EbpfError;
use crate::interface::InterfaceIndex;
use crate::kernel::filters::{Side, TrafficFilters};
use crate::state::{EbpfFacts, Store};

/// What may be left of eBPF mode.
#[derive(Clone, Debug)]
pub struct Leftovers {
    pins: Pins,
    store: Store,
}

impl Leftovers {
    /// Of the daemon with this folder on the BPF file system and this state folder.
    #[must_use]
    pub fn new(pins: &Pins, store: &Store) -> Self {
        Self {
            pins: pins.clone(),
            store: store.clone(),
        }
    }

    /// Takes all of it out. Goes on when something fails.
    pub async fn remove(&self) -> Vec<EbpfError> {
        let mut errors = Vec::new();
        let root = self.pins.root();
        let there = root.exists() && mount::is_bpffs(root).is_ok_and(|is_bpffs| is_bpffs);
        if there {
            info!(folder = %root.display(), "removing what eBPF mode left");
            errors.extend(remove_folder(root).err().map(EbpfError::Pins));
        }
        errors.extend(remove_filters().await);
        match self.store.ebpf() {
            Ok(facts) if facts != EbpfFacts::default() => {
                errors.extend(remove_qdiscs(&facts).await);
                if let Some(place) = &facts.mounted {
                    mount::release(place);
                }
                let forgotten = self.store.keep_ebpf(&EbpfFacts::default());
                errors.extend(forgotten.err().map(EbpfError::Store));
            }
            Ok(_) => {}
            Err(error) => errors.push(EbpfError::Store(error)),
        }
        errors
    }
}

/// Removes what is pinned, links first: a program without its maps would have no meaning, and maps
/// without programs do no harm.
pub(super) fn remove_folder(folder: &Path) -> Result<(), PinError> {
    let mut inside = list(folder)?;
    inside.sort_by_key(|path| !path.is_dir());
    for path in inside {
        if path.is_dir() {
            remove_folder(&path)?;
        } else {
            unlink(&path)?;
        }
    }
    fs::remove_dir(folder).map_err(|source| PinError {
        what: "remove",
        path: folder.to_owned(),
        source,
    })
}

async fn remove_filters() -> Vec<EbpfError> {
    let mut errors = Vec::new();
    let mut filters = match TrafficFilters::open() {
        Ok(filters) => filters,
        Err(error) => return vec![EbpfError::Filters(error)],
    };
    for (interface, _) in interfaces() {
        for side in Side::ALL {
            match filters.list(interface, side).await {
                Ok(found) => {
                    let ours = found.iter().filter(|filter| {
                        let program = filter.program.as_ref();
                        program.is_some_and(|program| program.name.starts_with(PREFIX))
                    });
                    for filter in ours {
                        errors.extend(filters.remove(filter).await.err().map(EbpfError::Filters));
                    }
                }
                Err(error) => errors.push(EbpfError::Filters(error)),
            }
        }
    }
    errors
}

/// Removes the qdiscs that were made for our filters and that nobody else uses by now.
async fn remove_qdiscs(facts: &EbpfFacts) -> Vec<EbpfError> {
    let mut errors = Vec::new();
    let mut filters = match TrafficFilters::open() {
        Ok(filters) => filters,
        Err(error) => return vec![EbpfError::Filters(error)],
    };
    let made = interfaces()
        .into_iter()
        .filter(|(_, name)| facts.clsact.iter().any(|made| made.as_str() == name));
    for (interface, _) in made {
        let mut used = false;
        for side in Side::ALL {
            match filters.list(interface, side).await {
                Ok(found) => used |= !found.is_empty(),
                Err(error) => errors.push(EbpfError::Filters(error)),
            }
        }
        if !used {
            let removed = filters.remove_clsact(interface).await;
            errors.extend(removed.err().map(EbpfError::Filters));
        }
    }
    errors
}

fn interfaces() -> Vec<(InterfaceIndex, String)> {
    let found = if_nameindex();
    found
        .iter()
        .flat_map(|all| all.iter())
        .map(|one| {
            let name = one.name().to_string_lossy().into_owned();
            (InterfaceIndex(one.index()), name)
        })
        .collect()
}
