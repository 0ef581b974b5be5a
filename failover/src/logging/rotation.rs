//! When a log file is full, and what becomes of it and of those before it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How large a file may become, and how many full ones are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) size: u64,
    pub(super) keep: u32,
}

/// A file that gets another name; what had that name is gone then.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rename {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
}

impl Rotation {
    /// Whether a file of this size is to make room for a line. A line that is too long for every file
    /// has one of its own.
    pub(super) const fn is_due(self, size: u64, line: u64) -> bool {
        size > 0 && size.saturating_add(line) > self.size
    }

    /// What makes room, in this order. Of those before the last, any may be missing.
    pub(super) fn renames(self, file: &Path) -> Vec<Rename> {
        (1..=self.keep)
            .rev()
            .map(|number| Rename {
                from: match number {
                    1 => file.to_owned(),
                    _ => numbered(file, number - 1),
                },
                to: numbered(file, number),
            })
            .collect()
    }
}

/// The name of a full file: the larger the number, the older it is.
fn numbered(file: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Rotation = Rotation { size: 100, keep: 2 };

    #[test]
    fn a_file_is_full_when_a_line_does_not_fit() {
        assert!(!TWO.is_due(60, 40));
        assert!(TWO.is_due(61, 40));
        assert!(!TWO.is_due(0, 500), "an empty file has room for any line");
        assert!(TWO.is_due(500, 1));
        assert!(TWO.is_due(u64::MAX, 1));
    }

    #[test]
    fn the_oldest_makes_room_first() {
        let rename = |from: &str, to: &str| Rename {
            from: from.into(),
            to: to.into(),
        };
        assert_eq!(
            TWO.renames(Path::new("/var/log/a.log")),
            [
                rename("/var/log/a.log.1", "/var/log/a.log.2"),
                rename("/var/log/a.log", "/var/log/a.log.1"),
            ]
        );
    }
}
