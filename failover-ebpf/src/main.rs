//! The TC programs: they choose the uplink of each flow and keep it there.
//!
//! | program | hangs on | does |
//! | --- | --- | --- |
//! | `fo_lan_in` | ingress of a downlink | gives a packet the uplink of its flow, by mark ([`lan_in`]), and notes what wants an answer ([`traffic`]) |
//! | `fo_lan_out` | egress of a downlink | learns by which uplink flows come back ([`lan_out`]), and notes that they do ([`traffic`]) |
//! | `fo_wan_in` | ingress of an uplink | counts, and passes on what belongs to the fast path ([`wan_in`]) |
//! | `fo_arm_in`, `fo_arm_out` | an interface that is uplink and downlink at once | one of these, by the packet's hardware address ([`arm`]) |
//!
//! The first three are there twice: for interfaces whose packets begin with an Ethernet header, and,
//! with `_l3` behind its name, for those whose packets begin with the IP header.
//!
//! Packets of established flows that the daemon has put on the fast path are translated and sent out by
//! these programs themselves ([`offload`]); what is not plain among them goes to the stack. Otherwise a
//! program changes nothing of a packet but our bits of its mark, and it never drops one. Nothing it
//! keeps is needed: without its flow, a packet is picked anew and marked as "ask", and the own
//! nftables table lets the connection mark decide.
#![no_std]
#![no_main]
// For one instruction that the compiler does not make by itself for this target.
#![feature(asm_experimental_arch)]

mod address;
mod arm;
mod direction;
mod flow;
mod headers;
mod internet;
mod lan_in;
mod lan_out;
mod log;
mod maps;
mod mark;
mod offer;
mod offload;
mod packet;
mod pick;
mod plain;
mod remembered;
mod rules;
mod segment;
mod send;
mod traffic;
mod wan_in;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::packet::{ETHERNET_HEADER, NO_HEADER, Packet};

/// The next program or filter sees the packet too: `TC_ACT_UNSPEC`, which is `TCX_NEXT`
/// (include/uapi/linux/bpf.h). `TC_ACT_OK` would hide it from programs of others.
const PASS_ON: i32 = -1;

/// The packet was sent out by the program (include/uapi/linux/pkt_cls.h).
const TC_ACT_REDIRECT: i32 = 7;

/// From users, with an Ethernet header.
#[classifier]
fn fo_lan_in(context: TcContext) -> i32 {
    lan_in::handle::<_, false>(&Packet::<ETHERNET_HEADER>::arriving(&context))
}

/// From users, without a header below IP.
#[classifier]
fn fo_lan_in_l3(context: TcContext) -> i32 {
    lan_in::handle::<_, false>(&Packet::<NO_HEADER>::arriving(&context))
}

/// To users, with an Ethernet header.
#[classifier]
fn fo_lan_out(context: TcContext) -> i32 {
    lan_out::handle(&Packet::<ETHERNET_HEADER>::new(&context));
    PASS_ON
}

/// To users, without a header below IP.
#[classifier]
fn fo_lan_out_l3(context: TcContext) -> i32 {
    lan_out::handle(&Packet::<NO_HEADER>::new(&context));
    PASS_ON
}

/// From a provider, with an Ethernet header.
#[classifier]
fn fo_wan_in(context: TcContext) -> i32 {
    wan_in::handle(&Packet::<ETHERNET_HEADER>::arriving(&context))
}

/// From a provider, without a header below IP.
#[classifier]
fn fo_wan_in_l3(context: TcContext) -> i32 {
    wan_in::handle(&Packet::<NO_HEADER>::arriving(&context))
}

/// From users or a provider.
#[classifier]
fn fo_arm_in(context: TcContext) -> i32 {
    arm::handle_in(&Packet::<ETHERNET_HEADER>::arriving(&context))
}

/// To users or a provider.
#[classifier]
fn fo_arm_out(context: TcContext) -> i32 {
    arm::handle_out(&Packet::<ETHERNET_HEADER>::new(&context));
    PASS_ON
}

/// The kernel looks for the letters `GPL` here before it lets a program call helpers that are for
/// GPL programs only (`license_is_gpl_compatible`, include/linux/license.h).
// SAFETY: the section is the one that loaders read the licence from, and holds this text alone.
#[unsafe(link_section = "license")]
// SAFETY: no other symbol of this name is linked.
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
