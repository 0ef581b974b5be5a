//! The TC programs, packet by packet: what each kind of packet becomes, and what the maps hold
//! afterwards.
//!
//! Most tests give single packets to programs that are attached nowhere (`BPF_PROG_TEST_RUN`), in
//! the namespace of a gateway with uplinks, routes and neighbours. What cannot be set there, such as
//! VLAN tags beside the packet, comes over real interfaces with the programs attached ([`wire`]).
//!
//! `FAILOVER_BPF_OBJECT` names the object to test; without it, it is the embedded one.

mod alone;
mod answers;
mod budget;
mod capacity;
mod choosing;
mod counting;
mod errors;
mod extensions;
mod fastpath;
mod fragments;
mod frames;
mod gateway;
mod inbound;
mod keeping;
mod kinds;
mod lifetimes;
mod malformed;
mod marks;
mod mixed;
mod noise;
mod remembering;
mod routes;
mod rules;
mod tcp;
mod traffic;
#[path = "../trial/mod.rs"]
mod trial;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    trial::run(|| {
        [
            kinds::trials(),
            choosing::trials(),
            keeping::trials(),
            lifetimes::trials(),
            tcp::trials(),
            traffic::trials(),
            answers::trials(),
            inbound::trials(),
            marks::trials(),
            mixed::trials(),
            routes::trials(),
            rules::trials(),
            remembering::trials(),
            extensions::trials(),
            fragments::trials(),
            errors::trials(),
            alone::trials(),
            malformed::trials(),
            noise::trials(),
            counting::trials(),
            capacity::trials(),
            fastpath::trials(),
            budget::trials(),
            wire::trials(),
        ]
        .into_iter()
        .flatten()
        .collect()
    })
}
