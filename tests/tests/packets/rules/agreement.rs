//! Random rules and packets: the programs give each packet what the plain model says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use failover::flows::Protocol;
use failover::interface::InterfaceName;
use failover::policy::{Facts, Otherwise, Policy, first_match};
use failover_common::lifetime::protocol::{ICMP, ICMPV6, TCP, UDP};
use failover_common::{
    Affinity, Family, FlowKey, Interface, Reason, Role, Totals, Uplink, UplinkFamily, UplinkState,
};
use failover_tests::Lab;
use failover_tests::chance::Chance;
use failover_tests::programs::{Context, Settings, Stand};
use failover_tests::rules::{Packets, Parameters, RandomRules};

use super::{DOWNLINK_NAMES, UPLINK_NAMES, config, downlink_numbers};
use crate::frames::{Ends, Extension, Message, Packet, SYN};
use crate::gateway::{BOTH, Failure, Gateway, Outcome, UPLINKS, play};
use crate::trial::{SystemTest, TestResult};

pub(crate) fn trials() -> Vec<SystemTest> {
    CASES
        .map(|case| {
            let name = format!(
                "{}_random_rules_decide_as_the_model_says_seed_{}",
                case.rules, case.seed
            );
            SystemTest::new(name, move || agreement(case))
        })
        .into()
}

/// Rules, prefixes in their sets, and packets that meet them.
#[derive(Clone, Copy)]
struct Case {
    seed: u64,
    rules: usize,
    prefixes: usize,
    packets: usize,
}

const CASES: [Case; 5] = [
    small(1, 1),
    small(2, 64),
    small(3, 300),
    small(4, 300),
    Case {
        seed: 5,
        rules: 1000,
        prefixes: 50_000,
        packets: 4000,
    },
];

const fn small(seed: u64, rules: usize) -> Case {
    Case {
        seed,
        rules,
        prefixes: 4000,
        packets: 2500,
    }
}

/// The uplink of all flows that no rule names; each pool has one of its own behind it.
const COMMON: u8 = 1;

/// A downlink by which packets come.
#[derive(Clone, Debug)]
struct Door {
    name: InterfaceName,
    index: u32,
    mac: [u8; 6],
}

async fn agreement(case: Case) -> TestResult {
    let lab = Lab::builder().uplinks(UPLINKS).downlinks([1, 1, 1]);
    let stand = Stand::over(lab.capture(false).build().await?).await?;
    let node = stand.lab().gateway().node();
    let mut doors = Vec::new();
    for name in DOWNLINK_NAMES {
        doors.push(Door {
            name: name.parse()?,
            index: node.interface_index(name).await?,
            mac: node.hardware_address(name).await?,
        });
    }
    // The packets are of both families.
    play(&stand, Settings::default(), Family::Ipv4, move |gateway| {
        agrees(gateway, case, &doors)
    })
    .await
}

/// What a packet must become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    Given(u8, Reason),
    Denied,
}

fn agrees(gateway: &mut Gateway<'_>, case: Case, doors: &[Door]) -> Outcome {
    let names = |names: [&str; 3]| names.map(str::to_owned).to_vec();
    let parameters = Parameters {
        rules: case.rules,
        prefixes: case.prefixes,
        sets: 20,
        uplinks: names(UPLINK_NAMES),
        downlinks: names(DOWNLINK_NAMES),
    };
    let random = RandomRules::draw(&parameters, case.seed);
    let config = config(&random.yaml(Some("/etc/failover/sets".as_ref())))?;
    let policy = Policy::new(random.resolve(&config));
    tell(gateway, &policy, doors)?;

    let (mut denied, mut entered) = (0, 0);
    let mut decided = BTreeSet::new();
    let mut chance = Chance::from_seed(case.seed);
    let packets = Packets::new(&policy.rules, &parameters.downlinks, case.seed);
    for facts in packets.take(case.packets) {
        let expected = model(&policy, &facts)?;
        let door = doors
            .iter()
            .find(|door| Some(&door.name) == facts.interface.as_ref())
            .ok_or("a packet by no downlink")?;
        let (found, key) = given(gateway, door, &facts, &mut chance)?;
        let rule = first_match(&policy.rules, &facts);
        let of_rule = rule.and_then(|rule| policy.rules.get(rule));
        assert_eq!(found, expected, "{facts:?}, {of_rule:?}, {key:?}");
        decided.insert(rule);
        match expected {
            Becomes::Given(..) => entered += 1,
            Becomes::Denied => denied += 1,
        }
    }
    gateway.assert_totals(Totals {
        entered,
        denied,
        ..Totals::default()
    })?;
    // Otherwise all this says little.
    assert!(decided.contains(&None), "some packet matches no rule");
    let at_least = case.rules.min(case.packets / 10) / 2;
    assert!(decided.len() > at_least, "{} rules decide", decided.len());
    assert!(case.rules < 50 || denied > 50, "{denied} are dropped");
    Ok(())
}

/// Whether a pool has uplinks in a family.
const fn is_usable(pool: usize, family: Family) -> bool {
    let offset = match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 2,
    };
    !(pool + offset).is_multiple_of(4)
}

fn uplink_of(pool: usize) -> Result<u8, Failure> {
    Ok(u8::try_from(pool + 1)? + COMMON)
}

/// Tells the programs rules, pools, and downlinks.
fn tell(gateway: &mut Gateway<'_>, policy: &Policy, doors: &[Door]) -> Outcome {
    let up = UplinkFamily {
        generation: 1,
        state: UplinkState::Up,
        translates: true,
        reserved: [0; 2],
    };
    let both = Uplink {
        interface: 0,
        ipv4: up,
        ipv6: up,
    };
    gateway.programs.set_uplink(COMMON, &both)?;
    for family in BOTH {
        gateway.programs.select(family, Affinity::Flow, &[COMMON])?;
    }
    for pool in 0..policy.vias.len() {
        let id = uplink_of(pool)?;
        gateway.programs.set_uplink(id, &both)?;
        for family in BOTH.into_iter().filter(|family| is_usable(pool, *family)) {
            let number = (u16::try_from(pool + 1)?, 0);
            gateway
                .programs
                .select_for_rules(number, family, Affinity::Source, &[id])?;
        }
    }
    let numbers = downlink_numbers()?;
    for door in doors {
        let interface = Interface {
            role: Role::Downlink,
            uplink: 0,
            downlink: *numbers
                .get(&door.name)
                .ok_or("a downlink without a number")?,
        };
        gateway.programs.set_interface(door.index, &interface)?;
    }
    Ok(gateway.programs.set_rules(policy, &numbers, 0)?)
}

/// What the model says.
fn model(policy: &Policy, facts: &Facts) -> Result<Becomes, Failure> {
    let common = Becomes::Given(COMMON, Reason::Hash);
    let Some(rule) = first_match(&policy.rules, facts) else {
        return Ok(common);
    };
    let decides = policy.iter().nth(rule);
    let (rule, pool) = decides.ok_or("a rule that is not there")?;
    let family = match facts.source {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    };
    Ok(match rule.otherwise {
        _ if is_usable(pool, family) => Becomes::Given(uplink_of(pool)?, Reason::Rule),
        Otherwise::Any => common,
        Otherwise::Drop => Becomes::Denied,
    })
}

/// What the programs say, and the key of the flow.
fn given(
    gateway: &Gateway<'_>,
    door: &Door,
    facts: &Facts,
    chance: &mut Chance,
) -> Result<(Becomes, FlowKey), Failure> {
    let ends = Ends {
        inside: facts.source,
        outside: facts.destination,
    };
    let (message, inside_port) = message(facts, chance);
    let mut packet = Packet {
        // The two bits below are for congestion (RFC 3168).
        traffic_class: facts.dscp.get() << 2 | u8::try_from(chance.below(4))?,
        ..ends.out(message)
    };
    if chance.percent(20) {
        packet.options = 2;
        packet.extensions = vec![Extension::HopByHop(0), Extension::Destination(1)];
    }
    let key = ends.key(facts.protocol.0, inside_port, facts.port);
    let mut frame = packet.frame(door.mac);
    let mac = facts.mac.ok_or("a packet of nobody")?;
    frame.splice(6..12, mac.0);
    let context = Context {
        mark: facts.mark,
        ifindex: door.index,
        ..Context::default()
    };
    let run = gateway.programs.run("fo_lan_in", &frame, context, 1)?;
    assert_eq!((run.returned, &run.frame), (-1, &frame), "{facts:?}");
    assert_eq!(run.mark & 0x00ff_ffff, facts.mark, "others' bits stay");
    let flow = gateway.programs.flow(&key)?;
    let [id, ..] = run.mark.to_be_bytes();
    let found = match (id, flow) {
        (0x80, None) => Becomes::Denied,
        (_, Some(flow)) => {
            assert_eq!(id, 0x80 | flow.uplink, "the mark is the entry's uplink");
            Becomes::Given(flow.uplink, flow.reason)
        }
        (_, None) => return Err(format!("mark {:#x} without an entry: {facts:?}", run.mark).into()),
    };
    Ok((found, key))
}

/// What a packet carries, and what stands for its port in its flow's key.
fn message(facts: &Facts, chance: &mut Chance) -> (Message, u16) {
    let Facts {
        protocol: Protocol(protocol),
        source_port,
        port,
        ..
    } = *facts;
    let family = match facts.source {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    };
    match (protocol, family) {
        (TCP, _) => (Message::tcp(source_port, port, SYN), source_port),
        (UDP, _) => (Message::udp(source_port, port), source_port),
        (ICMP, Family::Ipv4) | (ICMPV6, Family::Ipv6) => {
            // An identifier that rules might take for a port.
            let identifier = chance.one_of(&[22, 53, 443, 8080]).unwrap_or_default();
            (Message::echo_request(family, identifier), identifier)
        }
        _ if facts.protocol.has_ports() => {
            (Message::ported(protocol, source_port, port), source_port)
        }
        _ => (Message::portless(protocol), 0),
    }
}
