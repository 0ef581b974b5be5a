//! The emulated machine: started, watched, ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use thiserror::Error;

use super::package::Kernel;
use crate::command::{self, CommandError};

/// How long a machine may be silent: several times what its slowest test takes.
const PATIENCE: Duration = Duration::from_mins(4);
/// After this time it ends itself; everything together takes a fraction of it.
const LIFETIME: Duration = Duration::from_hours(1);

const MEMORY: &str = "2G";
const PROCESSORS: &str = "2";

/// How many lines of the console are told when the machine fails.
const TOLD: usize = 30;

/// What became of a machine that did not do its work.
#[derive(Debug, Error)]
pub(crate) enum GuestError {
    /// Its files could not be written or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The machine did nothing any more.
    #[error(
        "the emulated machine wrote nothing for {} s and was killed; the end of its console:\n{console}",
        PATIENCE.as_secs()
    )]
    Hung {
        /// The last lines of its console.
        console: String,
    },
    /// The emulator failed.
    #[error("{source}; the end of its console:\n{console}")]
    Emulator {
        /// What came of it.
        source: CommandError,
        /// The last lines of its console.
        console: String,
    },
    /// It ended by itself before the tests did: its kernel panicked, most likely.
    #[error("the emulated machine ended before the tests; the end of its console:\n{console}")]
    Broke {
        /// The last lines of its console.
        console: String,
    },
    /// All ran, not all is good.
    #[error("tests failed in the emulated machine")]
    Tests,
}

/// Boots the kernel with these files, and hands on each line that the test program writes. What
/// belongs to the machine bears its name in `folder`.
pub(super) fn run(
    kernel: &Kernel,
    name: &str,
    files: &[u8],
    folder: &Path,
    heed: impl FnMut(String),
) -> Result<(), GuestError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| GuestError::File { path, source }
    };
    let file = |what: &str| folder.join(format!("{}-{name}.{what}", kernel.release));
    let (initramfs, console, status) = (file("initramfs"), file("console"), file("status"));
    fs::write(&initramfs, files).map_err(at(&initramfs))?;
    for path in [&console, &status] {
        fs::write(path, "").map_err(at(path))?;
    }
    let ended = command::listen(
        emulator(kernel, &initramfs, &console, &status),
        Some(PATIENCE),
        heed,
    );
    // It is made anew each time, and large.
    fs::remove_file(&initramfs).map_err(at(&initramfs))?;
    let told = || -> Result<String, GuestError> {
        let text = fs::read(&console).map_err(at(&console))?;
        Ok(last_lines(&String::from_utf8_lossy(&text)))
    };
    match ended {
        Ok(()) => {}
        Err(CommandError::Silent { .. }) => return Err(GuestError::Hung { console: told()? }),
        Err(source) => {
            return Err(GuestError::Emulator {
                source,
                console: told()?,
            });
        }
    }
    let text = fs::read_to_string(&status).map_err(at(&status))?;
    match text.trim().parse() {
        Ok(0_i32) => Ok(()),
        Ok(_) => Err(GuestError::Tests),
        Err(_) => Err(GuestError::Broke { console: told()? }),
    }
}

/// The call of the emulator. Serial ports: console, output of the tests, exit status.
fn emulator(kernel: &Kernel, initramfs: &Path, console: &Path, status: &Path) -> Command {
    let file = |path: &Path| format!("file:{}", path.display());
    // How fast the processor's own clock goes would be measured at boot, and wrongly where other
    // processes get in between. What protects from speculation, or clears memory before it is used,
    // protects nothing here. A panic ends the
    // machine at once, and so does an oops: what comes after it proves nothing.
    let parameters = format!(
        "console=ttyS0 quiet panic=-1 oops=panic tsc=unstable clocksource=hpet mitigations=off init_on_alloc=0 -- {}",
        LIFETIME.as_secs()
    );
    // The kernel kills the emulator together with this program, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        // There need not be hardware for virtualisation, and often is not. Where the processor says
        // that it copies bytes fast the kernel has it copy byte by byte, which is the slowest way in an
        // emulated one; and tables of pages with a level less are walked faster. Both together take a
        // fifth less of the host's time.
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max,erms=off,la57=off",
        ])
        .args(["-smp", PROCESSORS, "-m", MEMORY])
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-nic", "none"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &parameters])
        .args(["-serial", &file(console), "-serial", "stdio"])
        .args(["-serial", &file(status)]);
    command
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let skipped = lines.len().saturating_sub(TOLD);
    lines
        .into_iter()
        .skip(skipped)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_console_is_told() {
        let text: String = (1..=50).map(|number| format!("{number}\r\n")).collect();
        let told = last_lines(&text);
        assert!(told.starts_with("21\n22\n"), "{told}");
        assert!(told.ends_with("\n50"), "{told}");
        assert_eq!(last_lines("panic"), "panic");
    }
}
