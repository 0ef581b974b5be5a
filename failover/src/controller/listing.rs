//! Lists the flows that are alive, for `failover flows`: on a thread of its own, which waits when
//! the client is slow and stops when it hangs up.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::causes::in_one_line;
use crate::control::{Answer, HungUp, Reply};
use crate::controller::asked::NoSuchUplink;
use crate::dataplane::ebpf::table::{FlowTable, TableError};
use crate::fastpath::access::Access;
use crate::flows::{FlowEntry, Surroundings, Timeouts, Uplinks, counted, entry_of};
use crate::kernel::Sysctls as _;
use crate::kernel::conntrack::{ConntrackError, each_marked};
use crate::kernel::sysctl::ProcSys;
use crate::mark::{Mark, MarkMask};
use crate::uplink::{UplinkId, UplinkName};
use crate::wanted::PickedBy;

/// Flows in one line: about 100 kB.
const PIECE: usize = 256;

/// How many may list at once. Each holds a thread, which waits for its client; others wait for such
/// threads too.
const LISTINGS: usize = 4;
static LISTINGS_LEFT: Semaphore = Semaphore::const_new(LISTINGS);

/// What there is to list.
#[derive(Debug)]
pub(super) struct Listing {
    /// All uplinks.
    pub(super) uplinks: Uplinks,
    /// What tells the inside from the outside.
    pub(super) surroundings: Surroundings,
    /// Which bits of connection marks are ours.
    pub(super) marks: MarkMask,
    /// Where the flow table is pinned, if there is one.
    pub(super) table: Option<PathBuf>,
    /// Who knows which flows take the fast path.
    pub(super) fast_path: Access,
}

/// Why flows are not listed.
#[derive(Debug, Error)]
enum ListError {
    #[error(transparent)]
    Unknown(#[from] NoSuchUplink),
    #[error("{LISTINGS} listings are under way already: try again when one has ended")]
    Busy,
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Conntrack(#[from] ConntrackError),
}

impl Listing {
    /// Sends the flows of one uplink, or of all; returns when that is under way.
    pub(super) async fn send(mut self, only: Option<UplinkName>, reply: Reply) {
        let refusal = match (self.narrow(only), LISTINGS_LEFT.try_acquire()) {
            (Ok(()), Ok(permit)) => {
                tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    self.list(&reply);
                });
                return;
            }
            (Err(unknown), _) => unknown,
            (Ok(()), Err(_)) => ListError::Busy,
        };
        reply.finish(&Answer::Error(refusal.to_string())).await;
    }

    /// Leaves only the uplink of that name.
    fn narrow(&mut self, only: Option<UplinkName>) -> Result<(), ListError> {
        let Some(asked) = only else {
            return Ok(());
        };
        NoSuchUplink::unless_among(&self.uplinks, &asked)?;
        self.uplinks.retain(|_, name| *name == asked);
        Ok(())
    }

    fn list(&self, reply: &Reply) {
        let mut pieces = Pieces::new(reply);
        let listed = match &self.table {
            Some(bpffs) => self.known(bpffs, &mut pieces),
            None => self.tracked(&mut pieces),
        };
        let ended = match listed {
            Ok(()) => pieces.end(),
            Err(error) => {
                let error = in_one_line(&error);
                warn!(%error, "cannot list flows");
                reply.send_blocking(&Answer::Error(error))
            }
        };
        if ended == Err(HungUp) {
            debug!("a client did not take all flows");
        }
    }

    /// Those that the eBPF programs know.
    fn known(&self, bpffs: &Path, pieces: &mut Pieces<'_>) -> Result<(), ListError> {
        let table = FlowTable::open(bpffs)?;
        let (lives, again) = (table.lives()?, table.one_by_one()?);
        pieces.begin(PickedBy::Tc);
        let walked = table.each(|key, flow| {
            if !lives.lives(key, flow) {
                return ControlFlow::Continue(());
            }
            let (flow, standing) = counted(
                *flow,
                lives.now_ns,
                |flow| self.fast_path.standing(key, flow),
                // What was read a moment ago stands where it cannot be read again.
                || again.flow(key).ok().flatten(),
            );
            match entry_of(key, &flow, &self.uplinks, lives.now_ns) {
                Some(entry) => pieces.add(entry.standing(&standing, lives.now_ns)),
                None => ControlFlow::Continue(()),
            }
        })?;
        if walked.senseless > 0 {
            warn!(
                entries = walked.senseless,
                "entries of the flow table make no sense and are left out: somebody else wrote them"
            );
        }
        Ok(())
    }

    /// Those that connection tracking knows.
    fn tracked(&self, pieces: &mut Pieces<'_>) -> Result<(), ListError> {
        let settings = ProcSys::default();
        // Where a timeout cannot be read it is not told how long flows have been silent.
        let timeouts = Timeouts::read(|key| settings.read(key).ok().flatten());
        // For each entry anew, as the kernel computes how long each has to live: a slow client
        // takes its time.
        let now = || {
            let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since_1970.unwrap_or(Duration::ZERO)
        };
        let by_mark: BTreeMap<Mark, (UplinkId, &UplinkName)> = self
            .uplinks
            .iter()
            .map(|(id, name)| (self.marks.flow(*id), (*id, name)))
            .collect();
        let mut marks = by_mark.keys();
        let only = match (marks.next(), marks.next()) {
            (Some(mark), None) => Some(*mark),
            _ => None,
        };
        pieces.begin(PickedBy::Nftables);
        each_marked(only, self.marks, |flow| {
            match by_mark.get(&Mark(flow.mark.0 & self.marks.bits())) {
                Some((id, name)) => {
                    pieces.add(flow.entry(*id, name, &self.surroundings, &timeouts, now()))
                }
                None => ControlFlow::Continue(()),
            }
        })?;
        Ok(())
    }
}

/// Flows on their way to a client.
struct Pieces<'a> {
    reply: &'a Reply,
    waiting: Vec<FlowEntry>,
    hung_up: Result<(), HungUp>,
}

impl<'a> Pieces<'a> {
    fn new(reply: &'a Reply) -> Self {
        Self {
            reply,
            waiting: Vec::with_capacity(PIECE),
            hung_up: Ok(()),
        }
    }

    /// Says that flows follow.
    fn begin(&mut self, picked_by: PickedBy) {
        let mode = picked_by.mode().to_owned();
        self.send(&Answer::FlowsBegin { mode });
    }

    /// One more; breaks when nobody takes it.
    fn add(&mut self, entry: FlowEntry) -> ControlFlow<()> {
        self.waiting.push(entry);
        if self.waiting.len() == PIECE {
            let piece = std::mem::take(&mut self.waiting);
            self.send(&Answer::Flows(piece));
        }
        match self.hung_up {
            Ok(()) => ControlFlow::Continue(()),
            Err(HungUp) => ControlFlow::Break(()),
        }
    }

    /// These were all.
    fn end(mut self) -> Result<(), HungUp> {
        let piece = std::mem::take(&mut self.waiting);
        self.send(&Answer::Flows(piece));
        self.send(&Answer::FlowsEnd);
        self.hung_up
    }

    fn send(&mut self, answer: &Answer) {
        if self.hung_up.is_ok() {
            self.hung_up = self.reply.send_blocking(answer);
        }
    }
}
