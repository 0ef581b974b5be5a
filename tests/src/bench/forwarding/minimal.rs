//! The least that a TC program must do to forward a packet of a known flow: look it up, change its
//! addresses and ports, its checksums and hops, and send it out. Nobody fills or empties its table but
//! the benchmark, so this is the limit for all fast paths of this kind.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use failover::family::{Family, PerFamily};

use super::frames::{Ends, Flows};
use super::look_up::{END, IPV4, IPV6, PACKET, PASS, begin, key_length, look_up, require};
use super::offsets::{Header, SENDER, TCP, TCP_CHECKSUM, TCP_LENGTH, UDP, UDP_CHECKSUM};
use super::{Protocol, attached, pinned_map};
use crate::node::Node;
use crate::programs::{Assembled, Assembly, Instruction, ProgramsError, Width, code};
use crate::sys::bpf::MapKind;

/// The helper `bpf_redirect`.
const REDIRECT: i32 = 23;

/// What is in a value, and where. The new source is the last.
const INTERFACE: i16 = 0;
const HEADER_CHANGE: i16 = 4;
const PAYLOAD_CHANGE: i16 = 8;
const SOURCE_PORT: i16 = 12;
const HARDWARE: i16 = 16;
const SOURCE: i16 = 28;

const fn value_length(address: usize) -> usize {
    28 + address
}

/// The known flows of one family.
type Table<const KEY: usize, const VALUE: usize> = HashMap<MapData, [u8; KEY], [u8; VALUE]>;

/// A register: what was found of the flow.
const FOUND: u8 = 9;

/// Where translated packets go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) interface: u32,
    pub(super) from: [u8; 6],
    pub(super) to: [u8; 6],
    /// The address that they have then.
    pub(super) source: IpAddr,
}

/// The program on one interface, with its tables. It is gone with this.
pub(super) struct Minimal {
    ipv4: Table<{ key_length(IPV4) }, { value_length(IPV4) }>,
    ipv6: Table<{ key_length(IPV6) }, { value_length(IPV6) }>,
    known: PerFamily<Option<Flows>>,
    _program: Assembled,
}

impl Minimal {
    /// Puts it on the packets that come in by an interface of a node, with room for so many flows of
    /// each family.
    pub(super) async fn on(
        node: &Node,
        interface: &str,
        bpffs: &Path,
        room: u32,
    ) -> Result<Self, ProgramsError> {
        let (four, ipv4) = table(bpffs, room)?;
        let (six, ipv6) = table(bpffs, room)?;
        let instructions = program(four.as_fd(), six.as_fd())?;
        let program = Assembled::new(bpffs, &instructions, vec![four, six])?;
        let program = attached(node, interface, program, "that translates").await?;
        Ok(Self {
            ipv4,
            ipv6,
            known: PerFamily::from_fn(|_| None),
            _program: program,
        })
    }

    /// Has it know these flows and no others of their family. Where it does they stay as they are: entries
    /// that are made anew in a used table lie scattered in memory, and take longer to be found.
    pub(super) fn know(
        &mut self,
        flows: Flows,
        client: IpAddr,
        ways: &[Way],
    ) -> Result<(), ProgramsError> {
        if *self.known.get(flows.family) == Some(flows) {
            return Ok(());
        }
        match flows.family {
            Family::Ipv4 => fill(&mut self.ipv4, flows, client, ways)?,
            Family::Ipv6 => fill(&mut self.ipv6, flows, client, ways)?,
        }
        *self.known.get_mut(flows.family) = Some(flows);
        Ok(())
    }
}

/// A table for the program and for us.
fn table<const KEY: usize, const VALUE: usize>(
    bpffs: &Path,
    room: u32,
) -> Result<(OwnedFd, Table<KEY, VALUE>), ProgramsError> {
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or_default();
    let (descriptor, map) = pinned_map(bpffs, MapKind::Hash, size(KEY), size(VALUE), room)?;
    let flows = HashMap::try_from(Map::HashMap(map)).map_err(failed)?;
    Ok((descriptor, flows))
}

fn fill<const KEY: usize, const VALUE: usize>(
    table: &mut Table<KEY, VALUE>,
    flows: Flows,
    client: IpAddr,
    ways: &[Way],
) -> Result<(), ProgramsError> {
    let keys: Vec<[u8; KEY]> = table.keys().collect::<Result<_, _>>().map_err(failed)?;
    for key in keys {
        table.remove(&key).map_err(failed)?;
    }
    for (ends, way) in flows.ends().zip(ways.iter().cycle()) {
        let key = array(&key(client, ends, flows.protocol));
        let value = array(&value(client, ends, *way));
        table.insert(key, value, 0).map_err(failed)?;
    }
    Ok(())
}

/// As many bytes as there is room for; lengths are those that addresses of the family make.
fn array<const LENGTH: usize>(bytes: &[u8]) -> [u8; LENGTH] {
    bytes.first_chunk().copied().unwrap_or([0; LENGTH])
}

fn failed(source: MapError) -> ProgramsError {
    ProgramsError::Map {
        name: "of the minimal program".to_owned(),
        source,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn key(client: IpAddr, ends: Ends, protocol: Protocol) -> Vec<u8> {
    let (from, to) = ends.ports;
    let number = match protocol {
        Protocol::Udp => UDP,
        Protocol::Tcp => TCP,
    };
    [
        &octets(client)[..],
        &octets(ends.destination),
        &from.to_be_bytes(),
        &to.to_be_bytes(),
        &number.to_ne_bytes(),
    ]
    .concat()
}

fn value(client: IpAddr, ends: Ends, way: Way) -> Vec<u8> {
    let (old, new) = (octets(client), octets(way.source));
    // Ports stay, as they do with a translation that finds them free.
    let address = change(&old, &new);
    let header = match way.source {
        // One hop less, in the byte before the protocol.
        IpAddr::V4(_) => address + change(&[64, 0], &[63, 0]),
        IpAddr::V6(_) => 0,
    };
    [
        &way.interface.to_ne_bytes()[..],
        &header.to_ne_bytes(),
        &address.to_ne_bytes(),
        &ends.ports.0.to_be_bytes(),
        &[0; 2],
        &way.to,
        &way.from,
        &new,
    ]
    .concat()
}

/// What is added to the complement of a checksum (RFC 1624) when bytes change.
fn change(old: &[u8], new: &[u8]) -> u32 {
    let words = |bytes: &[u8]| -> Vec<u16> {
        let words = bytes.chunks_exact(2);
        words
            .filter_map(|word| word.first_chunk().map(|word| u16::from_ne_bytes(*word)))
            .collect()
    };
    let pairs = words(old).into_iter().zip(words(new));
    pairs.fold(0, |sum, (old, new)| sum + u32::from(!old) + u32::from(new))
}

fn program(ipv4: BorrowedFd<'_>, ipv6: BorrowedFd<'_>) -> Result<Vec<Instruction>, ProgramsError> {
    let mut all = Assembly::default();
    begin(&mut all);
    forward(&mut all, Header::Ipv4, ipv4);
    forward(&mut all, Header::Ipv6, ipv6);
    all.place(PASS);
    all.finish()
}

/// Forwards a packet of one family.
fn forward(all: &mut Assembly, header: Header, flows: BorrowedFd<'_>) {
    let number = header.number();
    let next = ("next family", number);
    let (udp, done) = (("udp", number), ("done", number));
    require(all, header, next);
    all.load(Width::Byte, 1, PACKET, header.hops())
        .go_if(code::IF_AT_MOST, 1, 1, PASS);
    look_up(all, header, flows);
    all.go_if(code::IF, 0, 0, PASS)
        .registers(code::MOVE, FOUND, 0);

    // Hops, addresses, ports and checksums.
    all.load(Width::Byte, 1, PACKET, header.hops())
        .value(code::ADD_VALUE, 1, -1)
        .store(Width::Byte, PACKET, header.hops(), 1);
    if let Some(at) = header.checksum() {
        correct(all, at, HEADER_CHANGE);
    }
    all.load(Width::Byte, 1, PACKET, header.next())
        .go_if(code::UNLESS, 1, TCP, udp)
        .registers(code::MOVE, 1, PACKET)
        .value(code::ADD_VALUE, 1, i32::from(header.payload() + TCP_LENGTH))
        .go_if_greater(1, END, PASS);
    correct(all, header.payload() + TCP_CHECKSUM, PAYLOAD_CHANGE);
    all.go(done).place(udp);
    let at = header.payload() + UDP_CHECKSUM;
    all.load(Width::Half, 1, PACKET, at)
        .go_if(code::IF, 1, 0, done);
    correct(all, at, PAYLOAD_CHANGE);
    all.place(done);
    for word in 0..header.address() / 4 {
        all.load(Width::Word, 1, FOUND, SOURCE + 4 * word).store(
            Width::Word,
            PACKET,
            header.source() + 4 * word,
            1,
        );
    }
    all.load(Width::Half, 1, FOUND, SOURCE_PORT)
        .store(Width::Half, PACKET, header.payload(), 1);

    // Hardware addresses, and out.
    for (width, at) in [
        (Width::Word, 0),
        (Width::Half, 4),
        (Width::Word, SENDER),
        (Width::Half, SENDER + 4),
    ] {
        all.load(width, 1, FOUND, HARDWARE + at)
            .store(width, PACKET, at, 1);
    }
    all.load(Width::Word, 1, FOUND, INTERFACE)
        .value(code::SET, 2, 0)
        .call(REDIRECT)
        .exit()
        .place(next);
}

/// Changes a checksum by what a value says.
fn correct(all: &mut Assembly, at: i16, change: i16) {
    all.load(Width::Half, 1, PACKET, at)
        .value(code::XOR_VALUE, 1, 0xffff)
        .load(Width::Word, 2, FOUND, change)
        .registers(code::ADD, 1, 2);
    for _ in 0..2 {
        all.registers(code::MOVE, 2, 1)
            .value(code::SHIFT_RIGHT, 2, 16)
            .value(code::AND_VALUE, 1, 0xffff)
            .registers(code::ADD, 1, 2);
    }
    all.value(code::XOR_VALUE, 1, 0xffff)
        .store(Width::Half, PACKET, at, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum that a checksum is the complement of, folded.
    fn folded(mut sum: u32) -> u32 {
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }

    #[test]
    fn a_change_leads_from_one_sum_to_the_other() {
        let sum = |bytes: &[u8]| change(&vec![0xff; bytes.len()], bytes);
        let (old, new) = ([198, 18, 0, 10], [198, 18, 11, 2]);
        assert_eq!(folded(sum(&old) + change(&old, &new)), folded(sum(&new)));
    }

    #[test]
    fn keys_and_values_have_the_length_of_their_tables() {
        for (client, source, address) in [
            ("198.18.0.10", "198.18.11.2", IPV4),
            ("fd00:18::10", "fd00:18:11::2", IPV6),
        ] {
            let client: IpAddr = client.parse().expect("an address");
            let source: IpAddr = source.parse().expect("an address");
            let ends = Ends {
                destination: client,
                ports: (1, 2),
            };
            let way = Way {
                interface: 1,
                from: [0; 6],
                to: [0; 6],
                source,
            };
            let key = key(client, ends, Protocol::Udp);
            assert_eq!(key.len(), key_length(address));
            assert_eq!(value(client, ends, way).len(), value_length(address));
        }
    }
}
