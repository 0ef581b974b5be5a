//! Which flows the programs offer to the daemon.

use failover_common::flow::Offering;
use failover_common::lifetime::protocol::{ICMP, ICMPV6, TCP, UDP};
use failover_common::{Family, Flow, FlowKey, Lease, Offer, Phase};

use super::{GENERATION, LEASE, Line, PROTOCOLS, UPLINK, Way};
use crate::frames::Message;
use crate::gateway::{Failure, Gateway, Mark, Outcome, both};
use crate::trial::SystemTest;

const FIRST_OFFER: u8 = Offering::USUAL.first;
const NEXT_OFFER: u8 = Offering::USUAL.next;
const OFFER_AGAIN_NS: u64 = Offering::USUAL.again_ns;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("a_flow_that_lasts_is_offered", offered),
        both("a_flow_is_offered_at_most_once_a_second", rarely),
        both("nothing_is_offered_to_nobody", unwanted),
        both("what_cannot_take_the_fast_path_is_not_offered", unfit),
        both("what_the_daemon_has_refused_is_not_offered", refused),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// So many packets from users, which take the stack's way.
fn packets(gateway: &Gateway<'_>, line: &Line, count: u8) -> Outcome {
    for _ in 0..count {
        gateway.assert_packet_passed("not offloaded", line, Way::Out, Mark::Sure(UPLINK))?;
    }
    Ok(())
}

/// The flow is looked at with its next packet, and was last offered so long ago.
fn ripe(gateway: &mut Gateway<'_>, key: &FlowKey, ago_ns: u64) -> Outcome {
    let now_ns = gateway.now_ns()?;
    let flow = Flow {
        until_offer: 1,
        offered_ns: now_ns - ago_ns,
        ..gateway.flow(key)?
    };
    Ok(gateway.programs.set_flow(key, &flow)?)
}

fn offers(gateway: &mut Gateway<'_>) -> Result<Vec<Offer>, Failure> {
    Ok(gateway.programs.take_offers()?)
}

fn offered(gateway: &mut Gateway<'_>) -> Outcome {
    gateway.programs.set_lease(&LEASE)?;
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        let flow = gateway.establish(&line)?;
        let before = gateway.programs.totals()?;
        packets(gateway, &line, FIRST_OFFER - 1)?;
        assert_eq!(offers(gateway)?, [], "it is young");
        packets(gateway, &line, 1)?;
        let expected = Offer {
            flow: line.key(),
            created_ns: flow.created_ns,
            ingress: gateway.wiring.lan,
            generation: GENERATION,
            uplink: UPLINK,
            reserved: [0; 7],
        };
        assert_eq!(offers(gateway)?, [expected]);
        let after = gateway.programs.totals()?;
        assert_eq!(after.offered, before.offered + 1);
        assert_eq!(after.unheard, before.unheard);
        assert_eq!(gateway.flow(&line.key())?.until_offer, NEXT_OFFER);
    }
    Ok(())
}

fn rarely(gateway: &mut Gateway<'_>) -> Outcome {
    gateway.programs.set_lease(&LEASE)?;
    let line = Line::new(gateway, UDP);
    gateway.establish(&line)?;
    // Half a second is time for everything here.
    ripe(gateway, &line.key(), OFFER_AGAIN_NS / 2)?;
    packets(gateway, &line, 1)?;
    assert_eq!(offers(gateway)?, []);
    ripe(gateway, &line.key(), OFFER_AGAIN_NS)?;
    packets(gateway, &line, 1)?;
    assert_eq!(offers(gateway)?.len(), 1);
    // Soon after that it is offered no more, however many packets there are.
    ripe(gateway, &line.key(), 0)?;
    packets(gateway, &line, NEXT_OFFER + 1)?;
    assert_eq!(offers(gateway)?, []);
    Ok(())
}

fn unwanted(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    gateway.establish(&line)?;
    let now_ns = gateway.now_ns()?;
    for offers_until_ns in [0, now_ns] {
        gateway.programs.set_lease(&Lease {
            offers_until_ns,
            ..LEASE
        })?;
        ripe(gateway, &line.key(), OFFER_AGAIN_NS)?;
        packets(gateway, &line, 1)?;
        assert_eq!(offers(gateway)?, []);
    }
    assert_eq!(gateway.programs.totals()?.offered, 0);
    Ok(())
}

fn unfit(gateway: &mut Gateway<'_>) -> Outcome {
    gateway.programs.set_lease(&LEASE)?;
    let line = Line::new(gateway, TCP);
    let established = gateway.establish(&line)?;
    for (what, flow) in [
        (
            "not confirmed",
            Flow {
                confirmed: false,
                ..established
            },
        ),
        (
            "not answered",
            Flow {
                phase: Phase::Opening,
                ..established
            },
        ),
        (
            "ending",
            Flow {
                phase: Phase::Closing,
                ..established
            },
        ),
    ] {
        gateway.programs.set_flow(&line.key(), &flow)?;
        ripe(gateway, &line.key(), OFFER_AGAIN_NS)?;
        let frame = gateway.arriving(Way::Out, &line.packet(Way::Out, 100))?;
        gateway.lan_in_frame(&frame)?;
        assert_eq!(offers(gateway)?, [], "{what}");
    }
    // Echoes have no ports, and other protocols that have some are not translated by the programs.
    let ends = gateway.ends();
    let echo = match gateway.family {
        Family::Ipv4 => ICMP,
        Family::Ipv6 => ICMPV6,
    };
    for (message, key) in [
        (
            Message::echo_request(gateway.family, 7),
            ends.key(echo, 7, 0),
        ),
        (Message::ported(132, 7, 9), ends.key(132, 7, 9)),
        (Message::ported(136, 7, 9), ends.key(136, 7, 9)),
    ] {
        gateway.programs.set_flow(&key, &established)?;
        ripe(gateway, &key, OFFER_AGAIN_NS)?;
        assert_eq!(gateway.lan_in(&ends.out(message))?, Mark::Sure(UPLINK));
        assert_eq!(offers(gateway)?, [], "{key:?}");
    }
    assert_eq!(gateway.programs.totals()?.offered, 0);
    Ok(())
}

fn refused(gateway: &mut Gateway<'_>) -> Outcome {
    gateway.programs.set_lease(&LEASE)?;
    let line = Line::new(gateway, TCP);
    gateway.establish(&line)?;
    gateway.programs.refuse(&line.key())?;
    ripe(gateway, &line.key(), OFFER_AGAIN_NS)?;
    packets(gateway, &line, 1)?;
    assert_eq!(offers(gateway)?, []);
    // The daemon thinks anew.
    gateway.programs.pardon(&line.key())?;
    ripe(gateway, &line.key(), OFFER_AGAIN_NS)?;
    packets(gateway, &line, 1)?;
    assert_eq!(offers(gateway)?.len(), 1);
    Ok(())
}
