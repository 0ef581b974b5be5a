//! What only the kernel counts, for the status document: flows by uplink, and the interfaces'
//! traffic. By sockets of its own, so that the daemon's loop does not wait for it.

use tracing::warn;

use crate::kernel::conntrack::count_by_uplink;
use crate::kernel::network::NetworkObserver;
use crate::mark::MarkMask;
use crate::status::StatusDocument;
use crate::uplink::UplinkId;

/// Fills in flows and the interfaces' counters.
pub(super) async fn fill_in(document: &mut StatusDocument, marks: MarkMask) {
    let ids: Vec<UplinkId> = document.uplinks.iter().map(|uplink| uplink.id).collect();
    match count_by_uplink(&ids, marks).await {
        Ok(counts) => {
            for uplink in &mut document.uplinks {
                uplink.flows = counts.get(&uplink.id).copied();
            }
        }
        Err(error) => warn!(%error, "cannot count flows"),
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
