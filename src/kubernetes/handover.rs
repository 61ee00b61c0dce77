//! The next step of a handover from this host to a cluster, or of the way back, from what is kept of
//! it here, what this host runs, and what the cluster shows.
//!
//! Two servers on one identity must never run: the cluster's first node starts only after this host's
//! last one ended and its containers are gone, and from the first step on nothing starts them again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::nodes::Ending;
use super::nodes::Rising;
use super::nodes::Wait;
use super::nodes::ending;
use super::nodes::rising;
use super::seen::Pod;
use super::seen::Seen;

/// The form of what is kept.
pub const FORM: u32 = 1;
/// The directories that nodes share, as they see them, in the order in which they are copied.
pub const DIRECTORIES: [&str; 4] = ["/repository", "/artifacts", "/taskLogs", "/eventExports"];

/// A handover, in a file of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// [`FORM`].
    pub form: u32,
    /// How far it is.
    pub stage: Stage,
    /// The context of kubectl, where one was named.
    pub context: Option<String>,
    /// The namespace.
    pub namespace: String,
    /// The image that ran here, and is to run there.
    pub image: String,
    /// How many nodes there will be.
    pub nodes: u32,
    /// The names that the nodes had here.
    pub old_names: Vec<String>,
    /// The database's name.
    pub database: String,
    /// The backup set, once it is made.
    pub set: Option<String>,
    /// The directories that were copied and compared.
    pub copied: BTreeSet<String>,
}

/// How far a handover is. Each is written when what it says has happened, but for
/// [`Stage::Restoring`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// This host's nodes end, a set is made, and the rest is taken down.
    Leaving,
    /// The database there is about to be made of the set's: what is of that name there is this
    /// handover's.
    Restoring,
    /// The database is there.
    Restored,
    /// The first node serves there.
    First,
    /// The nodes of this host are off the list.
    Alone,
    /// All nodes serve there. There is no way back but a backup.
    Done,
    /// This host's stack is to come back: the nodes there end.
    Undoing,
}

/// What this host runs of the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// A node runs.
    pub nodes_run: bool,
    /// A container is there.
    pub is_there: bool,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The nodes here are drained and stop.
    StopNodes,
    /// A set is made, of one moment as a whole, and kept in mind.
    BackUp,
    /// Nodes run here again: what they write is in no set, so nothing that was made of one counts.
    BeginAgain,
    /// The containers here go; the data stays.
    TakeDown,
    /// How far it is, is kept.
    Keep(Stage),
    /// So many nodes are wished there.
    Scale(u32),
    /// These very pods are told to end.
    End(Vec<Pod>),
    /// The set's database becomes the one there; then that is kept.
    Restore,
    /// The files of one directory are copied and compared; then that is kept.
    Copy(String),
    /// The pod that files are copied through goes.
    RemoveHelper,
    /// A node takes tasks again.
    Undrain(String),
    /// The first node's version is asked for, and the list of nodes; the nodes of this host are
    /// taken off it; then that is kept.
    RemoveOldNodes,
    /// It is looked again.
    Wait(Wait),
    /// All is there.
    Finish,
    /// The way back is over: nothing of it is kept.
    Forget,
}

/// What keeps a handover from going on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// A node runs there before the data is there.
    #[error(
        "nodes run in the cluster, and the data is not there yet: `kubectl scale statefulset/{0} --replicas=0`, then \
         call this again"
    )]
    RunsThere(String),
    /// Both would run.
    #[error(
        "the stack runs on this host while nodes run in the cluster, on one identity: `octo-local down` here, or \
         `octo-local kubernetes handover --undo`"
    )]
    RunsHere,
    /// The StatefulSet there is of another version.
    #[error(
        "the cluster has {found}, and {wanted} ran here: export again, apply that, and call this again; an upgrade \
         comes afterwards"
    )]
    OtherImage {
        /// What is there.
        found: String,
        /// What ran here.
        wanted: String,
    },
    /// The first node does not come up.
    #[error(
        "the first node does not come up: {0}; mend it and call this again, or go back with `octo-local kubernetes \
         handover --undo`"
    )]
    FirstFails(String),
}

/// The next step.
pub fn next(
    kept: &Handover,
    here: Here,
    seen: &Seen,
    helper: bool,
    failing: Duration,
) -> Result<Step, Stuck> {
    match kept.stage {
        Stage::Undoing => return Ok(back(seen, helper)),
        Stage::Done => return Ok(Step::Finish),
        Stage::Leaving | Stage::Restoring | Stage::Restored | Stage::First | Stage::Alone => {}
    }
    if kept.stage < Stage::Restored && is_up(seen) {
        return Err(Stuck::RunsThere(seen.set.name.clone()));
    }
    if let Some(step) = leaving(kept, here, seen)? {
        return Ok(step);
    }
    match kept.stage {
        Stage::Leaving => Ok(Step::Keep(Stage::Restoring)),
        Stage::Restoring => Ok(Step::Restore),
        Stage::Restored => {
            let mut rest = DIRECTORIES.into_iter();
            match rest.find(|directory| !kept.copied.contains(*directory)) {
                // A node that runs writes where files are still to come.
                Some(_) if is_up(seen) => Err(Stuck::RunsThere(seen.set.name.clone())),
                Some(directory) => Ok(Step::Copy(directory.to_owned())),
                None if helper => Ok(Step::RemoveHelper),
                None => first(kept, seen, failing),
            }
        }
        Stage::First => Ok(Step::RemoveOldNodes),
        Stage::Alone | Stage::Done | Stage::Undoing => all(kept, seen, failing),
    }
}

/// Whether a node is there or wished there.
fn is_up(seen: &Seen) -> bool {
    seen.set.wished > 0 || seen.set.existing > 0 || !seen.pods.is_empty()
}

/// What is left to be done here; also when somebody started something again meanwhile.
fn leaving(kept: &Handover, here: Here, seen: &Seen) -> Result<Option<Step>, Stuck> {
    if here.is_there && is_up(seen) {
        return Err(Stuck::RunsHere);
    }
    if kept.set.is_none() {
        return Ok(Some(if here.nodes_run {
            Step::StopNodes
        } else {
            Step::BackUp
        }));
    }
    if here.nodes_run {
        return Ok(Some(Step::BeginAgain));
    }
    Ok(here.is_there.then_some(Step::TakeDown))
}

fn first(kept: &Handover, seen: &Seen, failing: Duration) -> Result<Step, Stuck> {
    match up(kept, seen, failing)? {
        Rising::FirstServes | Rising::Serve => Ok(Step::Keep(Stage::First)),
        rising => Ok(step_of(rising, seen)),
    }
}

fn all(kept: &Handover, seen: &Seen, failing: Duration) -> Result<Step, Stuck> {
    match up(kept, seen, failing)? {
        Rising::FirstServes => Ok(Step::Scale(kept.nodes)),
        Rising::Serve => Ok(Step::Keep(Stage::Done)),
        rising => Ok(step_of(rising, seen)),
    }
}

fn up(kept: &Handover, seen: &Seen, failing: Duration) -> Result<Rising, Stuck> {
    if seen.set.image != kept.image {
        return Err(Stuck::OtherImage {
            found: seen.set.image.clone(),
            wanted: kept.image.clone(),
        });
    }
    match rising(seen, &kept.image, kept.nodes, failing) {
        Rising::FirstFails { why } => Err(Stuck::FirstFails(why)),
        rising => Ok(rising),
    }
}

fn step_of(rising: Rising, seen: &Seen) -> Step {
    match rising {
        Rising::Scale(nodes) => Step::Scale(nodes),
        Rising::Undrain(pod) => Step::Undrain(pod),
        Rising::Wait(wait) => Step::Wait(wait),
        // The callers take these for themselves; what is left ends all and begins anew.
        Rising::OtherImage | Rising::FirstFails { .. } | Rising::FirstServes | Rising::Serve => {
            ending(seen).map_or(Step::Wait(Wait::Controller), Step::from)
        }
    }
}

/// The nodes there end, then nothing keeps the stack here.
fn back(seen: &Seen, helper: bool) -> Step {
    match ending(seen) {
        Some(ending) => ending.into(),
        None if helper => Step::RemoveHelper,
        None => Step::Forget,
    }
}

impl From<Ending> for Step {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::ScaleToNone => Self::Scale(0),
            Ending::End(pods) => Self::End(pods),
            Ending::Wait(wait) => Self::Wait(wait),
        }
    }
}

impl Handover {
    /// A handover of which nothing was done, since what it did is out of date.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            stage: Stage::Leaving,
            set: None,
            copied: BTreeSet::new(),
            ..self.clone()
        }
    }

    /// Why nothing of the stack may be started here, and what is to be done.
    pub fn in_the_way(&self) -> String {
        let namespace = &self.namespace;
        match self.stage {
            Stage::Done => format!(
                "this stack was handed over to the namespace {namespace} of a cluster, and two servers on one identity \
                 must never run: `octo-local up --again` starts it here all the same, once the nodes there are gone"
            ),
            Stage::Undoing => format!(
                "the way back from the namespace {namespace} of a cluster is not finished: `octo-local kubernetes \
                 handover --undo` goes on"
            ),
            Stage::Leaving | Stage::Restoring | Stage::Restored | Stage::First | Stage::Alone => {
                format!(
                    "the handover to the namespace {namespace} of a cluster is not finished: `octo-local kubernetes \
                 handover` goes on, `octo-local kubernetes handover --undo` goes back"
                )
            }
        }
    }
}
