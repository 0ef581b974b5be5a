//! Tells TCP clients at once that their connections are lost, instead of letting them wait.
//!
//! When an uplink's flows were forgotten, the other ends of its translated connections will not know
//! them any more. Packets of such a connection from inside are answered with a reset (`table`), for
//! a minute; a client that only listens is made to speak (`poke`). Nothing here holds up the
//! daemon: it works on a task of its own, in portions, so that the first are told while the last are
//! still being loaded.

mod packets;
mod poke;
mod table;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use self::poke::{PokeError, Poker};
use crate::flows::LostConnection;
use crate::interface::InterfaceIndex;
use crate::kernel::nftables::{Nft, NftError};

/// Connections that are put into the table at once: some 15 ms.
const PORTION: usize = 2000;

/// Between a client's first four packets and the second ones: the first may be lost, or come while
/// the client is bound by its limit for such answers (Linux: `tcp_invalid_ratelimit`, 500 ms).
const SECOND_POKE: Duration = Duration::from_millis(600);

/// What was lost.
#[derive(Debug)]
struct Order {
    lost: Vec<LostConnection>,
    /// Interfaces by which nobody inside is reached.
    outside: BTreeSet<InterfaceIndex>,
}

/// The way to the task that tells clients.
#[derive(Clone, Debug)]
pub struct Resets(mpsc::UnboundedSender<Order>);

/// Why a client could not be told, or only if it speaks.
#[derive(Debug, Error)]
enum ResetError {
    #[error("packets of lost connections are not answered")]
    Table(#[source] NftError),
    #[error("clients that only listen are not told")]
    Poke(#[from] PokeError),
}

impl Resets {
    /// Starts the task, which ends with the last of these values.
    #[must_use]
    pub fn start(nft: Nft) -> Self {
        let (orders_in, orders) = mpsc::unbounded_channel();
        let teller = Teller {
            nft,
            made: false,
            // A daemon that was killed leaves its table, the elements of which are gone by then.
            until: Some(Instant::now() + table::LIFETIME),
        };
        tokio::spawn(teller.work(orders));
        Self(orders_in)
    }

    /// Has the clients of lost connections told. `outside` are interfaces by which nobody inside is
    /// reached. Waits for nothing.
    pub fn tell(&self, lost: Vec<LostConnection>, outside: BTreeSet<InterfaceIndex>) {
        if !lost.is_empty() && self.0.send(Order { lost, outside }).is_err() {
            warn!("clients of lost connections are not told: the task that does it has ended");
        }
    }
}

/// The task.
struct Teller {
    nft: Nft,
    /// Whether the table is there, made by this daemon.
    made: bool,
    /// When the last element of the table, if there is one, is gone.
    until: Option<Instant>,
}

impl Teller {
    async fn work(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let order = match self.until {
                None => orders.recv().await,
                Some(until) => tokio::select! {
                    order = orders.recv() => order,
                    () = tokio::time::sleep_until(until.into()) => {
                        self.take_out().await;
                        continue;
                    }
                },
            };
            let Some(order) = order else {
                return;
            };
            let began = Instant::now();
            let connections = order.lost.len();
            match self.tell(order).await {
                Ok(()) => info!(
                    connections,
                    ms = began.elapsed().as_millis(),
                    "told clients that their connections are lost"
                ),
                Err(error) => {
                    let error = crate::causes::in_one_line(&error);
                    warn!(error, "clients were not told of lost connections");
                }
            }
        }
    }

    async fn tell(&mut self, order: Order) -> Result<(), ResetError> {
        let Order { lost, outside } = order;
        // Those who speak are told, whatever keeps the others from being made to.
        let mut poker = Poker::open(outside).await;
        for portion in lost.chunks(PORTION) {
            self.answer(portion).await.map_err(ResetError::Table)?;
            if let Ok(poker) = &mut poker {
                poker.poke(portion).await?;
            }
        }
        let mut poker = poker?;
        tokio::spawn(async move {
            tokio::time::sleep(SECOND_POKE).await;
            if let Err(error) = poker.poke(&lost).await {
                let error = crate::causes::in_one_line(&error);
                warn!(
                    error,
                    "clients that only listen were not told a second time"
                );
            }
        });
        Ok(())
    }

    /// From here on packets of these connections are answered.
    async fn answer(&mut self, lost: &[LostConnection]) -> Result<(), NftError> {
        let elements = table::elements(lost);
        let what = "answer packets of lost connections";
        let added = if self.made {
            self.nft.execute(what, &elements).await
        } else {
            self.nft.execute(what, &(table::table() + &elements)).await
        };
        if let Err(error) = added {
            // Somebody flushed the ruleset.
            debug!(%error, "making the table for lost connections anew");
            self.nft
                .execute(what, &(table::table() + &elements))
                .await?;
        }
        self.made = true;
        self.until = Some(Instant::now() + table::LIFETIME);
        Ok(())
    }

    async fn take_out(&mut self) {
        self.until = None;
        self.made = false;
        let what = "take out the table for lost connections";
        if let Err(error) = self.nft.execute(what, &table::nothing()).await {
            warn!(%error, "a table without elements stays");
        }
    }
}
