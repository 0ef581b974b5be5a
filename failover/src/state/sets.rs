//! The last good text of each set that comes from a file: a gateway that restarts while somebody
//! broke the file goes on with what it had.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::store::{Store, StoreError};
use crate::family::Family;
use crate::policy::{AddressSet, SetName, set_file};

impl Store {
    fn set_path(&self, name: &SetName) -> PathBuf {
        self.folder.join("sets").join(format!("{name}.txt"))
    }

    /// The last good addresses of a set, if there are any.
    ///
    /// # Errors
    /// When what was kept cannot be read. What is damaged is as good as not kept.
    pub fn set(&self, name: &SetName) -> Result<Option<AddressSet>, StoreError> {
        let path = self.set_path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(set_file::parse(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    /// Keeps the addresses of a set.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_set(&self, name: &SetName, set: &AddressSet) -> Result<(), StoreError> {
        let path = self.set_path(name);
        let new = path.with_extension("new");
        let mut text = String::new();
        for family in Family::ALL {
            for range in set.ranges(family) {
                text.push_str(&range.to_string());
                text.push('\n');
            }
        }
        fs::create_dir_all(self.folder.join("sets"))
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| StoreError::Write { path, source })
    }
}
