//! From a changed file to what is to be taken over, or to the reason why nothing is: a reload is
//! refused as a whole.

mod changes;
mod difference;
mod fixed;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use changes::{Change, Reloaded};

use crate::causes::in_one_line;
use crate::config::{Config, ConfigError};
use crate::identity::{self, IdentityError, Ids};
use crate::policy::Sets;
use crate::policy::loading::NoSets;
use crate::state::StoreError;
use crate::uplink::{UplinkId, UplinkName};
use crate::wanted::PickedBy;
use difference::{Identified, difference};

/// What a running daemon follows.
#[derive(Clone, Debug)]
pub struct Current {
    /// Its configuration.
    pub config: Config,
    /// The ids of the uplinks.
    pub ids: Ids,
    /// Who picks the uplink of a new flow.
    pub picked_by: PickedBy,
}

/// What it is to follow from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The new configuration.
    pub config: Config,
    /// The ids of its uplinks.
    pub ids: Ids,
    /// The ids to remember, those of uplinks that went too.
    pub remembered: Ids,
    /// The sets that it takes from files.
    pub sets: Sets,
    /// All that differs.
    pub changes: Vec<Change>,
}

/// Why everything stays as it is.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The file cannot be read or is wrong.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The file of a set cannot be read or is wrong.
    #[error("{0}")]
    Sets(#[from] NoSets),
    /// Something differs that cannot change while the daemon runs.
    #[error(
        "{}: {} cannot change while the daemon runs: restart it, or undo that; nothing was reloaded",
        file.display(),
        list(keys)
    )]
    Fixed {
        /// The file.
        file: PathBuf,
        /// What differs so.
        keys: Vec<Change>,
    },
    /// An uplink claims an id that another has, which did not ask for any.
    #[error(
        "{}: `uplinks.{claimant}.id` is {id}, which `{holder}` has been given: choose another, or say `uplinks.{holder}.id` too; nothing was reloaded",
        file.display()
    )]
    IdInUse {
        /// The file.
        file: PathBuf,
        /// Who claims it.
        claimant: UplinkName,
        /// Who has it.
        holder: UplinkName,
        /// The id.
        id: UplinkId,
    },
    /// Uplinks cannot be told apart.
    #[error("{0}; nothing was reloaded")]
    Identity(#[from] IdentityError),
    /// Ids cannot be remembered.
    #[error("{0}; nothing was reloaded")]
    Store(#[from] StoreError),
    /// Nobody knows what is in the file.
    #[error("cannot read {}: {reason}; nothing was reloaded", file.display())]
    NotRead {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why nothing was reloaded, as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// What is wrong in the file, each problem with its place, as `failover check` prints it.
    #[error("{0}")]
    Rejected(String),
    /// Anything else, in one line.
    #[error("{0}")]
    Other(String),
}

impl From<&ReloadError> for Refusal {
    fn from(error: &ReloadError) -> Self {
        let text = in_one_line(error);
        match error {
            ReloadError::File(ConfigError::Rejected(_)) | ReloadError::Sets(_) => {
                Self::Rejected(text)
            }
            _ => Self::Other(text),
        }
    }
}

/// Decides whether a new configuration can be taken over, and what that changes. `remembered` are
/// the ids that uplinks ever had.
///
/// # Errors
/// When it cannot: what runs now goes on as a whole then.
pub fn plan(
    current: &Current,
    config: Config,
    file: PathBuf,
    remembered: Ids,
    sets: Sets,
) -> Result<Plan, ReloadError> {
    let given = config.given_ids();
    // Those in use count, whatever became of the file in which they are remembered.
    let mut known = remembered;
    known.extend(current.ids.clone());
    let identities = identity::assign(&given, &known, config.marks)?;
    let changes = difference(
        Identified {
            config: &current.config,
            ids: &current.ids,
        },
        Identified {
            config: &config,
            ids: &identities.ids,
        },
    );
    let keys: Vec<Change> = changes
        .iter()
        .filter(|change| !fixed::can_change(change, &current.config, &config, current.picked_by))
        .cloned()
        .collect();
    if !keys.is_empty() {
        return Err(ReloadError::Fixed { file, keys });
    }
    for (holder, id) in &current.ids {
        let asks_for_none = given.get(holder).is_some_and(Option::is_none);
        let claimant = identities
            .ids
            .iter()
            .find(|(name, given)| *given == id && *name != holder);
        if let Some((claimant, _)) = claimant.filter(|_| asks_for_none) {
            return Err(ReloadError::IdInUse {
                file,
                claimant: claimant.clone(),
                holder: holder.clone(),
                id: *id,
            });
        }
    }
    Ok(Plan {
        config,
        ids: identities.ids,
        remembered: identities.remembered,
        sets,
        changes,
    })
}

fn list(changes: &[Change]) -> String {
    let written: Vec<String> = changes
        .iter()
        .map(|change| match change {
            Change::SettingChanged { key, from, to } => format!("`{key}` ({from} -> {to})"),
            other => other.to_string(),
        })
        .collect();
    written.join(", ")
}
