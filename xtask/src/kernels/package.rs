//! Debian's kernels: the newest package of a series, downloaded and unpacked under the target
//! folder, never installed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use super::Series;
use crate::command::{self, CommandError};
use crate::setup::{self, SetupError};
use crate::workspace;

/// The trees of modules that the tests need, with those that modules of the first two ask for.
const TREES: [&str; 5] = ["net", "drivers/net", "lib", "crypto", "arch/x86/crypto"];
/// Drivers of real cards: large, and the emulated machine has none.
const UNUSED: &str = "drivers/net/ethernet";

/// Why there is no kernel.
#[derive(Debug, Error)]
pub(crate) enum PackageError {
    /// The lists of packages could not be fetched.
    #[error(transparent)]
    Lists(#[from] SetupError),
    /// apt or dpkg said no.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// This release of Debian has none.
    #[error(
        "apt offers no package linux-image-{series}…-cloud-amd64: Debian 12 with its security updates has it"
    )]
    NotOffered {
        /// The series.
        series: Series,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Attributes an error to a path.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> PackageError {
    let path = path.to_owned();
    move |source| PackageError::File { path, source }
}

/// A kernel, unpacked.
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) release: String,
    /// The compressed kernel.
    pub(super) image: PathBuf,
    /// The folder of its modules (the one that is called as the release), with their index.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The newest one of a series that was downloaded before, or else that apt offers.
    pub(super) fn obtain(series: Series, cache: &Path) -> Result<Self, PackageError> {
        fs::create_dir_all(cache).map_err(at(cache))?;
        let mut cached = Vec::new();
        for entry in fs::read_dir(cache).map_err(at(cache))? {
            cached.push(entry.map_err(at(cache))?.file_name());
        }
        if let Some(package) = newest(series, cached.iter().filter_map(|name| name.to_str())) {
            return Self::unpacked(cache, package);
        }
        let package = match download(series, cache) {
            Ok(package) => package,
            // Without lists, or with ones so old that they name files which are gone.
            Err(error) => {
                eprintln!("kernel {series}: {error}");
                setup::fetch_lists()?;
                download(series, cache)?
            }
        };
        Self::unpacked(cache, &package)
    }

    fn unpacked(cache: &Path, package: &str) -> Result<Self, PackageError> {
        let root = cache.join(package);
        let release = package.strip_prefix("linux-image-").unwrap_or(package);
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        let modules = root.join("lib/modules").join(release);
        for path in [&image, &modules] {
            fs::metadata(path).map_err(at(path))?;
        }
        Ok(Self {
            release: release.to_owned(),
            image,
            modules,
        })
    }
}

/// Downloads and unpacks the newest package that apt offers; returns its name. What is unpacked gets
/// its final name last, so that what was interrupted is never taken for a kernel.
fn download(series: Series, cache: &Path) -> Result<String, PackageError> {
    let offered = command::read(Command::new("apt-cache").args(["pkgnames", "linux-image-"]))?;
    let package = newest(series, offered.lines()).ok_or(PackageError::NotOffered { series })?;
    eprintln!("kernel {series}: downloading {package}");
    let making = cache.join("making");
    if making.exists() {
        fs::remove_dir_all(&making).map_err(at(&making))?;
    }
    let unpacked = making.join("unpacked");
    fs::create_dir_all(&unpacked).map_err(at(&unpacked))?;
    command::run(
        Command::new("apt-get")
            .current_dir(&making)
            // Root's downloads are by another user, who may not write everywhere.
            .args(["-q", "-o", "APT::Sandbox::User=", "download", package]),
    )?;
    for entry in fs::read_dir(&making).map_err(at(&making))? {
        let file = entry.map_err(at(&making))?.path();
        if file.extension() == Some(OsStr::new("deb")) {
            let mut unpack = Command::new("dpkg-deb");
            command::run(unpack.arg("-x").arg(&file).arg(&unpacked))?;
        }
    }
    let release = package.strip_prefix("linux-image-").unwrap_or(package);
    prepare_modules(&unpacked, release)?;
    let ready = cache.join(package);
    fs::rename(&unpacked, &ready).map_err(at(&ready))?;
    fs::remove_dir_all(&making).map_err(at(&making))?;
    Ok(package.to_owned())
}

/// Leaves only the modules that the tests need, not compressed, and makes their index.
fn prepare_modules(root: &Path, release: &str) -> Result<(), PackageError> {
    let modules = root.join("lib/modules").join(release);
    let kept = modules.join("needed");
    for tree in TREES {
        let (from, to) = (modules.join("kernel").join(tree), kept.join(tree));
        // Kernels differ in what is built in: a tree may be missing.
        if from.is_dir() {
            let parent = to.parent().unwrap_or(&kept);
            fs::create_dir_all(parent).map_err(at(parent))?;
            fs::rename(&from, &to).map_err(at(&from))?;
        }
    }
    let all = modules.join("kernel");
    fs::remove_dir_all(&all).map_err(at(&all))?;
    fs::rename(&kept, &all).map_err(at(&kept))?;
    let unused = all.join(UNUSED);
    if unused.is_dir() {
        fs::remove_dir_all(&unused).map_err(at(&unused))?;
    }
    let mut compressed = Vec::new();
    files_below(&all, &mut compressed)?;
    compressed.retain(|file| file.extension() == Some(OsStr::new("xz")));
    if !compressed.is_empty() {
        command::run(Command::new("xz").arg("--decompress").args(&compressed))?;
    }
    let depmod = workspace::program("depmod");
    command::run(Command::new(depmod).arg("-b").arg(root).arg(release))?;
    Ok(())
}

/// All files in a folder and the folders in it.
pub(super) fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), PackageError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// The package with the highest version among those of cloud kernels of the series.
fn newest<'a>(series: Series, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .filter_map(|name| Some((version(series, name)?, name)))
        .max()
        .map(|(_, name)| name)
}

/// The numbers in the version of a cloud kernel, if it is of the series:
/// `linux-image-6.1.0-48-cloud-amd64`, `linux-image-6.12.94+deb12-cloud-amd64`.
fn version(series: Series, name: &str) -> Option<Vec<u32>> {
    let version = name
        .strip_prefix("linux-image-")?
        .strip_suffix("-cloud-amd64")?;
    version.strip_prefix(series.name())?.strip_prefix('.')?;
    version
        .split(|letter: char| !letter.is_ascii_digit())
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_newest_of_the_series() {
        let offered = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-48-cloud-amd64",
            "linux-image-6.1.0-47-cloud-amd64",
            "linux-image-6.1.0-50-amd64",
            "linux-image-6.1.0-51-cloud-amd64-dbg",
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.94+deb12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64-unsigned",
            "linux-image-cloud-amd64",
        ];
        assert_eq!(
            newest(Series::V6_1, offered.into_iter()),
            Some("linux-image-6.1.0-48-cloud-amd64")
        );
        assert_eq!(
            newest(Series::V6_12, offered.into_iter()),
            Some("linux-image-6.12.94+deb12-cloud-amd64")
        );
        assert_eq!(newest(Series::V6_1, ["making"].into_iter()), None);
    }
}
