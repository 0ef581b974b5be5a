//! What `failover status --json` prints, as it is documented for users. It is read here with types
//! of its own: what scripts rely on must not change with the program.

use std::fmt;

use serde::Deserialize;

/// What the running daemon knows.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// How flows are steered: `ebpf` or `classic`.
    pub mode: String,
    /// Since when the daemon runs.
    pub since: String,
    /// What keeps the kernel from being in the wanted state, if anything does.
    #[serde(default)]
    pub problem: Option<String>,
    /// How full the flow table is, in eBPF mode.
    pub flow_table: Option<FlowTable>,
    /// How the fast path stands.
    #[serde(default)]
    pub fastpath: FastPath,
    /// The uplinks.
    pub uplinks: Vec<UplinkStatus>,
}

/// What is known of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct FlowTable {
    /// How many entries fit.
    pub capacity: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Those of them whose flows are alive.
    pub live: u64,
    /// Entries that were ever made.
    pub entered: u64,
    /// Entries that had to leave.
    pub evicted: u64,
    /// Packets of flows for which the table held no room.
    #[serde(default)]
    pub held_off: u64,
}

/// What is known of the fast path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FastPath {
    /// Whether flows are taken.
    pub on: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Flows that take it.
    pub flows: u64,
    /// How many fit.
    pub capacity: u64,
    /// What the programs counted.
    #[serde(default)]
    pub counted: FastPathCounts,
}

/// What the programs counted of the fast path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FastPathCounts {
    /// How often a flow was offered.
    pub offered: u64,
    /// How often nobody heard.
    pub unheard: u64,
    /// Packets that the stack had to see.
    pub returned: u64,
}

/// What is known of an uplink.
#[derive(Clone, Debug, Deserialize)]
pub struct UplinkStatus {
    /// Its name.
    pub name: String,
    /// Its number in marks and tables.
    pub id: u8,
    /// Its interface.
    pub interface: String,
    /// Its share of new flows within its priority.
    pub weight: u32,
    /// Lower is preferred.
    pub priority: u32,
    /// The better of its families' states.
    pub state: State,
    /// Whether it is left by its flows.
    pub draining: bool,
    /// What was done about it by hand.
    #[serde(default)]
    pub by_hand: Option<ByHand>,
    /// Since when it has its state.
    pub since: String,
    /// Why it has its state.
    pub reason: String,
    /// What is known of IPv4.
    pub ipv4: FamilyStatus,
    /// What is known of IPv6.
    pub ipv6: FamilyStatus,
    /// Live flows.
    pub flows: u64,
    /// What its probes took today, in bytes.
    #[serde(default)]
    pub probe_bytes_today: Option<u64>,
    /// What they may take in a day.
    #[serde(default)]
    pub probe_budget_bytes: Option<u64>,
    /// What its interface receives, in bits per second; where a strategy goes by it.
    #[serde(default)]
    pub rx_bits_per_s: Option<u64>,
    /// Whether it is full by a strategy; where one goes by it.
    #[serde(default)]
    pub full: Option<bool>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// What was done about an uplink by hand.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ByHand {
    /// `disable` or `drain`.
    pub what: String,
    /// Since when.
    pub since: String,
    /// Until when.
    pub until: Option<String>,
}

/// What is known of an uplink and family.
#[derive(Clone, Debug, Deserialize)]
pub struct FamilyStatus {
    /// Its state.
    pub state: State,
    /// The next hop, if there is one.
    pub gateway: Option<String>,
    /// The gateway's own address, if there is one.
    pub source: Option<String>,
    /// Its part of new flows, 0 to 1.
    pub share: f64,
    /// The round-trip time in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The part of probes that was lost, 0 to 1.
    pub loss: Option<f64>,
    /// Why it has its state.
    pub reason: String,
    /// For how many seconds more it is held back.
    #[serde(default)]
    pub held_back_s: Option<u64>,
    /// Targets without which it is judged.
    #[serde(default)]
    pub targets_aside: Vec<String>,
    /// How users' TCP connections fare; none in classic mode.
    #[serde(default)]
    pub connections: Option<ConnectionsStatus>,
}

/// How users' TCP connections through an uplink fare.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct ConnectionsStatus {
    /// Those that users began.
    pub opened: u64,
    /// Those that were accepted.
    pub accepted: u64,
    /// Packets that users sent again.
    pub repeated: u64,
    /// How long it took until they were accepted, in milliseconds, in the mean.
    pub handshake_ms: Option<f64>,
}

/// The state of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Before the first verdict.
    Unknown,
    /// Healthy.
    Up,
    /// Healthy, but worse than its limits.
    Degraded,
    /// Not healthy.
    Down,
    /// Switched off by the user.
    Disabled,
    /// Without address or route.
    Absent,
}

impl Status {
    /// An uplink by its name.
    #[must_use]
    pub fn uplink(&self, name: &str) -> Option<&UplinkStatus> {
        self.uplinks.iter().find(|uplink| uplink.name == name)
    }

    /// Whether the uplink of that name is in that state.
    #[must_use]
    pub fn is(&self, name: &str, state: State) -> bool {
        self.uplink(name).is_some_and(|found| found.state == state)
    }

    /// Whether all uplinks are in that state.
    #[must_use]
    pub fn all(&self, state: State) -> bool {
        self.uplinks.iter().all(|uplink| uplink.state == state)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for uplink in &self.uplinks {
            writeln!(
                f,
                "{} ({}) is {:?}: {}; IPv4 {:?}: {}; IPv6 {:?}: {}",
                uplink.name,
                uplink.interface,
                uplink.state,
                uplink.reason,
                uplink.ipv4.state,
                uplink.ipv4.reason,
                uplink.ipv6.state,
                uplink.ipv6.reason,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_documented_example() {
        let text = r#"{
          "mode": "ebpf",
          "since": "2026-11-20T10:00:00Z",
          "uplinks": [
            {"name": "fiber", "id": 1, "interface": "wan1", "weight": 3, "priority": 1,
             "state": "up", "draining": false, "since": "2026-11-20T10:00:01Z", "reason": "3 of 3 targets answer",
             "ipv4": {"state": "up", "gateway": "198.18.11.1", "source": "198.18.11.2", "share": 0.75, "rtt_ms": 4.2, "loss": 0.0, "reason": "2 of 2 targets answer"},
             "ipv6": {"state": "absent", "gateway": null, "source": null, "share": 0.0, "rtt_ms": null, "loss": null, "reason": "no address"},
             "flows": 12, "rx_bytes": 123, "tx_bytes": 456, "rx_packets": 7, "tx_packets": 8}
          ]
        }"#;
        let status: Status = serde_json::from_str(text).expect("the documented example");
        assert!(status.is("fiber", State::Up) && status.all(State::Up));
        let fiber = status.uplink("fiber").expect("it is there");
        assert_eq!(fiber.ipv6.state, State::Absent);
    }
}
