//! An upgrade of Octopus Server or its way back, while one is under way.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use super::Work;

/// An upgrade or a rollback that is not done, for people and machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionChange {
    /// The image of Octopus Server before the upgrade.
    pub from: String,
    /// The one after it.
    pub to: String,
    /// The name of the backup set that a rollback goes back to.
    pub set: String,
    /// Where it stands.
    pub step: VersionStep,
}

/// Where an upgrade or a rollback stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionStep {
    /// The images that it needs are fetched; everything serves as before.
    Fetching,
    /// Nodes finish their tasks and stop.
    Resting,
    /// No node runs, and the data is backed up.
    Saving,
    /// The first node migrates the database, alone.
    Migrating,
    /// Before a rollback its set is read and its image is looked for; everything serves as before.
    Checking,
    /// No node runs, and the data of before the upgrade comes back.
    BringingBack,
    /// That failed halfway, and no node is started before it is done.
    NotBroughtBack,
}

impl VersionChange {
    /// Whether nodes are out for it.
    pub(super) fn has_nodes_rest(&self) -> bool {
        match self.step {
            VersionStep::Resting
            | VersionStep::Saving
            | VersionStep::BringingBack
            | VersionStep::NotBroughtBack => true,
            VersionStep::Fetching | VersionStep::Migrating | VersionStep::Checking => false,
        }
    }

    /// What is under way or wrong with it, besides what the units say themselves.
    pub(super) fn work(&self) -> Option<Work> {
        let failed = match self.step {
            VersionStep::Migrating => return None,
            VersionStep::NotBroughtBack => true,
            VersionStep::Fetching
            | VersionStep::Resting
            | VersionStep::Saving
            | VersionStep::Checking
            | VersionStep::BringingBack => false,
        };
        Some(Work {
            what: self.to_string(),
            is_volume: false,
            doing: (!failed).then(|| self.step.to_string()),
            problem: failed.then(|| self.step.to_string()),
            fix: failed
                .then(|| "mend what the note names, then `octo-local rollback` again".to_owned()),
            retry_in_seconds: None,
        })
    }
}

impl fmt::Display for VersionChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            VersionStep::Fetching
            | VersionStep::Resting
            | VersionStep::Saving
            | VersionStep::Migrating => write!(out, "the upgrade to {}", self.to),
            VersionStep::Checking | VersionStep::BringingBack | VersionStep::NotBroughtBack => {
                write!(out, "the rollback to {}", self.from)
            }
        }
    }
}

impl fmt::Display for VersionStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Fetching => "fetching images for",
            Self::Resting => "waiting for nodes to finish their tasks and stop, before",
            Self::Saving => "backing up before",
            Self::Migrating => "migrating the database in",
            Self::Checking => "reading the backup and looking for the image before",
            Self::BringingBack => "bringing data back in",
            Self::NotBroughtBack => "the data could not be brought back",
        })
    }
}
