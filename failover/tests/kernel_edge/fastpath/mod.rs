//! What the fast path asks of the kernel, compared with what `ip`, `conntrack` and `tc` say.

mod connections;
mod listening;
mod neighbours;
mod obstacles;
mod ways;
mod window;

use std::os::fd::AsFd;
use std::time::Instant;

use failover::fastpath::edge::Surroundings;
use failover::fastpath::facts::News;
use failover::kernel::surroundings::FastPathKernel;
use libtest_mimic::Trial;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::namespace::PATIENCE;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = connections::trials();
    trials.extend(window::trials());
    trials.extend(ways::trials());
    trials.extend(neighbours::trials());
    trials.extend(obstacles::trials());
    trials.extend(listening::trials());
    trials
}

fn kernel() -> FastPathKernel {
    FastPathKernel::open().unwrap()
}

/// Waits for news until some are as wanted; returns all up to then.
fn news_until(kernel: &mut FastPathKernel, wanted: impl Fn(&[News]) -> bool) -> Vec<News> {
    let deadline = Instant::now() + PATIENCE;
    let mut all = kernel.news();
    while !wanted(&all) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "only this was told: {all:?}");
        let descriptors = kernel.descriptors();
        let mut descriptors: Vec<_> = descriptors
            .iter()
            .map(|descriptor| PollFd::new(descriptor.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut descriptors, PollTimeout::try_from(left).unwrap()).unwrap();
        all.extend(kernel.news());
    }
    all
}
