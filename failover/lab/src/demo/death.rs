//! The fault: how it is struck, how it is noticed, and what came to the dead uplink afterwards.

use std::time::{Duration, Instant};

use failover_common::family::{Family, PerFamily};

use super::DEAD;
use super::figures::{LostNewcomers, SeenAtProvider};
use super::newcomers::Newcomers;
use super::population::survivors_so_far;
use super::story::PATIENCE;
use crate::daemon::{Daemon, State, Status};
use crate::error::LabError;
use crate::eventually::eventually;
use crate::lab::Lab;
use crate::terminal::{Short, Terminal};
use crate::traffic::KeptFlows;

/// The time from one answer of `failover status` to the next question.
const POLL: Duration = Duration::from_millis(10);

/// The fault and how it was noticed.
pub(super) struct Death {
    /// When the first answer of `failover status` came that said down for both families.
    pub(super) detected: Instant,
    pub(super) detection: PerFamily<Duration>,
    pub(super) probes_until_then: u64,
    pub(super) newcomers: LostNewcomers,
}

/// The uplink dies; ends when the daemon has said so and the new flows around it are decided.
pub(super) async fn die(
    terminal: &Terminal,
    lab: &Lab,
    daemon: &Daemon,
    kept: &KeptFlows,
) -> Result<Death, LabError> {
    let newcomers = Newcomers::start(lab.client(1)?);
    eventually("new flows are answered", PATIENCE, || async {
        Ok((newcomers.so_far().0 > 0).then_some(()))
    })
    .await?;
    let fault = lab.uplink(DEAD)?.black_hole().await?;
    let down = terminal
        .while_waiting(seen_down(daemon), |passed| {
            let (answered, lost) = newcomers.so_far();
            format!(
                "  {:.1} s: new flows answered {answered}, lost {lost}; {}",
                passed.as_secs_f64(),
                survivors_so_far(kept)
            )
        })
        .await?;
    let detected = down.ipv4.max(down.ipv6);
    let probes_until_then = lab.uplink(DEAD)?.capture()?.probe_packets()?;
    let detection = PerFamily {
        ipv4: down.ipv4.saturating_duration_since(fault),
        ipv6: down.ipv6.saturating_duration_since(fault),
    };
    terminal.line(format!(
        "  After {} failover says that fiber is down over IPv4, after {} over IPv6.",
        Short(detection.ipv4),
        Short(detection.ipv6)
    ));
    // A little longer, so that those opened after the detection count for something.
    terminal
        .while_waiting(tokio::time::sleep(Duration::from_secs(1)), |_| {
            format!("  {}", survivors_so_far(kept))
        })
        .await;
    let opened = newcomers.finish().await?;
    let newcomers = LostNewcomers::of(&opened, fault, detected);
    terminal.line(format!(
        "  Of {} new UDP flows, one every 20 ms, {} were lost, the last opened {} after the fault.",
        newcomers.opened,
        newcomers.lost,
        Short(newcomers.last_lost)
    ));
    Ok(Death {
        detected,
        detection,
        probes_until_then,
        newcomers,
    })
}

/// Asks for the status again and again until the dead uplink is down over both families, and says
/// for each when the first such answer was there. The daemon has changed the kernel by then: it
/// answers when it has done so.
async fn seen_down(daemon: &Daemon) -> Result<PerFamily<Instant>, LabError> {
    let mut seen: PerFamily<Option<Instant>> = PerFamily::default();
    let limit = Instant::now() + PATIENCE;
    loop {
        let status = daemon.status().await?;
        let now = Instant::now();
        for family in Family::ALL {
            if family_state(&status, family) == Some(State::Down) {
                seen.get_mut(family).get_or_insert(now);
            }
        }
        if let (Some(ipv4), Some(ipv6)) = (seen.ipv4, seen.ipv6) {
            return Ok(PerFamily { ipv4, ipv6 });
        }
        if now > limit {
            return Err(LabError::NotInTime {
                what: "fiber is down".to_owned(),
                limit: PATIENCE,
                detail: format!("\n{status}"),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn family_state(status: &Status, family: Family) -> Option<State> {
    let uplink = status
        .uplinks
        .iter()
        .find(|uplink| uplink.interface == "wan1")?;
    Some(match family {
        Family::Ipv4 => uplink.ipv4.state,
        Family::Ipv6 => uplink.ipv6.state,
    })
}

pub(super) fn both(status: &Status, state: State) -> bool {
    Family::ALL
        .into_iter()
        .all(|family| family_state(status, family) == Some(state))
}

pub(super) fn seen_at_provider(lab: &Lab, dead: &Death) -> Result<SeenAtProvider, LabError> {
    let capture = lab.uplink(DEAD)?.capture()?;
    let new = capture.new_flows_since(dead.detected)?;
    Ok(SeenAtProvider {
        packets_of_new_flows: new.iter().map(|flow| flow.packets).sum(),
        flows_with_packets: capture.active_since(dead.detected)?.len(),
        probes: capture
            .probe_packets()?
            .saturating_sub(dead.probes_until_then),
    })
}
