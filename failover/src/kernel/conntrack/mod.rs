//! Connection tracking entries, over ctnetlink.
//!
//! Everything runs on a thread of its own: the kernel walks its whole table within one system call,
//! and the daemon has other things to notice meanwhile. `CTA_FILTER` is never used: with IPv6
//! addresses the kernel's comparison is inverted, and everyone else's entries are deleted.

pub(super) mod asking;
mod leaving;
pub(super) mod message;
mod session;
pub(super) mod tracked;

pub use asking::{FirstPacket, entry_of};

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use thiserror::Error;
use tracing::warn;

use self::message::Entry;
use self::session::{Session, Verdict};
use super::former_address::FormerAddress;
use super::{Conntrack, Forgotten};
use crate::family::Family;
use crate::flows::{Leaving, Protocol, TrackedFlow};
use crate::mark::{Mark, MarkMask};
use crate::uplink::UplinkId;

/// The table of the network namespace in which it was opened.
#[derive(Clone)]
pub struct Ctnetlink {
    session: Arc<Mutex<Session>>,
}

impl fmt::Debug for Ctnetlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctnetlink").finish_non_exhaustive()
    }
}

/// Why entries could not be read or changed.
#[derive(Debug, Error)]
pub enum ConntrackError {
    /// There is no socket.
    #[error("cannot open a netlink socket for connection tracking: {0}")]
    Open(#[source] io::Error),
    /// The mark is nobody's: the entries of everyone who uses no uplink have it.
    #[error("{mark} says nothing under {mask}: deleting such entries would delete those of others")]
    Nobody {
        /// The mark.
        mark: Mark,
        /// The mask.
        mask: MarkMask,
    },
    /// The kernel refused.
    #[error("cannot {what} in the connection tracking table: {source}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The runtime is ending.
    #[error("cannot {what} in the connection tracking table: the daemon is ending")]
    Ending {
        /// What was tried.
        what: &'static str,
    },
}

impl Ctnetlink {
    /// Opens its sockets.
    ///
    /// # Errors
    /// When the kernel gives none, as without `CAP_NET_ADMIN` or without `nf_conntrack_netlink`.
    pub fn open() -> Result<Self, ConntrackError> {
        let session = Session::open().map_err(ConntrackError::Open)?;
        Ok(Self {
            session: Arc::new(Mutex::new(session)),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Session) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ConntrackError> {
        let session = Arc::clone(&self.session);
        let done = tokio::task::spawn_blocking(move || {
            // A session holds no state that a panic could leave half changed.
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut session)
        });
        match done.await {
            Ok(result) => result.map_err(|source| ConntrackError::Refused { what, source }),
            Err(_) => Err(ConntrackError::Ending { what }),
        }
    }
}

/// Counts the entries of some uplinks in one pass, by sockets of its own: what waits to be deleted
/// is not to wait for it.
///
/// # Errors
/// When the kernel refuses.
pub async fn count_by_uplink(
    uplinks: &[UplinkId],
    mask: MarkMask,
) -> Result<BTreeMap<UplinkId, u64>, ConntrackError> {
    let conntrack = Ctnetlink::open()?;
    let mut counts: BTreeMap<Mark, (UplinkId, u64)> = uplinks
        .iter()
        .map(|id| (mask.flow(*id), (*id, 0)))
        .collect();
    let counts = conntrack
        .blocking("count the uplinks' entries", move |session| {
            session.each(NetfilterProtoFamily::Unspec, Vec::new(), |entry| {
                if let Some((_, count)) = counts.get_mut(&Mark(entry.mark().0 & mask.bits())) {
                    *count += 1;
                }
                Verdict::Leave
            })?;
            Ok(counts)
        })
        .await?;
    Ok(counts.into_values().collect())
}

/// Goes through the entries that have bits of the mask, or only those of one mark under it, until
/// `take` breaks. Blocks while the kernel lists, and while `take` takes its time. Entries that come
/// or go meanwhile may be left out.
///
/// # Errors
/// When the kernel refuses.
pub fn each_marked(
    mark: Option<Mark>,
    mask: MarkMask,
    mut take: impl FnMut(&TrackedFlow) -> ControlFlow<()>,
) -> Result<(), ConntrackError> {
    let mut session = Session::open().map_err(ConntrackError::Open)?;
    // What is nobody's is left out by the kernel only if one mark is asked for.
    let filter = mark.map_or_else(Vec::new, |mark| message::mark(mark, mask));
    let listed = session.each(NetfilterProtoFamily::Unspec, filter, |entry| {
        let ours = entry.mark().0 & mask.bits();
        if ours == 0 || mark.is_some_and(|mark| mark.0 != ours) {
            return Verdict::Leave;
        }
        match tracked::read(entry).map(|flow| take(&flow)) {
            Some(ControlFlow::Break(())) => Verdict::Stop,
            Some(ControlFlow::Continue(())) | None => Verdict::Leave,
        }
    });
    listed
        .map(|_| ())
        .map_err(|source| ConntrackError::Refused {
            what: "list the uplinks' entries",
            source,
        })
}

/// An entry, if it is one of a TCP connection.
fn connection(entry: &Entry<'_>) -> Option<TrackedFlow> {
    tracked::read(entry).filter(|flow| flow.protocol == Protocol::TCP)
}

/// Has an entry deleted, and notes it if it is one of a TCP connection.
fn delete(entry: &Entry<'_>, connections: &mut Vec<TrackedFlow>) -> Verdict {
    connections.extend(connection(entry));
    Verdict::Change(ConntrackMessage::Delete(entry.key_with_id()))
}

impl Conntrack for Ctnetlink {
    type Error = ConntrackError;

    async fn forget_uplink(
        &mut self,
        family: Family,
        mark: Mark,
        mask: MarkMask,
    ) -> Result<Vec<TrackedFlow>, ConntrackError> {
        if mark.0 & mask.bits() == 0 {
            return Err(ConntrackError::Nobody { mark, mask });
        }
        self.blocking("delete an uplink's entries", move |session| {
            let mut connections = Vec::new();
            let listed = session.each(
                message::family(family),
                message::mark(mark, mask),
                |entry| {
                    if entry.mark().0 & mask.bits() == mark.0 {
                        connections.extend(connection(entry));
                    }
                    Verdict::Leave
                },
            );
            // Those who are not told wait for their own timeout; that is no reason to go on sending
            // everyone's packets to a dead uplink.
            if let Err(error) = listed {
                warn!(%error, %mark, %family, "cannot list a dead uplink's connections; their clients are not told");
            }
            let order = ConntrackMessage::Delete(message::mark(mark, mask));
            session.order(message::family(family), order)?;
            Ok(connections)
        })
        .await
    }

    async fn leaving(&mut self, leaving: &Leaving) -> Result<Vec<TrackedFlow>, ConntrackError> {
        let leaving = leaving.clone();
        self.blocking("list the flows that can leave an uplink", move |session| {
            leaving::list(session, &leaving)
        })
        .await
    }

    async fn forget_leaving(&mut self, leaving: &Leaving) -> Result<Forgotten, ConntrackError> {
        let leaving = leaving.clone();
        let what = "delete the entries of flows that can leave an uplink";
        self.blocking(what, move |session| leaving::delete(session, &leaving))
            .await
    }

    async fn forget_former(&mut self, former: FormerAddress) -> Result<Forgotten, ConntrackError> {
        let family = message::family(Family::of(former.address));
        // The kernel leaves out all others, which are nearly all.
        let marks: &[Mark] = if former.elsewhere {
            &[former.mark]
        } else {
            &[former.mark, former.probes(), Mark(0)]
        };
        let marks = marks.to_vec();
        self.blocking("delete the entries of an address", move |session| {
            let mut forgotten = Forgotten::default();
            for mark in marks {
                forgotten.count +=
                    session.each(family, message::mark(mark, former.mask), |entry| {
                        if former.has(&entry.addresses()) {
                            delete(entry, &mut forgotten.connections)
                        } else {
                            Verdict::Leave
                        }
                    })?;
            }
            Ok(forgotten)
        })
        .await
    }

    async fn forget_unmarked(
        &mut self,
        address: IpAddr,
        mask: MarkMask,
    ) -> Result<Forgotten, ConntrackError> {
        let family = message::family(Family::of(address));
        // The kernel leaves out all others: nearly all entries are marked.
        let unmarked = message::mark(Mark(0), mask);
        self.blocking(
            "delete the unmarked entries of an address",
            move |session| {
                let mut connections = Vec::new();
                let count = session.each(family, unmarked, |entry| {
                    if entry.reply_destination() == Some(address)
                        && entry.mark().0 & mask.bits() == 0
                    {
                        delete(entry, &mut connections)
                    } else {
                        Verdict::Leave
                    }
                })?;
                Ok(Forgotten { count, connections })
            },
        )
        .await
    }

    async fn clear_marks(&mut self, mask: MarkMask) -> Result<usize, ConntrackError> {
        self.blocking("clear our bits of the marks", move |session| {
            session.each(NetfilterProtoFamily::Unspec, Vec::new(), |entry| {
                if entry.mark().0 & mask.bits() == 0 {
                    return Verdict::Leave;
                }
                let mut attributes = entry.key();
                attributes.extend(message::mark(Mark(0), mask));
                Verdict::Change(ConntrackMessage::New(attributes))
            })
        })
        .await
    }
}
