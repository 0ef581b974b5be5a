//! Reads all sets that come from files, for a check, a start or a reload.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tracing::warn;

use super::addresses::AddressSet;
use super::set_file::{self, SetFileError};
use super::sets::{SetName, SetSource, Sets};
use crate::config::Config;
use crate::state::Store;

/// Sets for which there is neither a good file nor anything that was kept.
#[derive(Debug, Error)]
#[error("{}", told(.0))]
pub struct NoSets(Vec<SetFileError>);

fn told(errors: &[SetFileError]) -> String {
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    told.join("\n")
}

/// Sets that were read from files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedSets {
    /// Their addresses.
    pub sets: Sets,
    /// What is wrong with the files of those that are as they were.
    pub problems: BTreeMap<SetName, String>,
}

/// Reads the files of all sets that have one.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn read_all(config: &Config) -> Result<Sets, NoSets> {
    let mut sets = Sets::new();
    read_each(config, |name, read| {
        sets.insert(name, Arc::new(read?));
        Ok(())
    })?;
    Ok(sets)
}

/// The same for a daemon that starts: where a file is not as it should be, what was kept of its set
/// is used.
///
/// # Errors
/// When nothing was kept of one of them.
pub fn begin(config: &Config, store: &Store) -> Result<LoadedSets, NoSets> {
    let mut loaded = LoadedSets::default();
    read_each(config, |name, read| {
        let set = match read {
            Ok(set) => {
                keep(store, &name, &set);
                set
            }
            Err(error) => {
                let Some(kept) = kept(store, &name) else {
                    return Err(error);
                };
                warn!(set = %name, %error, "the last good addresses of a set are used");
                loaded.problems.insert(name.clone(), error.to_string());
                kept
            }
        };
        loaded.sets.insert(name, Arc::new(set));
        Ok(())
    })?;
    Ok(loaded)
}

/// Reads all files, whatever is wrong with one of them.
fn read_each(
    config: &Config,
    mut take: impl FnMut(SetName, Result<AddressSet, SetFileError>) -> Result<(), SetFileError>,
) -> Result<(), NoSets> {
    let taken = files(config)
        .into_iter()
        .map(|(name, file)| take(name, set_file::read(&file)));
    let errors: Vec<SetFileError> = taken.filter_map(Result::err).collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(NoSets(errors))
    }
}

fn kept(store: &Store, name: &SetName) -> Option<AddressSet> {
    store
        .set(name)
        .inspect_err(|error| warn!(%error, "cannot look for what was kept of a set"))
        .ok()
        .flatten()
}

/// Keeps a set for the next start.
pub(crate) fn keep(store: &Store, name: &SetName, set: &AddressSet) {
    if let Err(error) = store.keep_set(name, set) {
        warn!(set = %name, %error, "a set would not be there if its file broke before the next start");
    }
}

/// The sets that come from files.
pub(crate) fn files(config: &Config) -> BTreeMap<SetName, PathBuf> {
    let of_files = config
        .sets
        .iter()
        .filter_map(|(name, source)| match source {
            SetSource::File(file) => Some((name.clone(), file.clone())),
            SetSource::Inline(_) => None,
        });
    of_files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_goes_on_with_what_was_kept() {
        let folder =
            std::env::temp_dir().join(format!("failover-kept-sets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::new(&folder);
        let file = folder.join("list.txt");
        let text = format!(
            "uplinks: {{a: {{interface: wan1}}}}\nsets: {{list: {}}}\n",
            file.display()
        );
        let config = crate::config::parse(&text).unwrap();
        assert!(begin(&config, &store).is_err());
        std::fs::write(&file, "192.0.2.0/24\n").unwrap();
        let good = begin(&config, &store).unwrap();
        assert!(good.problems.is_empty());
        std::fs::write(&file, "broken\n").unwrap();
        let kept = begin(&config, &store).unwrap();
        assert_eq!(kept.sets, good.sets);
        assert_eq!(kept.problems.len(), 1);
        assert!(read_all(&config).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
