//! The uplink that a source or a pair was given is remembered, where its pool does that.

use failover_common::{Affinity, Family, Remembered, RememberedKey};
use failover_tests::programs::Remembering;

use crate::frames::{Ends, Message};
use crate::gateway::{BOTH, Gateway, Mark, Outcome, both};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("a_source_stays_where_it_was_sent", source),
        both("a_pair_stays_where_it_was_sent", pair),
        both("a_source_that_was_quiet_is_chosen_anew", quiet),
        both("each_pool_remembers_for_itself", pools),
        both("where_nothing_is_to_be_remembered_nothing_is", nothing),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const MINUTE_NS: u64 = 60_000_000_000;
const SHORT_NS: u64 = 1_000_000_000;

fn for_a_minute(affinity: Affinity) -> Remembering {
    Remembering {
        affinity,
        memory_ns: MINUTE_NS,
        identity: 0,
    }
}

/// A new flow to a server, from a port that no other has.
fn asked(gateway: &Gateway<'_>, ends: &Ends, port: u16) -> Result<Mark, crate::gateway::Failure> {
    gateway.lan_in(&ends.out(Message::udp(port, 53)))
}

/// The same client with another server.
fn to_another(ends: Ends) -> Ends {
    let outside = match ends.outside {
        std::net::IpAddr::V4(_) => [203, 0, 113, 99].into(),
        std::net::IpAddr::V6(_) => [0xfd00, 0x203, 0, 0, 0, 0, 0, 0x99].into(),
    };
    Ends { outside, ..ends }
}

fn source(gateway: &mut Gateway<'_>) -> Outcome {
    let (family, ends) = (gateway.family, gateway.ends());
    let memory = for_a_minute(Affinity::Source);
    let select = |gateway: &mut Gateway<'_>, uplinks: &[u8]| {
        gateway.programs.select_remembering(family, memory, uplinks)
    };
    select(gateway, &[1])?;
    assert_eq!(asked(gateway, &ends, 1)?, Mark::Ask(1));
    // Whichever slot it has, it is another's now, and so the hash would choose that one.
    let mut mostly_two = vec![2; 1000];
    mostly_two.push(1);
    let hashed = Ends {
        inside: ends.inside,
        outside: to_another(ends).outside,
    };
    select(gateway, &mostly_two)?;
    assert_eq!(asked(gateway, &ends, 2)?, Mark::Ask(1), "the same server");
    assert_eq!(asked(gateway, &hashed, 3)?, Mark::Ask(1), "another server");
    select(gateway, &[3])?;
    assert_eq!(
        asked(gateway, &ends, 4)?,
        Mark::Ask(3),
        "1 gets no new flows"
    );
    select(gateway, &[1, 3])?;
    assert_eq!(
        asked(gateway, &ends, 5)?,
        Mark::Ask(3),
        "that is remembered now"
    );
    Ok(())
}

fn pair(gateway: &mut Gateway<'_>) -> Outcome {
    let (family, ends) = (gateway.family, gateway.ends());
    let memory = for_a_minute(Affinity::Pair);
    gateway.programs.select_remembering(family, memory, &[1])?;
    assert_eq!(asked(gateway, &ends, 1)?, Mark::Ask(1));
    let mut mostly_two = vec![2; 1000];
    mostly_two.push(1);
    gateway
        .programs
        .select_remembering(family, memory, &mostly_two)?;
    assert_eq!(asked(gateway, &ends, 2)?, Mark::Ask(1));
    let other = to_another(ends);
    assert_eq!(asked(gateway, &other, 3)?, Mark::Ask(2), "another server");
    Ok(())
}

/// The key of a client in the pool of all flows.
fn key(gateway: &Gateway<'_>, identity: u32) -> RememberedKey {
    let flow = gateway.ends().key(17, 1, 53);
    RememberedKey::new(&flow, identity, Affinity::Source)
}

fn quiet(gateway: &mut Gateway<'_>) -> Outcome {
    let (family, ends) = (gateway.family, gateway.ends());
    // A machine that was just started knows of no minute ago.
    let memory = Remembering {
        memory_ns: SHORT_NS,
        ..for_a_minute(Affinity::Source)
    };
    gateway.programs.select_remembering(family, memory, &[1])?;
    assert_eq!(asked(gateway, &ends, 1)?, Mark::Ask(1));
    let key = key(gateway, 0);
    let found = gateway.programs.remembered(&key)?.ok_or("no entry")?;
    assert_eq!(found.uplink, 1);
    let mut mostly_two = vec![2; 1000];
    mostly_two.push(1);
    gateway
        .programs
        .select_remembering(family, memory, &mostly_two)?;
    let long_ago = Remembered {
        seen_ns: found.seen_ns.saturating_sub(SHORT_NS),
        ..found
    };
    gateway.programs.set_remembered(&key, &long_ago)?;
    assert_eq!(asked(gateway, &ends, 2)?, Mark::Ask(2));
    let found = gateway.programs.remembered(&key)?.ok_or("no entry")?;
    assert_eq!(found.uplink, 2);
    assert!(found.seen_ns > long_ago.seen_ns);
    Ok(())
}

fn pools(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let rules = "rules: [{name: dns, match: {protocol: udp, ports: 53}, via: [one]}]";
    crate::rules::decide(gateway.programs, 0, rules)?;
    let common = for_a_minute(Affinity::Source);
    let own = Remembering {
        identity: 7,
        ..common
    };
    for family in BOTH {
        gateway.programs.select_remembering(family, common, &[2])?;
        gateway
            .programs
            .select_for_rules_remembering((1, 0), family, own, &[1])?;
    }
    let other = |gateway: &Gateway<'_>, port| gateway.lan_in(&ends.out(Message::udp(port, 80)));
    assert_eq!(asked(gateway, &ends, 1)?, Mark::Ask(1));
    assert_eq!(other(gateway, 2)?, Mark::Ask(2));
    // Another generation, in which the same pool has another number.
    crate::rules::decide(gateway.programs, 1, rules)?;
    let mut mostly_three = vec![3; 1000];
    mostly_three.extend([1, 2]);
    for family in [Family::Ipv4, Family::Ipv6] {
        gateway
            .programs
            .select_remembering(family, common, &mostly_three)?;
        gateway
            .programs
            .select_for_rules_remembering((1, 1), family, own, &mostly_three)?;
    }
    assert_eq!(asked(gateway, &ends, 3)?, Mark::Ask(1));
    assert_eq!(other(gateway, 4)?, Mark::Ask(2));
    Ok(())
}

fn nothing(gateway: &mut Gateway<'_>) -> Outcome {
    let (family, ends) = (gateway.family, gateway.ends());
    gateway.programs.select(family, Affinity::Source, &[1])?;
    assert_eq!(asked(gateway, &ends, 1)?, Mark::Ask(1));
    assert_eq!(gateway.programs.remembered(&key(gateway, 0))?, None);
    gateway.programs.select(family, Affinity::Source, &[2])?;
    assert_eq!(asked(gateway, &ends, 2)?, Mark::Ask(2));
    Ok(())
}
