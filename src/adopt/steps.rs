//! The next step of an adoption, or of the way back, from what is kept and what the engine shows.

use std::collections::BTreeMap;

use super::record::Old;
use super::record::Record;
use super::seen::Seen;

/// What the engine shows of the old stack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The old containers that are there, by ID.
    pub containers: BTreeMap<String, Seen>,
    /// The ID of a network with the name of the old one that is not octo-local's.
    pub network: Option<String>,
}

/// A step forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The engine starts it no more by itself.
    Disarm(String),
    /// A node stops.
    StopNode(String),
    /// SQL Server shuts down, whatever is in memory written.
    StopSql(String),
    /// Data is copied out of a container that does not run: the number of the copy.
    Copy(usize),
    /// A container gives its name away.
    Rename {
        /// The container.
        id: String,
        /// The new name.
        to: String,
    },
    /// The old network gives its name away.
    RemoveNetwork(String),
}

/// A step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// The old network is made again.
    MakeNetwork,
    /// A container is attached to the network that was made again.
    Join {
        /// The container.
        id: String,
        /// The network.
        network: String,
    },
    /// A container gets its name back.
    Rename {
        /// The container.
        id: String,
        /// Its name.
        to: String,
    },
    /// The engine restarts it as before.
    Arm(String),
    /// What ran runs again.
    Start(String),
}

/// What keeps an adoption from going on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// A container with data that was not copied yet is gone.
    #[error(
        "the old container {0} is gone, and its data was not copied yet; restore a backup of it"
    )]
    DataGone(String),
    /// An old container is gone.
    #[error("the old container {0} is gone: there is no way back to it; its volumes stay")]
    Gone(String),
}

/// The next step forward; none when the old stack is out of the way.
pub fn next(record: &Record, world: &World) -> Result<Option<Step>, Stuck> {
    let there = |old: &&Old| world.containers.contains_key(&old.id);
    let seen = |old: &Old| &world.containers[&old.id];
    // Nodes before the database that they write to.
    let in_stop_order = || record.old.iter().rev().filter(there);
    if let Some(old) = in_stop_order().find(|old| seen(old).restart.is_armed()) {
        return Ok(Some(Step::Disarm(old.id.clone())));
    }
    if let Some(old) = in_stop_order().find(|old| seen(old).running) {
        let id = old.id.clone();
        return Ok(Some(if old.is_sql {
            Step::StopSql(id)
        } else {
            Step::StopNode(id)
        }));
    }
    if let Some(number) = record.copies.iter().position(|copy| !copy.done) {
        let source = &record.copies[number].container;
        if !world.containers.contains_key(source) {
            let old = record.old.iter().find(|old| old.id == *source);
            let name = old.map_or(source, |old| &old.name);
            return Err(Stuck::DataGone(name.clone()));
        }
        return Ok(Some(Step::Copy(number)));
    }
    if let Some(old) = in_stop_order().find(|old| seen(old).name != old.kept_name()) {
        return Ok(Some(Step::Rename {
            id: old.id.clone(),
            to: old.kept_name(),
        }));
    }
    let network = world.network.clone().filter(|_| record.network.is_some());
    Ok(network.map(Step::RemoveNetwork))
}

/// The next step back; none when the old stack is as it was.
pub fn back(record: &Record, world: &World) -> Result<Option<Back>, Stuck> {
    if let Some(gone) = record
        .old
        .iter()
        .find(|old| !world.containers.contains_key(&old.id))
    {
        return Err(Stuck::Gone(gone.name.clone()));
    }
    let seen = |old: &Old| &world.containers[&old.id];
    if let Some(network) = &record.network {
        let Some(id) = &world.network else {
            return Ok(Some(Back::MakeNetwork));
        };
        let strays = |old: &&Old| {
            let was = old.networks.contains_key(&network.name);
            // One that was never started knows no ID yet.
            let now = seen(old).networks.get(&network.name);
            was && now.is_none_or(|now| !now.id.is_empty() && now.id != *id)
        };
        if let Some(old) = record.old.iter().find(strays) {
            return Ok(Some(Back::Join {
                id: old.id.clone(),
                network: id.clone(),
            }));
        }
    }
    let mut all = record.old.iter();
    if let Some(old) = all.find(|old| seen(old).name != old.name) {
        return Ok(Some(Back::Rename {
            id: old.id.clone(),
            to: old.name.clone(),
        }));
    }
    // SQL Server is the first one.
    if let Some(old) = record.old.iter().find(|old| old.ran && !seen(old).running) {
        return Ok(Some(Back::Start(old.id.clone())));
    }
    let armed = |old: &&Old| old.restart.is_armed() && seen(old).restart != old.restart;
    let next = record.old.iter().find(armed);
    Ok(next.map(|old| Back::Arm(old.id.clone())))
}
