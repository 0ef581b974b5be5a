//! What a reload changed, for people and for scripts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::interface::InterfaceName;
use crate::uplink::{UplinkId, UplinkName};

/// One change. Values are as they are written in the file; `auto` is what is left to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// An uplink came.
    UplinkAdded {
        /// Its name.
        uplink: UplinkName,
        /// Its id.
        id: UplinkId,
    },
    /// An uplink went.
    UplinkRemoved {
        /// Its name.
        uplink: UplinkName,
        /// The id that it had, and gets again when it comes back.
        id: UplinkId,
    },
    /// A setting of one uplink is another.
    UplinkChanged {
        /// The uplink.
        uplink: UplinkName,
        /// The key below the uplink, as in `probe.interval`.
        key: String,
        /// What it was.
        from: String,
        /// What it is now.
        to: String,
    },
    /// A downlink came.
    DownlinkAdded {
        /// Its interface.
        interface: InterfaceName,
    },
    /// A downlink went.
    DownlinkRemoved {
        /// Its interface.
        interface: InterfaceName,
    },
    /// A rule came.
    RuleAdded {
        /// Its name.
        rule: String,
    },
    /// A rule went.
    RuleRemoved {
        /// Its name.
        rule: String,
    },
    /// A rule means something else.
    RuleChanged {
        /// Its name.
        rule: String,
    },
    /// Rules stand in another order.
    RulesReordered,
    /// A setting of the whole is another.
    SettingChanged {
        /// The key, as in `flows.affinity`.
        key: String,
        /// What it was.
        from: String,
        /// What it is now.
        to: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UplinkAdded { uplink, .. } => write!(f, "uplink {uplink} added"),
            Self::UplinkRemoved { uplink, .. } => write!(f, "uplink {uplink} removed"),
            Self::UplinkChanged {
                uplink,
                key,
                from,
                to,
            } => write!(f, "{uplink}: {key} {from} -> {to}"),
            Self::DownlinkAdded { interface } => write!(f, "downlink {interface} added"),
            Self::DownlinkRemoved { interface } => write!(f, "downlink {interface} removed"),
            Self::RuleAdded { rule } => write!(f, "rule {rule} added"),
            Self::RuleRemoved { rule } => write!(f, "rule {rule} removed"),
            Self::RuleChanged { rule } => write!(f, "rule {rule} changed"),
            Self::RulesReordered => f.write_str("rules in another order"),
            Self::SettingChanged { key, from, to } => write!(f, "{key} {from} -> {to}"),
        }
    }
}

/// What came of a reload that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// All that is different now.
    pub changes: Vec<Change>,
    /// What keeps the kernel from being in the new state, if anything does; it is tried again.
    pub problem: Option<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut changes = self.changes.iter();
        let Some(first) = changes.next() else {
            return f.write_str("nothing differs");
        };
        write!(f, "reloaded: {first}")?;
        for change in changes {
            write!(f, ", {change}")?;
        }
        f.write_str("; nothing else")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_says_what_changed_in_one_line() {
        let mut reloaded = Reloaded {
            changes: Vec::new(),
            problem: None,
        };
        assert_eq!(reloaded.to_string(), "nothing differs");
        reloaded.changes = vec![
            Change::UplinkAdded {
                uplink: "lte".parse().unwrap(),
                id: UplinkId::try_from(2).unwrap(),
            },
            Change::UplinkChanged {
                uplink: "fiber".parse().unwrap(),
                key: "weight".to_owned(),
                from: "3".to_owned(),
                to: "1".to_owned(),
            },
        ];
        assert_eq!(
            reloaded.to_string(),
            "reloaded: uplink lte added, fiber: weight 3 -> 1; nothing else"
        );
    }

    #[test]
    fn scripts_find_the_kind_of_each_change_under_one_key() {
        let change = Change::UplinkAdded {
            uplink: "lte".parse().unwrap(),
            id: UplinkId::try_from(2).unwrap(),
        };
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"change":"uplink_added","uplink":"lte","id":2}"#
        );
    }
}
