//! A hash map with keys and values of the layout. What is read is checked, since anybody with the
//! right to may write there.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use aya::maps::{HashMap, Map, MapData, MapError};
use bytemuck::{CheckedBitPattern, NoUninit};
use nix::errno::Errno;
use thiserror::Error;
use tracing::warn;

/// Why a map could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {what} the eBPF map {map}: {source}")]
pub struct MapAccessError {
    pub(super) what: &'static str,
    pub(super) map: &'static str,
    pub(super) source: MapError,
}

/// One of the programs' hash maps. `KEY` and `VALUE` are the lengths of the key and the value in
/// bytes.
pub struct Table<'m, K, V, const KEY: usize, const VALUE: usize> {
    name: &'static str,
    map: HashMap<&'m mut MapData, [u8; KEY], [u8; VALUE]>,
    types: PhantomData<(K, V)>,
}

impl<'m, K, V, const KEY: usize, const VALUE: usize> Table<'m, K, V, KEY, VALUE>
where
    K: NoUninit + CheckedBitPattern + Ord,
    V: NoUninit + CheckedBitPattern + PartialEq,
{
    const FITS: () = assert!(KEY == size_of::<K>() && VALUE == size_of::<V>());

    /// A map with these keys and values.
    ///
    /// # Errors
    /// When it has others.
    pub fn new(name: &'static str, map: &'m mut Map) -> Result<Self, MapAccessError> {
        let () = Self::FITS;
        let map = HashMap::try_from(map).map_err(|source| MapAccessError {
            what: "use",
            map: name,
            source,
        })?;
        Ok(Self {
            name,
            map,
            types: PhantomData,
        })
    }

    /// All entries; `None` for a value that makes no sense.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn entries(&self) -> Result<BTreeMap<K, Option<V>>, MapAccessError> {
        let mut entries = BTreeMap::new();
        for entry in self.map.iter() {
            let (key, value) = entry.map_err(self.failed("read"))?;
            match bytemuck::checked::try_pod_read_unaligned(&key) {
                Ok(key) => {
                    let value = bytemuck::checked::try_pod_read_unaligned(&value).ok();
                    entries.insert(key, value);
                }
                Err(_) => warn!(
                    map = self.name,
                    ?key,
                    "somebody wrote an entry that makes no sense"
                ),
            }
        }
        Ok(entries)
    }

    /// One entry; `None` if it is not there, or makes no sense.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn get(&self, key: &K) -> Result<Option<V>, MapAccessError> {
        match self.map.get(&key_bytes::<K, KEY>(key), 0) {
            Ok(value) => Ok(bytemuck::checked::try_pod_read_unaligned(&value).ok()),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(self.failed("read")(error)),
        }
    }

    /// Gives an entry another value; one that is not there any more is not made anew.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn replace(&mut self, key: &K, value: &V) -> Result<(), MapAccessError> {
        /// `BPF_EXIST` (`include/uapi/linux/bpf.h`).
        const ONLY_IF_THERE: u64 = 2;
        let mut bytes = [0; VALUE];
        bytes.copy_from_slice(bytemuck::bytes_of(value));
        match self
            .map
            .insert(key_bytes::<K, KEY>(key), bytes, ONLY_IF_THERE)
        {
            Err(error) if !is_not_there(&error) => Err(self.failed("write")(error)),
            _ => Ok(()),
        }
    }

    /// Writes entries, and leaves others as they are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&mut self, entries: &BTreeMap<K, V>) -> Result<(), MapAccessError> {
        for (key, value) in entries {
            self.write(key, value)?;
        }
        Ok(())
    }

    fn write(&mut self, key: &K, value: &V) -> Result<(), MapAccessError> {
        let mut bytes = [0; VALUE];
        bytes.copy_from_slice(bytemuck::bytes_of(value));
        self.map
            .insert(key_bytes::<K, KEY>(key), bytes, 0)
            .map_err(self.failed("write"))
    }

    /// Brings the map into a state; what is so already is not written. Returns how many entries were
    /// changed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&mut self, wanted: &BTreeMap<K, V>) -> Result<usize, MapAccessError> {
        let found = self.entries()?;
        let mut changed = 0;
        for (key, value) in wanted {
            if found.get(key) != Some(&Some(*value)) {
                self.write(key, value)?;
                changed += 1;
            }
        }
        for key in found.keys().filter(|key| !wanted.contains_key(key)) {
            match self.map.remove(&key_bytes::<K, KEY>(key)) {
                Ok(()) => changed += 1,
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(self.failed("write")(error)),
            }
        }
        Ok(changed)
    }

    fn failed(
        &self,
        what: &'static str,
    ) -> impl Fn(MapError) -> MapAccessError + use<K, V, KEY, VALUE> {
        let map = self.name;
        move |source| MapAccessError { what, map, source }
    }
}

/// The kernel says so in one way when it looks for a key, and this library in another.
fn is_not_there(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => {
            error.io_error.raw_os_error() == Some(Errno::ENOENT as i32)
        }
        _ => false,
    }
}

fn key_bytes<K: NoUninit, const KEY: usize>(key: &K) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes.copy_from_slice(bytemuck::bytes_of(key));
    bytes
}
