//! The files of the state folder. Each is JSON and is replaced as a whole, so that a crash leaves
//! the old one or the new one. Those without which the daemon does not start again are on the disk
//! before they take the old one's place, so that a loss of power does the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::by_hand::ByHand;
use crate::family::PerFamily;
use crate::health::{Health, KeptDamping};
use crate::identity::Ids;
use crate::meter::KeptMeter;
use crate::uplink::UplinkName;

/// The last verdicts.
pub type RememberedHealth = BTreeMap<UplinkName, PerFamily<Health>>;

/// What uplinks have to answer for that failed again and again.
pub type RememberedDamping = BTreeMap<UplinkName, PerFamily<Option<KeptDamping>>>;

/// What uplinks' probes took today.
pub type RememberedMeters = BTreeMap<UplinkName, KeptMeter>;

/// Since when flows of an uplink may finish, where they do.
pub type RememberedDrains = BTreeMap<UplinkName, PerFamily<Option<Timestamp>>>;

/// The same of flows that rules name, by their `via` as the configuration writes it.
pub type RememberedRuleDrains = BTreeMap<String, RememberedDrains>;

/// What is done about uplinks by hand.
pub type RememberedByHand = BTreeMap<UplinkName, ByHand>;

/// The addresses that uplinks' interfaces have.
pub type RememberedAddresses = BTreeMap<UplinkName, BTreeSet<IpAddr>>;

/// What must be known to take everything out of the kernel again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledFacts {
    /// Mark masks that were ever used since the last clean.
    pub mark_masks: BTreeSet<u32>,
    /// Kernel settings that were changed, by key.
    pub sysctls: BTreeMap<String, ChangedSysctl>,
}

/// What eBPF mode made, in other places than the present configuration names or for others to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EbpfFacts {
    /// The folders in which maps and links were pinned.
    pub folders: BTreeSet<PathBuf>,
    /// A BPF file system that was mounted.
    pub mounted: Option<MadeMount>,
    /// The `clsact` qdiscs that were added.
    pub clsact: BTreeSet<MadeQdisc>,
}

/// The own nftables table as it was last put in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// What `nft` was told; empty where nothing was.
    pub ruleset: String,
    /// What it listed afterwards, as a number that differs for other listings.
    pub listing: u64,
}

/// A BPF file system that was mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeMount {
    /// Where.
    pub place: PathBuf,
    /// The folder was made for it.
    pub made_folder: bool,
}

/// A queueing discipline that was added.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MadeQdisc {
    /// The index of the interface.
    pub interface: u32,
    /// When the kernel was started, as a number that differs each time: another kernel's
    /// interfaces have the same indices.
    pub boot: String,
}

/// One changed kernel setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedSysctl {
    /// The value that was there.
    pub found: String,
    /// The value that we set.
    pub set: String,
}

/// Why a file of the state folder could not be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {path} (is the disk full or read-only?): {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what we wrote.
    #[error(
        "{path} is damaged (remove it to begin anew with what it remembered forgotten): {source}"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// What a file survives.
#[derive(Clone, Copy)]
enum Durability {
    /// The end of the process.
    Crash,
    /// A loss of power, too. It waits for the disk.
    Power,
}

/// The state folder's files.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) folder: PathBuf,
}

impl Store {
    const IDS: &str = "ids.json";
    const HEALTH: &str = "health.json";
    const DAMPING: &str = "damping.json";
    const DRAINS: &str = "drains.json";
    const RULE_DRAINS: &str = "rule_drains.json";
    const BY_HAND: &str = "by_hand.json";
    const METERS: &str = "probes.json";
    const ADDRESSES: &str = "addresses.json";
    const INSTALLED: &str = "installed.json";
    const EBPF: &str = "ebpf.json";
    const TABLE: &str = "table.json";

    /// The files of a folder, which must exist (see [`super::StateLock::take`]).
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The ids that uplinks were given; none where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn ids(&self) -> Result<Ids, StoreError> {
        self.load(Self::IDS)
    }

    /// Keeps the ids.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_ids(&self, ids: &Ids) -> Result<(), StoreError> {
        self.save(Self::IDS, ids, Durability::Power)
    }

    /// The last verdicts; none where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn health(&self) -> Result<RememberedHealth, StoreError> {
        self.load(Self::HEALTH)
    }

    /// Keeps the last verdicts.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_health(&self, health: &RememberedHealth) -> Result<(), StoreError> {
        self.save(Self::HEALTH, health, Durability::Crash)
    }

    /// What uplinks have to answer for; none where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn damping(&self) -> Result<RememberedDamping, StoreError> {
        self.load(Self::DAMPING)
    }

    /// Keeps what uplinks have to answer for.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_damping(&self, damping: &RememberedDamping) -> Result<(), StoreError> {
        self.save(Self::DAMPING, damping, Durability::Crash)
    }

    /// What probes took; nothing where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn meters(&self) -> Result<RememberedMeters, StoreError> {
        self.load(Self::METERS)
    }

    /// Keeps what probes took.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_meters(&self, meters: &RememberedMeters) -> Result<(), StoreError> {
        self.save(Self::METERS, meters, Durability::Crash)
    }

    /// The uplinks that were draining; none where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn drains(&self) -> Result<RememberedDrains, StoreError> {
        self.load(Self::DRAINS)
    }

    /// The rules whose flows could finish; none where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn rule_drains(&self) -> Result<RememberedRuleDrains, StoreError> {
        self.load(Self::RULE_DRAINS)
    }

    /// What is done about uplinks by hand; nothing where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn by_hand(&self) -> Result<RememberedByHand, StoreError> {
        self.load(Self::BY_HAND)
    }

    /// Keeps what is done about uplinks by hand: what somebody ordered outlives a loss of power.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_by_hand(&self, by_hand: &RememberedByHand) -> Result<(), StoreError> {
        self.save(Self::BY_HAND, by_hand, Durability::Power)
    }

    /// The addresses that uplinks had; none where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn addresses(&self) -> Result<RememberedAddresses, StoreError> {
        self.load(Self::ADDRESSES)
    }

    /// Keeps which addresses uplinks have.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_addresses(&self, addresses: &RememberedAddresses) -> Result<(), StoreError> {
        self.save(Self::ADDRESSES, addresses, Durability::Crash)
    }

    /// Keeps which uplinks are draining.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_drains(&self, drains: &RememberedDrains) -> Result<(), StoreError> {
        self.save(Self::DRAINS, drains, Durability::Crash)
    }

    /// Keeps of which rules flows may finish.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_rule_drains(&self, drains: &RememberedRuleDrains) -> Result<(), StoreError> {
        self.save(Self::RULE_DRAINS, drains, Durability::Crash)
    }

    /// What was put into the kernel; nothing where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn installed(&self) -> Result<InstalledFacts, StoreError> {
        self.load(Self::INSTALLED)
    }

    /// Keeps what was put into the kernel. To be called before it is put there.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_installed(&self, facts: &InstalledFacts) -> Result<(), StoreError> {
        self.save(Self::INSTALLED, facts, Durability::Power)
    }

    /// What eBPF mode made; nothing where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn ebpf(&self) -> Result<EbpfFacts, StoreError> {
        self.load(Self::EBPF)
    }

    /// Keeps what eBPF mode made.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_ebpf(&self, facts: &EbpfFacts) -> Result<(), StoreError> {
        self.save(Self::EBPF, facts, Durability::Power)
    }

    /// The own nftables table; empty where nothing was written yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn table(&self) -> Result<TableFacts, StoreError> {
        self.load(Self::TABLE)
    }

    /// Keeps what the own nftables table is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_table(&self, facts: &TableFacts) -> Result<(), StoreError> {
        self.save(Self::TABLE, facts, Durability::Crash)
    }

    fn load<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, StoreError> {
        let path = self.folder.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        serde_json::from_str(&text).map_err(|source| StoreError::Damaged { path, source })
    }

    fn save<T: Serialize>(
        &self,
        name: &str,
        value: &T,
        survives: Durability,
    ) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let new = self.folder.join(format!("{name}.new"));
        serde_json::to_vec_pretty(value)
            .map_err(io::Error::from)
            .and_then(|text| {
                let mut file = File::create(&new)?;
                file.write_all(&text)?;
                match survives {
                    Durability::Crash => Ok(()),
                    Durability::Power => file.sync_all(),
                }
            })
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| StoreError::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::UplinkId;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("failover-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = folder("store");
        let store = Store::new(&folder);
        assert_eq!(store.ids().unwrap(), Ids::new());
        let ids = Ids::from([("fiber".parse().unwrap(), UplinkId::try_from(3).unwrap())]);
        store.keep_ids(&ids).unwrap();
        assert_eq!(store.ids().unwrap(), ids);
        let facts = InstalledFacts {
            mark_masks: [0xff00_0000].into(),
            sysctls: [(
                "net/ipv4/conf/wan1/rp_filter".to_owned(),
                ChangedSysctl {
                    found: "1".to_owned(),
                    set: "2".to_owned(),
                },
            )]
            .into(),
        };
        store.keep_installed(&facts).unwrap();
        assert_eq!(store.installed().unwrap(), facts);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = folder("damaged");
        fs::write(folder.join("ids.json"), "{\"fiber\": 200}").unwrap();
        let error = Store::new(&folder).ids().unwrap_err();
        assert!(error.to_string().contains("ids.json is damaged"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
