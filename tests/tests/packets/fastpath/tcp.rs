//! What the fast path notes of TCP: how far users have come, what they send again, and what asks for an
//! answer.

use failover_common::lifetime::protocol::TCP;
use failover_common::{Connections, Family, Liveness};
use failover_tests::programs::Context;

use super::{Line, SENT, UPLINK, WAYS, Way};
use crate::frames::{ACK, ETHERNET, FIN, Message, Packet};
use crate::gateway::{Failure, Gateway, Outcome, both};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("what_is_sent_again_by_the_fast_path_is_counted", repeats),
        both("padding_is_no_data_on_the_fast_path", padding),
        both("offloaded_packets_need_not_say_their_length", unsaid),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A segment from users, with so many words of options.
fn segment(line: &Line, sequence: u32, options: u8, data: usize) -> Packet {
    let (from, to) = line.before(Way::Out);
    let mut message = Message::segment((from.port(), to.port()), ACK, sequence, data);
    let padding = vec![1; usize::from(options) * 4];
    message.bytes.splice(20..20, padding);
    message.bytes.splice(12..13, [(5 + options) << 4]);
    Packet {
        message,
        ..line.packet(Way::Out, 0)
    }
    .sealed()
}

fn repeated(gateway: &Gateway<'_>) -> Result<u64, Failure> {
    let both = gateway.programs.connections(UPLINK)?;
    let Connections { repeated, .. } = match gateway.family {
        Family::Ipv4 => both.ipv4,
        Family::Ipv6 => both.ipv6,
    };
    Ok(repeated)
}

/// The last number but 49.
const LAST: u32 = u32::MAX - 49;

fn repeats(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    // No data, what is new, what was sent before, a part of both; and numbers begin again.
    for (sequence, options, data, next, times) in [
        (LAST - 100, 0, 0, None, 0),
        (LAST - 100, 3, 60, Some(LAST - 40), 0),
        (LAST - 40, 0, 40, Some(LAST), 0),
        (LAST - 40, 10, 40, Some(LAST), 1),
        (LAST - 20, 3, 20, Some(LAST), 2),
        (LAST - 10, 3, 60, Some(0), 2),
        (0, 0, 151, Some(151), 2),
        (LAST, 10, 50, Some(151), 3),
        (151, 3, 0, Some(151), 3),
        (500, 10, 0, Some(151), 3),
    ] {
        let what = format!("{data} bytes at {sequence}, {options} words of options");
        let packet = segment(&line, sequence, options, data);
        gateway.assert_sent(&what, &line, Way::Out, &packet)?;
        let found = gateway.pair(&line)?.out;
        let noted = (found.sequenced != 0).then_some(found.next);
        assert_eq!((noted, repeated(gateway)?), (next, times), "{what}");
    }
    Ok(())
}

/// Ethernet's padding of a bare acknowledgement.
fn padding(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    let mut frame = gateway.arriving(Way::Out, &line.packet(Way::Out, 0))?;
    frame.resize(frame.len() + 6, 0);
    let run = gateway.meet(Way::Out, &frame, gateway.context(Way::Out)?)?;
    assert_eq!(run.returned, SENT);
    assert_eq!(gateway.pair(&line)?.out.sequenced, 0);
    let both = gateway.programs.liveness(UPLINK)?;
    assert_eq!((both.ipv4, both.ipv6), <(Liveness, Liveness)>::default());
    Ok(())
}

/// One of more than 64 kB has a length of 0. A header that is none, and an end, are the stack's to see.
fn unsaid(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    let (length, upper) = match gateway.family {
        Family::Ipv4 => (ETHERNET + 2, ETHERNET + 20),
        Family::Ipv6 => (ETHERNET + 4, ETHERNET + 40),
    };
    for way in WAYS {
        let mut frame = gateway.arriving(way, &line.packet(way, 3000))?;
        frame.splice(length..length + 2, [0, 0]);
        let context = Context {
            gso_segs: 3,
            gso_size: 1000,
            ..gateway.context(way)?
        };
        let run = gateway.meet(way, &frame, context)?;
        assert_eq!(run.returned, SENT, "{way:?}");
        if way == Way::Out {
            assert_eq!(gateway.pair(&line)?.out.next, 1000 + 3000);
        }
        let mut short = frame.clone();
        short.splice(upper + 12..upper + 13, [4 << 4]);
        gateway.assert_returned("a header of four words", way, &short, context)?;
    }
    for way in WAYS {
        gateway.offload(&line)?;
        let mut frame = gateway.arriving(way, &line.packet(way, 3000))?;
        frame.splice(length..length + 2, [0, 0]);
        frame.splice(upper + 13..upper + 14, [ACK | FIN]);
        let context = Context {
            gso_segs: 3,
            gso_size: 1000,
            ..gateway.context(way)?
        };
        gateway.assert_returned("an end", way, &frame, context)?;
    }
    Ok(())
}
