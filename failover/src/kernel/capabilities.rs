//! Which privileges the process lacks, to be said before anything is tried.

use std::fmt;
use std::io;

use thiserror::Error;

/// A privilege of Linux (`capabilities(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Routes, rules, nftables, connection tracking, settings under `net/`.
    NetAdmin,
    /// Probes by raw sockets, and by a given interface.
    NetRaw,
    /// Mounting bpffs; on old kernels, loading programs.
    SysAdmin,
    /// Loading programs and making maps.
    Bpf,
    /// With CAP_BPF, loading programs that look into packets.
    Perfmon,
}

/// What the daemon needs, and what takes everything out again.
pub const DAEMON: [Capability; 2] = [Capability::NetAdmin, Capability::NetRaw];

impl Capability {
    /// Its number (`include/uapi/linux/capability.h`).
    const fn bit(self) -> u64 {
        match self {
            Self::NetAdmin => 1 << 12,
            Self::NetRaw => 1 << 13,
            Self::SysAdmin => 1 << 21,
            Self::Perfmon => 1 << 38,
            Self::Bpf => 1 << 39,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// Why the process may not do its work.
#[derive(Debug, Error)]
pub enum CapabilityError {
    /// It lacks privileges.
    #[error("not permitted: {} missing; run it as root", list(.missing))]
    Missing {
        /// Which.
        missing: Vec<Capability>,
    },
    /// Nobody can tell.
    #[error("cannot tell which capabilities this process has: {0}")]
    Unknown(#[source] io::Error),
}

/// Whether this process has all of `needed`.
///
/// # Errors
/// When it lacks some, or its status cannot be read.
pub fn require(needed: &[Capability]) -> Result<(), CapabilityError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(CapabilityError::Unknown)?;
    let effective = effective(&status).ok_or_else(|| {
        CapabilityError::Unknown(io::Error::other("/proc/self/status has no line CapEff"))
    })?;
    let missing = missing(effective, needed);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(CapabilityError::Missing { missing })
    }
}

/// The set of effective capabilities in the text of `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

fn missing(effective: u64, needed: &[Capability]) -> Vec<Capability> {
    needed
        .iter()
        .copied()
        .filter(|capability| effective & capability.bit() == 0)
        .collect()
}

fn list(missing: &[Capability]) -> String {
    let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<Capability> {
        let status = format!("Name:\tfailover\nCapPrm:\t0000000000000000\n{line}\n");
        missing(effective(&status).unwrap(), &DAEMON)
    }

    #[test]
    fn root_lacks_nothing() {
        assert_eq!(found("CapEff:\t000001ffffffffff"), []);
        assert_eq!(found("CapEff:\t0000000000003000"), []);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |line| {
            let missing = found(line);
            CapabilityError::Missing { missing }.to_string()
        };
        assert_eq!(
            error("CapEff:\t0000000000000000"),
            "not permitted: CAP_NET_ADMIN and CAP_NET_RAW are missing; run it as root"
        );
        assert_eq!(
            error("CapEff:\t0000000000001000"),
            "not permitted: CAP_NET_RAW is missing; run it as root"
        );
    }

    #[test]
    fn a_status_without_the_line_is_no_permission() {
        assert_eq!(effective("Name:\tx\n"), None);
        assert_eq!(effective("CapEff:\tnonsense\n"), None);
    }
}
