//! What on a host keeps failover from working, and how to mend it.
//!
//! Facts are gathered at the edge ([`gather`]); every check is a plain function of them.

mod conflicts;
pub mod facts;
pub mod firewall;
mod firewall_checks;
pub mod gather;
mod marks;
mod settings;
mod system;
mod targets;
mod uplinks;

use serde::Serialize;

use facts::Host;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work, or will not when it is needed.
    Problem,
    /// It may be meant so; somebody should know.
    Notice,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// By what scripts and the documentation know it.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, and where.
    pub found: String,
    /// What to do.
    pub remedy: String,
    /// The kernel settings that mend it, where that is safe and easily undone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<Setting>,
}

/// A kernel setting and the value that it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// A path below `/proc/sys`.
    pub key: String,
    /// The value.
    pub value: &'static str,
}

impl Finding {
    fn problem(id: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            id,
            severity: Severity::Problem,
            found: found.into(),
            remedy: remedy.into(),
            fix: Vec::new(),
        }
    }

    fn notice(id: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Notice,
            ..Self::problem(id, found, remedy)
        }
    }

    /// A notice only, for a reason that is added.
    fn softened(mut self, reason: &str) -> Self {
        self.severity = Severity::Notice;
        self.found.push_str(reason);
        self
    }

    /// Can be mended by a kernel setting.
    fn mended_by(mut self, key: impl Into<String>, value: &'static str) -> Self {
        self.fix.push(Setting {
            key: key.into(),
            value,
        });
        self
    }
}

/// All that is wrong, problems first.
#[must_use]
pub fn examine(host: &Host) -> Vec<Finding> {
    let checks: [fn(&Host) -> Vec<Finding>; 7] = [
        settings::check,
        uplinks::check,
        conflicts::check,
        marks::check,
        firewall_checks::check,
        system::check,
        targets::check,
    ];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(host)).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings.dedup();
    findings
}
