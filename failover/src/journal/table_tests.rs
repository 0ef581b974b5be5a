//! How events look to a person.

use super::*;
use crate::journal::event::{Repeated, Step};

fn record(time: &str, event: Event) -> Record {
    Record {
        seq: 1,
        time: format!("2026-11-21T{time}Z").parse().unwrap(),
        event,
    }
}

fn state(time: &str, name: &str, family: Family, (from, to): (State, State), why: &str) -> Record {
    record(
        time,
        Event::State {
            uplink: name.parse().unwrap(),
            family,
            from,
            to,
            reason: why.to_owned(),
        },
    )
}

const DIES: (State, State) = (State::Up, State::Down);

fn shown(records: &[Record], width: Option<usize>) -> String {
    let mut table = Table::new(TimeZone::fixed(jiff::tz::offset(1)), width, false);
    for record in records {
        table.see(record);
    }
    table.render(records, false)
}

#[test]
fn a_person_reads_what_happened_in_the_night() {
    let records = [
        record(
            "01:00:00.1",
            Event::Started {
                mode: "ebpf".to_owned(),
                version: "0.1.0".to_owned(),
                interrupted: false,
            },
        ),
        state(
            "02:13:04.9",
            "fiber",
            Family::Ipv4,
            DIES,
            "0 of 2 targets answer for 1.5 s",
        ),
        state(
            "02:13:05.2",
            "fiber",
            Family::Ipv6,
            DIES,
            "0 of 2 targets answer for 1.6 s",
        ),
        state(
            "03:00:00.0",
            "fiber",
            Family::Ipv4,
            (State::Down, State::Up),
            "back",
        ),
        state(
            "03:00:00.4",
            "fiber",
            Family::Ipv6,
            (State::Down, State::Up),
            "back",
        ),
        state("03:10:00.4", "lte", Family::Ipv4, DIES, "no carrier"),
    ];
    assert_eq!(
        shown(&records, None),
        "WHEN                 UPLINK  FAMILY  EVENT      WHY\n\
         2026-11-21 02:00:00                  started    version 0.1.0, mode ebpf\n\
         2026-11-21 03:13:04  fiber   IPv4    up → down  0 of 2 targets answer for 1.5 s\n\
         2026-11-21 03:13:05  fiber   IPv6    up → down  0 of 2 targets answer for 1.6 s\n\
         2026-11-21 04:00:00  fiber           down → up  back\n\
         2026-11-21 04:10:00  lte             up → down  no carrier\n"
    );
}

#[test]
fn columns_in_which_nothing_is_are_left_out() {
    let records = [state("02:13:04", "lte", Family::Ipv6, DIES, "no carrier")];
    assert_eq!(
        shown(&records, None),
        "WHEN                 UPLINK  EVENT      WHY\n\
         2026-11-21 03:13:04  lte     up → down  no carrier\n"
    );
    let records = [record("02:13:04", Event::Solved)];
    assert_eq!(
        shown(&records, None),
        "WHEN                 EVENT   WHY\n\
         2026-11-21 03:13:04  solved  the kernel is in the wanted state again\n"
    );
    assert_eq!(shown(&[], None), "");
}

#[test]
fn a_terminal_that_is_narrow_breaks_the_reason_only() {
    let why = "0 of 2 targets answer for 1.5 s (3 rounds), and nobody knows why";
    let records = [state("02:13:04", "lte", Family::Ipv4, DIES, why)];
    assert_eq!(
        shown(&records, Some(70)),
        "WHEN                 UPLINK  EVENT      WHY\n\
         2026-11-21 03:13:04  lte     up → down  0 of 2 targets answer for 1.5\n\
         \u{20}                                       s (3 rounds), and nobody knows\n\
         \u{20}                                       why\n"
    );
    // Too narrow to be of use.
    assert_eq!(shown(&records, Some(50)), shown(&records, None));
    let long = "x".repeat(70);
    let records = [state("02:13:04", "lte", Family::Ipv4, DIES, &long)];
    let text = shown(&records, Some(70));
    assert!(
        text.lines().all(|line| line.chars().count() <= 70),
        "{text}"
    );
    assert_eq!(text.matches('x').count(), 70);
}

#[test]
fn what_was_counted_only_says_so() {
    let repeated = Repeated {
        of: "state".to_owned(),
        count: 980,
        since: "2026-11-21T02:10:00Z".parse().unwrap(),
        until: "2026-11-21T02:15:00Z".parse().unwrap(),
        uplink: Some("lte".parse().unwrap()),
        family: Some(Family::Ipv4),
        from: Some(State::Up),
        to: Some(State::Down),
        reason: Some("no carrier".to_owned()),
    };
    let text = shown(&[record("02:15:01", Event::Repeated(repeated))], None);
    let told = "lte     up → down  the last of 980 changes since 03:10:00: no carrier";
    assert!(text.contains(told), "{text}");
}

#[test]
fn a_target_that_is_to_blame_is_told_as_such() {
    let target = |uplink: Option<&str>, aside| Event::Target {
        target: "icmp://198.51.100.1".to_owned(),
        family: Family::Ipv4,
        uplink: uplink.map(|name| name.parse().unwrap()),
        aside,
    };
    let records = [
        record("02:13:04", target(None, true)),
        record("02:13:05", target(Some("lte"), true)),
        record("02:13:06", target(None, false)),
    ];
    assert_eq!(
        shown(&records, None),
        "WHEN                 UPLINK  EVENT         WHY\n\
         2026-11-21 03:13:04          target aside  icmp://198.51.100.1 is silent by all uplinks, so it is its own fault\n\
         2026-11-21 03:13:05  lte     target aside  icmp://198.51.100.1 is silent by this uplink alone, whose other targets answer\n\
         2026-11-21 03:13:06          target back   icmp://198.51.100.1 answers and counts again\n"
    );
}

#[test]
fn who_trusts_an_uplink_by_hand_is_told() {
    let trusted = |families: &[Family]| Event::Trusted {
        uplink: "lte".parse().unwrap(),
        families: families.to_vec(),
    };
    let records = [
        record("02:13:04", trusted(&Family::ALL)),
        record("02:13:05", trusted(&[])),
    ];
    assert_eq!(
        shown(&records, None),
        "WHEN                 UPLINK  EVENT    WHY\n\
         2026-11-21 03:13:04  lte     trusted  by hand: it was held back in IPv4 and IPv6\n\
         2026-11-21 03:13:05  lte     trusted  by hand: its failures are forgotten; it was not held back\n"
    );
}

#[test]
fn who_flushes_the_fast_path_is_told() {
    let records = [1, 12_345].map(|flows| record("02:13:04", Event::Flushed { flows }));
    assert_eq!(
        shown(&records, None),
        "WHEN                 EVENT    WHY\n\
         2026-11-21 03:13:04  flushed  by hand: 1 flow of the fast path went back to the stack\n\
         2026-11-21 03:13:04  flushed  by hand: 12345 flows of the fast path went back to the stack\n"
    );
}

#[test]
fn what_is_done_by_hand_is_told() {
    let done = |step, until: Option<&str>| Event::ByHand {
        uplink: "lte".parse().unwrap(),
        step,
        until: until.map(|until| until.parse().unwrap()),
    };
    let until = Some("2026-11-21T23:05:00Z");
    let records = [
        record("02:13:01", done(Step::Disabled, None)),
        record("02:13:02", done(Step::Enabled, None)),
        record("02:13:03", done(Step::Draining, None)),
        record("02:13:04", done(Step::Draining, until)),
        record("02:13:05", done(Step::Drained, None)),
    ];
    assert_eq!(
        shown(&records, None),
        "WHEN                 UPLINK  EVENT     WHY\n\
         2026-11-21 03:13:01  lte     disabled  by hand\n\
         2026-11-21 03:13:02  lte     enabled   by hand\n\
         2026-11-21 03:13:03  lte     draining  by hand: open flows may finish, new ones go elsewhere\n\
         2026-11-21 03:13:04  lte     draining  by hand: open flows may finish until 2026-11-22 00:05:00, new ones go elsewhere\n\
         2026-11-21 03:13:05  lte     drained   the time that was given by hand is over: disabled until it is enabled\n"
    );
}

#[test]
fn reasons_of_several_lines_stay_in_one() {
    let reason = "f.yaml:1:1: wrong\nf.yaml:2:1: wrong too\n".to_owned();
    let text = shown(&[record("02:15:01", Event::ReloadRefused { reason })], None);
    assert!(
        text.ends_with("not reloaded  f.yaml:1:1: wrong; f.yaml:2:1: wrong too\n"),
        "{text}"
    );
}

#[test]
fn what_is_followed_keeps_its_columns() {
    let mut table = Table::new(TimeZone::UTC, None, true);
    let first = record("02:15:01", Event::Solved);
    let second = state("02:15:02", "lte", Family::Ipv4, DIES, "no carrier");
    let begun = table.render([&first], true);
    table.see(&second);
    let next = table.render([&second], true);
    assert_eq!(
        begun + &next,
        "WHEN                 UPLINK  FAMILY  EVENT   WHY\n\
         2026-11-21 02:15:01                  \x1b[32msolved\x1b[0m  the kernel is in the wanted state again\n\
         2026-11-21 02:15:02  lte             \x1b[31mup → down\x1b[0m  no carrier\n"
    );
    assert_eq!(table.render([], true), "");
}
