//! Wishes that were admitted: what each changes of what is kept. Pure values, so that one can be
//! tried on a copy before the disk is asked to take it.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::config::Secret;
use crate::daemon::message::Accepted;
use crate::daemon::message::Answer;
use crate::daemon::message::Denied;
use crate::daemon::message::DownPace;
use crate::daemon::message::PasswordStep;
use crate::daemon::message::RestoreStep;
use crate::daemon::message::TentacleStep;
use crate::daemon::store::Data;
use crate::daemon::store::Stored;
use crate::daemon::store::Upgrading;
use crate::daemon::store::Wish;
use crate::engine::Endpoint;
use crate::reconcile::preview::Change;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::tentacle::TentacleName;

/// A wish that may be carried out.
#[derive(Clone, Debug)]
pub(super) enum Admitted {
    /// A configuration is applied.
    Up(Box<Up>),
    /// The stack goes.
    Down {
        /// The data too.
        volumes: bool,
        /// How long nodes may take.
        pace: DownPace,
    },
    /// Units are restarted.
    Restart(Vec<UnitId>),
    /// Units are stopped until they are started again.
    Stop(Vec<UnitId>),
    /// Nodes take no more tasks, until they are undrained.
    Drain(Vec<UnitId>),
    /// Nodes that were drained take tasks again.
    Undrain(Vec<UnitId>),
    /// Units that were stopped run again, and failed ones are tried again.
    Start(Vec<UnitId>),
    /// A restore begins or has ended.
    Restore(RestoreStep),
    /// The last upgrade is taken back.
    RollBack,
    /// The password of `sa` is changed, or was written down.
    Password(PasswordStep),
    /// All nodes take no tasks as long as the session of this number lasts.
    Quiesce(u64),
    /// A Tentacle is added or removed.
    Tentacle(TentacleName, TentacleStep),
}

/// A configuration that was admitted.
#[derive(Clone, Debug)]
pub(super) struct Up {
    pub(super) config: Config,
    pub(super) spec: StackSpec,
    pub(super) endpoint: Endpoint,
    /// Passwords made for a demo: sa, then the first user.
    pub(super) generated: Option<(Secret, Secret)>,
    /// The master key that nodes get, unless what is applied stays as it is.
    pub(super) key: Option<NewKey>,
    /// The upgrade that this is, or goes on with.
    pub(super) upgrade: Option<Upgrading>,
    pub(super) notes: Vec<String>,
    pub(super) changes: Vec<Change>,
}

/// A master key that is to be kept.
#[derive(Clone, Debug)]
pub(super) struct NewKey {
    pub(super) key: Secret,
    /// It was made for this configuration.
    pub(super) is_new: bool,
    /// The data that it is for.
    pub(super) data: Data,
    /// A new, empty database takes the place of what was there.
    pub(super) begins_anew: bool,
}

impl Admitted {
    /// Whether an `up` that was asked for before would undo it.
    pub(super) fn is_decisive(&self) -> bool {
        match self {
            Self::Up(_) | Self::Down { .. } | Self::Stop(_) | Self::Restore(_) | Self::RollBack => {
                true
            }
            // A configuration that was read before has the password of before.
            Self::Password(PasswordStep::Begin(_)) => true,
            Self::Restart(_)
            | Self::Start(_)
            | Self::Drain(_)
            | Self::Undrain(_)
            | Self::Quiesce(_)
            | Self::Password(PasswordStep::Written)
            | Self::Tentacle(..) => false,
        }
    }

    /// What whoever asked is answered: as which of all wishes it was taken, or why it was not.
    pub(super) fn answer(self, taken: Result<u64, Denied>) -> Answer {
        match self {
            Self::Up(up) => Answer::Up(taken.map(|generation| Accepted {
                generation,
                notes: up.notes,
                changes: up.changes,
            })),
            Self::Down { .. }
            | Self::Restart(_)
            | Self::Stop(_)
            | Self::Drain(_)
            | Self::Undrain(_)
            | Self::Start(_)
            | Self::Restore(_)
            | Self::RollBack
            | Self::Password(_)
            | Self::Quiesce(_)
            | Self::Tentacle(..) => Answer::Wished(taken),
        }
    }

    /// Changes what is kept to what is wished.
    pub(super) fn edit(&self, stored: &mut Stored) {
        match self {
            Self::Up(up) => up.edit(stored),
            Self::Down { volumes, .. } => {
                stored.wish = Wish::Down { volumes: *volumes };
                stored.held = false;
                stored.forget_upgrade_that_waits();
                stored.forget_rollback_that_waits();
            }
            Self::Restart(_) => (stored.wish, stored.held) = (Wish::Up, false),
            Self::Stop(units) => stored.note_stopped(units, true),
            Self::Drain(units) => stored.drains.drained.extend(units),
            Self::Undrain(units) => stored.drains.drained.retain(|unit| !units.contains(unit)),
            Self::Restore(step) => edit_for_restore(step, stored),
            Self::RollBack => stored.begin_rollback(),
            Self::Password(PasswordStep::Begin(to)) => stored.begin_password_change(to),
            Self::Password(PasswordStep::Written) => stored.password_written(),
            // It goes with this daemon: the next one has nodes take tasks again.
            Self::Quiesce(_) => {}
            Self::Tentacle(name, TentacleStep::Add(wish)) => {
                let known = stored.tentacles.entry(*name);
                known.or_insert_with(|| wish.as_ref().clone());
            }
            Self::Tentacle(name, TentacleStep::Remove(registration)) => {
                if let Some(one) = stored.tentacles.get_mut(name) {
                    one.leaves = Some(*registration);
                }
            }
            Self::Start(units) => {
                (stored.wish, stored.held) = (Wish::Up, false);
                stored.note_stopped(units, false);
            }
        }
    }
}

impl Up {
    fn edit(&self, stored: &mut Stored) {
        stored.wish = Wish::Up;
        stored.held = false;
        stored.endpoint = Some(self.endpoint.clone());
        stored.stopped = BTreeSet::new();
        stored
            .tentacles
            .values_mut()
            .for_each(|one| one.stopped = false);
        if self.generated.is_some() {
            stored.demo.generated.clone_from(&self.generated);
        }
        stored.backups.upgrades.upgrading.clone_from(&self.upgrade);
        stored.backups.upgrades.failure = None;
        stored.backups.upgrades.rolled_back = None;
        // What is to be applied after a backup is kept with the upgrade until then.
        if stored.backups.upgrades.waiting().is_none() {
            stored.config = Some(self.config.clone());
            stored.spec = Some(self.spec.clone());
            stored.images.clear();
            stored.settle_password(&self.config);
        }
        stored.keep_changed_password();
        if let Some(new) = &self.key {
            if new.begins_anew {
                stored.begin_anew(&new.data);
            }
            stored.keys.set(&new.key, new.is_new, &new.data);
        }
    }
}

/// What is kept changes with the steps of a restore, and of the way back from one.
fn edit_for_restore(step: &RestoreStep, stored: &mut Stored) {
    match step {
        RestoreStep::Begin { set, keep_as } => {
            stored.forget_rollback_that_waits();
            stored.begin_restore(set, keep_as.as_deref());
        }
        RestoreStep::BeginBack => {
            stored.forget_rollback_that_waits();
            stored.begin_way_back();
        }
        RestoreStep::Kept { database, volumes } => stored.replaced_is_kept(*database, volumes),
        RestoreStep::End(restored) => stored.end_restore(restored),
        RestoreStep::GoingBack => stored.replaced_comes_back(),
        RestoreStep::Back => stored.end_way_back(),
    }
}
