//! The files of an emulated machine: modules, a test program, and the programs that it calls with
//! the libraries of these.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use super::TestProgram;
use super::archive::{Archive, TooLarge};
use super::package::{Kernel, PackageError, at, files_below};
use crate::workspace;

/// The first process.
const INIT: &str = include_str!("init.sh");

/// What the tests and the daemon call. busybox has everything else, and also some of these, but
/// not with all their options.
const PROGRAMS: [&str; 14] = [
    "busybox",
    "curl",
    "dnsmasq",
    "radvd",
    "nft",
    "conntrack",
    "bpftool",
    "ip",
    "tc",
    "ping",
    "sysctl",
    "nsenter",
    "bash",
    "sh",
];

/// What the kernel calls when it lacks a module.
const MODPROBE: &str = "modprobe";

/// Who there is: dnsmasq asks.
const ACCOUNTS: [(&str, &str); 2] = [
    (
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    ),
    (
        "/etc/group",
        "root:x:0:\nnogroup:x:65534:\nnobody:x:65534:\n",
    ),
];

/// Folders that must be there when the machine starts.
const FOLDERS: [&str; 7] = ["/dev", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp"];

/// The variables that the tests heed, handed on if they are set.
const VARIABLES: [&str; 3] = ["RUST_LOG", "RUST_BACKTRACE", "CI"];

/// How many times as long as elsewhere the tests wait there for what has a limit: emulation takes ten
/// times as long for system calls and new processes, and most limits are generous.
const PATIENCE: &str = "FAILOVER_TEST_PATIENCE=3";

/// Why the files could not be put together.
#[derive(Debug, Error)]
pub(crate) enum InitramfsError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] PackageError),
    /// A file does not fit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// What a program needs could not be found out.
    #[error("finding the libraries of {program} with ldd: {what}")]
    Libraries {
        /// The program.
        program: PathBuf,
        /// What came of it.
        what: String,
    },
}

/// Puts the first file system together, with a test program and its arguments.
pub(super) fn make(
    kernel: &Kernel,
    test: &TestProgram,
    arguments: Vec<String>,
    daemon: &Path,
) -> Result<Vec<u8>, InitramfsError> {
    let mut files = Files::default();
    for folder in FOLDERS {
        files.archive.folder(Path::new(folder));
    }
    files.archive.program(Path::new("/init"), INIT.as_bytes())?;
    for (file, lines) in ACCOUNTS {
        files.archive.file(Path::new(file), lines.as_bytes())?;
    }
    for name in PROGRAMS {
        files.program(&workspace::program(name), &Path::new("/bin").join(name))?;
    }
    let modprobe = Path::new("/sbin").join(MODPROBE);
    files.program(&workspace::program(MODPROBE), &modprobe)?;
    files.modules(kernel)?;

    // The tests look for the daemon in the folder above their own.
    files.program(daemon, Path::new("/tests/failover"))?;
    files.program(&test.file, &Path::new("/tests/deps").join(&test.name))?;
    let arguments = lines(arguments.into_iter());
    files
        .archive
        .file(Path::new("/tests/arguments"), arguments.as_bytes())?;
    let assignments = VARIABLES
        .iter()
        .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let environment = lines(assignments.chain([PATIENCE.to_owned()]));
    files
        .archive
        .file(Path::new("/tests/environment"), environment.as_bytes())?;
    Ok(files.archive.finish())
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

#[derive(Default)]
struct Files {
    archive: Archive,
    libraries: BTreeSet<PathBuf>,
}

impl Files {
    /// Adds a program and the libraries that it needs.
    fn program(&mut self, file: &Path, place: &Path) -> Result<(), InitramfsError> {
        let content = fs::read(file).map_err(at(file))?;
        self.archive.program(place, &content)?;
        for library in needed(file)? {
            if self.libraries.insert(library.clone()) {
                let content = fs::read(&library).map_err(at(&library))?;
                self.archive.program(&library, &content)?;
            }
        }
        Ok(())
    }

    /// Adds the modules and their index.
    fn modules(&mut self, kernel: &Kernel) -> Result<(), InitramfsError> {
        let mut modules = Vec::new();
        files_below(&kernel.modules, &mut modules)?;
        modules.sort();
        let place = Path::new("/lib/modules").join(&kernel.release);
        for module in modules {
            let content = fs::read(&module).map_err(at(&module))?;
            let inside = module.strip_prefix(&kernel.modules).unwrap_or(&module);
            self.archive.file(&place.join(inside), &content)?;
        }
        Ok(())
    }
}

/// The libraries that a program is linked with, and those that they are linked with.
fn needed(program: &Path) -> Result<Vec<PathBuf>, InitramfsError> {
    let failed = |what: String| InitramfsError::Libraries {
        program: program.to_owned(),
        what,
    };
    let ldd = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&ldd.stderr);
    if said.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    if !ldd.status.success() {
        return Err(failed(said.trim().to_owned()));
    }
    libraries(&String::from_utf8_lossy(&ldd.stdout)).map_err(failed)
}

/// Reads the output of ldd: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f…)`, or only the path
/// for the loader, or only the name for what the kernel provides.
fn libraries(output: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in output.lines().map(str::trim) {
        if line.ends_with("not found") {
            return Err(line.to_owned());
        }
        let place = line.split_once("=> ").map_or(line, |(_, place)| place);
        let path = place.rsplit_once(" (").map_or(place, |(path, _)| path);
        if Path::new(path).has_root() {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ldd_says() {
        let output = "\tlinux-vdso.so.1 (0x00007f522ac09000)\n\
            \tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f522a8f2000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f522ac0b000)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libmnl.so.0",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(libraries(output), Ok(expected.map(PathBuf::from).to_vec()));
        assert_eq!(libraries("\tstatically linked\n"), Ok(Vec::new()));
        assert_eq!(
            libraries("\tlibmnl.so.0 => not found\n"),
            Err("libmnl.so.0 => not found".to_owned())
        );
    }
}
