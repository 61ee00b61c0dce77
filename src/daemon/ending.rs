//! How the daemon ends: asked once, twice or three times, when the stack is down, or at once with
//! every container left.

use std::time::Duration;

use tokio::time::Instant;

use super::driver::Driver;
use super::driver::Leave;
use super::store::Stored;
use super::store::Wish;
use crate::reconcile::Goal;
use crate::reconcile::observed::Container;
use crate::reconcile::status::is_down;

/// How long an engine that does not answer is waited for when the daemon is asked to end: without
/// it nothing can be stopped.
const ENGINE_FAREWELL: Duration = Duration::from_secs(10);
/// How long the last chores (image references of a demo) may take before the daemon ends all the
/// same.
const CHORES_LIMIT: Duration = Duration::from_secs(10);

impl Driver {
    /// Whether it was asked to end.
    pub(super) fn is_terminating(&self) -> bool {
        self.terminations > 0
    }

    pub(super) fn terminate(&mut self) {
        self.terminations += 1;
        self.beats.end();
        match self.terminations {
            1 => {
                self.journal
                    .write("", "asked to end: the stack stops in order");
                self.state.desired.goal = Goal::Halt;
            }
            2 => {
                self.journal
                    .write("", "asked again: nodes get no more grace");
                self.state.desired.hurry = true;
            }
            _ => self.leave(Leave::End),
        }
    }

    pub(super) fn leave(&mut self, leave: Leave) {
        let what = match leave {
            Leave::End => "leaves; containers are left as they are",
            Leave::Reload => "starts its program anew; containers are left as they are",
            Leave::Broken => "gives up",
        };
        self.journal.write("", &format!("the daemon {what}"));
        self.leaving = Some(leave);
    }

    /// Whether what `down` asked for is true.
    pub(super) fn is_down(&self) -> bool {
        self.may_act() && is_down(&self.state.desired, &self.state.seen, &self.state.records)
    }

    pub(super) fn is_over(&self) -> bool {
        let nothing_runs = self.may_act()
            && self.state.records.busy.is_empty()
            && !self.state.seen.containers.iter().any(Container::is_running);
        match self.state.desired.goal {
            Goal::Halt => self.is_terminating() && nothing_runs,
            Goal::Down { .. } => self.is_down() && (self.ends_when_down || self.is_terminating()),
            Goal::Up | Goal::Hold => self.is_terminating() && self.state.desired.spec.is_none(),
        }
    }

    pub(super) fn note_a_lost_engine(&mut self) {
        if self.engine_problem.is_none() {
            self.engine_lost_at = None;
            return;
        }
        let since = *self.engine_lost_at.get_or_insert_with(Instant::now);
        if self.is_terminating() && since.elapsed() >= ENGINE_FAREWELL {
            self.journal
                .write("", "the engine does not answer, so nothing can be stopped");
            self.leaving = Some(Leave::End);
        }
    }

    pub(super) async fn end(&mut self) {
        if let Some(chores) = self.chores.take() {
            let _ = tokio::time::timeout(CHORES_LIMIT, chores).await;
        }
        self.journal.write("", "the daemon ended");
    }

    /// What remains to be done once the stack is down.
    pub(super) fn finish(&mut self) {
        let Goal::Down { volumes } = self.state.desired.goal else {
            return;
        };
        self.finished = true;
        self.stored.wish = Wish::Rest;
        if volumes {
            let spec = self.state.desired.spec.as_ref();
            let images: Vec<String> = spec
                .filter(|spec| spec.demo)
                .map(owned_images)
                .unwrap_or_default();
            let external = spec.is_some_and(|spec| spec.sql.is_none());
            let kept = if external {
                self.stored.master_key.clone()
            } else {
                None
            };
            self.stored = Stored {
                master_key: kept,
                ..Stored::default()
            };
            self.state.desired.images.clear();
            self.chores = self.engine.clone().map(|engine| {
                tokio::spawn(async move {
                    for image in images {
                        let _ = engine.remove_unused_image(&image).await;
                    }
                })
            });
        }
        self.save();
        self.journal.write("", "the stack is down");
    }
}

fn owned_images(spec: &crate::spec::StackSpec) -> Vec<String> {
    spec.images().into_iter().map(str::to_owned).collect()
}
