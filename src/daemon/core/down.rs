//! The end of a `down`: when what it asked for is true, and what remains to be done then.

use std::collections::BTreeSet;

use super::Core;
use crate::daemon::message::Effect;
use crate::daemon::store::Wish;
use crate::reconcile::Goal;
use crate::reconcile::action::Subject;
use crate::reconcile::desired::NodeDeadlines;
use crate::reconcile::record::Durable;
use crate::reconcile::status::Note;
use crate::reconcile::status::is_down;
use crate::spec::StackSpec;

impl Core {
    /// Whether what `down` asked for is true.
    pub(super) fn is_down(&self) -> bool {
        self.looks.may_act() && is_down(&self.state.desired, &self.state.seen, &self.state.records)
    }

    /// What remains to be done once the stack is down.
    pub(super) fn finish_down(&mut self) {
        let Goal::Down { volumes } = self.state.desired.goal else {
            return;
        };
        if volumes {
            let spec = self.state.desired.spec.as_ref();
            let demo = spec.filter(|spec| spec.demo);
            let of_stack = demo.into_iter().flat_map(StackSpec::images);
            let config = self.keeping.stored().config.as_ref();
            let of_tentacles = config.filter(|config| config.demo);
            let of_tentacles = of_tentacles.map(|config| config.tentacle_image.as_str());
            let images: BTreeSet<&str> = of_stack.chain(of_tentacles).collect();
            let images: Vec<String> = images.into_iter().map(str::to_owned).collect();
            if !images.is_empty() {
                self.out.push(Effect::RemoveImages(images));
            }
        }
        self.keeping.edit(|stored| {
            stored.wish = Wish::Rest;
            if volumes {
                *stored = stored.data_deleted();
            }
        });
        // What is gone has no runs that could be taken for others.
        let durable = &mut self.state.records.durable;
        durable.ended_by_us.clear();
        if volumes {
            *durable = Durable::default();
        }
        self.passing.went_down = Some(volumes);
        self.passing.deadlines = NodeDeadlines::default();
        self.derive();
        self.tell("", "the stack is down");
    }

    /// What a `down` leaves where it is, for people.
    pub(super) fn left_to_others(&self) -> Vec<Note> {
        let Goal::Down { .. } = self.state.desired.goal else {
            return Vec::new();
        };
        let left = self.state.records.left_to_others().into_iter();
        let note = |(subject, words): (&Subject, &str)| Note::LeftToOthers {
            what: subject.to_string(),
            why: words.to_owned(),
        };
        left.map(note).collect()
    }
}
