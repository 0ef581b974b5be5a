//! What a person sees of the status.

use jiff::tz::TimeZone;

use super::*;
use crate::by_hand::{ByHand, Measure};
use crate::status::FlowTableStatus;

fn now() -> Zoned {
    let now: Timestamp = "2026-11-20T11:02:03Z".parse().unwrap();
    now.to_zoned(TimeZone::UTC)
}

fn document() -> StatusDocument {
    let family = |state, share, reason: &str| FamilyStatus {
        state,
        gateway: Some("198.18.11.1".parse().unwrap()),
        source: None,
        share,
        rtt_ms: Some(4.25),
        loss: Some(0.0),
        reason: reason.to_owned(),
        draining_until: None,
        jitter_ms: Some(0.3),
        held_back_s: None,
        targets_aside: Vec::new(),
        connections: None,
    };
    StatusDocument {
        mode: "classic".to_owned(),
        since: "2026-11-20T10:00:00Z".parse().unwrap(),
        problem: None,
        broken_sets: Vec::new(),
        notify: Vec::new(),
        flow_table: None,
        fastpath: FastPathStatus::default(),
        uplinks: vec![UplinkStatus {
            name: "fiber".parse().unwrap(),
            id: 1.try_into().unwrap(),
            interface: "wan1".parse().unwrap(),
            description: None,
            weight: 3,
            priority: 1,
            state: State::Up,
            draining: false,
            by_hand: None,
            since: "2026-11-20T10:00:01Z".parse().unwrap(),
            reason: "2 of 2 targets answer".to_owned(),
            ipv4: family(State::Up, 0.75, "2 of 2 targets answer"),
            ipv6: FamilyStatus {
                gateway: None,
                rtt_ms: None,
                loss: None,
                ..family(State::Absent, 0.0, "no address")
            },
            flows: Some(12),
            probe_bytes_today: Some(4_321),
            probe_budget_bytes: None,
            capacity: None,
            rx_bits_per_s: None,
            tx_bits_per_s: None,
            full: None,
            rx_bytes: 123,
            tx_bytes: 456,
            rx_packets: 7,
            tx_packets: 8,
        }],
    }
}

#[test]
fn a_person_sees_state_share_and_why() {
    let now = now();
    assert_eq!(
        render(&document(), &now, false),
        "mode classic, running for 1 h 2 min\n\
         \n\
         UPLINK  VIA               PRIORITY  FAMILY  STATE   SHARE  RTT     LOSS  FLOWS  WHY\n\
         fiber   wan1 198.18.11.1  1         IPv4    up      75 %   4.2 ms  0 %   12     2 of 2 targets answer (up for 1 h 2 min)\n                                        IPv6    absent  0 %                         no address\n"
            .replace("\n                                        IPv6", &format!("\n{}IPv6", " ".repeat(36)))
    );
}

#[test]
fn a_person_sees_how_long_an_uplink_drains() {
    let now = now();
    let mut document = document();
    for (until, told) in [
        ("2026-11-20T11:06:15Z", "up, draining 4m12s  75 %"),
        ("2026-11-20T11:03:08Z", "up, draining 1m05s  75 %"),
        ("2026-11-20T11:02:33Z", "up, draining 30s  75 %"),
        ("2026-11-20T12:07:03Z", "up, draining 1h05m  75 %"),
        // It is carried out when it is noticed.
        ("2026-11-20T11:02:02Z", "up, draining 0s  75 %"),
    ] {
        if let Some(uplink) = document.uplinks.first_mut() {
            uplink.ipv4.draining_until = Some(until.parse().unwrap());
        }
        let table = render(&document, &now, false);
        assert!(table.contains(told), "{until}: {table}");
    }
}

#[test]
fn a_person_sees_what_was_done_by_hand() {
    let mut document = document();
    let mut shown = |what, until: Option<&str>, state, share| {
        if let Some(uplink) = document.uplinks.first_mut() {
            let until = until.map(|until| until.parse().unwrap());
            let since = "2026-11-20T10:55:00Z".parse().unwrap();
            uplink.by_hand = Some(ByHand { what, since, until });
            uplink.ipv4.state = state;
            uplink.ipv4.share = share;
            uplink.ipv4.draining_until = until;
        }
        render(&document, &now(), false)
    };
    let until = Some("2026-11-20T11:05:00Z");
    for (table, cell, line) in [
        (
            shown(Measure::Disable, None, State::Disabled, 0.0),
            "  disabled  0 %",
            "fiber is disabled by hand since 10:55:00; `failover enable fiber` ends that.",
        ),
        (
            shown(Measure::Drain, None, State::Up, 0.0),
            "  up, draining  0 %",
            "fiber is draining by hand since 10:55:00, and new flows go elsewhere; `failover enable fiber` ends that.",
        ),
        (
            shown(Measure::Drain, until, State::Up, 0.4),
            "  up, draining 2m57s  40 %",
            "fiber is draining by hand since 10:55:00 until 11:05:00, and new flows use it as long as no other is usable; `failover enable fiber` ends that.",
        ),
    ] {
        assert!(table.contains(cell), "{cell}: {table}");
        assert!(table.ends_with(&format!("\n\n{line}\n")), "{line}: {table}");
    }
}

#[test]
fn flows_that_go_to_dead_uplinks_are_explained() {
    let now = now();
    let mut document = document();
    assert!(!render(&document, &now, false).contains("No uplink"));
    if let Some(uplink) = document.uplinks.first_mut() {
        uplink.ipv4.state = State::Down;
    }
    assert!(
        render(&document, &now, false)
            .ends_with("\n\nNo uplink is up over IPv4: new flows try all that have a route.\n")
    );
    if let Some(uplink) = document.uplinks.first_mut() {
        uplink.ipv4.share = 0.0;
    }
    assert!(!render(&document, &now, false).contains("No uplink"));
}

#[test]
fn a_person_sees_what_probes_took_where_that_is_limited() {
    let now = now();
    let mut document = document();
    assert!(!render(&document, &now, false).contains("Probes"));
    for (bytes, told) in [
        (999, "took 999 B of 5 MB today."),
        (1_299_999, "took 1.2 MB of 5 MB today."),
        (4_999_999, "took 4.9 MB of 5 MB today."),
        (
            5_000_000,
            "took 5 MB of 5 MB today; asked rarely until midnight UTC.",
        ),
    ] {
        if let Some(uplink) = document.uplinks.first_mut() {
            uplink.probe_bytes_today = Some(bytes);
            uplink.probe_budget_bytes = Some(5_000_000);
        }
        let table = render(&document, &now, false);
        assert!(
            table.ends_with(&format!("\n\nProbes of fiber {told}\n")),
            "{table}"
        );
    }
}

#[test]
fn a_person_sees_how_full_the_flow_table_is() {
    let now = now();
    let mut document = document();
    document.flow_table = Some(FlowTableStatus::counted(
        262_144, 1_000_000, 261_900, 200_000,
    ));
    assert!(render(&document, &now, false).ends_with(
        "\nFlow table: 261900 of 262144 entries in use, 200000 alive; 738100 evicted so far.\n"
    ));
}

#[test]
fn a_person_sees_how_the_fast_path_stands() {
    let mut document = document();
    let mut shown = |on, reason: Option<&str>, table| {
        document.flow_table = table;
        document.fastpath = FastPathStatus {
            on,
            reason: reason.map(str::to_owned),
            flows: 12_345,
            capacity: 131_072,
            ..FastPathStatus::default()
        };
        render(&document, &now(), false)
    };
    let table = Some(FlowTableStatus::counted(262_144, 20_000, 20_000, 19_000));
    assert!(shown(true, None, table).ends_with("\n\nFast path: 12345 of 131072 flows.\n"));
    let off = shown(false, Some("there are IPsec policies"), table);
    assert!(
        off.ends_with("\n\nFast path: off: there are IPsec policies.\n"),
        "{off}"
    );
    // In classic mode there is nothing to say.
    let classic = shown(false, Some("classic mode has no fast path"), None);
    assert!(!classic.contains("ast path"), "{classic}");
}

#[test]
fn colour_is_there_only_when_asked_for() {
    let now = now();
    assert!(!render(&document(), &now, false).contains('\x1b'));
    assert!(render(&document(), &now, true).contains("\x1b[32mup\x1b[0m"));
}
