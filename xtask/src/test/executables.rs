//! Test programs for elsewhere: built, and found in what cargo says.

use std::path::Path;

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::kernels::TestProgram;
use crate::workspace::Workspace;

/// Why there are no test programs.
#[derive(Debug, Error)]
pub(super) enum NoExecutables {
    /// They do not build.
    #[error(transparent)]
    Build(#[from] CommandError),
    /// Cargo does not tell of one.
    #[error("cargo built the tests and names no executable of the target {target}")]
    Unnamed {
        /// The test target.
        target: String,
    },
}

/// Builds test targets of the workspace, as `cargo test` does.
pub(super) fn build(
    workspace: &Workspace,
    targets: &[&str],
) -> Result<Vec<TestProgram>, NoExecutables> {
    let mut said = String::new();
    let mut cargo = workspace.cargo();
    // The whole workspace, as for the tests: cargo then builds each dependency once for all uses.
    cargo.args(["test", "--workspace", "--no-run", "--color", "never"]);
    for target in targets {
        cargo.args(["--test", target]);
    }
    command::follow(cargo, |line| {
        said.push_str(line);
        said.push('\n');
    })?;
    targets
        .iter()
        .map(|target| {
            let file = executable(&said, target).ok_or_else(|| NoExecutables::Unnamed {
                target: (*target).to_owned(),
            })?;
            Ok(TestProgram {
                name: (*target).to_owned(),
                file: workspace.root().join(file),
            })
        })
        .collect()
}

/// `Executable tests/scenarios/main.rs (target/debug/deps/scenarios-0a1b)`
fn executable<'a>(said: &'a str, target: &str) -> Option<&'a Path> {
    said.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("Executable ")?;
        let program = Path::new(rest.split_once(" (")?.1.strip_suffix(')')?);
        let (name, _hash) = program.file_name()?.to_str()?.rsplit_once('-')?;
        (name == target).then_some(program)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_program_of_a_target() {
        let said = "   Compiling failover-tests v0.1.0\n\
            \x20 Executable tests/packets/main.rs (target/debug/deps/packets-77)\n\
            \x20 Executable tests/scenarios/main.rs (target/debug/deps/scenarios-0a1b)\n";
        assert_eq!(
            executable(said, "scenarios"),
            Some(Path::new("target/debug/deps/scenarios-0a1b"))
        );
        assert_eq!(executable(said, "lab"), None);
    }
}
