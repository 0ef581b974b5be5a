//! Interfaces of the gateway that are deleted and made anew, renamed, set down and up, given other
//! addresses and put into bridges, again and again.

mod right;
mod subject;

use std::time::Duration;

use crate::chance::Chance;
use crate::daemon::Mode;
use crate::error::LabError;
use crate::eventually::eventually;
use crate::lab::{Lab, LabBuilder};

pub(crate) use right::is_right;
pub use subject::{Kind, Subject};

/// How long the daemon may take until the kernel's state is right again. How long it does take is
/// measured by `failover-lab bench churn`. A late packet for an address that is gone makes an entry of
/// connection tracking that lives for 10 s.
const RIGHT_WITHIN: Duration = Duration::from_secs(20);
/// How long interfaces stay as they are in a round in which nothing is waited for.
const HURRY: Duration = Duration::from_millis(60);

/// The first uplink and the first downlink stay as they are; of both there is one more for each kind.
const STEADY: u8 = 1;
const EACH: u8 = STEADY + 5;

/// A lab with an uplink and a downlink for each kind of churn, and with one of each that stay.
#[must_use]
pub fn lab() -> LabBuilder {
    Lab::builder().uplinks(EACH).downlinks([1; EACH as usize])
}

/// The uplinks that do not stay as they are.
#[must_use]
pub fn unsteady() -> Vec<u8> {
    (STEADY + 1..=EACH).collect()
}

/// The uplinks and downlinks of that lab, for a configuration. The id of an uplink is its number.
#[must_use]
pub fn config() -> String {
    let mut text = String::from("uplinks:\n");
    for number in 1..=EACH {
        text.push_str(&format!(
            "  u{number}: {{interface: wan{number}, id: {number}, probe: {{up_after: 1}}}}\n"
        ));
    }
    let downlinks: Vec<String> = (0..EACH).map(|number| format!("lan{number}")).collect();
    text.push_str(&format!("downlinks: [{}]\n", downlinks.join(", ")));
    text
}

/// Rounds of churn. In each of them every kind befalls an uplink and a downlink, all at once, and
/// from round to round others.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// How many.
    pub count: usize,
    /// Repeats the choices of an earlier run.
    pub seed: u64,
}

impl Rounds {
    /// Goes through the rounds. In every other one the kernel's state must become right before the
    /// next change; in the others changes come as fast as they can be made.
    ///
    /// # Errors
    /// When something could not be done, or the kernel's state did not become right.
    pub async fn run(&self, lab: &Lab, mode: Mode) -> Result<(), LabError> {
        let mut chance = Chance::from_seed(self.seed);
        Subject::prepare(lab).await?;
        for round in 0..self.count {
            let changes = changes(lab, round)?;
            let patiently = round % 2 == 0;
            for (subject, kind) in &changes {
                subject.begin(*kind).await?;
            }
            if patiently {
                for (subject, kind) in &changes {
                    until_right(lab, mode, subject, *kind, true).await?;
                }
            } else {
                tokio::time::sleep(chance.up_to(HURRY)).await;
            }
            for (subject, kind) in &changes {
                subject.end(*kind).await?;
            }
            if patiently || round + 1 == self.count {
                for (subject, kind) in &changes {
                    until_right(lab, mode, subject, *kind, false).await?;
                }
            }
        }
        Ok(())
    }
}

fn changes(lab: &Lab, round: usize) -> Result<Vec<(Subject<'_>, Kind)>, LabError> {
    let mut changes = Vec::new();
    for (index, number) in (STEADY..EACH).enumerate() {
        let kinds = Kind::ALL.iter().cycle();
        let Some(&kind) = kinds.clone().nth(index + round % Kind::ALL.len()) else {
            continue;
        };
        changes.push((Subject::uplink(lab, number + 1)?, kind));
        changes.push((Subject::downlink(lab, number)?, kind));
    }
    Ok(changes)
}

async fn until_right(
    lab: &Lab,
    mode: Mode,
    subject: &Subject<'_>,
    kind: Kind,
    changed: bool,
) -> Result<(), LabError> {
    let when = if changed { "while" } else { "after" };
    let what = format!("all is right {when} {} is {kind}", subject.interface());
    eventually(&what, RIGHT_WITHIN, || async {
        let right = is_right(lab, mode, subject, kind, changed).await?;
        Ok(right.then_some(()))
    })
    .await
}
