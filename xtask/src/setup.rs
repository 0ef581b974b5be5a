//! The programs that tests, demo and benchmarks need: installed where they are missing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::privilege::{NoPrivilege, Privilege};
use crate::workspace::{Workspace, find_program, path_of_root};

/// Each program and the Debian package that it is in.
const PROGRAMS: [(&str, &str); 15] = [
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("bpftool", "bpftool"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("iptables", "iptables"),
    ("ping", "iputils-ping"),
    ("tcpdump", "tcpdump"),
    ("curl", "curl"),
    ("sysctl", "procps"),
    ("nsenter", "util-linux"),
    // The package without a service.
    ("dnsmasq", "dnsmasq-base"),
    // Its service does not start where there is no /etc/radvd.conf, which the package has not.
    ("radvd", "radvd"),
    ("busybox", "busybox-static"),
    // The package without the broker.
    ("mosquitto_sub", "mosquitto-clients"),
];

/// The same that are unpacked and not installed: their packages start services, which would take
/// part in the networks of whoever tests.
const SERVICES: [(&str, &str); 4] = [
    ("keepalived", "keepalived"),
    ("conntrackd", "conntrackd"),
    ("exim4", "exim4-daemon-light"),
    ("mosquitto", "mosquitto"),
];

/// The parts of the Rust toolchain that a minimal installation leaves out.
const COMPONENTS: [(&str, &str); 2] = [("fmt", "rustfmt"), ("clippy", "clippy")];

/// Why the set-up could not be done.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    /// Not a Debian-like system.
    #[error("there is no apt-get here: install {packages} by other means and run this again")]
    NoApt {
        /// The packages, by Debian's names.
        packages: String,
    },
    /// Packages are to be installed by someone who may not.
    #[error("installing {packages}: {source}")]
    NotRoot {
        /// The packages.
        packages: String,
        /// Why not.
        source: NoPrivilege,
    },
    /// apt-get said no.
    #[error("installing {packages}: {source}")]
    Apt {
        /// The packages.
        packages: String,
        /// What came of it.
        source: CommandError,
    },
    /// There is no place for what is unpacked.
    #[error("unpacking packages into {}: {source}", place.display())]
    Unpack {
        /// The folder.
        place: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A component of the Rust toolchain is missing and cannot be had.
    #[error("adding {component} to the Rust toolchain: {source}")]
    Component {
        /// The component.
        component: &'static str,
        /// What came of it.
        source: CommandError,
    },
}

/// Installs whatever is missing, and says what.
pub(crate) fn run(workspace: &Workspace) -> Result<(), SetupError> {
    programs(&PROGRAMS)?;
    unpack(workspace, &SERVICES)?;
    for (subcommand, component) in COMPONENTS {
        let mut probe = workspace.cargo();
        if command::read(probe.args([subcommand, "--version"])).is_err() {
            eprintln!("set-up: adding {component} to the Rust toolchain");
            let mut rustup = std::process::Command::new("rustup");
            // In the checkout, so that the toolchain that builds it is the one that gets it.
            rustup
                .current_dir(workspace.root())
                .args(["component", "add", component]);
            command::run(&mut rustup)
                .map_err(|source| SetupError::Component { component, source })?;
        }
    }
    Ok(())
}

/// Unpacks the packages of those programs that are missing, with what they depend on and is missing,
/// where the tests look for them: `unpacked` in the target folder.
fn unpack(workspace: &Workspace, programs: &[(&str, &str)]) -> Result<(), SetupError> {
    let place = workspace.target().join("unpacked");
    let there =
        |name: &str| find_program(name).is_some() || place.join("usr/sbin").join(name).is_file();
    let packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !there(program))
        .map(|(_, package)| *package)
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    eprintln!(
        "set-up: unpacking {} into {}",
        packages.join(" "),
        place.display()
    );
    let archives = place.join("archives");
    let made = |source| SetupError::Unpack {
        place: place.clone(),
        source,
    };
    fs::create_dir_all(archives.join("partial")).map_err(made)?;
    let cache = format!("Dir::Cache::archives={}", archives.display());
    let mut download = vec![
        "-o",
        &cache,
        "install",
        "--download-only",
        "--no-install-recommends",
    ];
    download.extend(&packages);
    if !have_package_lists() || apt(&packages, &download).is_err() {
        fetch_lists()?;
        apt(&packages, &download)?;
    }
    for entry in fs::read_dir(&archives).map_err(made)? {
        let file = entry.map_err(made)?.path();
        if file.extension() == Some(OsStr::new("deb")) {
            let mut unpack = std::process::Command::new("dpkg-deb");
            unpack.arg("--extract").arg(&file).arg(&place);
            command::run(&mut unpack).map_err(|source| SetupError::Apt {
                packages: file.display().to_string(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Installs the packages of those programs that are missing, and says what.
pub(crate) fn programs(programs: &[(&str, &str)]) -> Result<(), SetupError> {
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        eprintln!("set-up: all programs are there");
        return Ok(());
    }
    install(&packages)
}

/// Installs Debian packages as root.
pub(crate) fn install(packages: &[&str]) -> Result<(), SetupError> {
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(packages);

    eprintln!("set-up: installing {}", packages.join(" "));
    if have_package_lists() && apt(packages, &install).is_ok() {
        return Ok(());
    }
    // Without lists, or with ones so old that they name files which are gone.
    fetch_lists()?;
    apt(packages, &install)
}

/// Fetches the lists of what Debian offers.
pub(crate) fn fetch_lists() -> Result<(), SetupError> {
    eprintln!("set-up: fetching the lists of packages");
    apt(&["the lists of packages"], &["update"])
}

/// Runs apt-get as root, for the sake of these packages.
fn apt(packages: &[&str], arguments: &[&str]) -> Result<(), SetupError> {
    let names = packages.join(" ");
    if find_program("apt-get").is_none() {
        return Err(SetupError::NoApt { packages: names });
    }
    let privilege = Privilege::obtain().map_err(|source| SetupError::NotRoot {
        packages: names.clone(),
        source,
    })?;
    let path = path_of_root();
    let environment: [(&str, &OsStr); 2] = [
        ("DEBIAN_FRONTEND", OsStr::new("noninteractive")),
        // dpkg wants the programs of system administration in it.
        ("PATH", &path),
    ];
    let mut command = privilege.command("apt-get", &environment);
    command.args(["-q", "-y", "-o", "Dpkg::Use-Pty=0"]);
    command.args(arguments);
    command::run(&mut command).map_err(|source| SetupError::Apt {
        packages: names,
        source,
    })
}

/// Whether apt knows any packages: images for containers come without lists.
fn have_package_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}
