//! `failover import`.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;

use crate::cli::Outcome;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::config::MAX_FILE_BYTES;
use crate::import::{self, ImportError, Program};

/// What to import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Whose configuration it is.
    #[arg(long, value_name = "PROGRAM")]
    pub from: Program,

    /// OpenWrt's /etc/config/network, which says the devices of mwan3's interfaces.
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<PathBuf>,

    /// The file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Why nothing was imported.
#[derive(Debug, Error)]
enum NotImported {
    #[error("cannot read {}: {cause}", file.display())]
    Unreadable { file: PathBuf, cause: io::Error },
    #[error("{}: it is larger than {MAX_FILE_BYTES} bytes, which no such file is", .0.display())]
    TooLarge(PathBuf),
    #[error("--network is for mwan3 only")]
    Network,
    #[error("{}:{cause}", file.display())]
    Refused { file: PathBuf, cause: ImportError },
}

#[expect(clippy::print_stderr, reason = "what has no equivalent goes there")]
pub(super) fn import(args: &ImportArgs) -> Outcome {
    if args.network.is_some() && args.from != Program::Mwan3 {
        return Err(Failure::usage(NotImported::Network));
    }
    let text = read(&args.file).map_err(Failure::no)?;
    let network = args.network.as_deref().map(read).transpose();
    let network = network.map_err(Failure::no)?;
    let imported = import::import(args.from, &text, network.as_deref()).map_err(|cause| {
        Failure::no(NotImported::Refused {
            file: args.file.clone(),
            cause,
        })
    })?;
    let file = args.file.display();
    for remark in &imported.remarks {
        match remark.line {
            Some(line) => eprintln!("{file}:{line}: {}", remark.text),
            None => eprintln!("{file}: {}", remark.text),
        }
    }
    output::print(|out| out.write_all(imported.configuration.as_bytes()))
}

/// The text of a file; bytes that are no UTF-8 are in comments at most.
fn read(path: &Path) -> Result<String, NotImported> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|cause| NotImported::Unreadable {
            file: path.to_owned(),
            cause,
        })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(NotImported::TooLarge(path.to_owned()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
