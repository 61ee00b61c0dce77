//! The desired state: what is kept, and what is passing (a daemon that is ending, one that waits for
//! its first request, data that is gone).

use super::Core;
use crate::reconcile::Goal;
use crate::reconcile::desired::NodeDeadlines;
use crate::reconcile::status::Note;
use crate::spec::UnitId;

/// What overlays what is kept, and goes with this process.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// The request that the daemon was started for has not come yet.
    pub(super) awaits_request: bool,
    /// What was read is not what runs: nothing is done before a wish.
    pub(super) left_alone: bool,
    /// The volume with the database, while it is missed: nothing is started.
    pub(super) lost_volume: Option<String>,
    /// What `down` asked for is true, with the data or without.
    pub(super) went_down: Option<bool>,
    /// Until when nodes may take to end in this `down`.
    pub(super) deadlines: NodeDeadlines,
}

impl Core {
    /// Makes the desired state of what is kept and what is passing.
    pub(super) fn derive(&mut self) {
        let kept = self.keeping.stored();
        let (passing, desired) = (&self.passing, &mut self.state.desired);
        let before = desired.goal;
        let waits = passing.awaits_request || passing.left_alone || self.tenure.lost_to().is_some();
        desired.goal = match passing.went_down {
            _ if self.shutdown.is_under_way() => Goal::Halt,
            Some(volumes) => Goal::Down { volumes },
            None if waits => Goal::Hold,
            None => match kept.goal(&self.setup.endpoint) {
                Goal::Up if passing.lost_volume.is_some() => Goal::Hold,
                goal => goal,
            },
        };
        // Only a start that was interrupted is held with what serves kept running.
        let is_here = kept.elsewhere(&self.setup.endpoint).is_none();
        let is_interrupted = kept.held && kept.is_up() && is_here;
        let is_touched = is_interrupted && passing.lost_volume.is_none() && !waits;
        desired.hands_off = desired.goal == Goal::Hold && !is_touched;
        if desired.goal != before {
            self.learned.goal_since = Some(self.now.mono);
        }
        desired.hurry = self.shutdown.hurries();
        desired.deadlines = passing.deadlines;
        desired.stopped = kept.all_stopped();
        desired.out_for_restore = kept.out_for_restore();
        desired.leaving = kept.leaving();
        desired.drained.clone_from(&kept.drains.drained);
        if self.learned.quiesce.is_on() {
            let nodes = kept.spec.iter().flat_map(|spec| &spec.nodes);
            desired.drained.extend(nodes.map(|node| node.unit));
        }
        desired.images.clone_from(&kept.images);
        if desired.want(kept.whole_spec().as_ref()) {
            self.state.records.units.remove(&UnitId::Sql);
        }
    }

    /// What was read from an older or a newer file is not applied to containers that were made from
    /// something else.
    pub(super) fn try_what_was_read(&mut self) {
        if !self.keeping.take_trial() {
            return;
        }
        if !self.state.fits_what_runs() {
            self.passing.left_alone = true;
            self.notes.push(Note::MadeOtherwise);
            self.derive();
        } else if !self.state.seen.containers.is_empty() {
            self.keeping.confirm();
        }
    }

    /// No empty database is made in the place of one that is gone: the engine's data directory may
    /// not be mounted yet. It goes on when the volume is back.
    pub(super) fn hold_while_data_is_gone(&mut self) {
        let lost = self.keeping.stored().lost_volume(&self.state.seen);
        if self.passing.lost_volume == lost {
            return;
        }
        let told = match &lost {
            Some(volume) => Note::DataGone {
                volume: volume.clone(),
            }
            .to_string(),
            None => "the volume with the database is not missed any more".to_owned(),
        };
        self.tell("", told);
        self.passing.lost_volume = lost;
        self.derive();
    }

    /// A start that somebody interrupted is over once everything serves all the same.
    pub(super) fn end_hold(&mut self) {
        if !self.keeping.stored().held || self.state.desired.goal != Goal::Hold {
            return;
        }
        if self.state.hold_is_over(self.now.mono) {
            self.keeping.edit(|stored| stored.held = false);
            self.tell("", "everything is ready: no longer held");
            self.derive();
        }
    }
}
