//! How uplinks are, in the one line that `systemctl status` shows.

use std::fmt::Write as _;

use crate::status::{State, StatusDocument};

/// Such as `1 of 3 uplinks up: fiber; cable is degraded; lte is down`.
pub(super) fn of(document: &StatusDocument) -> String {
    let uplinks: Vec<_> = document
        .uplinks
        .iter()
        .map(|uplink| (uplink.name.as_str(), uplink.state))
        .collect();
    line(&uplinks)
}

fn line(uplinks: &[(&str, State)]) -> String {
    let up: Vec<_> = uplinks
        .iter()
        .filter(|(_, state)| *state == State::Up)
        .map(|(name, _)| *name)
        .collect();
    let plural = if uplinks.len() == 1 { "" } else { "s" };
    let mut line = format!("{} of {} uplink{plural} up", up.len(), uplinks.len());
    if !up.is_empty() {
        // Writing to a String cannot fail.
        write!(line, ": {}", up.join(", ")).ok();
    }
    for (name, state) in uplinks.iter().filter(|(_, state)| *state != State::Up) {
        write!(line, "; {name} is {}", state.as_str()).ok();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_up_is_named_with_its_state() {
        let three = [
            ("cable", State::Degraded),
            ("fiber", State::Up),
            ("lte", State::Down),
        ];
        assert_eq!(
            line(&three),
            "1 of 3 uplinks up: fiber; cable is degraded; lte is down"
        );
        assert_eq!(line(&[("a", State::Up)]), "1 of 1 uplink up: a");
        assert_eq!(
            line(&[("a", State::Unknown)]),
            "0 of 1 uplink up; a is unknown"
        );
    }
}
