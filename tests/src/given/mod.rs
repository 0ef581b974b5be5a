//! Addresses that a provider gives, by the programs that do so in the world: DHCP by dnsmasq and
//! busybox's udhcpc, router advertisements by radvd. They and their files vanish with the lab.

mod advertisements;
mod dhcp;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::LabError;
use crate::eventually::eventually;
use crate::node::Program;

pub use advertisements::{Advertised, Advertiser, Prefix};
pub use dhcp::{DhcpClient, DhcpServer, Lease};

/// How long a program may take to begin, and an exchange to end.
const LIMIT: Duration = Duration::from_secs(30);

/// Writes a file of the lab.
fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(LabError::io(format!("write {}", path.display())))
}

/// A path as a word of a command line.
fn word(path: &Path) -> String {
    path.display().to_string()
}

/// A folder of the lab for the files of one program.
fn folder(files: &Path, name: &str) -> Result<PathBuf, LabError> {
    let folder = files.join(name);
    fs::create_dir_all(&folder).map_err(LabError::io(format!("make {}", folder.display())))?;
    Ok(folder)
}

/// Waits until a program has written what was wanted.
async fn until_written(
    what: &str,
    program: &Program,
    written: impl Fn(&str) -> bool,
) -> Result<(), LabError> {
    let look = || {
        let text = program.stderr() + &program.stdout();
        let found = written(&text);
        let ended = program.ended();
        async move {
            match (found, ended) {
                (true, _) => Ok(Some(())),
                (false, None) => Ok(None),
                (false, Some(status)) => Err(LabError::ProgramFailed {
                    node: "the lab".to_owned(),
                    command: "a server or client".to_owned(),
                    status: status.to_string(),
                    output: text,
                }),
            }
        }
    };
    eventually(what, LIMIT, look).await
}
