//! Reading a trace: what is none of its lines is counted and left out.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::replay::files::former_of;
use crate::replay::format::Line;

/// The longest line, in bytes: a begin that remembers some ten thousand rounds.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// Why a file is not read.
#[derive(Debug, Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("cannot read the trace {file}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has no begin that is understood.
    #[error(
        "{file} is no trace that this version of failover understands; `failover trace NAME` writes one"
    )]
    NoTrace {
        /// The file.
        file: PathBuf,
    },
}

/// A trace that is read line by line, beginning with the former file if it has one.
#[derive(Debug)]
pub struct TraceReader {
    files: Vec<(PathBuf, BufReader<File>)>,
    line: Vec<u8>,
    /// Lines that made no sense.
    pub senseless: u64,
}

impl TraceReader {
    /// Opens a trace.
    ///
    /// # Errors
    /// When the file, or the former one beside it, cannot be opened.
    pub fn open(file: &Path) -> Result<Self, TraceError> {
        let unreadable = |file: &Path| {
            let file = file.to_owned();
            |source| TraceError::Unreadable { file, source }
        };
        let mut files = Vec::new();
        let current = File::open(file).map_err(unreadable(file))?;
        files.push((file.to_owned(), BufReader::new(current)));
        if let Some(former) = former_of(file) {
            match File::open(&former) {
                Ok(opened) => files.push((former, BufReader::new(opened))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&former)(error)),
            }
        }
        Ok(Self {
            files,
            line: Vec::new(),
            senseless: 0,
        })
    }

    /// The next line that makes sense; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Line>, TraceError> {
        while let Some((path, file)) = self.files.last_mut() {
            self.line.clear();
            let read = file
                .take(MAX_LINE)
                .read_until(b'\n', &mut self.line)
                .map_err(|source| TraceError::Unreadable {
                    file: path.clone(),
                    source,
                })?;
            if read == 0 {
                self.files.pop();
                continue;
            }
            match Line::parse(&self.line) {
                Some(line) => return Ok(Some(line)),
                None if self.line == b"\n" => {}
                None => self.senseless += 1,
            }
        }
        Ok(None)
    }
}
