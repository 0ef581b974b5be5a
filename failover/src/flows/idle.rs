//! How long a tracked flow has been silent. Connection tracking does not say, but it says how long
//! the flow will live, and each packet sets that to the timeout of the flow's state.

use std::collections::BTreeMap;
use std::time::Duration;

use failover_common::lifetime::protocol;

use crate::flows::Protocol;

/// Where the timeouts are, under `/proc/sys`.
const FOLDER: &str = "net/netfilter/nf_conntrack_";
const UDP: &str = "udp_timeout";
const UDP_STREAM: &str = "udp_timeout_stream";
const ICMP: &str = "icmp_timeout";
const ICMPV6: &str = "icmpv6_timeout";
/// By `enum tcp_conntrack` (`include/uapi/linux/netfilter/nf_conntrack_tcp.h`), from 1 on.
const TCP: [&str; 8] = [
    "tcp_timeout_syn_sent",
    "tcp_timeout_syn_recv",
    "tcp_timeout_established",
    "tcp_timeout_fin_wait",
    "tcp_timeout_close_wait",
    "tcp_timeout_last_ack",
    "tcp_timeout_time_wait",
    "tcp_timeout_close",
];
/// Those that hold instead, where they are shorter, for a connection that waits for an answer.
const TCP_WAITING: [&str; 2] = ["tcp_timeout_max_retrans", "tcp_timeout_unacknowledged"];

/// The timeouts that the kernel has now. By default none is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts(BTreeMap<&'static str, Duration>);

/// What tells how long a flow has been silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// What it speaks.
    pub(super) protocol: Protocol,
    /// For TCP, `enum tcp_conntrack`.
    pub(super) tcp_state: Option<u8>,
    /// It has lasted.
    pub(super) assured: bool,
    /// How long it lives without another packet, in whole seconds, rounded down.
    pub(super) remaining: Option<Duration>,
}

impl Timeouts {
    /// Asks `read` for each kernel setting, which is a number of seconds; what it does not know is
    /// left out.
    pub fn read(mut read: impl FnMut(&str) -> Option<String>) -> Self {
        let names = [UDP, UDP_STREAM, ICMP, ICMPV6]
            .into_iter()
            .chain(TCP)
            .chain(TCP_WAITING);
        Self(
            names
                .filter_map(|name| {
                    let seconds = read(&format!("{FOLDER}{name}"))?.trim().parse().ok()?;
                    Some((name, Duration::from_secs(seconds)))
                })
                .collect(),
        )
    }

    /// How long a flow has been silent, in whole seconds, rounded down. `None` where that cannot be
    /// told: for protocols with timeouts of their own, and where another timeout may be in force
    /// than that of the flow's state, or was when its last packet came.
    pub(super) fn idle(&self, silence: &Silence) -> Option<Duration> {
        let timeout = self.timeout(silence)?;
        let remaining = silence.remaining?;
        let shorter = TCP_WAITING
            .iter()
            .filter(|_| silence.protocol.0 == protocol::TCP)
            .filter_map(|name| self.0.get(name).copied())
            .filter(|waiting| *waiting < timeout)
            .max();
        if shorter.is_some_and(|waiting| remaining <= waiting) {
            return None;
        }
        // The rest is rounded down, so the silence would be rounded up.
        timeout
            .checked_sub(remaining)
            .map(|silent| silent.saturating_sub(Duration::from_secs(1)))
    }

    fn timeout(&self, silence: &Silence) -> Option<Duration> {
        let name = match silence.protocol.0 {
            protocol::TCP => {
                let state = usize::from(silence.tcp_state?).checked_sub(1)?;
                TCP.get(state).copied()?
            }
            // The longer one holds from the moment at which the flow is assured.
            protocol::UDP | protocol::UDPLITE if silence.assured => UDP_STREAM,
            protocol::UDP | protocol::UDPLITE => UDP,
            protocol::ICMP => ICMP,
            protocol::ICMPV6 => ICMPV6,
            _ => return None,
        };
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's defaults.
    fn timeouts() -> Timeouts {
        Timeouts::read(|key| {
            let seconds = match key.strip_prefix("net/netfilter/nf_conntrack_")? {
                "udp_timeout" | "icmp_timeout" | "icmpv6_timeout" => 30,
                "udp_timeout_stream" | "tcp_timeout_fin_wait" | "tcp_timeout_syn_sent" => 120,
                "tcp_timeout_established" => 432_000,
                "tcp_timeout_close" => 10,
                "tcp_timeout_max_retrans" | "tcp_timeout_unacknowledged" => 300,
                _ => return None,
            };
            Some(format!("{seconds}\n"))
        })
    }

    fn idle(protocol: u8, tcp_state: Option<u8>, assured: bool, remaining: u64) -> Option<u64> {
        let silence = Silence {
            protocol: Protocol(protocol),
            tcp_state,
            assured,
            remaining: Some(Duration::from_secs(remaining)),
        };
        timeouts().idle(&silence).map(|idle| idle.as_secs())
    }

    #[test]
    fn silence_is_what_is_gone_of_the_timeout() {
        assert_eq!(idle(17, None, false, 29), Some(0));
        assert_eq!(idle(17, None, false, 20), Some(9));
        assert_eq!(idle(17, None, true, 20), Some(99));
        assert_eq!(idle(1, None, false, 0), Some(29));
        assert_eq!(idle(58, None, false, 15), Some(14));
        assert_eq!(idle(6, Some(1), false, 100), Some(19));
        assert_eq!(idle(6, Some(3), true, 431_000), Some(999));
        assert_eq!(idle(6, Some(4), true, 110), Some(9));
    }

    #[test]
    fn what_cannot_be_told_is_not() {
        // A timeout that somebody has changed meanwhile, or set for this flow alone.
        assert_eq!(idle(17, None, false, 31), None);
        // A connection that waits for an answer lives for 300 s at most, whenever that began.
        assert_eq!(idle(6, Some(3), true, 290), None);
        assert_eq!(idle(6, Some(3), true, 300), None);
        // A state without a timeout of its own, and one that could not be read.
        assert_eq!(idle(6, Some(9), false, 100), None);
        assert_eq!(idle(6, Some(5), false, 10), None);
        assert_eq!(idle(6, None, false, 10), None);
        assert_eq!(idle(47, None, true, 100), None);
    }
}
