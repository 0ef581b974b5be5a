//! The tests on other kernels: Debian's, in emulated machines that are gone afterwards.
//!
//! Each test program has a machine of its own, and they run at the same time. A machine has no disk
//! and no network card. Its first file system holds the kernel's modules, the test program, the
//! daemon, and the programs that these call.

mod archive;
mod extent;
mod guest;
mod initramfs;
mod package;

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use clap::ValueEnum;
use thiserror::Error;

pub(crate) use self::extent::Extent;
use self::extent::Unlisted;
pub(crate) use self::guest::GuestError;
use self::initramfs::InitramfsError;
use self::package::{Kernel, PackageError};
use crate::setup::{self, SetupError};
use crate::workspace::Workspace;

/// Tests at once: fewer than elsewhere, since emulated processors have less time to spare.
const AT_ONCE: &str = "--test-threads=4";

/// The test targets that run on other kernels.
pub(crate) const TARGETS: [&str; 2] = ["packets", "scenarios"];

/// What emulation and the emulated machine need, and Debian's packages of it.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
];

/// A series of kernels that Debian keeps for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// Of Debian 12: TC programs are attached to a clsact queueing discipline.
    #[value(name = "6.1")]
    V6_1,
    /// Of Debian 13: TC programs are attached as TCX links.
    #[value(name = "6.12")]
    V6_12,
}

impl Series {
    /// As in the names of packages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the tests did not run to their end on another kernel.
#[derive(Debug, Error)]
pub(crate) enum KernelError {
    /// A program is missing and could not be installed.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// There is no kernel.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// It is not known which tests there are.
    #[error(transparent)]
    Unlisted(#[from] Unlisted),
    /// The machine's files could not be put together.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// Machines failed, or tests in them.
    #[error("{}", told(.0))]
    Guests(Vec<(String, GuestError)>),
}

/// What became of the machine of each test program.
fn told(errors: &[(String, GuestError)]) -> String {
    let errors: Vec<_> = errors
        .iter()
        .map(|(name, error)| format!("{name}: {error}"))
        .collect();
    errors.join("\n")
}

/// A test program for the machine.
#[derive(Debug)]
pub(crate) struct TestProgram {
    /// Its name in the report.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) file: PathBuf,
}

/// Runs test programs with this `failover` on the newest kernel of a series, all at the same time, and
/// hands on each line that they write with the time at which it came. The lines of one program come
/// after those of another.
///
/// # Errors
/// When a machine could not be made, or did not get to its end, or a test program failed.
pub(crate) fn run(
    workspace: &Workspace,
    series: Series,
    tests: &[TestProgram],
    extent: Extent<'_>,
    mut heed: impl FnMut(&str, Instant),
) -> Result<(), KernelError> {
    setup::programs(&PROGRAMS)?;
    let folder = workspace.target().join("kernels");
    let kernel = Kernel::obtain(series, &folder)?;
    let daemon = workspace.target().join("debug/failover");
    let machines: Vec<_> = tests
        .iter()
        .map(|test| {
            let mut arguments = extent.arguments(test)?;
            arguments.push(AT_ONCE.to_owned());
            let files = initramfs::make(&kernel, test, arguments, &daemon)?;
            Ok((test, files))
        })
        .collect::<Result<_, KernelError>>()?;
    eprintln!(
        "kernel {series}: booting {} in {} machines",
        kernel.release,
        machines.len()
    );
    let mut errors = Vec::new();
    let (kernel, folder) = (&kernel, &folder);
    thread::scope(|scope| {
        let running: Vec<_> = machines
            .into_iter()
            .map(|(test, files)| {
                let (lines, incoming) = mpsc::channel();
                let machine = scope.spawn(move || {
                    guest::run(kernel, &test.name, &files, folder, |line| {
                        // Nobody listens any more only when this program breaks off.
                        lines.send((line, Instant::now())).ok();
                    })
                });
                (test, incoming, machine)
            })
            .collect();
        // What the others write waits for the end of the first.
        for (test, incoming, machine) in running {
            for (line, came) in incoming {
                eprintln!("{line}");
                heed(&line, came);
            }
            match machine.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push((test.name.clone(), error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    if errors.is_empty() {
        Ok(())
    } else {
        Err(KernelError::Guests(errors))
    }
}
