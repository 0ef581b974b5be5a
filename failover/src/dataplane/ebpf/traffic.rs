//! What the programs know of users' traffic: news as they come, and the state of an uplink for those
//! who ask.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{Array, MapData, MapError, RingBuf};
use bytemuck::checked::try_pod_read_unaligned;
use failover_common::{Family as LayoutFamily, Told, TrafficNews, UplinkLiveness, maps};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::warn;

use super::load::{LoadError, Programs};
use super::pins::Pins;
use crate::causes::in_one_line;
use crate::dataplane::{TrafficReport, TrafficSource};
use crate::family::Family;
use crate::health::{Traffic, Unanswered};
use crate::monotonic::now_ns;
use crate::probe::{Answered, Witness};
use crate::sys;
use crate::uplink::UplinkId;

/// News that wait for the daemon. Where there are more, the programs tell the same again soon.
const NEWS: usize = 256;

/// Why users' traffic tells nothing.
#[derive(Debug, Error)]
pub enum TrafficError {
    /// The object lacks a map.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map cannot be used.
    #[error("cannot use the eBPF map {map}")]
    Map {
        /// The map.
        map: &'static str,
        /// Why.
        source: MapError,
    },
    /// Nobody says when there are news.
    #[error("cannot wait for news of users' traffic")]
    Wait(#[source] io::Error),
}

impl Programs {
    /// Begins to pass on what the programs tell of users' traffic.
    fn follow_traffic(&mut self) -> Result<mpsc::Receiver<TrafficReport>, TrafficError> {
        let map = maps::TRAFFIC_NEWS;
        let taken = self.ebpf.take_map(map).ok_or_else(|| LoadError::Missing {
            name: format!("map {map}"),
        })?;
        let mut ring =
            RingBuf::try_from(taken).map_err(|source| TrafficError::Map { map, source })?;
        let filled = ring
            .as_fd()
            .try_clone_to_owned()
            .and_then(sys::register)
            .map_err(TrafficError::Wait)?;
        let (news_in, news) = mpsc::channel(NEWS);
        tokio::spawn(async move {
            while let Ok(mut ready) = filled.readable().await {
                while let Some(bytes) = ring.next() {
                    if let Some(report) = report(&bytes) {
                        // What is not taken is told again.
                        let _told = news_in.try_send(report);
                    }
                }
                ready.clear_ready();
            }
            warn!("nobody says any more when users' traffic is not answered");
            // A program that is loaded later needs the ring still.
            std::future::pending::<()>().await;
            drop(ring);
        });
        Ok(news)
    }
}

fn report(bytes: &[u8]) -> Option<TrafficReport> {
    let news: TrafficNews = try_pod_read_unaligned(bytes).ok()?;
    let now_ns = now_ns();
    let at = |ns| Instant::now().checked_sub(age(now_ns, ns));
    Some(TrafficReport {
        uplink: UplinkId::try_from(news.uplink).ok()?,
        family: match news.family {
            LayoutFamily::Ipv4 => Family::Ipv4,
            LayoutFamily::Ipv6 => Family::Ipv6,
        },
        news: match news.told {
            Told::Silent => Traffic::Unanswered(Unanswered {
                since: at(news.asked_ns)?,
                hosts: news.asked.count_ones(),
                packets: news.questions,
            }),
            Told::Answered => Traffic::Answered {
                at: at(news.at_ns)?,
                hosts: 1,
            },
        },
    })
}

const fn age(now_ns: u64, then_ns: u64) -> Duration {
    Duration::from_nanos(now_ns.saturating_sub(then_ns))
}

/// Who tells of users' traffic. Where that fails it is logged, and nobody does.
pub(super) fn source(programs: &mut Programs, pins: &Pins) -> TrafficSource {
    let opened = Liveness::open(pins).and_then(|witness| {
        Ok(TrafficSource {
            news: programs.follow_traffic()?,
            witness: Some(Arc::new(witness)),
        })
    });
    opened.unwrap_or_else(|error| {
        let reason = in_one_line(&error);
        warn!(
            reason,
            "uplinks are judged by probes alone: users' traffic tells nothing"
        );
        TrafficSource::none()
    })
}

/// The pinned map that says when users were answered.
struct Liveness {
    map: Array<MapData, [u8; size_of::<UplinkLiveness>()]>,
}

impl fmt::Debug for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Liveness").finish_non_exhaustive()
    }
}

impl Liveness {
    fn open(pins: &Pins) -> Result<Self, TrafficError> {
        let map = maps::LIVENESS;
        let failed = |source| TrafficError::Map { map, source };
        let pinned = MapData::from_pin(pins.map(map))
            .and_then(aya::maps::Map::from_map_data)
            .map_err(failed)?;
        Array::try_from(pinned)
            .map(|map| Self { map })
            .map_err(failed)
    }
}

impl Witness for Liveness {
    fn answered(&self, uplink: UplinkId, family: Family) -> Option<Answered> {
        let bytes = self.map.get(&uplink.get().into(), 0).ok()?;
        let both: UplinkLiveness = try_pod_read_unaligned(&bytes).ok()?;
        let line = match family {
            Family::Ipv4 => both.ipv4,
            Family::Ipv6 => both.ipv6,
        };
        // Never since the host was started.
        if line.answered_ns == 0 {
            return None;
        }
        Some(Answered {
            age: age(now_ns(), line.answered_ns),
            hosts: (line.answering | line.answered).count_ones(),
        })
    }
}
