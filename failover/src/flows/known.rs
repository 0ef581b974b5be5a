//! Flows as the eBPF programs know them: which entries of the flow table are alive, and what they
//! say.

use std::collections::BTreeMap;

use failover_common::lifetime::is_alive;
use failover_common::{Flow, FlowKey, Uplink};

use crate::family::Family;
use crate::flows::entry::NO_FAST_PATH;
use crate::flows::key::address;
use crate::flows::{FlowEntry, Protocol, Uplinks};
use crate::uplink::UplinkId;

/// What decides whether an entry of the flow table is alive.
#[derive(Clone, Debug)]
pub struct Lives {
    /// The uplinks as the programs know them, by id.
    pub uplinks: BTreeMap<u32, Uplink>,
    /// Now, in nanoseconds of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
}

impl Lives {
    /// Whether the next packet of this flow stays on its uplink: it was seen lately enough, and the
    /// uplink's flows were not forgotten since.
    #[must_use]
    pub fn lives(&self, key: &FlowKey, flow: &Flow) -> bool {
        let current = self
            .uplinks
            .get(&flow.uplink.into())
            .is_some_and(|uplink| uplink.family(key.family).generation == flow.generation);
        current && is_alive(key, flow, self.now_ns)
    }
}

/// An entry of the flow table as it is told, where there is no fast path; `None` if it is of none of
/// these uplinks.
#[must_use]
pub fn entry_of(key: &FlowKey, flow: &Flow, uplinks: &Uplinks, now_ns: u64) -> Option<FlowEntry> {
    let uplink_id = UplinkId::try_from(flow.uplink).ok()?;
    let uplink = uplinks.get(&uplink_id)?;
    let protocol = Protocol(key.protocol);
    let port = |number: u16, there: bool| there.then_some(number);
    let since = |moment_ns: u64| Some(now_ns.saturating_sub(moment_ns) / 1_000_000);
    Some(FlowEntry {
        protocol,
        family: match key.family {
            failover_common::Family::Ipv4 => Family::Ipv4,
            failover_common::Family::Ipv6 => Family::Ipv6,
        },
        inside: address(key.inside, key.family),
        inside_port: port(
            key.inside_port,
            protocol.has_ports() || protocol.has_identifier(),
        ),
        outside: address(key.outside, key.family),
        outside_port: port(key.outside_port, protocol.has_ports()),
        uplink: uplink.clone(),
        uplink_id,
        why: flow.reason.into(),
        phase: flow.phase.into(),
        confirmed: flow.confirmed,
        age_ms: since(flow.created_ns),
        idle_ms: since(flow.seen_ns),
        out_packets: Some(flow.out_packets),
        out_bytes: Some(flow.out_bytes),
        in_packets: Some(flow.in_packets),
        in_bytes: Some(flow.in_bytes),
        offloaded: false,
        fastpath: Some(NO_FAST_PATH.into()),
        fastpath_detail: None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use failover_common::{Counters, Phase, Reason, UplinkFamily, UplinkState};

    use super::*;
    use crate::fastpath::standing::{self, Standing, Uncounted};
    use crate::flows::Why;

    const NOW: u64 = 1_000_000 * SECOND;
    const SECOND: u64 = 1_000_000_000;

    fn key(protocol: u8) -> FlowKey {
        let mut key = FlowKey {
            inside: [0; 16],
            outside: [0; 16],
            inside_port: 40_000,
            outside_port: 443,
            protocol,
            family: failover_common::Family::Ipv4,
            reserved: [0; 2],
        };
        key.inside[..4].copy_from_slice(&[198, 18, 0, 10]);
        key.outside[..4].copy_from_slice(&[203, 0, 113, 1]);
        key
    }

    fn flow(phase: Phase, idle_s: u64) -> Flow {
        Flow {
            created_ns: NOW - 3600 * SECOND,
            seen_ns: NOW - idle_s * SECOND,
            out_packets: 3,
            out_bytes: 180,
            in_packets: 2,
            in_bytes: 3000,
            generation: 4,
            uplink: 2,
            reason: Reason::Rule,
            phase,
            confirmed: true,
            out_next: 0,
            sequenced: false,
            ..Flow::begun(NOW - 3600 * SECOND)
        }
    }

    fn lives() -> Lives {
        let family = |generation| UplinkFamily {
            generation,
            state: UplinkState::Up,
            translates: true,
            reserved: [0; 2],
        };
        let uplink = Uplink {
            interface: 7,
            ipv4: family(4),
            ipv6: family(9),
        };
        Lives {
            uplinks: BTreeMap::from([(2, uplink)]),
            now_ns: NOW,
        }
    }

    #[test]
    fn a_flow_lives_as_long_as_its_protocol_and_phase_say() {
        let lives = lives();
        let known = |protocol, phase, idle_s| lives.lives(&key(protocol), &flow(phase, idle_s));
        assert!(known(17, Phase::Opening, 30));
        assert!(!known(17, Phase::Opening, 31));
        assert!(known(17, Phase::Established, 120));
        assert!(!known(17, Phase::Established, 121));
        assert!(known(6, Phase::Established, 86_400));
        assert!(!known(6, Phase::Closing, 121));
        assert!(!known(1, Phase::Established, 31));
    }

    #[test]
    fn what_an_uplink_has_forgotten_is_not_alive() {
        let lives = lives();
        let mut flow = flow(Phase::Established, 1);
        assert!(lives.lives(&key(6), &flow));
        // The other family's generation says nothing.
        let mut other = key(6);
        other.family = failover_common::Family::Ipv6;
        assert!(!lives.lives(&other, &flow));
        flow.generation = 3;
        assert!(!lives.lives(&key(6), &flow));
        flow.generation = 4;
        flow.uplink = 3;
        assert!(!lives.lives(&key(6), &flow), "an uplink that is no more");
    }

    #[test]
    fn an_entry_says_what_the_table_holds() {
        let uplinks = Uplinks::from([(2.try_into().unwrap(), "lte".parse().unwrap())]);
        let flow = flow(Phase::Established, 5);
        let entry = entry_of(&key(6), &flow, &uplinks, NOW).unwrap();
        assert_eq!(
            serde_json::to_value(&entry).unwrap(),
            serde_json::json!({
                "protocol": "tcp", "family": "ipv4",
                "inside": "198.18.0.10", "inside_port": 40_000,
                "outside": "203.0.113.1", "outside_port": 443,
                "uplink": "lte", "uplink_id": 2,
                "why": "rule", "phase": "established", "confirmed": true,
                "age_ms": 3_600_000, "idle_ms": 5_000,
                "out_packets": 3, "out_bytes": 180, "in_packets": 2, "in_bytes": 3_000,
                "offloaded": false, "fastpath": "off",
            })
        );
        let others = Uplinks::from([(1.try_into().unwrap(), "fiber".parse().unwrap())]);
        assert_eq!(entry_of(&key(6), &flow, &others, NOW), None);
    }

    #[test]
    fn an_entry_says_how_the_flow_stands_to_the_fast_path() {
        let uplinks = Uplinks::from([(2.try_into().unwrap(), "lte".parse().unwrap())]);
        let flow = flow(Phase::Established, 5);
        let told = |standing| {
            let entry = entry_of(&key(6), &flow, &uplinks, NOW).unwrap();
            let entry = entry.standing(&standing, NOW);
            let json = serde_json::to_value(&entry).unwrap();
            let fields = [
                "offloaded",
                "fastpath",
                "fastpath_detail",
                "out_packets",
                "out_bytes",
                "in_packets",
                "in_bytes",
                "idle_ms",
            ];
            let fields = fields.map(|field| json.get(field).cloned());
            (entry.path().into_owned(), fields)
        };
        let uncounted = Uncounted {
            out: Counters {
                packets: 4,
                bytes: 400,
            },
            back: Counters {
                packets: 5,
                bytes: 7_000,
            },
            seen_ns: NOW - 2 * SECOND,
        };
        let unit = |json: serde_json::Value| Some(json);
        assert_eq!(
            told(Standing::Offloaded(uncounted)),
            (
                "fast".to_owned(),
                [
                    unit(true.into()),
                    unit(serde_json::Value::Null),
                    None,
                    unit(7.into()),
                    unit(580.into()),
                    unit(7.into()),
                    unit(10_000.into()),
                    unit(2_000.into()),
                ]
            )
        );
        assert_eq!(
            told(Standing::Stack(standing::Why::ShortLived)),
            (
                "short lived".to_owned(),
                [
                    unit(false.into()),
                    unit("short_lived".into()),
                    None,
                    unit(3.into()),
                    unit(180.into()),
                    unit(2.into()),
                    unit(3_000.into()),
                    unit(5_000.into()),
                ]
            )
        );
        let what = "a tc filter on lan0";
        let (path, [_, word, detail, ..]) =
            told(Standing::Stack(standing::Why::Filtered(what.to_owned())));
        assert_eq!(
            (path.as_str(), word, detail),
            ("filtered", unit("filtered".into()), unit(what.into()))
        );
    }

    #[test]
    fn only_protocols_with_ports_have_ports() {
        let uplinks = Uplinks::from([(2.try_into().unwrap(), "lte".parse().unwrap())]);
        let ports = |protocol| {
            let flow = flow(Phase::Opening, 0);
            let entry = entry_of(&key(protocol), &flow, &uplinks, NOW).unwrap();
            assert_eq!(entry.why, Why::Rule);
            (entry.inside_port, entry.outside_port)
        };
        assert_eq!(ports(132), (Some(40_000), Some(443)));
        assert_eq!(ports(1), (Some(40_000), None));
        assert_eq!(ports(47), (None, None));
    }

    #[test]
    fn an_ipv6_address_is_all_sixteen_bytes() {
        let mut key = key(6);
        key.family = failover_common::Family::Ipv6;
        key.inside = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let uplinks = Uplinks::from([(2.try_into().unwrap(), "lte".parse().unwrap())]);
        let entry = entry_of(&key, &flow(Phase::Opening, 0), &uplinks, NOW).unwrap();
        assert_eq!(entry.inside, "fd00::2".parse::<IpAddr>().unwrap());
        assert_eq!(entry.family, Family::Ipv6);
    }
}
