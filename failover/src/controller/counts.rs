//! What only the kernel counts, for the status document: flows by uplink, the flow table, and the
//! interfaces' traffic. By sockets and threads of its own, so that the daemon's loop does not wait
//! for it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use failover_common::UplinkConnections;
use jiff::Timestamp;
use tracing::warn;

use crate::causes::in_one_line;
use crate::controller::metering::Reader;
use crate::dataplane::ebpf::table::{FlowTable, TableError};
use crate::fastpath::access::Access;
use crate::fastpath::standing::{FastPathStatus, OfferCounts};
use crate::kernel::conntrack::count_by_uplink;
use crate::kernel::network::NetworkObserver;
use crate::mark::MarkMask;
use crate::meter::Meter;
use crate::status::{FlowTableStatus, StatusDocument};
use crate::uplink::UplinkId;

/// What is to be counted.
#[derive(Debug)]
pub(super) struct Counts {
    /// Which bits of connection marks are ours.
    pub(super) marks: MarkMask,
    /// Where the flow table is pinned, if there is one.
    pub(super) table: Option<PathBuf>,
    /// Who knows how the fast path stands.
    pub(super) fast_path: Access,
    /// What counts probes, and what is known of them.
    pub(super) probes: Option<(Reader, BTreeMap<UplinkId, Meter>)>,
}

impl Counts {
    /// Fills in flows, the flow table, the fast path and the interfaces' counters.
    pub(super) async fn fill_in(self, document: &mut StatusDocument) {
        let ids: Vec<UplinkId> = document.uplinks.iter().map(|uplink| uplink.id).collect();
        match count_by_uplink(&ids, self.marks).await {
            Ok(counts) => {
                for uplink in &mut document.uplinks {
                    uplink.flows = counts.get(&uplink.id).copied();
                }
            }
            Err(error) => warn!(%error, "cannot count flows"),
        }
        let mut offers = OfferCounts::default();
        if let Some(bpffs) = self.table {
            match tokio::task::spawn_blocking(move || count_table(&bpffs, &ids)).await {
                Ok(Ok((counted, offered, connections))) => {
                    document.flow_table = Some(counted);
                    offers = offered;
                    for uplink in &mut document.uplinks {
                        let found = connections.get(&uplink.id);
                        uplink.ipv4.connections = found.map(|found| found.ipv4.into());
                        uplink.ipv6.connections = found.map(|found| found.ipv6.into());
                    }
                }
                Ok(Err(error)) => {
                    warn!(error = %in_one_line(&error), "cannot count the flow table");
                }
                Err(error) => warn!(%error, "cannot count the flow table"),
            }
        }
        let fast_path = self.fast_path;
        match tokio::task::spawn_blocking(move || fast_path.status()).await {
            Ok(status) => {
                document.fastpath = FastPathStatus {
                    counted: offers,
                    ..status
                };
            }
            Err(error) => warn!(%error, "cannot ask how the fast path stands"),
        }
        if let Some((reader, mut meters)) = self.probes {
            match reader.read().await {
                Ok(counters) => {
                    let now = Timestamp::now();
                    for uplink in &mut document.uplinks {
                        uplink.probe_bytes_today = counters
                            .get(&uplink.id)
                            .zip(meters.get_mut(&uplink.id))
                            .and_then(|(counter, meter)| {
                                meter.read(*counter, None, now);
                                meter.bytes(now)
                            });
                    }
                }
                Err(error) => warn!(%error, "cannot count what probes took"),
            }
        }
        let links = match NetworkObserver::open() {
            Ok(mut observer) => observer.links().await,
            Err(error) => Err(error),
        };
        match links {
            Ok(links) => {
                for uplink in &mut document.uplinks {
                    if let Some(link) = links.get(&uplink.interface) {
                        uplink.count(&link.traffic);
                    }
                }
            }
            Err(error) => warn!(%error, "cannot read the interfaces' counters"),
        }
    }
}

/// What the pinned maps tell.
type Counted = (
    FlowTableStatus,
    OfferCounts,
    BTreeMap<UplinkId, UplinkConnections>,
);

fn count_table(bpffs: &Path, uplinks: &[UplinkId]) -> Result<Counted, TableError> {
    let table = FlowTable::open(bpffs)?;
    let totals = table.totals()?;
    let lives = table.lives()?;
    let mut live = 0;
    let walked = table.each(|key, flow| {
        live += u64::from(lives.lives(key, flow));
        ControlFlow::Continue(())
    })?;
    let capacity = table.capacity()?.into();
    let counted = FlowTableStatus {
        held_off: totals.held_off,
        ..FlowTableStatus::counted(capacity, totals.entered, walked.entries, live)
    };
    let offers = OfferCounts {
        offered: totals.offered,
        unheard: totals.unheard,
        returned: totals.returned,
    };
    Ok((counted, offers, table.connections(uplinks)?))
}
