//! Takes everything out of the kernel that eBPF mode ever put there, whichever version did.
//!
//! It works where bpf(2) does not: removing a pin is removing a file, and filters go by netlink.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::net::if_::if_nameindex;
use tracing::info;

use super::made::Made;
use super::mount;
use super::pins::{PinError, Pins, list, unlink};
use super::program::Point;
use super::steering::EbpfError;
use crate::interface::InterfaceIndex;
use crate::kernel::filters::{Filter, Qdisc, Side, TrafficFilters};
use crate::state::{EbpfFacts, MadeQdisc, Store};

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
        self.take(What::Everything).await
    }

    /// Takes out what would go on picking, while users' packets pass. The `clsact` qdiscs that were
    /// made for our filters stay until [`Self::remove`]: empty they do nothing, and to remove one
    /// stops the interface for some milliseconds.
    pub async fn take_off(&self) -> Vec<EbpfError> {
        self.take(What::AllButQdiscs).await
    }

    async fn take(&self, what: What) -> Vec<EbpfError> {
        let mut errors = Vec::new();
        let mut made = match Made::load(&self.store) {
            Ok(made) => Some(made),
            Err(error) => {
                errors.push(EbpfError::Store(error));
                None
            }
        };
        let noted = made.as_ref().map(Made::facts);
        let noted = noted.into_iter().flat_map(|facts| &facts.folders);
        let roots: BTreeSet<&Path> = noted
            .map(PathBuf::as_path)
            .chain([self.pins.root()])
            .collect();
        for root in roots {
            errors.extend(
                remove_pins(&Pins::new(root))
                    .into_iter()
                    .map(EbpfError::Pins),
            );
        }
        errors.extend(remove_filters(|_| false).await);
        if let Some(made) = &mut made
            && *made.facts() != EbpfFacts::default()
        {
            if what == What::Everything {
                for qdisc in &made.facts().clsact {
                    errors.extend(remove_qdisc(qdisc).await);
                }
            }
            if let Some(mounted) = &made.facts().mounted {
                mount::release(mounted);
            }
            if errors.is_empty() {
                let forgotten = match what {
                    What::Everything => made.forget_all(),
                    What::AllButQdiscs => made.forget_all_but_qdiscs(),
                };
                errors.extend(forgotten.err().map(EbpfError::Store));
            }
        }
        errors
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Everything,
    AllButQdiscs,
}

/// Removes what is pinned below a configured folder, of all versions, and the folder itself unless
/// others use it, too.
pub(super) fn remove_pins(pins: &Pins) -> Vec<PinError> {
    let root = pins.root();
    // What is elsewhere is not ours, whatever it is called.
    if !root.exists() || !mount::is_bpffs(root).is_ok_and(|is_bpffs| is_bpffs) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    match pins.versions() {
        Ok(versions) => {
            for folder in versions {
                info!(folder = %folder.display(), "removing what eBPF mode left");
                errors.extend(remove_folder(&folder).err());
            }
        }
        Err(error) => errors.push(error),
    }
    match fs::remove_dir(root) {
        Ok(()) => {}
        // Somebody's pins, or where the file system is mounted.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
            ) => {}
        Err(source) => errors.push(PinError {
            what: "remove",
            path: root.to_owned(),
            source,
        }),
    }
    errors
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

/// Removes our filters from all interfaces, except those that are to be kept.
pub(super) async fn remove_filters(keep: impl Fn(&Filter) -> bool) -> Vec<EbpfError> {
    let mut errors = Vec::new();
    let mut filters = match TrafficFilters::open() {
        Ok(filters) => filters,
        Err(error) => return vec![EbpfError::Filters(error)],
    };
    for interface in interfaces() {
        for side in Side::ALL {
            match filters.list(interface, side).await {
                Ok(found) => {
                    let ours = found.iter().filter(|filter| {
                        let program = filter.program.as_ref();
                        program.is_some_and(|program| Point::is_name(&program.name))
                    });
                    for filter in ours.filter(|filter| !keep(filter)) {
                        errors.extend(filters.remove(filter).await.err().map(EbpfError::Filters));
                    }
                }
                Err(error) => errors.push(EbpfError::Filters(error)),
            }
        }
    }
    errors
}

/// Removes a qdisc that was made for our filters, unless somebody else uses it by now.
async fn remove_qdisc(made: &MadeQdisc) -> Vec<EbpfError> {
    let mut errors = Vec::new();
    let mut filters = match TrafficFilters::open() {
        Ok(filters) => filters,
        Err(error) => return vec![EbpfError::Filters(error)],
    };
    let interface = InterfaceIndex(made.interface);
    let mut used = match filters.qdisc(interface).await {
        Ok(found) => found != Some(Qdisc::Clsact),
        Err(error) => return vec![EbpfError::Filters(error)],
    };
    for side in Side::ALL {
        match filters.list(interface, side).await {
            Ok(found) => used |= !found.is_empty(),
            Err(error) => {
                used = true;
                errors.push(EbpfError::Filters(error));
            }
        }
    }
    if !used {
        let removed = filters.remove_clsact(interface).await;
        errors.extend(removed.err().map(EbpfError::Filters));
    }
    errors
}

fn interfaces() -> Vec<InterfaceIndex> {
    let found = if_nameindex();
    found
        .iter()
        .flat_map(|all| all.iter())
        .map(|one| InterfaceIndex(one.index()))
        .collect()
}
