//! The edge to the kernel against a real one: what we write is compared with what `ip`, `nft` and
//! `conntrack` print, and what they change must be noticed. What we read from maps is compared with
//! what was written into them.
//!
//! Each test makes a network namespace without a name for itself and is the only one in it, so that
//! nothing stays behind, whatever happens. Needs root, those three programs and `bpftool`; without them the
//! tests fail and say so.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and what it measured is for people"
)]

mod conntrack;
mod fastpath;
mod firewall;
mod flow_table;
mod namespace;
mod neighbours;
mod observing;
mod own_traffic;
mod routing;
mod settings;
mod watching;

use libtest_mimic::{Arguments, Trial};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(own_traffic::trials());
    trials.extend(routing::trials());
    trials.extend(observing::trials());
    trials.extend(watching::trials());
    trials.extend(neighbours::trials());
    trials.extend(firewall::trials());
    trials.extend(conntrack::trials());
    trials.extend(settings::trials());
    trials.extend(flow_table::trials());
    trials.extend(fastpath::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
