//! What users' traffic tells about its uplink: who is asked, who answers, what is sent again.

use std::time::{Duration, Instant};

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::traffic::{ANSWER_NS, FRESH_NS, SILENCE_NS};
use failover_common::{Affinity, Connections, Family, FlowKey, Liveness, Told, TrafficNews};

use crate::frames::{ACK, Ends, FIN, Message, RST, SYN};
use crate::gateway::{Failure, Gateway, Outcome, both};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("connections_that_open_are_counted_and_timed", opens),
        both("what_is_sent_again_is_counted", repeats),
        both("what_comes_late_is_not_sent_again", wraps),
        both("bare_acknowledgements_ask_for_nothing", asks),
        both("datagrams_ask_once_they_were_answered", datagrams),
        both("padding_is_no_data", padding),
        both(
            "where_nothing_is_translated_silence_tells_nothing",
            untranslated,
        ),
        both("a_silence_is_told_with_its_hosts", silence),
        both("a_port_scan_is_one_host", scan),
        both("an_answer_ends_a_silence", ends_silence),
        both("resets_and_other_uplinks_answer_nothing", no_answers),
        both("what_is_answered_is_never_told", answered),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const CLIENT: u16 = 33_000;
const SERVER: u16 = 443;
/// Longer than it takes for a silence to be told.
const PATIENT: Duration = Duration::from_secs(10);

/// All flows go by uplink 1.
fn by_one(gateway: &mut Gateway<'_>) -> Outcome {
    let family = gateway.family;
    Ok(gateway.programs.select(family, Affinity::Flow, &[1])?)
}

fn key(gateway: &Gateway<'_>) -> FlowKey {
    gateway.ends().key(TCP, CLIENT, SERVER)
}

/// A segment from inside.
fn out(gateway: &Gateway<'_>, flags: u8, sequence: u32, data: usize) -> Outcome {
    let segment = Message::segment((CLIENT, SERVER), flags, sequence, data);
    gateway.lan_in(&gateway.ends().out(segment))?;
    Ok(())
}

/// A bare segment from outside.
fn back(gateway: &Gateway<'_>, flags: u8, by: u8) -> Outcome {
    let segment = Message::tcp(SERVER, CLIENT, flags);
    gateway.lan_out(&gateway.ends().back(segment), by)
}

/// An established connection by uplink 1, which has sent its SYN with the sequence number 999.
fn establish(gateway: &mut Gateway<'_>) -> Outcome {
    by_one(gateway)?;
    out(gateway, SYN, 999, 0)?;
    back(gateway, SYN | ACK, 1)?;
    out(gateway, ACK, 1000, 0)
}

fn connections(gateway: &Gateway<'_>) -> Result<Connections, Failure> {
    let both = gateway.programs.connections(1)?;
    Ok(match gateway.family {
        Family::Ipv4 => both.ipv4,
        Family::Ipv6 => both.ipv6,
    })
}

fn liveness(gateway: &Gateway<'_>) -> Result<Liveness, Failure> {
    let both = gateway.programs.liveness(1)?;
    Ok(match gateway.family {
        Family::Ipv4 => both.ipv4,
        Family::Ipv6 => both.ipv6,
    })
}

/// Waits until the programs' clock has gone on by so much.
fn pass(gateway: &mut Gateway<'_>, nanoseconds: u64) -> Outcome {
    let begun = gateway.now_ns()?;
    while gateway.now_ns()? < begun + nanoseconds {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Asks again and again until something is told; the questions may be any.
fn ask_until_told(
    gateway: &mut Gateway<'_>,
    mut ask: impl FnMut(&Gateway<'_>) -> Outcome,
) -> Result<TrafficNews, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENT {
        ask(gateway)?;
        if let Some(news) = gateway.programs.take_news()?.first() {
            return Ok(*news);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("nothing was told".into())
}

fn opens(gateway: &mut Gateway<'_>) -> Outcome {
    establish(gateway)?;
    let once = connections(gateway)?;
    assert_eq!((once.opened, once.accepted, once.timed), (1, 1, 1));
    assert_eq!(once.repeated, 0);
    assert!(once.handshake_ns < 1_000_000_000, "{once:?}");
    // A connection whose SYN is sent twice is not timed.
    let second = |flags| Message::segment((CLIENT + 1, SERVER), flags, 5, 0);
    gateway.lan_in(&gateway.ends().out(second(SYN)))?;
    gateway.lan_in(&gateway.ends().out(second(SYN)))?;
    let answer = Message::tcp(SERVER, CLIENT + 1, SYN | ACK);
    gateway.lan_out(&gateway.ends().back(answer), 1)?;
    let twice = connections(gateway)?;
    assert_eq!(
        twice,
        Connections {
            opened: 2,
            accepted: 2,
            repeated: 1,
            ..once
        }
    );
    // One that is refused is not accepted.
    let third = Message::segment((CLIENT + 2, SERVER), SYN, 5, 0);
    gateway.lan_in(&gateway.ends().out(third))?;
    let refusal = Message::tcp(SERVER, CLIENT + 2, RST | ACK);
    gateway.lan_out(&gateway.ends().back(refusal), 1)?;
    let refused = connections(gateway)?;
    assert_eq!((refused.opened, refused.accepted), (3, 2));
    Ok(())
}

fn repeats(gateway: &mut Gateway<'_>) -> Outcome {
    establish(gateway)?;
    // What is new, what was sent before, a part of both, what is new again.
    for (sequence, data, repeated) in [
        (1000, 100, 0),
        (1100, 100, 0),
        (1100, 100, 1),
        (1000, 100, 2),
        (1150, 100, 2),
        (1150, 100, 3),
        (1250, 1, 3),
    ] {
        out(gateway, ACK, sequence, data)?;
        let found = connections(gateway)?.repeated;
        assert_eq!(found, repeated, "{data} bytes at {sequence}");
    }
    out(gateway, ACK, 1100, 0)?;
    assert_eq!(connections(gateway)?.repeated, 3, "no data, nothing again");
    out(gateway, FIN | ACK, 1251, 0)?;
    assert_eq!(connections(gateway)?.repeated, 3);
    out(gateway, FIN | ACK, 1251, 0)?;
    assert_eq!(connections(gateway)?.repeated, 4, "the end again");
    Ok(())
}

fn wraps(gateway: &mut Gateway<'_>) -> Outcome {
    by_one(gateway)?;
    out(gateway, SYN, u32::MAX - 50, 0)?;
    out(gateway, ACK, u32::MAX - 49, 100)?;
    out(gateway, ACK, 51, 100)?;
    assert_eq!(connections(gateway)?.repeated, 0, "numbers begin again");
    assert_eq!(gateway.flow(&key(gateway))?.out_next, 151);
    out(gateway, ACK, u32::MAX - 49, 100)?;
    assert_eq!(connections(gateway)?.repeated, 1);
    Ok(())
}

fn asks(gateway: &mut Gateway<'_>) -> Outcome {
    establish(gateway)?;
    pass(gateway, FRESH_NS)?;
    let before = liveness(gateway)?;
    for flags in [ACK, RST, RST | ACK] {
        out(gateway, flags, 1000, 0)?;
        assert_eq!(liveness(gateway)?, before, "flags {flags:#x}");
    }
    establish(gateway)?;
    pass(gateway, FRESH_NS)?;
    out(gateway, ACK, 1000, 1)?;
    let after = liveness(gateway)?;
    assert!(after.asked_ns > after.answered_ns, "{after:?}");
    assert_eq!((after.asked.count_ones(), after.questions), (1, 1));
    Ok(())
}

fn datagrams(gateway: &mut Gateway<'_>) -> Outcome {
    by_one(gateway)?;
    let ends = gateway.ends();
    let send = |gateway: &Gateway<'_>| gateway.lan_in(&ends.out(Message::udp(CLIENT, 53)));
    for _ in 0..3 {
        send(gateway)?;
    }
    assert_eq!(
        liveness(gateway)?,
        Liveness::default(),
        "who was never answered may want no answer"
    );
    gateway.lan_out(&ends.back(Message::udp(53, CLIENT)), 1)?;
    let answered = liveness(gateway)?;
    assert_eq!(answered.answering.count_ones(), 1);
    pass(gateway, FRESH_NS)?;
    send(gateway)?;
    assert_eq!(liveness(gateway)?.questions, 1);
    gateway.programs.remove_flow(&ends.key(UDP, CLIENT, 53))?;
    Ok(())
}

fn padding(gateway: &mut Gateway<'_>) -> Outcome {
    establish(gateway)?;
    pass(gateway, FRESH_NS)?;
    let before = liveness(gateway)?;
    let bare = Message::segment((CLIENT, SERVER), ACK, 1000, 0);
    let mut frame = gateway.ends().out(bare).frame(gateway.wiring.lan_mac);
    // The shortest frame of an Ethernet is filled up to 60 bytes.
    frame.resize(frame.len().max(54) + 26, 0);
    gateway.lan_in_frame(&frame)?;
    assert_eq!(liveness(gateway)?, before);
    assert_eq!(gateway.flow(&key(gateway))?.out_next, 1000);
    Ok(())
}

fn untranslated(gateway: &mut Gateway<'_>) -> Outcome {
    gateway.without_translation(1)?;
    establish(gateway)?;
    pass(gateway, FRESH_NS)?;
    out(gateway, ACK, 1000, 10)?;
    let found = liveness(gateway)?;
    assert!(found.asked_ns <= found.answered_ns, "{found:?}");
    Ok(())
}

fn silence(gateway: &mut Gateway<'_>) -> Outcome {
    by_one(gateway)?;
    let servers: Vec<Ends> = (1..=5).map(|host| server(gateway, host)).collect();
    let mut bits = 0;
    for ends in &servers {
        let key = ends.key(TCP, CLIENT, SERVER);
        bits |= failover_common::traffic::host_bit(key.outside);
    }
    let begun = gateway.now_ns()?;
    let mut sequence = 0;
    let news = ask_until_told(gateway, |gateway| {
        sequence += 1;
        for ends in &servers {
            let segment = Message::segment((CLIENT, SERVER), SYN, sequence, 0);
            gateway.lan_in(&ends.out(segment))?;
        }
        Ok(())
    })?;
    assert_eq!((news.told, news.uplink), (Told::Silent, 1));
    assert_eq!(news.family, gateway.family);
    assert_eq!(news.asked, bits, "a bit for each host");
    assert!(news.asked_ns >= begun && news.at_ns - news.asked_ns >= SILENCE_NS);
    assert!(news.questions >= 5, "{news:?}");
    Ok(())
}

/// The client and another server.
fn server(gateway: &Gateway<'_>, host: u8) -> Ends {
    let outside = match gateway.family {
        Family::Ipv4 => [203, 0, 113, host].into(),
        Family::Ipv6 => [0xfd00, 0x203, 0, 0, 0, 0, 0, host.into()].into(),
    };
    Ends {
        outside,
        ..gateway.ends()
    }
}

fn scan(gateway: &mut Gateway<'_>) -> Outcome {
    by_one(gateway)?;
    let ends = gateway.ends();
    let mut port = 1;
    let news = ask_until_told(gateway, |gateway| {
        for _ in 0..20 {
            port += 1;
            let segment = Message::segment((CLIENT, port), SYN, 0, 0);
            gateway.lan_in(&ends.out(segment))?;
        }
        Ok(())
    })?;
    assert!(news.questions >= 20, "{news:?}");
    assert_eq!(news.asked.count_ones(), 1, "however many ports it has");
    Ok(())
}

fn ends_silence(gateway: &mut Gateway<'_>) -> Outcome {
    establish(gateway)?;
    let mut sequence = 1000;
    ask_until_told(gateway, |gateway| {
        sequence += 10;
        out(gateway, ACK, sequence, 10)
    })?;
    back(gateway, ACK, 1)?;
    let told: Vec<Told> = gateway
        .programs
        .take_news()?
        .iter()
        .map(|news| news.told)
        .collect();
    assert_eq!(told, [Told::Answered]);
    pass(gateway, ANSWER_NS)?;
    back(gateway, ACK, 1)?;
    assert_eq!(gateway.programs.take_news()?, [], "that is no news");
    Ok(())
}

fn no_answers(gateway: &mut Gateway<'_>) -> Outcome {
    establish(gateway)?;
    pass(gateway, FRESH_NS)?;
    let before = liveness(gateway)?;
    back(gateway, RST | ACK, 1)?;
    assert_eq!(liveness(gateway)?, before, "a reset may be anybody's");
    gateway.set_state(2, failover_common::UplinkState::Down)?;
    back(gateway, ACK, 2)?;
    assert_eq!(liveness(gateway)?, before, "late, by another uplink");
    assert_eq!(gateway.programs.liveness(2)?, Default::default());
    // Who asks first is not answered.
    gateway.lan_out_first(&gateway.ends().back(Message::tcp(9, 9, SYN)), 1)?;
    assert_eq!(liveness(gateway)?, before, "a connection from outside");
    Ok(())
}

fn answered(gateway: &mut Gateway<'_>) -> Outcome {
    establish(gateway)?;
    let begun = gateway.now_ns()?;
    let mut sequence = 1000;
    while gateway.now_ns()? < begun + 3 * SILENCE_NS {
        out(gateway, ACK, sequence, 10)?;
        sequence += 10;
        back(gateway, ACK, 1)?;
    }
    assert_eq!(gateway.programs.take_news()?, []);
    Ok(())
}
