//! What the eBPF object is made from, as one number.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// The crates that go into the object.
const CRATES: [&str; 2] = ["failover-common", "failover-ebpf"];

/// A file or folder could not be read.
#[derive(Debug, Error)]
#[error("reading {path}: {source}")]
pub(crate) struct ReadError {
    /// What was read.
    pub(crate) path: PathBuf,
    /// What the system said.
    pub(crate) source: io::Error,
}

/// A SHA-256 digest, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sha(pub(crate) String);

impl Sha {
    /// The digest of some bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    fn finish(hasher: Sha256) -> Self {
        let mut text = String::with_capacity(64);
        for byte in hasher.finalize() {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

/// The digest of the sources in a checkout: of each file its path, its length and its bytes, in the
/// order of the paths. The same wherever the checkout lies.
pub(crate) fn digest(root: &Path) -> Result<Sha, ReadError> {
    let mut files = Vec::new();
    for name in CRATES {
        collect(root, Path::new(name), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let path = root.join(&file);
        let bytes = fs::read(&path).map_err(|source| ReadError { path, source })?;
        hasher.update(file.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(Sha::finish(hasher))
}

/// Finds Rust sources, manifests and lock files below a folder: what an editor leaves there is none
/// of these.
fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    let path = root.join(folder);
    let failed = |source| ReadError {
        path: path.clone(),
        source,
    };
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let below = folder.join(&name);
        if entry.file_type().map_err(failed)?.is_dir() {
            if name != "target" {
                collect(root, &below, files)?;
            }
        } else if below.extension() == Some(OsStr::new("rs"))
            || name == "Cargo.toml"
            || name == "Cargo.lock"
        {
            files.push(below);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkout with one source file, removed when it is dropped.
    struct Checkout(PathBuf);

    impl Checkout {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("failover-{name}-{}", std::process::id()));
            for folder in CRATES {
                fs::create_dir_all(root.join(folder).join("src")).unwrap();
            }
            let checkout = Self(root);
            checkout.write("failover-ebpf/src/main.rs", "fn main() {}");
            checkout
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn digest(&self) -> Sha {
            digest(&self.0).unwrap()
        }
    }

    impl Drop for Checkout {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn is_the_same_in_every_folder() {
        assert_eq!(
            Checkout::new("here").digest(),
            Checkout::new("there").digest()
        );
    }

    #[test]
    fn changes_with_every_source() {
        let checkout = Checkout::new("sources");
        let mut seen = vec![checkout.digest()];
        for (file, text) in [
            ("failover-ebpf/src/main.rs", "fn main() { }"),
            ("failover-ebpf/src/new.rs", ""),
            ("failover-ebpf/Cargo.lock", "version = 4"),
            ("failover-common/src/lib.rs", ""),
        ] {
            checkout.write(file, text);
            let now = checkout.digest();
            assert!(!seen.contains(&now), "{file} does not count");
            seen.push(now);
        }
    }

    #[test]
    fn leaves_out_what_is_built_and_what_editors_leave() {
        let checkout = Checkout::new("rest");
        let before = checkout.digest();
        checkout.write("failover-ebpf/target/release/built.rs", "");
        checkout.write("failover-ebpf/src/.main.rs.swp", "");
        assert_eq!(checkout.digest(), before);
    }
}
