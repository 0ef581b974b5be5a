//! Compiles the programs into an object that is the same wherever it is built.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::toolchain::{Kind, Toolchain, plain};
use crate::command::{self, CommandError};
use crate::workspace::Workspace;

const TARGET: &str = "bpfel-unknown-none";

/// Why there is no object.
#[derive(Debug, Error)]
pub(crate) enum CompileError {
    /// The compiler or the linker failed.
    #[error(
        "building the eBPF object: {source}; if bpf-linker met an `Invalid record`, it was built for an older LLVM than the compiler's ({llvm}): install a newer one, or take `--toolchain {other}`"
    )]
    Build {
        /// How it ended.
        source: CommandError,
        /// The compiler's LLVM.
        llvm: String,
        /// The other kind of toolchain.
        other: Kind,
    },
    /// The strip program failed.
    #[error("stripping the eBPF object: {0}")]
    Strip(CommandError),
    /// A file could not be read or written.
    #[error("building the eBPF object: {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody knows where cargo keeps the sources of dependencies.
    #[error("building the eBPF object: neither CARGO_HOME nor HOME is set")]
    NoCargoHome,
}

/// Builds the object below the target folder and returns its path. cargo does nothing when neither
/// sources nor toolchain have changed.
pub(crate) fn compile(
    workspace: &Workspace,
    toolchain: &Toolchain,
) -> Result<PathBuf, CompileError> {
    let folder = workspace.target().join("ebpf");
    eprintln!("eBPF: building the object into {}", folder.display());
    let mut build = plain(&toolchain.cargo);
    build
        .current_dir(workspace.root().join("failover-ebpf"))
        .env("RUSTC", &toolchain.rustc)
        // `-Z build-std` also with a compiler that is no nightly.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTC_WRAPPER",
            workspace.root().join("xtask/src/ebpf/rustc.sh"),
        )
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            flags(workspace.root(), toolchain)?.join("\u{1f}"),
        )
        .args([
            "build",
            "--locked",
            "--release",
            "--target",
            TARGET,
            "-Z",
            "build-std=core",
        ]);
    command::run(&mut build).map_err(|source| CompileError::Build {
        source,
        llvm: toolchain.versions.llvm.clone(),
        other: toolchain.kind.other(),
    })?;

    let unstripped = folder.join(TARGET).join("release/failover-ebpf");
    let object = folder.join("failover.bpf.o");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CompileError::File { path, source }
    };
    // In a file of its own, which then takes the place of the last object: a test may have that open.
    let stripped = folder.join(format!("failover.bpf.o.{}", std::process::id()));
    fs::copy(&unstripped, &stripped).map_err(failed(&unstripped))?;
    command::run(plain(&toolchain.strip).arg("-g").arg(&stripped)).map_err(CompileError::Strip)?;
    fs::rename(&stripped, &object).map_err(failed(&object))?;
    Ok(object)
}

/// What the compiler is told beside what the manifest says: BTF needs both the linker's `--btf` and
/// full debug information, and the paths in that must not tell where it was built.
fn flags(root: &Path, toolchain: &Toolchain) -> Result<Vec<String>, CompileError> {
    let mut flags: Vec<String> = ["-C", "link-arg=--btf", "-C", "debuginfo=2"]
        .map(Into::into)
        .into();
    let mut hide = |path: &Path, name: &str| {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    };

    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .ok_or(CompileError::NoCargoHome)?;
    // Of several prefixes that fit, rustc takes the last.
    hide(&cargo_home, "/cargo");
    // Each registry has a folder whose name depends on its address.
    let registries = cargo_home.join("registry/src");
    for entry in fs::read_dir(&registries)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        hide(&entry.path(), "/cargo/registry");
    }
    hide(&toolchain.library, "/rust");
    // Debian's is a symbolic link.
    if let Ok(real) = toolchain.library.canonicalize() {
        hide(&real, "/rust");
    }
    hide(root, "/failover");
    Ok(flags)
}
