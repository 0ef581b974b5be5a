//! Kernel settings: files under `/proc/sys`.
//!
//! Keys are paths, such as `net/ipv4/conf/wan1/rp_filter`: names of interfaces may contain dots, so
//! that `net.ipv4.conf.wan1.5.rp_filter` would not say which.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use super::Sysctls;

/// Settings of the network namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct ProcSys {
    root: PathBuf,
}

/// Why a setting could not be read or changed.
#[derive(Debug, Error)]
pub enum SysctlError {
    /// It is no key.
    #[error("`{key}` is no key of a kernel setting: one is written net/ipv4/ip_forward")]
    Key {
        /// What was found.
        key: String,
    },
    /// It could not be read.
    #[error("cannot read the kernel setting {key}: {source}")]
    Read {
        /// The key.
        key: String,
        /// Why.
        source: io::Error,
    },
    /// It could not be set.
    #[error("cannot set the kernel setting {key} to `{value}`: {source}")]
    Write {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
    },
}

impl Default for ProcSys {
    fn default() -> Self {
        Self::under("/proc/sys")
    }
}

impl ProcSys {
    /// Settings in files under another folder.
    #[must_use]
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, key: &str) -> Result<PathBuf, SysctlError> {
        let relative = Path::new(key);
        let plain = relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        // There is none at the root: one with dots for slashes is not to look as if it did not exist.
        if plain && relative.components().nth(1).is_some() {
            Ok(self.root.join(relative))
        } else {
            Err(SysctlError::Key {
                key: key.to_owned(),
            })
        }
    }
}

impl Sysctls for ProcSys {
    type Error = SysctlError;

    fn read(&self, key: &str) -> Result<Option<String>, SysctlError> {
        match fs::read_to_string(self.path(key)?) {
            Ok(value) => Ok(Some(value.trim_end_matches('\n').to_owned())),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SysctlError::Read {
                key: key.to_owned(),
                source,
            }),
        }
    }

    fn write(&mut self, key: &str, value: &str) -> Result<(), SysctlError> {
        let path = self.path(key)?;
        // One write: the kernel takes each as a whole value.
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()))
            .map_err(|source| SysctlError::Write {
                key: key.to_owned(),
                value: value.to_owned(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_nowhere_else() {
        let mut settings = ProcSys::under("/nonexistent");
        for key in [
            "",
            "/etc/passwd",
            "../etc/passwd",
            "net/../../etc/passwd",
            ".",
            "net.ipv4.ip_forward",
        ] {
            assert!(matches!(settings.read(key), Err(SysctlError::Key { .. })));
            assert!(matches!(
                settings.write(key, "1"),
                Err(SysctlError::Key { .. })
            ));
        }
    }

    #[test]
    fn a_setting_that_does_not_exist_is_told_apart() {
        let mut settings = ProcSys::default();
        let key = "net/ipv4/conf/no.such.one/rp_filter";
        assert_eq!(settings.read(key).unwrap(), None);
        assert_eq!(
            settings.write(key, "2").unwrap_err().to_string(),
            "cannot set the kernel setting net/ipv4/conf/no.such.one/rp_filter to `2`: \
             No such file or directory (os error 2)"
        );
        assert!(settings.read("net/ipv4/ip_forward").unwrap().is_some());
    }
}
