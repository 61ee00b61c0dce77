//! What goes wrong in the fake engine, and when: faults for calls that match, trouble with the
//! streams of events, and what happens at the k-th call of a daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Pid;

use super::call::Call;
use super::call::Caller;
use super::call::Verb;
use super::event::Trouble;
use super::node::Conduct;

/// What happens to a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// It is carried out this much later.
    Slow(Duration),
    /// It is not carried out and never answered.
    Hangs,
    /// The connection breaks before it is carried out.
    Breaks,
    /// The connection breaks after it was carried out.
    BreaksAfter,
    /// It is refused.
    Refused(u16, &'static str),
    /// It is carried out, and refused all the same.
    RefusedAfter(u16, &'static str),
    /// The engine goes away before it is carried out, and comes again this much later.
    Leaves(Duration),
    /// It is refused, and carried out this much later.
    RefusedBefore(u16, &'static str, Duration),
    /// The answer shows no ports of containers, as a list does for a moment after a start.
    ShowsNoPorts,
}

/// A fault and the calls that it is for.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    verb: Option<Verb>,
    subject: Option<String>,
    /// How many matching calls it hits.
    times: usize,
    fault: Fault,
    /// How many calls it hit.
    pub(crate) hits: usize,
}

impl Rule {
    /// A fault for every call of this kind.
    pub(crate) fn on(verb: Verb, fault: Fault) -> Self {
        Self {
            verb: Some(verb),
            subject: None,
            times: usize::MAX,
            fault,
            hits: 0,
        }
    }

    /// A fault for every call whatsoever.
    pub(crate) fn everywhere(fault: Fault) -> Self {
        Self {
            verb: None,
            subject: None,
            times: usize::MAX,
            fault,
            hits: 0,
        }
    }

    /// Only for calls about the thing of this name.
    pub(crate) fn about(self, subject: &str) -> Self {
        Self {
            subject: Some(subject.to_owned()),
            ..self
        }
    }

    /// Only the first call.
    pub(crate) fn once(self) -> Self {
        self.times(1)
    }

    /// Only so many calls.
    pub(crate) fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    fn hits(&mut self, call: &Call, subject: &str) -> bool {
        // A person's own calls always go well: tests look and meddle through them.
        let fits = call.caller != Caller::Person
            && self.verb.is_none_or(|verb| verb == call.verb)
            && self.subject.as_ref().is_none_or(|wanted| wanted == subject);
        let hit = fits && self.hits < self.times;
        self.hits += usize::from(hit);
        hit
    }
}

/// What happens at one call of a daemon.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// The daemon is killed before its call takes effect.
    Dies,
    /// The daemon is killed after its call took effect and before it is answered.
    DiesAfter,
    /// The call meets a fault.
    Fails(Fault),
}

/// The call of a daemon at which something happens.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// Which call, counted from 1 since the turn before.
    pub(crate) at: usize,
    pub(crate) act: Act,
    /// Only calls that change something count.
    changes_only: bool,
    counted: usize,
    /// The call that it came to.
    pub(crate) came_to: Option<Verb>,
}

impl Turn {
    pub(crate) fn new(at: usize, act: Act) -> Self {
        Self {
            at,
            act,
            changes_only: false,
            counted: 0,
            came_to: None,
        }
    }

    /// Counts only calls that change something.
    pub(crate) fn of_changes(self) -> Self {
        Self {
            changes_only: true,
            ..self
        }
    }
}

/// Everything that goes wrong.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) rules: Vec<Rule>,
    pub(crate) events: Trouble,
    /// How often all streams of events were closed.
    pub(crate) closings: usize,
    /// How nodes behave, by the container's name.
    pub(crate) conducts: BTreeMap<String, Conduct>,
    /// What happens at single calls; when one has come the next begins to count.
    pub(crate) turns: Vec<Turn>,
    /// Daemons that were killed: nothing that they still send counts.
    pub(crate) killed: Vec<Pid>,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    Fine,
    Faulty(Fault),
    /// Its caller dies: before it is carried out, or after.
    Dies(Pid, bool),
    /// Its caller is dead.
    Ghost,
}

impl Script {
    /// Decides on a call.
    pub(super) fn decide(&mut self, call: &Call, subject: &str) -> Fate {
        if let Caller::Daemon(pid) = call.caller {
            if self.killed.contains(&pid) {
                return Fate::Ghost;
            }
            let next = self.turns.iter_mut().find(|turn| turn.came_to.is_none());
            if let Some(turn) = next.filter(|turn| call.verb.changes() || !turn.changes_only) {
                turn.counted += 1;
                if turn.counted == turn.at {
                    turn.came_to = Some(call.verb);
                    return match &turn.act {
                        Act::Fails(fault) => Fate::Faulty(fault.clone()),
                        act => {
                            self.killed.push(pid);
                            Fate::Dies(pid, *act == Act::DiesAfter)
                        }
                    };
                }
            }
        }
        let hit = self
            .rules
            .iter_mut()
            .find_map(|rule| rule.hits(call, subject).then(|| rule.fault.clone()));
        hit.map_or(Fate::Fine, Fate::Faulty)
    }
}
