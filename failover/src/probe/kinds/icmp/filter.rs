//! What a probe's socket receives, decided in the kernel by a classic BPF program.
//!
//! A raw ICMP socket receives every ICMP packet of its interface: others' pings, pings of the
//! gateway itself, neighbour discovery. A flood of them would fill its buffer and push out the
//! answers. And the ping client takes any ICMP packet that quotes a request for its outcome, also a
//! redirect, after which the answer follows. So let in are only: echo replies with the plan's
//! identifier, and errors that end a request with that identifier.

use socket2::SockFilter;

use crate::family::Family;

// linux/bpf_common.h: class, size and mode of loads; jumps; arithmetic.
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE_AT_X: u16 = 0x50; // BPF_LD | BPF_B | BPF_IND
const LOAD_HALF_AT_X: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
const X_IS_HEADER_LENGTH: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_LEFT: u16 = 0x64; // BPF_ALU | BPF_LSH | BPF_K
const ADD_X: u16 = 0x0c; // BPF_ALU | BPF_ADD | BPF_X
const X_IS_A: u16 = 0x07; // BPF_MISC | BPF_TAX
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const SKIP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const WHOLE_PACKET: u32 = u32::MAX;
const NOTHING: u32 = 0;

const fn step(code: u16, value: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, value)
}

/// Goes on `yes` or `no` steps after the next one.
const fn if_equal(value: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new(IF_EQUAL, yes, no, value)
}

/// The filter of a plan's socket.
pub(super) fn answers_to(family: Family, identifier: u16) -> Vec<SockFilter> {
    match family {
        Family::Ipv4 => ipv4(identifier.into()),
        Family::Ipv6 => ipv6(identifier.into()),
    }
}

/// The packet begins with its IPv4 header (raw(7)).
fn ipv4(identifier: u32) -> Vec<SockFilter> {
    const ECHO_REPLY: u32 = 0;
    const UNREACHABLE: u32 = 3;
    const TIME_EXCEEDED: u32 = 11;
    const PARAMETER_PROBLEM: u32 = 12;
    const ICMP: u32 = 1;
    vec![
        step(X_IS_HEADER_LENGTH, 0),
        step(LOAD_BYTE_AT_X, 0),
        if_equal(ECHO_REPLY, 12, 0),
        if_equal(UNREACHABLE, 2, 0),
        if_equal(TIME_EXCEEDED, 1, 0),
        if_equal(PARAMETER_PROBLEM, 0, 12),
        // The quoted packet begins 8 bytes into the error; its protocol stands at 9.
        step(LOAD_BYTE_AT_X, 8 + 9),
        if_equal(ICMP, 0, 10),
        // Both headers may carry options: add the quoted one's length to X.
        step(LOAD_BYTE_AT_X, 8),
        step(AND, 0x0f),
        step(SHIFT_LEFT, 2),
        step(ADD_X, 0),
        step(X_IS_A, 0),
        step(LOAD_HALF_AT_X, 8 + 4),
        step(SKIP, 1),
        step(LOAD_HALF_AT_X, 4),
        if_equal(identifier, 0, 1),
        step(RETURN, WHOLE_PACKET),
        step(RETURN, NOTHING),
    ]
}

/// The packet begins with its ICMPv6 header (RFC 3542, section 3).
fn ipv6(identifier: u32) -> Vec<SockFilter> {
    const ECHO_REPLY: u32 = 129;
    const UNREACHABLE: u32 = 1;
    const TIME_EXCEEDED: u32 = 3;
    const PARAMETER_PROBLEM: u32 = 4;
    const ICMPV6: u32 = 58;
    const QUOTED: u32 = 8;
    vec![
        step(LOAD_BYTE, 0),
        if_equal(ECHO_REPLY, 7, 0),
        if_equal(UNREACHABLE, 2, 0),
        if_equal(TIME_EXCEEDED, 1, 0),
        if_equal(PARAMETER_PROBLEM, 0, 7),
        // We send no extension headers, so the quoted request has none.
        step(LOAD_BYTE, QUOTED + 6),
        if_equal(ICMPV6, 0, 5),
        step(LOAD_HALF, QUOTED + 40 + 4),
        step(SKIP, 1),
        step(LOAD_HALF, 4),
        if_equal(identifier, 0, 1),
        step(RETURN, WHOLE_PACKET),
        step(RETURN, NOTHING),
    ]
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;

    use socket2::SockRef;

    use super::*;

    const OURS: u16 = 0x1234;
    const OTHERS: u16 = 0x1235;

    /// Whether the kernel lets a packet through; the program sees the same bytes on any socket.
    fn passes(family: Family, packet: &[u8]) -> bool {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        SockRef::from(&receiver)
            .attach_filter(&answers_to(family, OURS))
            .unwrap();
        receiver.set_nonblocking(true).unwrap();
        sender.send(packet).unwrap();
        match receiver.recv(&mut [0; 200]) {
            Ok(length) => {
                assert_eq!(length, packet.len(), "cut short");
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn icmp(kind: u8, identifier: u16) -> Vec<u8> {
        let [high, low] = identifier.to_be_bytes();
        vec![kind, 0, 0, 0, high, low, 0, 1]
    }

    fn ipv4(options: usize, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + options * 4];
        packet[0] = 0x45 + u8::try_from(options).unwrap();
        packet[9] = protocol;
        packet.extend_from_slice(payload);
        packet
    }

    fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = next_header;
        packet.extend_from_slice(payload);
        packet
    }

    fn error(kind: u8, quoted: &[u8]) -> Vec<u8> {
        [&[kind, 0, 0, 0, 0, 0, 0, 0], quoted].concat()
    }

    #[test]
    fn only_our_ipv4_replies_and_errors_pass() {
        let through = |packet: &[u8]| passes(Family::Ipv4, packet);
        for options in [0, 3] {
            assert!(through(&ipv4(options, 1, &icmp(0, OURS))));
            assert!(!through(&ipv4(options, 1, &icmp(0, OTHERS))));
            assert!(!through(&ipv4(options, 1, &icmp(8, OURS))), "a request");
            for kind in [3, 11, 12] {
                let about = |quoted: &[u8]| ipv4(options, 1, &error(kind, quoted));
                assert!(through(&about(&ipv4(0, 1, &icmp(8, OURS)))));
                assert!(through(&about(&ipv4(10, 1, &icmp(8, OURS)))));
                assert!(!through(&about(&ipv4(0, 1, &icmp(8, OTHERS)))));
                assert!(!through(&about(&ipv4(0, 17, &icmp(8, OURS)))), "UDP");
            }
            let redirect = error(5, &ipv4(0, 1, &icmp(8, OURS)));
            assert!(!through(&ipv4(options, 1, &redirect)));
        }
        assert!(!through(&ipv4(0, 1, &[])));
        assert!(!through(&ipv4(0, 1, &error(3, &[0x45]))));
    }

    #[test]
    fn only_our_ipv6_replies_and_errors_pass() {
        let through = |packet: &[u8]| passes(Family::Ipv6, packet);
        assert!(through(&icmp(129, OURS)));
        assert!(!through(&icmp(129, OTHERS)));
        for kind in [128, 133, 134, 135, 136] {
            assert!(!through(&icmp(kind, OURS)));
        }
        for kind in [1, 3, 4] {
            assert!(through(&error(kind, &ipv6(58, &icmp(128, OURS)))));
            assert!(!through(&error(kind, &ipv6(58, &icmp(128, OTHERS)))));
            assert!(!through(&error(kind, &ipv6(17, &icmp(128, OURS)))), "UDP");
        }
        assert!(
            !through(&error(137, &ipv6(58, &icmp(128, OURS)))),
            "redirect"
        );
        assert!(!through(&error(1, &[0x60])));
    }
}
