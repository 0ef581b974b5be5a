//! The word by which scripts and tables know why a flow does not take the fast path.

use super::standing::Why;

impl Why {
    /// The word of the document: the variant's name as serde writes it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Rule => "rule",
            Self::Protocol => "protocol",
            Self::Young => "young",
            Self::Ending => "ending",
            Self::Idle => "idle",
            Self::Old => "old",
            Self::Untracked => "untracked",
            Self::Helper => "helper",
            Self::Shifted => "shifted",
            Self::ShortLived => "short_lived",
            Self::Ipsec => "ipsec",
            Self::NoEthernet => "no_ethernet",
            Self::NoWay => "no_way",
            Self::NoNeighbour => "no_neighbour",
            Self::Filtered(_) => "filtered",
            Self::Full => "full",
            Self::Waiting => "waiting",
            Self::Broken(_) => "broken",
        }
    }

    /// What the word leaves open.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Filtered(what) | Self::Broken(what) => Some(what),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_words_are_those_that_serde_writes() {
        for why in [
            Why::Off,
            Why::Rule,
            Why::Protocol,
            Why::Young,
            Why::Ending,
            Why::Idle,
            Why::Old,
            Why::Untracked,
            Why::Helper,
            Why::Shifted,
            Why::ShortLived,
            Why::Ipsec,
            Why::NoEthernet,
            Why::NoWay,
            Why::NoNeighbour,
            Why::Filtered("a filter".to_owned()),
            Why::Full,
            Why::Waiting,
            Why::Broken("a map".to_owned()),
        ] {
            let (word, detail) = (why.word(), why.detail());
            let written = match detail {
                Some(detail) => json!({ word: detail }),
                None => Value::from(word),
            };
            assert_eq!(serde_json::to_value(&why).unwrap(), written);
        }
    }
}
