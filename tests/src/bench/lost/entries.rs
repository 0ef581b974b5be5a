//! Entries of connection tracking as if very many users had connections, in the form that
//! `conntrack --load-file` reads.

use std::fmt::Write as _;
use std::net::IpAddr;

use failover::family::Family;

use crate::addressing;
use crate::lab::Uplink;

/// Ports of a user, from the first that is not privileged.
const PORTS: u32 = 60_000;
const FIRST_PORT: u32 = 1024;

/// So many established and translated TCP connections by an uplink, whose id is `id`.
pub(super) fn connections(uplink: &Uplink, family: Family, id: u8, count: u32) -> Option<String> {
    let translated = uplink.gateway_address(family)?;
    let servers = addressing::servers(family);
    let mut text = String::new();
    for number in 0..count {
        let server = servers
            .iter()
            .cycle()
            .nth(usize::try_from(number / PORTS).ok()?)?;
        let user = user(family, id, number / PORTS);
        let port = FIRST_PORT + number % PORTS;
        // Writing to a string does not fail.
        writeln!(
            text,
            "-A -p tcp -t 600 -u SEEN_REPLY,ASSURED --state ESTABLISHED -m {:#010x} \
             -s {user} -d {server} --sport {port} --dport 443 \
             -r {server} -q {translated} --reply-port-src 443 --reply-port-dst {port}",
            u32::from(id) << 24,
        )
        .ok()?;
    }
    Some(text)
}

/// Somebody in a network further inside.
fn user(family: Family, uplink: u8, number: u32) -> IpAddr {
    let last = u8::try_from(number % 250).unwrap_or_default() + 1;
    match family {
        Family::Ipv4 => IpAddr::from([198, 19, uplink, last]),
        Family::Ipv6 => IpAddr::from([0xfd00, 0x19, u16::from(uplink), 0, 0, 0, 0, last.into()]),
    }
}
