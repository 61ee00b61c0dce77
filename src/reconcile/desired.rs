//! What the operator wants: the desired state, and how far to take it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use super::Mono;
use super::observed::Container;
use super::observed::Instance;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::tentacle::Tentacles;

/// The wish that `plan` works towards.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The stack, once one was applied. Tearing down needs none: labels are enough.
    pub spec: Option<StackSpec>,
    /// How far to take it.
    pub goal: Goal,
    /// Where nothing new is begun, nothing else is done either: what serves and ends stays ended.
    /// Nobody interrupted a start; there is a reason not to touch what is there.
    pub hands_off: bool,
    /// Units the operator stopped on purpose.
    pub stopped: BTreeSet<UnitId>,
    /// Of those, the nodes that only an unfinished restore has out: nobody stopped them.
    pub out_for_restore: BTreeSet<UnitId>,
    /// No node runs for now, whatever is wished: the data is saved, or is brought back.
    pub nodes_rest: bool,
    /// The data is read or written as a whole: SQL Server is not replaced or restarted meanwhile.
    pub data_in_use: bool,
    /// The data is to be replaced by that of a backup: whether the database that is there can be
    /// opened does not matter.
    pub data_is_replaced: bool,
    /// Nodes that a person drained on purpose.
    pub drained: BTreeSet<UnitId>,
    /// The Tentacles that are to go, and whose registrations may still be at Octopus Server.
    pub leaving: Tentacles,
    /// Units to restart: the run that is to end. A later run has already fulfilled the wish.
    pub restart: BTreeMap<UnitId, Instance>,
    /// The image that each reference stands for, by ID. A tag that moves later changes nothing
    /// before the next `up`.
    pub images: BTreeMap<String, String>,
    /// Image references to fetch once, although the engine has them.
    pub refresh: BTreeSet<String>,
    /// Image references that are wanted next: they are to be there before anything is out for them.
    pub wanted_next: BTreeSet<String>,
    /// Somebody asked twice to end: nodes get no more grace.
    pub hurry: bool,
    /// What a person said for this `down` about how long nodes may take to end.
    pub deadlines: NodeDeadlines,
}

/// Until when nodes may take to end, in the place of what is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeDeadlines {
    /// From then on tasks that run are not waited for.
    pub tasks: Option<Mono>,
    /// From then on no node gets any more grace.
    pub end: Option<Mono>,
}

impl NodeDeadlines {
    /// All nodes have `within` from now on for their tasks and for their end, which keeps at most
    /// half of it, or as much as is configured if that is less. Without one only what `skips_tasks`
    /// says differs from what is configured.
    pub fn new(
        within: Option<Duration>,
        skips_tasks: bool,
        stop_grace: Duration,
        now: Mono,
    ) -> Self {
        let tasks =
            within.map(|within| now.after(within.saturating_sub(stop_grace.min(within / 2))));
        Self {
            tasks: if skips_tasks { Some(now) } else { tasks },
            end: within.map(|within| now.after(within)),
        }
    }
}

impl Desired {
    /// Whether a unit is not to run for now: the operator stopped it, or all nodes rest.
    pub fn rests(&self, unit: UnitId) -> bool {
        self.stopped.contains(&unit) || self.nodes_rest && unit.is_server()
    }

    /// Whether this is a node of another version than the one that is wanted.
    pub fn is_another_version(&self, container: &Container) -> bool {
        let wanted = self.spec.as_ref().and_then(|spec| spec.nodes.first());
        wanted.is_some_and(|wanted| {
            let pinned = self.images.get(&wanted.image);
            container.unit.is_server() && container.is_of_another_version(&wanted.image, pinned)
        })
    }

    /// Takes in the stack that is wanted now. True where its database is somebody else's, as before,
    /// and another one, or asked with another login: what the one before said is no word of it.
    pub fn want(&mut self, spec: Option<&StackSpec>) -> bool {
        let others = |spec: &StackSpec| spec.sql.is_none().then(|| spec.database.clone());
        let (before, now) = (self.spec.as_ref().and_then(others), spec.and_then(others));
        self.spec = spec.cloned();
        before.is_some() && now.is_some() && before != now
    }
}

/// How far to take the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Everything runs and is kept running.
    Up,
    /// What has served is kept running, nothing new is begun: somebody pressed Ctrl-C.
    Hold,
    /// Everything stops in order; containers stay.
    Halt,
    /// Everything stops in order and goes; volumes only when asked in so many words.
    Down {
        /// Remove the data too.
        volumes: bool,
    },
}

impl Default for Desired {
    fn default() -> Self {
        Self {
            spec: None,
            goal: Goal::Hold,
            hands_off: false,
            stopped: BTreeSet::new(),
            out_for_restore: BTreeSet::new(),
            nodes_rest: false,
            data_in_use: false,
            data_is_replaced: false,
            drained: BTreeSet::new(),
            leaving: Tentacles::new(),
            restart: BTreeMap::new(),
            images: BTreeMap::new(),
            refresh: BTreeSet::new(),
            wanted_next: BTreeSet::new(),
            hurry: false,
            deadlines: NodeDeadlines::default(),
        }
    }
}
