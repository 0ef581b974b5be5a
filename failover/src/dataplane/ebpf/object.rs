//! The compiled programs, as they are embedded in this binary.
//!
//! The object lies beside this file, so that a build needs no BPF toolchain. What it was built from
//! and by is recorded in `failover.bpf.toml`; `cargo xtask build-ebpf` makes both anew.

/// The object file: ELF for `bpfel-unknown-none`, with BTF, without other debug information.
pub static EMBEDDED: &[u8] = aya::include_bytes_aligned!("failover.bpf.o");
