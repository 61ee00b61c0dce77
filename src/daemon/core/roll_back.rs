//! Rollbacks: nothing is out for one before its set was read to the end and the image of before is
//! there, so that what cannot be done costs nobody anything.

use std::collections::BTreeSet;

use super::Core;
use crate::daemon::message::Effect;
use crate::daemon::message::NotBroughtBack;
use crate::daemon::store::Restored;
use crate::daemon::store::Stored;
use crate::daemon::store::Upgrade;
use crate::reconcile::action::Subject;

/// How far the set of a rollback that waits was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reading {
    /// Not at all.
    #[default]
    NotBegun,
    /// It is being read.
    UnderWay,
    /// To its end, without a fault.
    Whole,
}

impl Core {
    /// How far the daemon before came with a rollback is not known.
    pub(super) fn go_on_with_rollback(&mut self) {
        self.keeping.edit(Stored::rollback_is_of_another_daemon);
    }

    /// The images that a rollback needs: the one of before, and by its ID too where its reference
    /// stands for another one by now.
    pub(super) fn images_of_before(&self, upgrade: &Upgrade) -> BTreeSet<String> {
        let Some(node) = upgrade.before.spec.nodes.first() else {
            return BTreeSet::new();
        };
        let now = self.state.seen.images.get(&node.image);
        let pinned = upgrade.before.images.get(&node.image);
        let moved = pinned.filter(|id| now.is_some_and(|now| now != *id));
        [&node.image].into_iter().chain(moved).cloned().collect()
    }

    /// Begins a rollback that waits once all that it needs is there, or gives it up.
    pub(super) fn look_before_going_back(&mut self) {
        let version = &mut self.learned.version;
        let waits = self.keeping.stored().backups.upgrades.waits_to_go_back();
        let Some(upgrade) = waits.cloned() else {
            if version.reading == Reading::Whole {
                version.reading = Reading::NotBegun;
            }
            return;
        };
        if version.reading == Reading::NotBegun {
            version.reading = Reading::UnderWay;
            self.tell("", format!("backup {} is read whole", upgrade.set));
            let stored = Box::new(self.keeping.stored().clone());
            self.out.push(Effect::ReadSet(upgrade.set.clone(), stored));
        }
        let needs = self.images_of_before(&upgrade);
        let missing = needs.iter().find_map(|image| {
            let blocked = &self.state.records.blocked;
            let blocked = blocked.get(&Subject::Image(image.clone()))?;
            Some(format!("image {image}: {}", blocked.failure.detail))
        });
        if let Some(why) = missing {
            return self.give_up_rollback(&why, false);
        }
        let is_here = |image: &String| self.state.seen.images.contains_key(image);
        if self.learned.version.reading == Reading::Whole && needs.iter().all(is_here) {
            self.tell("", "a rollback begins: nodes stop");
            self.keeping.edit(Stored::end_wait_of_rollback);
            self.state.records.forgive();
            self.derive();
            self.looks.invalidate_everything();
            self.looks.renew_for_a_wish();
        }
    }

    /// A set was read to its end, or cannot be relied on.
    pub(super) fn on_set_read(&mut self, set: &str, result: Result<(), String>) {
        self.learned.version.reading = Reading::NotBegun;
        let waits = self.keeping.stored().backups.upgrades.waits_to_go_back();
        if waits.is_none_or(|upgrade| upgrade.set != set) {
            return;
        }
        match result {
            Ok(()) => self.learned.version.reading = Reading::Whole,
            Err(why) => self.give_up_rollback(&why, false),
        }
    }

    /// The data of before the upgrade is there, or is not.
    pub(super) fn on_brought_back(&mut self, result: Result<Box<Restored>, NotBroughtBack>) {
        self.learned.version.brings_back = false;
        if self
            .keeping
            .stored()
            .backups
            .upgrades
            .rolling_back
            .is_none()
        {
            return;
        }
        match result {
            Ok(restored) => {
                self.keeping.edit(|stored| stored.end_rollback(&restored));
                // Whether a version ran on this data is not known of this one.
                self.state.records.durable.migrated = None;
                self.tell(
                    "",
                    "the data of before the upgrade is back; so is what was applied",
                );
                self.apply_another_version();
            }
            Err(NotBroughtBack { why, is_touched }) => self.give_up_rollback(&why, is_touched),
        }
    }

    fn give_up_rollback(&mut self, why: &str, is_touched: bool) {
        self.tell("", format!("the rollback failed: {why}"));
        self.keeping
            .edit(|stored| stored.rollback_failed(why, is_touched));
        self.derive();
    }
}
