//! `failover init`.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;

use crate::cli::Outcome;
use crate::cli::args::CONFIG;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::init;
use crate::kernel::network::NetworkObserver;

/// Where a configuration is written.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file; `-` prints it.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub output: PathBuf,

    /// Replaces a file that is there.
    #[arg(long)]
    pub force: bool,
}

/// Why the file was not written.
#[derive(Debug, Error)]
enum NotWritten {
    #[error("{} is there already and was left as it is: --force replaces it, --output names another, --output - prints", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {cause}", file.display())]
    Write { file: PathBuf, cause: io::Error },
}

#[expect(clippy::print_stderr, reason = "standard output may be the file")]
pub(super) fn init(args: &InitArgs) -> Outcome {
    let prints = args.output.as_os_str() == "-";
    if !prints && !args.force && args.output.exists() {
        return Err(Failure::no(NotWritten::Exists(args.output.clone())));
    }
    let view = super::runtime()?
        .block_on(async { NetworkObserver::open()?.view().await })
        .map_err(Failure::no)?;
    let text = init::configuration(&view).map_err(Failure::no)?;
    if prints {
        return output::print(|out| out.write_all(text.as_bytes()));
    }
    write(&args.output, args.force, &text)?;
    let file = args.output.display();
    eprintln!(
        "wrote {file}: read it, since some of it is a guess, then: failover doctor --config {file}"
    );
    Ok(())
}

fn write(path: &Path, force: bool, text: &str) -> Outcome {
    let failed = |cause: io::Error| match cause.kind() {
        ErrorKind::AlreadyExists => Failure::no(NotWritten::Exists(path.to_owned())),
        ErrorKind::PermissionDenied => Failure::not_permitted(NotWritten::Write {
            file: path.to_owned(),
            cause,
        }),
        _ => Failure::no(NotWritten::Write {
            file: path.to_owned(),
            cause,
        }),
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(failed)
}
