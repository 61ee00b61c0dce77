//! What is kept of an adoption, in a file of its own beside the state: what the old containers said,
//! and what they and their network were, so that there is a way back.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use super::found::Found;
use super::seen::Attachment;
use super::seen::Restart;
use super::variables::Variables;

/// What an old container's name ends in from the adoption on.
const KEPT: &str = "-before-octo-local";

/// How far an adoption is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The old stack ends: nothing of ours may start.
    #[default]
    Begun,
    /// The stack is octo-local's; the old containers are kept.
    Done,
    /// The old stack comes back: nothing of ours may start.
    Undoing,
    /// The old containers are gone. What they said counts on.
    Forgotten,
}

/// An adoption.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// How far it is.
    pub stage: Stage,
    /// The compose project.
    pub from: String,
    /// What counts where the `.env` says nothing else.
    pub variables: Variables,
    /// The old containers, SQL Server first.
    pub old: Vec<Old>,
    /// The old network that has the name that ours is to have.
    pub network: Option<OldNetwork>,
    /// What is copied out of containers.
    pub copies: Vec<Copying>,
}

/// An old container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Old {
    /// Its ID.
    pub id: String,
    /// The name that it had.
    pub name: String,
    /// It is SQL Server.
    pub is_sql: bool,
    /// It ran.
    pub ran: bool,
    /// The restart policy that it had.
    pub restart: Restart,
    /// The reference of its image.
    pub image: String,
    /// How it was on its networks.
    pub networks: BTreeMap<String, Attachment>,
}

/// What is copied from a path of a container into the volume of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Copying {
    /// The container's ID.
    pub container: String,
    /// The path there, and where the volume is mounted.
    pub path: String,
    /// The volume's key.
    pub key: String,
    /// It is there, and was compared.
    pub done: bool,
}

/// A network, as far as it is made again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OldNetwork {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// It reaches nothing outside.
    pub internal: bool,
    /// Other containers may be attached by hand.
    pub attachable: bool,
    /// Its address ranges: subnet and gateway.
    pub ranges: Vec<(String, String)>,
}

impl Old {
    /// The name that it has while it is kept.
    pub fn kept_name(&self) -> String {
        format!("{}{KEPT}", self.name)
    }
}

impl Record {
    /// An adoption that begins.
    pub fn begin(found: &Found, variables: Variables, network: Option<OldNetwork>) -> Self {
        let old = found.containers().map(|one| Old {
            id: one.id.clone(),
            name: one.name.clone(),
            is_sql: one.id == found.sql.id,
            ran: one.running,
            restart: one.restart.clone(),
            image: one.image.clone(),
            networks: one.networks.clone(),
        });
        let copies = found.inside().map(|(key, container, path)| Copying {
            container: container.to_owned(),
            path: path.to_owned(),
            key: key.to_owned(),
            done: false,
        });
        Self {
            stage: Stage::Begun,
            from: found.from.clone(),
            variables,
            old: old.collect(),
            network,
            copies: copies.collect(),
        }
    }

    /// Why nothing of the project may be started or planned now, and what is to be done.
    pub fn in_the_way(&self) -> Option<String> {
        let from = &self.from;
        match self.stage {
            Stage::Begun => Some(format!(
                "the adoption of the compose project {from} is not finished: `octo-local adopt` goes on, `octo-local adopt \
                 --undo` goes back"
            )),
            Stage::Undoing => Some(format!(
                "the way back to the compose project {from} is not finished: `octo-local adopt --undo` goes on"
            )),
            Stage::Done | Stage::Forgotten => None,
        }
    }
}
