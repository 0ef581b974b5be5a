//! Has the counters of probes read, beside the loop: now and then, and whenever somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tracing::warn;

use crate::kernel::nftables::{Nft, NftError};
use crate::uplink::UplinkId;

/// How often they are read.
pub(super) const READ: Duration = Duration::from_secs(60);

/// What was read and is not taken in yet; more of it is left out.
const READINGS: usize = 4;

/// What the counters say.
pub(super) type Counters = BTreeMap<UplinkId, u64>;

/// Who reads the counters, and what was read.
#[derive(Debug)]
pub struct Metering {
    reader: Option<Reader>,
    sender: mpsc::Sender<Counters>,
    receiver: mpsc::Receiver<Counters>,
}

/// Reads the counters, and has the loop know what they say.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// One at a time: what is told later was read later.
    nft: Arc<Mutex<Nft>>,
    sender: mpsc::Sender<Counters>,
}

impl Metering {
    /// Nothing is counted.
    #[must_use]
    pub fn nowhere() -> Self {
        let (sender, receiver) = mpsc::channel(READINGS);
        Self {
            reader: None,
            sender,
            receiver,
        }
    }

    /// The table that `nft` lists has the counters.
    #[must_use]
    pub fn by(nft: Nft) -> Self {
        let mut metering = Self::nowhere();
        metering.reader = Some(Reader {
            nft: Arc::new(Mutex::new(nft)),
            sender: metering.sender.clone(),
        });
        metering
    }

    /// What reads them, if anything counts.
    pub(super) fn reader(&self) -> Option<Reader> {
        self.reader.clone()
    }

    /// Has them read. What comes of it is for [`Self::read`].
    pub(super) fn ask(&self) {
        if let Some(reader) = self.reader() {
            tokio::spawn(async move {
                if let Err(error) = reader.read().await {
                    warn!(%error, "cannot count what probes take; trying again in a minute");
                }
            });
        }
    }

    /// What was read. Safe to be cancelled.
    pub(super) async fn read(&mut self) -> Option<Counters> {
        self.receiver.recv().await
    }

    /// Reads them at the beginning, before there is a loop.
    pub(super) async fn first(&self) -> Option<Counters> {
        let nft = self.reader.as_ref()?.nft.lock().await;
        let read = nft.probe_bytes().await;
        read.inspect_err(|error| warn!(%error, "cannot count what probes take"))
            .ok()
    }
}

impl Reader {
    pub(super) async fn read(&self) -> Result<Counters, NftError> {
        let nft = self.nft.lock().await;
        let counters = nft.probe_bytes().await?;
        // The next reading tells the loop as much.
        self.sender.try_send(counters.clone()).ok();
        Ok(counters)
    }
}
