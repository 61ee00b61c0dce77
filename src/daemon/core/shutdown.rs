//! How the daemon ends: asked once, twice or three times; when the stack is down; or at once, with
//! every container left as it is.

use std::time::Duration;

use super::Core;
use super::looks::EngineView;
use crate::daemon::message::Leave;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::observed::Container;

/// How long an engine that does not answer is waited for when the daemon is asked to end: without
/// it nothing can be stopped.
const ENGINE_FAREWELL: Duration = Duration::from_secs(10);
/// So many panics within [`PANIC_WINDOW`] are no accident: the process ends, and whoever supervises
/// it starts it afresh.
const PANICS: usize = 5;
/// See [`PANICS`].
const PANIC_WINDOW: Duration = Duration::from_secs(60);

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    /// How often it was asked to end.
    asked: u32,
    /// When it is over at the latest, if it was.
    by: Option<Mono>,
    /// How to leave at once, if it is to.
    leaving: Option<Leave>,
    panics: Vec<Mono>,
}

/// What being asked to end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The first time: stop the stack in order, then leave.
    StopInOrder,
    /// The second time: nodes get no more grace.
    Hurry,
    /// The third time: leave at once.
    LeaveNow,
}

impl Shutdown {
    /// Whether it was asked to end.
    pub(super) fn is_under_way(&self) -> bool {
        self.asked > 0
    }

    /// Whether nodes get no more grace.
    pub(super) fn hurries(&self) -> bool {
        self.asked > 1
    }

    /// It is asked to end.
    pub(super) fn on_asked(&mut self) -> Asked {
        self.asked = self.asked.saturating_add(1);
        match self.asked {
            1 => Asked::StopInOrder,
            2 => Asked::Hurry,
            _ => {
                self.leave(Leave::End);
                Asked::LeaveNow
            }
        }
    }

    /// Leaves at once. What was said first counts.
    pub(super) fn leave(&mut self, leave: Leave) {
        self.leaving.get_or_insert(leave);
    }

    /// How it leaves at once, if it does.
    pub(super) fn leaving(&self) -> Option<Leave> {
        self.leaving
    }

    /// A task panicked. One costs its work; too many end the process.
    pub(super) fn on_panic(&mut self, now: Mono) {
        self.panics.retain(|at| now.since(*at) < PANIC_WINDOW);
        self.panics.push(now);
        if self.panics.len() >= PANICS {
            self.leave(Leave::Broken);
        }
    }

    /// When it leaves an engine behind that has not answered since then, if it was asked to end.
    pub(super) fn farewell_at(&self, silent_since: Mono) -> Option<Mono> {
        self.is_under_way()
            .then(|| silent_since.after(ENGINE_FAREWELL))
    }
}

impl Core {
    /// When an end that was asked for is over at the latest: more time is not asked for.
    pub fn ends_by(&self) -> Option<Mono> {
        self.shutdown.by
    }

    pub(super) fn on_terminated(&mut self) {
        let by = self.now.mono.after(self.state.timing().orderly_end());
        self.shutdown.by.get_or_insert(by);
        match self.shutdown.on_asked() {
            Asked::StopInOrder => self.tell("", "asked to end: the stack stops in order"),
            Asked::Hurry => self.tell("", "asked again: nodes get no more grace"),
            Asked::LeaveNow => self.tell("", "asked a third time: leaves at once"),
        }
        self.derive();
    }

    pub(super) fn leave(&mut self, leave: Leave) {
        let what = match leave {
            Leave::End => "leaves; containers are left as they are",
            Leave::Reload => "starts its program anew; containers are left as they are",
            Leave::Broken => "gives up",
        };
        self.tell("", format!("the daemon {what}"));
        self.shutdown.leave(leave);
    }

    pub(super) fn is_over(&self) -> bool {
        let nothing_runs = || {
            self.looks.may_act()
                && self.state.records.busy.is_empty()
                && !self.state.seen.all().any(Container::is_running)
        };
        match self.state.desired.goal {
            Goal::Halt => nothing_runs(),
            // A later daemon must not find a `down` that is done and go on with it.
            Goal::Down { .. } => {
                self.setup.ends_when_down && self.is_down() && self.keeping.is_settled()
            }
            Goal::Up | Goal::Hold => false,
        }
    }

    pub(super) fn note_a_lost_engine(&mut self) {
        let EngineView::Fails { since, .. } = self.looks.engine() else {
            return;
        };
        let farewell = self.shutdown.farewell_at(*since);
        if farewell.is_some_and(|at| self.now.mono >= at) {
            self.tell("", "the engine does not answer, so nothing can be stopped");
            self.shutdown.leave(Leave::End);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn too_many_panics_end_the_process_and_a_few_do_not() {
        let mut shutdown = Shutdown::default();
        for number in 1..PANICS {
            shutdown.on_panic(at(number as u64));
        }
        assert_eq!(shutdown.leaving(), None);
        shutdown.on_panic(at(3_600));
        assert_eq!(shutdown.leaving(), None, "the others are long past");
        for _ in 1..PANICS {
            shutdown.on_panic(at(3_601));
        }
        assert_eq!(shutdown.leaving(), Some(Leave::Broken));
    }

    #[test]
    fn the_third_time_it_leaves_at_once() {
        let mut shutdown = Shutdown::default();
        let asked: Vec<Asked> = (0..4).map(|_| shutdown.on_asked()).collect();
        assert_eq!(
            asked,
            [
                Asked::StopInOrder,
                Asked::Hurry,
                Asked::LeaveNow,
                Asked::LeaveNow
            ]
        );
        assert_eq!(shutdown.leaving(), Some(Leave::End));
    }
}
