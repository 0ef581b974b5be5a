//! Where maps and links are pinned: below the configured folder, in one whose name carries the
//! version of the layout. Maps of another version are never used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapInfo, MapType};
use failover_common::rules::{Action, GENERATIONS, RuleSet};
use failover_common::{
    Direction, Flow, FlowKey, Gateway, GatewayKey, Guard, Interface, LAYOUT_VERSION, Lease,
    NextHop, Remembered, RememberedKey, Selection, SelectionKey, Totals, Uplink, UplinkConnections,
    UplinkCounters, UplinkLiveness, maps,
};
use thiserror::Error;
use tracing::info;

use super::program::Point;
use crate::interface::InterfaceIndex;

/// A file or folder on the BPF file system could not be used.
#[derive(Debug, Error)]
#[error("cannot {what} {path} on the BPF file system: {source}")]
pub struct PinError {
    /// What was tried.
    pub what: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The folders of this version.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Below the configured folder.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The configured folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of this version.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join(format!("v{LAYOUT_VERSION}"))
    }

    /// Where a map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The folder of the links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.folder().join("links")
    }

    /// Where a link is pinned. Names of interfaces may hold dots, which the kernel allows in no name
    /// there.
    #[must_use]
    pub fn link(&self, interface: InterfaceIndex, point: Point) -> PathBuf {
        self.links().join(link_name(interface, point))
    }

    /// Makes the folders.
    ///
    /// # Errors
    /// When that fails.
    pub fn make(&self) -> Result<(), PinError> {
        let path = self.links();
        fs::create_dir_all(&path).map_err(|source| PinError {
            what: "make",
            path,
            source,
        })
    }

    /// The names of the links that are pinned.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn pinned_links(&self) -> Result<Vec<PathBuf>, PinError> {
        list(&self.links())
    }

    /// The folders of all versions. What else is in the configured folder is not ours: it may be
    /// the root of the file system.
    ///
    /// # Errors
    /// When the configured folder cannot be read.
    pub fn versions(&self) -> Result<Vec<PathBuf>, PinError> {
        let mut found = list(&self.root)?;
        found.retain(|path| path.is_dir() && is_version(path));
        Ok(found)
    }

    /// Removes pinned maps that cannot be used again: others of that name, another size.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn drop_unusable(&self, flow_capacity: u32) -> Result<(), PinError> {
        for shape in shapes(flow_capacity) {
            let path = self.map(shape.name);
            // A folder in the place of a map is refused when it is removed.
            if !path.exists() {
                continue;
            }
            let reason = match MapData::from_pin(&path).and_then(|map| map.info()) {
                Ok(found) => shape.mismatch(&found),
                Err(error) => Some(error.to_string()),
            };
            if let Some(reason) = reason {
                info!(map = %path.display(), reason, "a pinned map cannot be used again; it is made anew");
                unlink(&path)?;
            }
        }
        Ok(())
    }
}

/// `v` and a number.
fn is_version(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix('v'))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

/// The name of the pin of a link.
#[must_use]
pub fn link_name(interface: InterfaceIndex, point: Point) -> String {
    format!("{interface}-{point}")
}

/// Removes a pin; that there is none is no error. A link is detached by that.
///
/// # Errors
/// When the file cannot be removed.
pub fn unlink(path: &Path) -> Result<(), PinError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PinError {
            what: "remove",
            path: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What is in a folder; nothing where there is none.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, PinError> {
    let failed = |source| PinError {
        what: "list",
        path: folder.to_owned(),
        source,
    };
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// What a map must be to be used again.
struct Shape {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

fn shapes(flow_capacity: u32) -> [Shape; 18] {
    let shape = |name, kind, key, value, entries| Shape {
        name,
        kind,
        key,
        value,
        entries,
    };
    const INDEX: usize = size_of::<u32>();
    [
        shape(
            maps::FLOWS,
            MapType::LruHash,
            size_of::<FlowKey>(),
            size_of::<Flow>(),
            flow_capacity,
        ),
        shape(
            maps::UPLINKS,
            MapType::Array,
            INDEX,
            size_of::<Uplink>(),
            maps::UPLINK_CAPACITY + 1,
        ),
        shape(
            maps::SELECTION,
            MapType::Hash,
            size_of::<SelectionKey>(),
            size_of::<Selection>(),
            maps::SELECTION_CAPACITY,
        ),
        shape(
            maps::REMEMBERED,
            MapType::LruHash,
            size_of::<RememberedKey>(),
            size_of::<Remembered>(),
            maps::remembered_capacity(flow_capacity),
        ),
        shape(
            maps::INTERFACES,
            MapType::Hash,
            INDEX,
            size_of::<Interface>(),
            maps::INTERFACE_CAPACITY,
        ),
        shape(
            maps::GATEWAYS,
            MapType::Hash,
            size_of::<GatewayKey>(),
            size_of::<Gateway>(),
            maps::GATEWAY_CAPACITY,
        ),
        shape(
            maps::COUNTERS,
            MapType::PerCpuArray,
            INDEX,
            size_of::<UplinkCounters>(),
            maps::UPLINK_CAPACITY + 1,
        ),
        shape(
            maps::TOTALS,
            MapType::PerCpuArray,
            INDEX,
            size_of::<Totals>(),
            1,
        ),
        shape(
            maps::LIVENESS,
            MapType::Array,
            INDEX,
            size_of::<UplinkLiveness>(),
            maps::UPLINK_CAPACITY + 1,
        ),
        shape(
            maps::CONNECTIONS,
            MapType::PerCpuArray,
            INDEX,
            size_of::<UplinkConnections>(),
            maps::UPLINK_CAPACITY + 1,
        ),
        shape(
            maps::RULE_SET,
            MapType::Hash,
            INDEX,
            size_of::<RuleSet>(),
            1,
        ),
        shape(
            maps::CONDITIONS,
            MapType::ArrayOfMaps,
            INDEX,
            INDEX,
            GENERATIONS,
        ),
        shape(
            maps::RULE_ACTIONS,
            MapType::Array,
            INDEX,
            size_of::<Action>(),
            maps::ACTION_CAPACITY,
        ),
        shape(
            maps::OFFLOAD,
            MapType::Array,
            INDEX,
            size_of::<Direction>(),
            maps::place_count(maps::offload_capacity(flow_capacity)),
        ),
        shape(
            maps::REFUSED,
            MapType::Hash,
            size_of::<FlowKey>(),
            size_of::<u8>(),
            maps::REFUSED_CAPACITY,
        ),
        shape(
            maps::NEXT_HOPS,
            MapType::Array,
            INDEX,
            size_of::<NextHop>(),
            maps::NEXT_HOP_CAPACITY,
        ),
        shape(maps::LEASE, MapType::Array, INDEX, size_of::<Lease>(), 1),
        shape(maps::GUARD, MapType::Array, INDEX, size_of::<Guard>(), 1),
    ]
}

impl Shape {
    fn mismatch(&self, found: &MapInfo) -> Option<String> {
        let kind = match found.map_type() {
            Ok(kind) => kind,
            Err(error) => return Some(error.to_string()),
        };
        if kind != self.kind {
            return Some(format!("it is of the type {kind:?}, not {:?}", self.kind));
        }
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        [
            ("its keys have", found.key_size(), number(self.key), "bytes"),
            (
                "its values have",
                found.value_size(),
                number(self.value),
                "bytes",
            ),
            ("it has", found.max_entries(), self.entries, "entries"),
        ]
        .into_iter()
        .find(|(_, found, wanted, _)| found != wanted)
        .map(|(what, found, wanted, unit)| format!("{what} {found} {unit}, not {wanted}"))
    }
}
