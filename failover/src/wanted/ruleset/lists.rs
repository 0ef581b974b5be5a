//! Lists of values in the conditions of rules: those that stand in several lines are sets with names.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Interfaces,
    Protocols,
    Ports,
    CodePoints,
    HardwareAddresses,
}

impl Kind {
    /// The set's type in nft, and what its name begins with.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Interfaces => ("ifname", "interfaces"),
            Self::Protocols => ("inet_proto", "protocols"),
            Self::Ports => ("inet_service", "ports"),
            Self::CodePoints => ("dscp", "dscps"),
            Self::HardwareAddresses => ("ether_addr", "macs"),
        }
    }
}

/// Lists of values that rules have: the number of each, and in how many lines it stands.
#[derive(Debug, Default)]
pub(super) struct Lists {
    known: BTreeMap<(Kind, String), (usize, usize)>,
    pub(super) counted: bool,
}

impl Lists {
    /// One value as it is, several as a set.
    pub(super) fn one_of<T: Display>(
        &mut self,
        kind: Kind,
        values: impl IntoIterator<Item = T>,
    ) -> String {
        let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
        if let [only] = values.as_slice() {
            return only.clone();
        }
        let elements = values.join(", ");
        let next = self.known.len();
        let anonymous = format!("{{ {elements} }}");
        let (number, lines) = self.known.entry((kind, elements)).or_insert((next, 0));
        if !self.counted {
            *lines += 1;
        } else if *lines > 1 {
            return format!("@{}_{number}", kind.words().1);
        }
        anonymous
    }

    pub(super) fn write(&self, text: &mut String) -> fmt::Result {
        let several = self.known.iter().filter(|(_, (_, lines))| *lines > 1);
        for ((kind, elements), (number, _)) in several {
            let (of_type, name) = kind.words();
            writeln!(text, "  set {name}_{number} {{\n    type {of_type}")?;
            if *kind == Kind::Ports {
                writeln!(text, "    flags interval")?;
            }
            writeln!(text, "    elements = {{ {elements} }}\n  }}")?;
        }
        Ok(())
    }
}

/// One value as it is, several as a set without a name.
pub(super) fn anonymous<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    match values.as_slice() {
        [only] => only.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}
