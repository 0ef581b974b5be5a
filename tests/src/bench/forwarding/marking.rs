//! The least that a TC program must do to steer a packet and leave all else to the kernel: look its flow
//! up, and set its mark, by which a rule finds the routing table. A flow that is not in the table gets
//! its uplink by its ports and is put there. Nothing is kept in connection tracking, nobody looks
//! whether the uplink works, and no user's rule is asked: the limit for steering without a fast path.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use failover::family::Family;

use super::look_up::{CONTEXT, IPV4, IPV6, PACKET, PASS, STACK, begin, key_at, key_length};
use super::look_up::{look_up, require};
use super::offsets::{Header, MARK};
use super::{USUAL_UPLINKS, attached};
use crate::node::Node;
use crate::programs::{Assembled, Assembly, Instruction, ProgramsError, Width, code, failed};
use crate::sys::bpf::{self, MapKind};

/// The helper `bpf_map_update_elem`.
const UPDATE: i32 = 2;
/// A value: the mark.
const VALUE: u32 = 4;

/// The program on one interface. It is gone with this.
pub(super) struct Marking {
    _program: Assembled,
}

impl Marking {
    /// Puts it on the packets that come in by an interface of a node, with room for so many flows of
    /// each family.
    pub(super) async fn on(
        node: &Node,
        interface: &str,
        bpffs: &Path,
        room: u32,
    ) -> Result<Self, ProgramsError> {
        let table = |family| {
            let address = match family {
                Family::Ipv4 => IPV4,
                Family::Ipv6 => IPV6,
            };
            let key = u32::try_from(key_length(address)).unwrap_or_default();
            bpf::map(MapKind::LeastRecentlyUsed, key, VALUE, room).map_err(failed("make a map"))
        };
        let (ipv4, ipv6) = (table(Family::Ipv4)?, table(Family::Ipv6)?);
        let instructions = program(ipv4.as_fd(), ipv6.as_fd())?;
        let program = Assembled::new(bpffs, &instructions, vec![ipv4, ipv6])?;
        let program = attached(node, interface, program, "that marks").await?;
        Ok(Self { _program: program })
    }
}

fn program(ipv4: BorrowedFd<'_>, ipv6: BorrowedFd<'_>) -> Result<Vec<Instruction>, ProgramsError> {
    let mut all = Assembly::default();
    begin(&mut all);
    steer(&mut all, Header::Ipv4, ipv4);
    steer(&mut all, Header::Ipv6, ipv6);
    all.place(PASS);
    all.finish()
}

/// Marks a packet of one family.
fn steer(all: &mut Assembly, header: Header, flows: BorrowedFd<'_>) {
    let number = header.number();
    let (next, unknown) = (("next family", number), ("unknown", number));
    require(all, header, next);
    look_up(all, header, flows);
    all.go_if(code::IF, 0, 0, unknown)
        .load(Width::Word, 1, 0, 0)
        .store(Width::Word, CONTEXT, MARK, 1)
        .go(PASS);

    // By both ports one of the uplinks, whose marks count from 1.
    let value = key_at(header) - 4;
    all.place(unknown)
        .load(Width::Half, 1, PACKET, header.payload())
        .load(Width::Half, 2, PACKET, header.payload() + 2)
        .registers(code::ADD, 1, 2)
        .value(code::MODULO_VALUE, 1, USUAL_UPLINKS.into())
        .value(code::ADD_VALUE, 1, 1)
        .store(Width::Word, CONTEXT, MARK, 1)
        .store(Width::Word, STACK, value, 1)
        .map(1, flows)
        .registers(code::MOVE, 2, STACK)
        .value(code::ADD_VALUE, 2, key_at(header).into())
        .registers(code::MOVE, 3, STACK)
        .value(code::ADD_VALUE, 3, value.into())
        .value(code::SET, 4, 0)
        .call(UPDATE)
        .go(PASS)
        .place(next);
}
