//! Passwords and tokens: where they come from, and that nobody gets to see them.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The longest secret, in bytes.
const LONGEST: u64 = 4096;

/// A secret. Shown as `***`, whoever asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for who sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is kept. It is read whenever it is needed, so that a changed one counts at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the daemon's environment.
    Environment(String),
}

/// Why there is no secret. Says where it should be, never what it is.
#[derive(Debug, Error)]
pub enum NoSecret {
    /// The file cannot be read.
    #[error("cannot read the secret in {file}: {cause}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Nothing is there, or more than a line of text.
    #[error("{place} holds no secret: one line of text is wanted, at most {LONGEST} bytes")]
    Unfit {
        /// The file or variable.
        place: String,
    },
    /// The variable is not there.
    #[error(
        "the environment has no variable {variable} with the secret; for the daemon it is set in its unit (EnvironmentFile=)"
    )]
    NoVariable {
        /// The variable.
        variable: String,
    },
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "file {}", file.display()),
            Self::Environment(variable) => write!(f, "env {variable}"),
        }
    }
}

impl SecretSource {
    /// Reads it. May take as long as a disk does.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(&self) -> Result<Secret, NoSecret> {
        let text = match self {
            Self::File(file) => read_file(file)?,
            Self::Environment(variable) => {
                std::env::var(variable).map_err(|_| NoSecret::NoVariable {
                    variable: variable.clone(),
                })?
            }
        };
        let line = text.trim_end_matches(['\n', '\r']);
        if line.is_empty() || line.chars().any(char::is_control) {
            return Err(NoSecret::Unfit {
                place: self.to_string(),
            });
        }
        Ok(Secret(line.to_owned()))
    }

    /// The same beside the loop.
    ///
    /// # Errors
    /// As [`SecretSource::read`].
    pub async fn read_beside(&self) -> Result<Secret, NoSecret> {
        let source = self.clone();
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        read.unwrap_or_else(|_| {
            Err(NoSecret::Unfit {
                place: self.to_string(),
            })
        })
    }

    /// What to say of a file that others may read, if it is one.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self::File(file) = self else { return None };
        open_to_all(file)
    }
}

/// What to say of a file with a secret that others may read, if it is one.
#[must_use]
pub fn open_to_all(file: &Path) -> Option<String> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| {
        format!(
            "{} holds a secret, and everybody on this host may open it: chmod 600 {0}",
            file.display()
        )
    })
}

fn read_file(file: &Path) -> Result<String, NoSecret> {
    let unreadable = |cause| NoSecret::Unreadable {
        file: file.to_owned(),
        cause,
    };
    let mut text = String::new();
    let mut limited = File::open(file).map_err(unreadable)?.take(LONGEST + 1);
    limited.read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LONGEST {
        return Err(NoSecret::Unfit {
            place: file.display().to_string(),
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_to_nobody() {
        let secret = Secret("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }

    #[test]
    fn a_missing_secret_is_told_with_its_place() {
        let source = SecretSource::Environment("FAILOVER_TEST_NO_SUCH".to_owned());
        let told = source.read().unwrap_err().to_string();
        assert!(told.contains("no variable FAILOVER_TEST_NO_SUCH"), "{told}");
        let source = SecretSource::File("/nowhere/secret".into());
        let told = source.read().unwrap_err().to_string();
        assert!(told.contains("/nowhere/secret: No such file"), "{told}");
    }
}
