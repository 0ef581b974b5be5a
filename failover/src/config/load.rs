//! Reading the file, and no more of it than a configuration can need.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::model::Config;
use super::problem::{ConfigError, Problem};
use super::tree::Place;

/// The largest file that is read, in bytes: 127 uplinks that say everything need 200 kB.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads and checks a configuration file. Touches nothing else.
///
/// # Errors
/// When the file cannot be read, is larger than [`MAX_FILE_BYTES`], is not UTF-8, or is no
/// configuration; the error names the file, and all places that are wrong.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let bytes = read(path).map_err(|cause| ConfigError::Unreadable {
        file: path.to_owned(),
        cause,
    })?;
    text_of(bytes)
        .and_then(|text| super::parse(&text))
        .map_err(|error| error.in_file(path))
}

/// At most one byte more than is allowed, whatever kind of file it is.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text_of(bytes: Vec<u8>) -> Result<String, ConfigError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        let problem = Problem::new(
            format!("more than {MAX_FILE_BYTES} bytes"),
            format!("a file of at most {MAX_FILE_BYTES} bytes"),
        );
        return Err(ConfigError::rejected(vec![problem], ""));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid_up_to = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let good = bytes.get(..valid_up_to).unwrap_or_default();
        let good = String::from_utf8_lossy(good);
        let byte = bytes.get(valid_up_to).copied().unwrap_or_default();
        let problem = Problem::new(format!("the byte {byte:#04x}, which is no UTF-8"), "UTF-8")
            .at(end_of(&good));
        ConfigError::rejected(vec![problem], "")
    })
}

/// The place behind a text.
fn end_of(text: &str) -> Place {
    let last = text.rsplit('\n').next().unwrap_or_default();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).saturating_add(1);
    Place {
        line: count(text.matches('\n').count()),
        column: count(last.chars().count()),
    }
}
