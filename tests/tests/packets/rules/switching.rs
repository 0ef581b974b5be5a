//! Rules are replaced as a whole: a packet meets either all of the old ones or all of the new ones.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use failover::dataplane::ebpf::conditions::Conditions;
use failover_common::{Affinity, Family};
use failover_tests::programs::{Assembled, Context, Settings, run};

use super::{carry, decide, downlink_numbers, policy};
use crate::frames::{ETHERNET, Message};
use crate::gateway::{BOTH, Gateway, Mark, Outcome, both, common, named, play};
use crate::trial::SystemTest;

pub(super) fn trials() -> Vec<SystemTest> {
    let mut trials = both("rules_that_are_being_written_decide_nothing", written);
    trials.extend(BOTH.map(|family| {
        let name = named("no_packet_meets_a_mixture_of_old_and_new_rules", family);
        SystemTest::new(name, move || async move {
            let stand = common().await?;
            let bpffs = stand.lab().bpffs();
            let test = move |gateway: &mut Gateway<'_>| amid_packets(gateway, &bpffs);
            let settings = Settings {
                // With an entry for each of them.
                capacity: 2 * PACKETS,
                ..Settings::default()
            };
            play(stand, settings, family, test).await
        })
    }));
    trials
}

/// The first rule is for the server of all packets: they go by the first uplink.
const OLD: &str = "rules:\n  - {name: server, match: {destination: [203.0.113.11, \"fd00:203::11\"]}, via: [one]}\n  \
                   - {name: others, match: {}, via: [two]}";
/// The first rule is for nobody here: they go by the third uplink, the second rule's. Conditions of
/// one with actions of the other would send them by the second.
const NEW: &str = "rules:\n  - {name: nobody, match: {destination: [192.0.2.1, \"fd00::1\"]}, via: [two]}\n  \
                   - {name: others, match: {protocol: [tcp, udp]}, via: [three]}";

fn written(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let asked = |gateway: &Gateway<'_>, port| gateway.lan_in(&ends.out(Message::udp(port, 53)));
    decide(gateway.programs, 0, OLD)?;
    assert_eq!(asked(gateway, 1)?, Mark::Ask(1));
    let new = policy(NEW)?;
    let conditions = Conditions::new(&new, &downlink_numbers()?);
    gateway.programs.write_rules(&conditions, &new, 1)?;
    for (pool, uplink) in [(1, 2), (2, 3)] {
        carry(gateway.programs, (pool, 1), &[uplink])?;
    }
    assert_eq!(asked(gateway, 2)?, Mark::Ask(1), "they are only written");
    gateway.programs.switch_rules(&conditions, 1)?;
    assert_eq!(asked(gateway, 3)?, Mark::Ask(3), "now they decide");
    Ok(())
}

/// How many packets pass while rules change, each from another port and so the first of a flow; the
/// flow table has room for them.
const PACKETS: u32 = 40_000;
/// The port that they go to.
const PORT: u16 = 53;

fn amid_packets(gateway: &mut Gateway<'_>, bpffs: &Path) -> Outcome {
    let ends = gateway.ends();
    let ip_header = match gateway.family {
        Family::Ipv4 => 20,
        Family::Ipv6 => 40,
    };
    let ports = i16::try_from(ETHERNET + ip_header)?;
    // What no rule is found for goes by the second uplink, too.
    let family = gateway.family;
    gateway.programs.select(family, Affinity::Flow, &[2])?;
    decide(gateway.programs, 1, NEW)?;
    decide(gateway.programs, 0, OLD)?;
    let numbers = downlink_numbers()?;
    let [old, new] = [policy(OLD)?, policy(NEW)?].map(|policy| Conditions::new(&policy, &numbers));
    let counting = {
        let program = gateway.programs.program("fo_lan_in")?;
        Assembled::counting_up(bpffs, ports, program.fd()?.as_fd())?
    };
    let frame = ends
        .out(Message::udp(0, PORT))
        .frame(gateway.wiring.lan_mac);
    let context = Context {
        ifindex: gateway.wiring.lan,
        ..Context::default()
    };
    let over = AtomicBool::new(false);
    let switches = thread::scope(|scope| {
        let packets = scope.spawn(|| {
            let run = run(counting.program(), &frame, context, PACKETS);
            over.store(true, Ordering::Release);
            run
        });
        let mut switches = 0;
        while !over.load(Ordering::Acquire) {
            switches += 1;
            let (rules, generation) = if switches % 2 == 1 {
                (&new, 1)
            } else {
                (&old, 0)
            };
            gateway.programs.switch_rules(rules, generation)?;
            thread::yield_now();
        }
        let run = packets.join().map_err(|_| "the packets panicked")?;
        run?;
        Ok::<u32, crate::gateway::Failure>(switches)
    })?;
    let mut uplinks: BTreeMap<u8, u32> = BTreeMap::new();
    for key in gateway.programs.flows()? {
        *uplinks.entry(gateway.flow(&key)?.uplink).or_default() += 1;
    }
    assert_eq!(uplinks.values().sum::<u32>(), PACKETS, "{uplinks:?}");
    let found: Vec<u8> = uplinks.keys().copied().collect();
    assert_eq!(found, [1, 3], "{uplinks:?} after {switches} switches");
    Ok(())
}
