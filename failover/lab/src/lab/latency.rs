//! Latency of an uplink's line: its provider passes packets to the internet late.
//!
//! The kernel may have no queue that delays (`netem`). So packets leave the provider by a TUN interface,
//! are held by this process, and enter the internet by another one. Answers come at once, by the usual
//! link: what is added counts once per round trip.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep_until};

use failover_common::family::Family;

use super::uplink::Uplink;
use crate::addressing::internet;
use crate::chance::Chance;
use crate::error::LabError;
use crate::node::{Node, ProgramSpec};

/// The provider's interface to the line.
const LINE: &str = "late";

/// For how long packets are held.
#[derive(Debug)]
pub(super) struct Holding {
    least: Duration,
    jitter: Duration,
    chance: Chance,
}

impl Holding {
    fn next(&mut self) -> Duration {
        self.least + self.chance.up_to(self.jitter)
    }
}

impl Uplink {
    /// Every round trip by way of the provider takes `least` longer from now on, and up to `jitter`
    /// more, by chance. Packets keep their order.
    ///
    /// # Errors
    /// When the kernel has no TUN.
    pub async fn latency(&self, least: Duration, jitter: Duration) -> Result<(), LabError> {
        let holding = self.holding.get_or_try_init(|| self.make_late_line());
        let mut holding = holding
            .await?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (holding.least, holding.jitter) = (least, jitter);
        Ok(())
    }

    async fn make_late_line(&self) -> Result<Arc<Mutex<Holding>>, LabError> {
        let holding = Arc::new(Mutex::new(Holding {
            least: Duration::ZERO,
            jitter: Duration::ZERO,
            chance: Chance::from_seed(self.number().into()),
        }));
        let far_end = format!("{LINE}{}", self.number());
        let near = self.provider().add_tun(LINE).await?;
        let far = self.internet.add_tun(&far_end).await?;
        let (stamp, mut stamped) = unbounded_channel();
        let (mut packets, held) = (near.sent, Arc::clone(&holding));
        self.provider().start_task(move || async move {
            while let Some(packet) = packets.recv().await {
                let hold = held.lock().unwrap_or_else(PoisonError::into_inner).next();
                if stamp.send((Instant::now() + hold, packet)).is_err() {
                    return;
                }
            }
        })?;
        self.provider().start_task(move || async move {
            while let Some((due, packet)) = stamped.recv().await {
                sleep_until(due).await;
                if far.deliver.send(packet).is_err() {
                    return;
                }
            }
        })?;
        lead_there(self.provider()).await?;
        Ok(holding)
    }
}

/// The internet's own addresses are reached by the line, which is preferred to the default route.
async fn lead_there(provider: &Node) -> Result<(), LabError> {
    for family in Family::ALL {
        let network = internet(family);
        let line = format!(
            "ip route add {}/{} dev {LINE}",
            network.address, network.prefix
        );
        provider.must(ProgramSpec::line(&line)).await?;
    }
    Ok(())
}
