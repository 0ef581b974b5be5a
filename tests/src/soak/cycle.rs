//! One cycle: faults, their effect, and the return of all that failed.

use std::fmt;
use std::time::Duration;

use failover::family::Family;

use crate::chance::Chance;
use crate::daemon::{Daemon, State, Status};
use crate::demo::KeptFigures;
use crate::error::LabError;
use crate::footprint::Footprint;
use crate::lab::Lab;
use crate::traffic::{Keep, Protocol, Tally, Traffic};

/// The flows that are asked all the time.
const KEEP: Keep = Keep {
    each: 10,
    every: Duration::from_millis(100),
};
/// New flows of each protocol and family while uplinks are dead.
const NEW_FLOWS: usize = 50;
/// The longest time between one fault and the next, and that a fault lasts after it was seen.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the daemon may take to see that an uplink died or returned.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    BlackHole,
    Carrier,
    Interface,
}

/// The uplinks that fail, how, and how long after the one before.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    faults: Vec<(u8, Fault, Duration)>,
    lasts: Duration,
}

/// What came of a cycle.
pub(super) struct Verdict {
    /// Questions to flows that had to live.
    pub(super) asked: u64,
    /// What did not hold, a line each.
    pub(super) broken: Vec<String>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (uplink, fault, pause)) in self.faults.iter().enumerate() {
            let what = match fault {
                Fault::BlackHole => "black hole",
                Fault::Carrier => "no carrier",
                Fault::Interface => "no interface",
            };
            if index > 0 {
                write!(f, ", {:.1} s later ", pause.as_secs_f64())?;
            }
            write!(f, "wan{uplink} {what}")?;
        }
        write!(f, ", for {:.1} s", self.lasts.as_secs_f64())
    }
}

/// Waits until all uplinks are up over both families.
pub(super) async fn all_up(daemon: &Daemon) -> Result<(), LabError> {
    let up = |status: &Status| {
        status
            .uplinks
            .iter()
            .all(|uplink| uplink.ipv4.state == State::Up && uplink.ipv6.state == State::Up)
    };
    daemon
        .wait_until("all uplinks are up", SEEN_WITHIN, up)
        .await
        .map(drop)
}

impl Cycle {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let mut left = vec![1, 2, 3];
        let mut faults = Vec::new();
        for _ in 0..chance.one_of(&[1, 1, 2]).unwrap_or(1) {
            let kinds = [Fault::BlackHole, Fault::Carrier, Fault::Interface];
            if let (Some(uplink), Some(fault)) = (chance.one_of(&left), chance.one_of(&kinds)) {
                left.retain(|other| *other != uplink);
                faults.push((uplink, fault, chance.up_to(PAUSE)));
            }
        }
        Self {
            faults,
            lasts: chance.up_to(PAUSE),
        }
    }

    fn doomed(&self) -> Vec<u8> {
        self.faults.iter().map(|(uplink, ..)| *uplink).collect()
    }

    pub(super) async fn run(
        &self,
        lab: &Lab,
        daemon: &Daemon,
        at_first: &Footprint,
    ) -> Result<Verdict, LabError> {
        let doomed = self.doomed();
        let mut broken = Vec::new();
        let kept = lab.client(1)?.keep(KEEP, &doomed).await?;
        for (number, fault, pause) in &self.faults {
            tokio::time::sleep(*pause).await;
            let uplink = lab.uplink(*number)?;
            match fault {
                Fault::BlackHole => uplink.black_hole().await?,
                Fault::Carrier => uplink.carrier_loss().await?,
                Fault::Interface => uplink.remove_interface().await?,
            };
        }
        let down = |status: &Status| {
            status
                .uplinks
                .iter()
                .filter(|uplink| is_one_of(&doomed, &uplink.interface))
                .all(|uplink| !usable(uplink.ipv4.state) && !usable(uplink.ipv6.state))
        };
        daemon
            .wait_until("the uplinks that failed are down", SEEN_WITHIN, down)
            .await?;
        broken.extend(new_flows_use_others(lab, &doomed).await?);
        tokio::time::sleep(self.lasts).await;

        for (number, fault, _) in &self.faults {
            let uplink = lab.uplink(*number)?;
            match fault {
                Fault::BlackHole | Fault::Carrier => uplink.heal().await?,
                Fault::Interface => uplink.remake_interface().await?,
            };
        }
        all_up(daemon).await?;
        let flows = kept.finish().await;
        let lived = flows.iter().filter(|flow| {
            let home = flow.home_uplink();
            home.is_none_or(|home| !doomed.contains(&home))
        });
        let lived = KeptFigures::of(lived);
        if lived.lost > 0 || lived.moved > 0 || lived.ended > 0 {
            broken.push(format!("flows of uplinks that did not fail: {lived:?}"));
        }
        broken.extend(at_first.settled(lab, daemon).await?);
        Ok(Verdict {
            asked: lived.questions,
            broken,
        })
    }
}

const fn usable(state: State) -> bool {
    matches!(state, State::Up | State::Degraded | State::Unknown)
}

fn is_one_of(numbers: &[u8], interface: &str) -> bool {
    numbers
        .iter()
        .any(|number| interface == format!("wan{number}"))
}

async fn new_flows_use_others(lab: &Lab, doomed: &[u8]) -> Result<Vec<String>, LabError> {
    let mut broken = Vec::new();
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let traffic = Traffic::new(protocol, family, NEW_FLOWS);
            let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
            let dead: usize = doomed.iter().map(|uplink| tally.on(*uplink)).sum();
            if dead > 0 || tally.unanswered > 0 {
                broken.push(format!("new {traffic} flows: {tally}"));
            }
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uplink_always_survives() {
        let mut chance = Chance::from_seed(1);
        for _ in 0..200 {
            let mut doomed = Cycle::draw(&mut chance).doomed();
            doomed.sort_unstable();
            doomed.dedup();
            assert!(matches!(doomed.len(), 1 | 2), "{doomed:?}");
        }
    }
}
