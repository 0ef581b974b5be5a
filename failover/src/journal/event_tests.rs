//! Events as lines: what scripts read, and that no line is without bound.

use super::*;

fn down() -> Record {
    Record {
        seq: 12,
        time: "2026-11-21T02:13:04.5129Z".parse().unwrap(),
        event: Event::State {
            uplink: "fiber".parse().unwrap(),
            family: Family::Ipv4,
            from: State::Up,
            to: State::Down,
            reason: "no carrier".to_owned(),
        },
    }
}

#[test]
fn an_event_is_one_line_that_scripts_can_read() {
    let line = String::from_utf8(down().line().unwrap()).unwrap();
    assert_eq!(
        line,
        concat!(
            r#"{"seq":12,"time":"2026-11-21T02:13:04.512Z","kind":"state","uplink":"fiber","#,
            r#""family":"ipv4","from":"up","to":"down","reason":"no carrier"}"#,
            "\n"
        )
    );
    let mut whole = down();
    whole.time = "2026-11-21T02:13:04.512Z".parse().unwrap();
    assert_eq!(Record::parse(line.trim_end().as_bytes()), Some(whole));
}

#[test]
fn every_kind_is_read_as_it_was_written() {
    let time: Timestamp = "2026-11-21T02:13:04.500Z".parse().unwrap();
    let events = [
        Event::Started {
            mode: "ebpf".to_owned(),
            version: "0.1.0".to_owned(),
            interrupted: true,
        },
        Event::Stopped { reason: None },
        Event::Fallback {
            reason: "no bpf(2)\nat all".to_owned(),
        },
        Event::Drain {
            uplink: "lte".parse().unwrap(),
            family: Family::Ipv6,
            via: Some("[fiber, lte]".to_owned()),
            step: DrainStep::CalledOff,
            seconds: Some(300),
        },
        Event::Reloaded {
            changes: vec![Change::UplinkRemoved {
                uplink: "lte".parse().unwrap(),
                id: 2.try_into().unwrap(),
            }],
            omitted: 3,
        },
        Event::Solved,
        Event::Budget {
            uplink: "lte".parse().unwrap(),
            bytes: 10_000_100,
            budget: 10_000_000,
        },
        Event::Trusted {
            uplink: "lte".parse().unwrap(),
            families: vec![Family::Ipv4],
        },
        Event::Flushed { flows: 12 },
        Event::ByHand {
            uplink: "lte".parse().unwrap(),
            step: Step::Draining,
            until: Some(time),
        },
        Event::Target {
            target: "icmp://198.51.100.1".to_owned(),
            family: Family::Ipv4,
            uplink: None,
            aside: true,
        },
        Event::Repeated(Repeated {
            of: "state".to_owned(),
            count: 7,
            since: time,
            until: time,
            uplink: Some("lte".parse().unwrap()),
            family: Some(Family::Ipv4),
            from: Some(State::Up),
            to: Some(State::Down),
            reason: Some("silent".to_owned()),
        }),
        Event::Missed { count: 3 },
    ];
    for event in events {
        let record = Record {
            seq: 1,
            time,
            event,
        };
        let line = record.line().unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(Record::parse(&line), Some(record));
    }
}

#[test]
fn what_a_later_version_adds_is_no_obstacle() {
    let line = br#"{"seq":3,"time":"2026-11-21T02:13:04.5Z","kind":"eclipse","sun":"dark"}"#;
    assert_eq!(Record::parse(line).map(|r| r.event), Some(Event::Other));
    let line = br#"{"seq":3,"time":"2026-11-21T02:13:04.5Z","kind":"missed","count":1,"x":[2]}"#;
    assert_eq!(
        Record::parse(line).map(|record| record.event),
        Some(Event::Missed { count: 1 })
    );
    for torn in ["", "{", r#"{"seq":3,"time":"2026-"#, "[]", "\0\0\0"] {
        assert_eq!(Record::parse(torn.as_bytes()), None, "{torn}");
    }
}

#[test]
fn no_event_makes_a_line_without_bound() {
    let change = Change::SettingChanged {
        key: "probe.targets".to_owned(),
        from: "x".repeat(200),
        to: "y".repeat(200),
    };
    let mut record = down();
    record.event = Event::Reloaded {
        changes: vec![change; 1_000],
        omitted: 0,
    };
    let line = record.line().unwrap();
    assert!(line.len() <= MAX_LINE + 1, "{}", line.len());
    let Some(Event::Reloaded { changes, omitted }) =
        Record::parse(&line).map(|record| record.event)
    else {
        panic!("it is a reload");
    };
    assert_eq!(changes.len() + omitted, 1_000);
    assert!(!changes.is_empty());
    record.event = Event::Problem {
        reason: "ä".repeat(100_000),
    };
    assert!(record.line().unwrap().len() <= MAX_LINE);
}

#[test]
fn a_reload_concerns_the_uplinks_that_it_changed() {
    let name: UplinkName = "lte".parse().unwrap();
    let event = Event::Reloaded {
        changes: vec![Change::UplinkAdded {
            uplink: name.clone(),
            id: 2.try_into().unwrap(),
        }],
        omitted: 0,
    };
    assert!(event.concerns(&name));
    assert!(!event.concerns(&"fiber".parse().unwrap()));
    assert!(!Event::Solved.concerns(&name));
}
