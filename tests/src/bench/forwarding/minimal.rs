//! The least that a TC program must do to forward a packet of a known flow: look it up, change its
//! addresses and ports, its checksums and hops, and send it out. Nobody fills or empties its table but
//! the benchmark, so this is the limit for all fast paths of this kind.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use failover::family::Family;

use super::frames::{Ends, Flows};
use super::offsets::{
    DATA, DATA_END, Header, PROTOCOL, SENDER, TCP, TCP_CHECKSUM, TCP_LENGTH, UDP, UDP_CHECKSUM,
    UDP_LENGTH,
};
use super::{Protocol, pinned_map};
use crate::node::Node;
use crate::programs::{
    Assembled, Assembly, Direction, Instruction, ProgramsError, Width, attach, code,
};
use crate::sys::bpf::MapKind;

/// The helpers `bpf_map_lookup_elem` and `bpf_redirect`.
const LOOK_UP: i32 = 1;
const REDIRECT: i32 = 23;

/// A key: both addresses, both ports, the protocol. An IPv4 address is followed by zeros.
const KEY: usize = 40;
/// What is in a value, and where.
const INTERFACE: i16 = 0;
const HEADER_CHANGE: i16 = 4;
const PAYLOAD_CHANGE: i16 = 8;
const SOURCE_PORT: i16 = 12;
const SOURCE: i16 = 16;
const HARDWARE: i16 = 32;
const VALUE: usize = 48;

const CONTEXT: u8 = 6;
const PACKET: u8 = 7;
const END: u8 = 8;
const FOUND: u8 = 9;
const STACK: u8 = 10;

/// The end of the program, where the packet passes.
const PASS: (&str, u8) = ("pass", 0);

/// Where translated packets go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) interface: u32,
    pub(super) from: [u8; 6],
    pub(super) to: [u8; 6],
    /// The address that they have then.
    pub(super) source: IpAddr,
}

/// The program on one interface, with its table. It is gone with this.
pub(super) struct Minimal {
    flows: HashMap<MapData, [u8; KEY], [u8; VALUE]>,
    _program: Assembled,
}

impl Minimal {
    /// Puts it on the packets that come in by an interface of a node, with room for so many flows.
    pub(super) async fn on(
        node: &Node,
        interface: &str,
        bpffs: &Path,
        room: u32,
    ) -> Result<Self, ProgramsError> {
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or_default();
        let (descriptor, map) = pinned_map(bpffs, MapKind::Hash, size(KEY), size(VALUE), room)?;
        let flows = HashMap::try_from(Map::HashMap(map)).map_err(failed)?;
        let instructions = program(descriptor.as_fd())?;
        let maps: Vec<OwnedFd> = vec![descriptor];
        let mut program = Assembled::new(bpffs, &instructions, maps)?;
        let name = interface.to_owned();
        let attached = node.run(move || async move {
            attach(program.program_mut(), &name, Direction::Ingress).map(|()| program)
        });
        let program = attached.await?.map_err(|source| ProgramsError::Program {
            name: "that translates".to_owned(),
            source,
        })?;
        Ok(Self {
            flows,
            _program: program,
        })
    }

    /// Has it know these flows and no others.
    pub(super) fn know(
        &mut self,
        flows: Flows,
        client: IpAddr,
        ways: &[Way],
    ) -> Result<(), ProgramsError> {
        let keys: Vec<[u8; KEY]> = self
            .flows
            .keys()
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        for key in keys {
            self.flows.remove(&key).map_err(failed)?;
        }
        for (ends, way) in flows.ends().zip(ways.iter().cycle()) {
            let key = key(client, ends, flows.protocol);
            let value = value(client, ends, *way, flows.family);
            self.flows.insert(key, value, 0).map_err(failed)?;
        }
        Ok(())
    }
}

fn failed(source: MapError) -> ProgramsError {
    ProgramsError::Map {
        name: "of the minimal program".to_owned(),
        source,
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn key(client: IpAddr, ends: Ends, protocol: Protocol) -> [u8; KEY] {
    let mut key = [0; KEY];
    let (from, to) = ends.ports;
    let number = match protocol {
        Protocol::Udp => UDP,
        Protocol::Tcp => TCP,
    };
    key[..16].copy_from_slice(&octets(client));
    key[16..32].copy_from_slice(&octets(ends.destination));
    key[32..34].copy_from_slice(&from.to_be_bytes());
    key[34..36].copy_from_slice(&to.to_be_bytes());
    key[36..].copy_from_slice(&number.to_ne_bytes());
    key
}

fn value(client: IpAddr, ends: Ends, way: Way, family: Family) -> [u8; VALUE] {
    let (old, new) = (octets(client), octets(way.source));
    let address = change(&old, &new);
    // Ports stay, as they do with a translation that finds them free.
    let header = match family {
        // One hop less, in the byte before the protocol.
        Family::Ipv4 => address + change(&[64, 0], &[63, 0]),
        Family::Ipv6 => 0,
    };
    let mut value = [0; VALUE];
    value[..4].copy_from_slice(&way.interface.to_ne_bytes());
    value[4..8].copy_from_slice(&header.to_ne_bytes());
    value[8..12].copy_from_slice(&address.to_ne_bytes());
    value[12..14].copy_from_slice(&ends.ports.0.to_be_bytes());
    value[16..32].copy_from_slice(&new);
    value[32..38].copy_from_slice(&way.to);
    value[38..44].copy_from_slice(&way.from);
    value
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

fn program(flows: BorrowedFd<'_>) -> Result<Vec<Instruction>, ProgramsError> {
    let mut all = Assembly::default();
    all.registers(code::MOVE, CONTEXT, 1)
        .load(Width::Word, PACKET, CONTEXT, DATA)
        .load(Width::Word, END, CONTEXT, DATA_END);
    for header in [Header::Ipv4, Header::Ipv6] {
        forward(&mut all, header, flows);
    }
    all.place(PASS);
    all.finish()
}

/// Forwards a packet of one family.
fn forward(all: &mut Assembly, header: Header, flows: BorrowedFd<'_>) {
    let number = header.number();
    let next = ("next family", number);
    let (udp, done) = (("udp", number), ("done", number));
    all.registers(code::MOVE, 1, PACKET)
        .value(code::ADD_VALUE, 1, i32::from(header.payload() + UDP_LENGTH))
        .go_if_greater(1, END, PASS)
        .load(Width::Half, 1, PACKET, PROTOCOL)
        .go_if(code::UNLESS, 1, header.protocol(), next)
        .load(Width::Byte, 1, PACKET, header.hops())
        .go_if(code::IF_AT_MOST, 1, 1, PASS);

    // The key, on the stack.
    let bottom = -i16::try_from(KEY).unwrap_or_default();
    all.value(code::SET, 3, 0);
    for word in 0..4 {
        for (at, from) in [(0, header.source()), (16, header.destination())] {
            let to = bottom + at + 4 * word;
            if 4 * word < header.address() {
                all.load(Width::Word, 1, PACKET, from + 4 * word)
                    .store(Width::Word, STACK, to, 1);
            } else {
                all.store(Width::Word, STACK, to, 3);
            }
        }
    }
    all.load(Width::Word, 1, PACKET, header.payload())
        .store(Width::Word, STACK, bottom + 32, 1)
        .load(Width::Byte, 1, PACKET, header.next())
        .store(Width::Word, STACK, bottom + 36, 1)
        .map(1, flows)
        .registers(code::MOVE, 2, STACK)
        .value(code::ADD_VALUE, 2, bottom.into())
        .call(LOOK_UP)
        .go_if(code::IF, 0, 0, PASS)
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
