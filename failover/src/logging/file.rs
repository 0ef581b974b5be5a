//! The log file: lines are appended, and a full file makes room for a new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use thiserror::Error;

use super::rotation::{Rename, Rotation};

/// Why a line is not in the file.
#[derive(Debug, Error)]
pub(super) enum LogFileError {
    /// It cannot be opened or made.
    #[error("cannot open {path}: {source}; is its folder there?")]
    Open { path: PathBuf, source: io::Error },
    /// It takes nothing more.
    #[error("cannot write to {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    /// It is full, and stays where it is.
    #[error("cannot rename the full file {from} to {to}: {source}")]
    Rotate {
        from: PathBuf,
        to: PathBuf,
        source: io::Error,
    },
}

/// The file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Device and inode.
    identity: (u64, u64),
}

impl LogFile {
    /// A file that is opened when there is something to write.
    pub(super) const fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self {
            path,
            rotation,
            open: None,
        }
    }

    /// Appends a line.
    pub(super) fn append(&mut self, line: &[u8]) -> Result<(), LogFileError> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let mut open = self.opened()?;
        if self.rotation.is_due(open.size, length) {
            drop(open);
            self.rotate()?;
            open = self.opened()?;
        }
        let written = open.file.write_all(line);
        if let Err(source) = written {
            // No half line, where that can be helped.
            open.file.set_len(open.size).ok();
            let path = self.path.clone();
            return Err(LogFileError::Write { path, source });
        }
        open.size = open.size.saturating_add(length);
        self.open = Some(open);
        Ok(())
    }

    /// The file that has the name now: somebody may have moved or removed the one that is open.
    fn opened(&mut self) -> Result<Open, LogFileError> {
        if let Some(open) = self.open.take()
            && let Ok(metadata) = fs::metadata(&self.path)
            && open.identity == (metadata.dev(), metadata.ino())
        {
            return Ok(open);
        }
        let failed = |source| LogFileError::Open {
            path: self.path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok(Open {
            file,
            size: metadata.len(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    fn rotate(&self) -> Result<(), LogFileError> {
        for Rename { from, to } in self.rotation.renames(&self.path) {
            match fs::rename(&from, &to) {
                Err(source) if from == self.path || source.kind() != io::ErrorKind::NotFound => {
                    return Err(LogFileError::Rotate { from, to, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is gone with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("failover-log-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        fn log(&self, size: u64, keep: u32) -> LogFile {
            LogFile::new(self.0.join("a.log"), Rotation { size, keep })
        }

        fn text(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.0.join(name)).ok()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn so_many_full_files_are_kept() {
        let folder = Folder::new("kept");
        let mut log = folder.log(12, 2);
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        let texts = ["a.log", "a.log.1", "a.log.2", "a.log.3"].map(|name| folder.text(name));
        let texts: Vec<_> = texts.iter().map(Option::as_deref).collect();
        let expected = ["five\nsix\n", "three\nfour\n", "one\ntwo\n"].map(Some);
        assert_eq!(texts, [&expected[..], &[None]].concat());
        log.append(b"seven\n").unwrap();
        assert_eq!(folder.text("a.log.2").as_deref(), Some("three\nfour\n"));
    }

    #[test]
    fn what_was_there_counts_and_stays() {
        let folder = Folder::new("again");
        folder.log(12, 1).append(b"before\n").unwrap();
        let mut log = folder.log(12, 1);
        log.append(b"now\n").unwrap();
        assert_eq!(folder.text("a.log").as_deref(), Some("before\nnow\n"));
        log.append(b"later\n").unwrap();
        assert_eq!(folder.text("a.log.1").as_deref(), Some("before\nnow\n"));
    }

    #[test]
    fn a_file_that_was_moved_is_let_go() {
        let folder = Folder::new("moved");
        let mut log = folder.log(100, 1);
        log.append(b"one\n").unwrap();
        fs::rename(folder.0.join("a.log"), folder.0.join("moved")).unwrap();
        log.append(b"two\n").unwrap();
        assert_eq!(folder.text("moved").as_deref(), Some("one\n"));
        assert_eq!(folder.text("a.log").as_deref(), Some("two\n"));
    }

    #[test]
    fn it_goes_on_when_the_folder_is_back() {
        let folder = Folder::new("removed");
        let mut log = folder.log(100, 1);
        log.append(b"one\n").unwrap();
        fs::remove_dir_all(&folder.0).unwrap();
        let error = log.append(b"two\n").unwrap_err().to_string();
        assert!(error.ends_with("is its folder there?"), "{error}");
        fs::create_dir(&folder.0).unwrap();
        log.append(b"three\n").unwrap();
        assert_eq!(folder.text("a.log").as_deref(), Some("three\n"));
    }

    #[test]
    fn a_full_disk_is_an_error_each_time() {
        let rotation = Rotation { size: 100, keep: 1 };
        let mut log = LogFile::new("/dev/full".into(), rotation);
        for _ in 0..2 {
            let error = log.append(b"one\n").unwrap_err().to_string();
            assert!(
                error.starts_with("cannot write to /dev/full: No space"),
                "{error}"
            );
        }
    }
}
