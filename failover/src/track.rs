//! The track file: one number by which keepalived's `track_file` knows whether this router can still
//! bring anybody out.
//!
//! It is in how many address families no uplink is usable: 0 while all is well, 2 when there is no
//! way out at all. So weight and priority say whether one family is enough to hand over, and of two
//! routers that lost something the one that lost less gets the users.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::{info, warn};

use crate::family::{Family, PerFamily};

/// How a family stands over all uplinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// New flows have an uplink that answers.
    Usable,
    /// They have none.
    Lost,
    /// No uplink has the family at all.
    Absent,
}

/// The number: the families that are lost. A family that nobody has counts only when the other one is
/// of no use either, since then nothing is left.
#[must_use]
pub fn value(reach: PerFamily<Reach>) -> u8 {
    let usable = reach.iter().any(|(_, reach)| *reach == Reach::Usable);
    let counts = |reach: &Reach| match reach {
        Reach::Usable => false,
        Reach::Lost => true,
        Reach::Absent => !usable,
    };
    Family::ALL
        .into_iter()
        .map(|family| u8::from(counts(reach.get(family))))
        .sum()
}

/// The file could not be written.
#[derive(Debug, Error)]
#[error("cannot write the track file {path}: {source}")]
pub struct TrackError {
    path: PathBuf,
    source: io::Error,
}

/// The file as it was last written.
#[derive(Debug, Default)]
pub struct TrackFile {
    written: Option<(PathBuf, u8)>,
    /// The last try failed, and that was told.
    failed: bool,
}

impl TrackFile {
    /// Sees to it that the file says so; what it said last is not looked at again. Without a path there
    /// is no such file, and one of an earlier path goes.
    pub fn keep(&mut self, path: Option<&Path>, value: u8) {
        let wanted = path.map(|path| (path.to_owned(), value));
        if self.written == wanted {
            return;
        }
        if let Some((old, _)) = &self.written
            && path != Some(old.as_path())
        {
            // Who looks at it there would go by what holds no more.
            match fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %old.display(), %error, "the former track file stays");
                }
                _ => {}
            }
            self.written = None;
        }
        let Some((path, value)) = wanted else { return };
        match write(&path, value) {
            Ok(()) => {
                if std::mem::take(&mut self.failed) {
                    info!(path = %path.display(), "the track file is written again");
                }
                tracing::debug!(path = %path.display(), value, "wrote the track file");
                self.written = Some((path, value));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    warn!(%error, "trying again");
                }
                self.written = None;
            }
        }
    }

    /// Looks whether the file is as it was written. If not that is told, and
    /// [`keep`](Self::keep) writes it.
    pub fn inspect(&mut self) {
        let Some((path, value)) = &self.written else {
            return;
        };
        let found = fs::read_to_string(path);
        if found.is_ok_and(|text| text.trim_end() == value.to_string()) {
            return;
        }
        warn!(path = %path.display(), "somebody changed the track file; it is put in place again");
        self.written = None;
    }
}

/// Replaces the file as a whole, within its folder: keepalived watches that, and reads nothing half
/// written.
fn write(path: &Path, value: u8) -> Result<(), TrackError> {
    let mut new = OsString::from(path);
    new.push(".new");
    let replace = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&new, format!("{value}\n"))?;
        fs::rename(&new, path)
    };
    replace().map_err(|source| TrackError {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[path = "track_tests.rs"]
mod tests;
