//! The kernel's state in a node as the usual tools print it, to compare before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use crate::error::LabError;
use crate::node::{Node, ProgramSpec};
use crate::programs::has_tcx;

/// What is asked, and what it is called in differences. The interfaces are asked in addition.
const QUESTIONS: [&str; 6] = [
    "ip rule",
    "ip -6 rule",
    "ip route show table all",
    "ip -6 route show table all",
    "nft --stateless list ruleset",
    "sysctl --all --ignore --pattern ^net[.]",
];

/// The state of the kernel in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelState {
    /// For each command, the lines that it printed, without what changes by itself.
    sections: BTreeMap<String, Vec<String>>,
}

impl KernelState {
    /// Takes rules, routes, nftables, kernel settings, traffic control filters, TCX programs and
    /// the marks of tracked connections.
    ///
    /// # Errors
    /// When one of `ip`, `nft`, `sysctl`, `tc` and `conntrack` is missing or fails.
    pub async fn of(node: &Node) -> Result<Self, LabError> {
        let mut sections = BTreeMap::new();
        for question in QUESTIONS {
            let text = node.must(ProgramSpec::line(question)).await?;
            sections.insert(question.to_owned(), normalise(&text));
        }
        let links = node.must(ProgramSpec::line("ip -oneline link")).await?;
        for interface in interfaces(&links) {
            for question in [
                format!("tc qdisc show dev {interface}"),
                format!("tc filter show dev {interface} ingress"),
                format!("tc filter show dev {interface} egress"),
            ] {
                let text = node.must(ProgramSpec::line(&question)).await?;
                sections.insert(question, normalise(&text));
            }
            for (side, name) in [
                (TcAttachType::Ingress, "ingress"),
                (TcAttachType::Egress, "egress"),
            ] {
                let question = format!("TCX programs at {interface} {name}");
                sections.insert(question, tcx(node, interface, side).await?);
            }
        }
        for family in ["ipv4", "ipv6"] {
            let question = format!("conntrack -L -f {family}");
            let text = node.must(ProgramSpec::line(&question)).await?;
            sections.insert(format!("marks of {question}"), marks(&text));
        }
        Ok(Self { sections })
    }

    /// The same without `clsact` queueing disciplines that nothing hangs on any more: the daemon
    /// leaves them where they are until `failover clean`, since taking one out stops the interface
    /// for milliseconds. On kernels with TCX there are none.
    #[must_use]
    pub fn without_idle_clsact(mut self) -> Self {
        if !has_tcx() {
            for (question, lines) in &mut self.sections {
                if question.starts_with("tc qdisc show dev ") {
                    lines.retain(|line| !line.starts_with("qdisc clsact "));
                }
            }
        }
        self
    }

    /// What is different in `after`, line by line; `None` when nothing is.
    #[must_use]
    pub fn difference(&self, after: &Self) -> Option<String> {
        let names: BTreeSet<&String> = self.sections.keys().chain(after.sections.keys()).collect();
        let none = Vec::new();
        let mut text = String::new();
        for name in names {
            let before = self.sections.get(name).unwrap_or(&none);
            let after = after.sections.get(name).unwrap_or(&none);
            if before == after {
                continue;
            }
            // Writing to a string does not fail.
            writeln!(text, "{name}:").ok();
            for line in before.iter().filter(|line| !after.contains(line)) {
                writeln!(text, "  - {line}").ok();
            }
            for line in after.iter().filter(|line| !before.contains(line)) {
                writeln!(text, "  + {line}").ok();
            }
            if before.len() == after.len() && before.iter().all(|line| after.contains(line)) {
                writeln!(text, "  the same lines in another order or number").ok();
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

impl fmt::Display for KernelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, lines) in &self.sections {
            writeln!(f, "{name}:")?;
            for line in lines {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

/// Lines without what the kernel changes by itself.
fn normalise(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with("net.netfilter.nf_conntrack_count"))
        .map(without_expiry)
        .collect()
}

/// An IPv6 route's line without `expires 1799sec`.
fn without_expiry(line: &str) -> String {
    let mut words = Vec::new();
    let mut all = line.split(' ');
    while let Some(word) = all.next() {
        if word == "expires" {
            all.next();
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}

/// The names in `ip -oneline link`: `2: wan1@if2: <BROADCAST…`.
fn interfaces(links: &str) -> Vec<&str> {
    links
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .filter_map(|name| name.split('@').next())
        .collect()
}

/// The names of the programs that hang on a side of an interface by TCX, in their order.
async fn tcx(node: &Node, interface: &str, side: TcAttachType) -> Result<Vec<String>, LabError> {
    let (name, of) = (interface.to_owned(), interface.to_owned());
    let found = node
        .run(move || async move { SchedClassifier::query_tcx(&name, side) })
        .await?;
    match found {
        Ok((_, programs)) => Ok(programs
            .iter()
            .map(|program| program.name_as_str().unwrap_or_default().to_owned())
            .collect()),
        // A kernel before 6.6, which has none.
        Err(ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(nix::libc::EINVAL) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(LabError::Io {
            what: format!("list the TCX programs of {of}"),
            source: std::io::Error::other(error),
        }),
    }
}

/// The marks of connections other than 0, each once: connections come and go, marks must not.
fn marks(connections: &str) -> Vec<String> {
    let found: BTreeSet<&str> = connections
        .split_whitespace()
        .filter(|word| word.starts_with("mark=") && *word != "mark=0")
        .collect();
    found.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(section: &str, text: &str) -> KernelState {
        KernelState {
            sections: BTreeMap::from([(section.to_owned(), normalise(text))]),
        }
    }

    #[test]
    fn time_that_runs_is_no_difference() {
        let before = state(
            "ip -6 route",
            "default via fe80::1 dev wan1 expires 1799sec pref medium",
        );
        let after = state(
            "ip -6 route",
            "default via fe80::1 dev wan1 expires 17sec pref medium",
        );
        assert_eq!(before.difference(&after), None);
    }

    #[test]
    fn a_rule_that_stays_is_shown() {
        let before = state("ip rule", "0: from all lookup local\n");
        let after = state(
            "ip rule",
            "0: from all lookup local\n1000: from all lookup 301\n",
        );
        assert_eq!(
            before.difference(&after).as_deref(),
            Some("ip rule:\n  + 1000: from all lookup 301\n")
        );
    }

    #[test]
    fn a_rule_that_stands_twice_is_shown() {
        let before = state("ip rule", "0: from all lookup local\n");
        let after = state(
            "ip rule",
            "0: from all lookup local\n0: from all lookup local\n",
        );
        assert!(before.difference(&after).is_some());
    }

    #[test]
    fn names_and_marks_are_found() {
        let links = "1: lo: <LOOPBACK>\n2: wan1@if2: <BROADCAST>\n";
        assert_eq!(interfaces(links), ["lo", "wan1"]);
        let entries = "udp 17 29 src=1.2.3.4 mark=16777216 use=1\ntcp 6 src=1.2.3.4 mark=0 use=1\n";
        assert_eq!(marks(entries), ["mark=16777216"]);
    }
}
