//! Writes the man pages and the completions of shells, which a package installs beside the program:
//! `cargo run --example pages -- FOLDER`. They come from the command line's own definition, and the
//! program need not carry what writes them.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use failover::cli::Arguments;

/// Commands of the administrator.
const SECTION: &str = "8";

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            writeln!(io::stderr(), "pages: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let mut command = Arguments::command();
    command.build();
    page(&man, &command)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Arguments::command(), "failover", &completions)?;
    }
    Ok(())
}

/// The page of a command, and those of the commands below it: `failover-status.8`.
fn page(folder: &Path, command: &Command) -> io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let mut file = File::create(folder.join(format!("{name}.{SECTION}")))?;
    Man::new(command.clone())
        .title(name)
        .section(SECTION)
        .manual("failover")
        .render(&mut file)?;
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        page(folder, below)?;
    }
    Ok(())
}
