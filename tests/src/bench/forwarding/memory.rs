//! What flows take of the kernel's memory.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use aya::maps::MapData;

use super::gateway::Gateway;
use crate::error::LabError;
use crate::programs::ProgramsError;

/// How many flows there are while it is measured.
pub(super) const FLOWS: u32 = 50_000;

const PAGE: u64 = 4096;

/// How often and how many times is looked whether the slabs still shrink, and by how much they may.
const STEP: Duration = Duration::from_millis(100);
const STEPS: usize = 30;
const SMALL: u64 = 64 * 1024;

/// The slabs that flows are in: their own, and those of what belongs to them (`nf_ct_ext`).
const SLABS: [&str; 6] = [
    "nf_conntrack",
    "kmalloc-64",
    "kmalloc-96",
    "kmalloc-128",
    "kmalloc-192",
    "kmalloc-256",
];

/// What the slabs take when what was freed before has left them: that goes on for a while behind.
pub(super) async fn settled() -> Result<u64, LabError> {
    let mut last = slabs()?;
    for _ in 0..STEPS {
        tokio::time::sleep(STEP).await;
        let now = slabs()?;
        if now.abs_diff(last) < SMALL {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// What they take, in bytes.
fn slabs() -> Result<u64, LabError> {
    const PATH: &str = "/proc/slabinfo";
    let text = fs::read_to_string(PATH).map_err(LabError::io(format!("read {PATH}")))?;
    Ok(text.lines().filter_map(size_of_slab).sum())
}

/// Of one line: `name … objperslab pagesperslab : tunables … : slabdata active_slabs num_slabs shared`.
fn size_of_slab(line: &str) -> Option<u64> {
    let mut parts = line.split(':');
    let mut first = parts.next()?.split_whitespace();
    let name = first.next()?;
    let pages: u64 = first.nth(4)?.parse().ok()?;
    let slabs: u64 = parts.nth(1)?.split_whitespace().nth(2)?.parse().ok()?;
    SLABS.contains(&name).then_some(pages * slabs * PAGE)
}

/// The bytes per entry of all tables that are as large as a daemon's flow table, which is the largest:
/// those with an entry for each flow. `None` without a daemon that has such.
pub(super) fn tables(gateway: &Gateway) -> Result<Option<f64>, ProgramsError> {
    if gateway.daemon.is_none() {
        return Ok(None);
    }
    let mut found = Vec::new();
    walk(&gateway.lab.pin_folder(), &mut found);
    let most = found.iter().map(|(entries, _)| *entries).max().unwrap_or(0);
    let bytes: u64 = found
        .iter()
        .filter(|(entries, _)| *entries * 2 >= most)
        .map(|(_, bytes)| bytes)
        .sum();
    Ok((most > 0).then(|| bytes as f64 / most as f64))
}

/// How many entries the maps below a folder have, and how many bytes they take.
fn walk(folder: &Path, found: &mut Vec<(u64, u64)>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            walk(&path, found);
        } else if let Ok(map) = MapData::from_pin(&path) {
            found.extend(size_of_map(&map));
        }
    }
}

fn size_of_map(map: &MapData) -> Option<(u64, u64)> {
    let number = map.fd().as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    let value = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line?.trim().parse().ok()
    };
    Some((value("max_entries:")?, value("memlock:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_slabinfo() {
        let line = "nf_conntrack 112 176 256 16 1 : tunables 0 0 0 : slabdata 11 12 0";
        assert_eq!(size_of_slab(line), Some(12 * PAGE));
        assert_eq!(size_of_slab(&line.replace("nf_conntrack", "dentry")), None);
        assert_eq!(size_of_slab("# name <active_objs>"), None);
    }
}
