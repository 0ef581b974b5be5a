//! What the daemon holds: in the kernel, and of files.

use std::collections::BTreeMap;

use crate::daemon::Daemon;
use crate::error::LabError;
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

/// Rules, routes and nftables table as the tools print them, and the number of open files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    printed: BTreeMap<&'static str, Vec<String>>,
    open_files: usize,
}

impl Footprint {
    pub(super) async fn of(lab: &Lab, daemon: &Daemon) -> Result<Self, LabError> {
        let mut printed = BTreeMap::new();
        for question in QUESTIONS {
            let text = lab
                .gateway()
                .node()
                .must(ProgramSpec::line(question))
                .await?;
            let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
            // The kernel lists routes in the order in which they were added.
            lines.sort_unstable();
            printed.insert(question, lines);
        }
        let path = format!("/proc/{}/fd", daemon.pid());
        let open_files = std::fs::read_dir(&path)
            .map_err(LabError::io(format!("read {path}")))?
            .count();
        Ok(Self {
            printed,
            open_files,
        })
    }

    /// What is there now and was not at first, or the other way round; fewer open files are no
    /// difference.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
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
        if now.open_files > self.open_files {
            found.push(format!(
                "open files of the daemon: {}, at first {}",
                now.open_files, self.open_files
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(rules: &[&str], open_files: usize) -> Footprint {
        let lines = rules.iter().map(|rule| (*rule).to_owned()).collect();
        Footprint {
            printed: [("ip rule show protocol 102", lines)].into(),
            open_files,
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
