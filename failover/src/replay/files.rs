//! The two files of a trace: the current one is written until it is full, then takes the place of the
//! former one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::uplink::UplinkName;

/// From this size on, in bytes, the next lines go to a new file. There are two of them.
pub const FILE_SIZE: u64 = 32 * 1024 * 1024;

const CURRENT: &str = ".jsonl";
const FORMER: &str = ".1";

/// The current file of an uplink's trace.
#[must_use]
pub fn file_of(state_dir: &Path, uplink: &UplinkName) -> PathBuf {
    state_dir.join("traces").join(format!("{uplink}{CURRENT}"))
}

/// The file before it, by its name.
pub(super) fn former_of(current: &Path) -> Option<PathBuf> {
    let name = current.file_name()?.to_str()?;
    name.ends_with(CURRENT)
        .then(|| current.with_file_name(format!("{name}{FORMER}")))
}

/// The files, to be written.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    size: u64,
    file: BufWriter<File>,
    length: u64,
}

impl Files {
    /// Goes on with the current file, or makes it and its folder.
    pub(super) fn open(path: &Path, size: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        let mut length = file.metadata()?.len();
        if ends_within_a_line(&mut file, length)? {
            file.write_all(b"\n")?;
            length += 1;
        }
        Ok(Self {
            path: path.to_owned(),
            size,
            file: BufWriter::new(file),
            length,
        })
    }

    /// Whether the next line should go to a new file.
    pub(super) const fn is_full(&self) -> bool {
        self.length >= self.size
    }

    /// Puts the current file in the place of the former one.
    pub(super) fn change(&mut self) -> io::Result<()> {
        self.file.flush()?;
        if let Some(former) = former_of(&self.path) {
            fs::rename(&self.path, former)?;
        }
        *self = Self::open(&self.path, self.size)?;
        Ok(())
    }

    /// Adds a line, with its end.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        let more = u64::try_from(line.len()).map_err(io::Error::other)?;
        self.length = self.length.saturating_add(more);
        Ok(())
    }

    /// Has the system know all of it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// As after a daemon was killed while it wrote.
fn ends_within_a_line(file: &mut File, length: u64) -> io::Result<bool> {
    let mut last = [0];
    if length == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
