//! What the daemon says of a packet before it is sent.

use std::collections::BTreeSet;
use std::path::Path;

use failover::control::client::Conversation;
use failover::control::{Answer, Request};
use failover::explain::{Explanation, Fate, Question};
use failover::network::MacAddress;
use failover::policy::Facts;

use crate::error::LabError;

/// Asks the daemon where a packet will go. `identifier` is that of an echo.
pub(super) fn explained(
    control: &Path,
    packet: &Facts,
    identifier: u16,
) -> Result<Explanation, LabError> {
    let ports = packet.protocol.has_ports();
    let question = Question {
        source: packet.source,
        source_port: if ports {
            Some(packet.source_port)
        } else {
            packet.protocol.has_identifier().then_some(identifier)
        },
        destination: packet.destination,
        port: ports.then_some(packet.port),
        protocol: packet.protocol,
        interface: packet.interface.clone(),
        own: packet.interface.is_none(),
        dscp: packet.dscp,
        mark: packet.mark,
        mac: Some(packet.mac.unwrap_or(MacAddress([2, 0, 0, 0, 0, 1]))),
    };
    let failed = |reason: String| LabError::Layout {
        reason: format!("failover explain: {reason}"),
    };
    let answer = Conversation::begin(control, &Request::Explain(question))
        .and_then(|mut conversation| conversation.answer());
    match answer {
        Ok(Answer::Explained(explanation)) => Ok(*explanation),
        Ok(other) => Err(failed(format!("{other:?}"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The uplinks by which a packet leaves of which this was said; none: it is dropped. `None`: that was
/// not said.
pub(super) fn uplinks(
    explanation: &Explanation,
    id_of: impl Fn(&str) -> Option<u8>,
) -> Option<BTreeSet<u8>> {
    match &explanation.fate {
        Fate::Uplink(name) => Some(BTreeSet::from([id_of(name.as_str())?])),
        Fate::Dropped => Some(BTreeSet::new()),
        Fate::OneOf(_) | Fate::Routed => None,
    }
}
