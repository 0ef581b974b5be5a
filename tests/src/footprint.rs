//! What the daemon holds: in the kernel, and of files.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use failover::kernel::nftables::without_dynamic_elements;

use crate::Pinning as _;
use crate::daemon::Daemon;
use crate::error::LabError;
use crate::eventually::patient;
use crate::lab::Lab;
use crate::node::ProgramSpec;

/// What is asked. 102 is the number of the protocol that marks routes and rules as failover's.
const QUESTIONS: [&str; 5] = [
    "ip rule show protocol 102",
    "ip -6 rule show protocol 102",
    "ip route show table all proto 102",
    "ip -6 route show table all proto 102",
    "nft --stateless list table inet failover",
];

/// How long the daemon may take to settle.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// Rules, routes and nftables table as the tools print them, what is pinned, and the open files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    printed: BTreeMap<&'static str, Vec<String>>,
    /// Pinned links; their names hold numbers of interfaces, which change.
    links: usize,
    /// Open files of the daemon, by kind.
    open: BTreeMap<String, usize>,
}

impl Footprint {
    /// What is there now.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn of(lab: &Lab, daemon: &Daemon) -> Result<Self, LabError> {
        let mut printed = BTreeMap::new();
        for question in QUESTIONS {
            let text = lab
                .gateway()
                .node()
                .must(ProgramSpec::line(question))
                .await?;
            // What packets noted in sets is no part of it.
            let text = without_dynamic_elements(&text);
            let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
            // The kernel lists routes in the order in which they were added.
            lines.sort_unstable();
            printed.insert(question, lines);
        }
        let links = lab.pins().pinned_links().map_err(|error| LabError::Io {
            what: "list pinned links".to_owned(),
            source: std::io::Error::other(error),
        })?;
        Ok(Self {
            printed,
            links: links.len(),
            open: open_files(daemon.pid())?,
        })
    }

    /// What is still different from this when the daemon had time to settle.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn settled(&self, lab: &Lab, daemon: &Daemon) -> Result<Vec<String>, LabError> {
        let begin = Instant::now();
        loop {
            let now = Self::of(lab, daemon).await?;
            let differences = self.differences(&now);
            if differences.is_empty() || begin.elapsed() >= patient(SETTLED_WITHIN) {
                return Ok(differences);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What is there now and was not at first, or the other way round; fewer open files are no
    /// difference.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (question, before) in &self.printed {
            let after = now.printed.get(question).map_or(&[][..], Vec::as_slice);
            if before == after {
                continue;
            }
            let (mut gone, mut new) = (before.clone(), after.to_vec());
            gone.retain(|line| !after.contains(line));
            new.retain(|line| !before.contains(line));
            found.push(format!(
                "{question}: {} lines, at first {}; gone: {gone:?}; new: {new:?}",
                after.len(),
                before.len()
            ));
        }
        if now.links != self.links {
            let (now, at_first) = (now.links, self.links);
            found.push(format!("pinned links: {now}, at first {at_first}"));
        }
        for (kind, now) in &now.open {
            let at_first = self.open.get(kind).copied().unwrap_or(0);
            if *now > at_first {
                found.push(format!(
                    "open files of the daemon, {kind}: {now}, at first {at_first}"
                ));
            }
        }
        found
    }
}

/// By kind, such as `socket` or `anon_inode:bpf_link`; other files by path.
fn open_files(pid: u32) -> Result<BTreeMap<String, usize>, LabError> {
    let folder = format!("/proc/{pid}/fd");
    let failed = || LabError::io(format!("read {folder}"));
    let mut open = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).map_err(failed())? {
        // One that is closed meanwhile is none.
        let Ok(target) = std::fs::read_link(entry.map_err(failed())?.path()) else {
            continue;
        };
        let target = target.to_string_lossy();
        // As in `socket:[12345]`.
        let kind = target.split(":[").next().unwrap_or_default();
        *open.entry(kind.to_owned()).or_default() += 1;
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(rules: &[&str], open_files: usize) -> Footprint {
        let lines = rules.iter().map(|rule| (*rule).to_owned()).collect();
        Footprint {
            printed: [("ip rule show protocol 102", lines)].into(),
            links: 3,
            open: [("socket".to_owned(), open_files)].into(),
        }
    }

    #[test]
    fn what_is_left_over_or_doubled_is_told() {
        let at_first = holding(&["1000: one"], 20);
        assert!(
            at_first
                .differences(&holding(&["1000: one"], 19))
                .is_empty()
        );
        for now in [
            holding(&["1000: one", "1001: two"], 20),
            holding(&["1000: one", "1000: one"], 20),
            holding(&[], 20),
            holding(&["1000: one"], 21),
        ] {
            assert_eq!(at_first.differences(&now).len(), 1, "{now:?}");
        }
    }
}
