//! The one small state file: what was applied, what the operator wishes, and what is known of the
//! data: its master key, the version that ran on it. Docker has the rest.

mod data;
mod file;
mod older;
mod restoring;
mod sa_password;
mod schedule;
mod upgrades;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::config::Config;
use crate::config::Secret;
use crate::engine::Endpoint;
use crate::reconcile::Goal;
use crate::reconcile::Observed;
use crate::reconcile::observed::Instance;
use crate::reconcile::record::Durable;
use crate::reconcile::status::Note;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::tentacle;
use crate::spec::tentacle::Tentacles;

pub use data::Data;
pub use data::KeptDrain;
pub use data::Key;
pub use data::KeyRing;
pub use data::Ran;
pub use file::FORM;
pub use file::Loaded;
pub use file::load;
pub use file::lock;
pub use file::others;
pub use file::peek;
pub use file::read;
pub use file::save;
pub use restoring::Replaced;
pub use restoring::Restored;
pub use restoring::Restoring;
pub use sa_password::PasswordChange;
pub use sa_password::SaPassword;
pub use schedule::Schedule;
pub use upgrades::Applied;
pub use upgrades::RolledBack;
pub use upgrades::RollingBack;
pub use upgrades::Upgrade;
pub use upgrades::Upgrades;
pub use upgrades::Upgrading;

/// What is wished of the stack, in the order of what it takes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Words", into = "Words")]
pub enum Wish {
    /// It runs.
    Up,
    /// Nothing.
    #[default]
    Rest,
    /// A `down` that was taken and is not done yet.
    Down {
        /// The data goes too.
        volumes: bool,
    },
}

/// The same as the file has it, since before `down`s were kept.
#[derive(Serialize, Deserialize)]
struct Words {
    #[serde(default)]
    up: bool,
    #[serde(default)]
    going_down: Option<bool>,
}

impl From<Words> for Wish {
    fn from(words: Words) -> Self {
        match words.going_down {
            Some(volumes) => Self::Down { volumes },
            None if words.up => Self::Up,
            None => Self::Rest,
        }
    }
}

impl From<Wish> for Words {
    fn from(wish: Wish) -> Self {
        let going_down = if let Wish::Down { volumes } = wish {
            Some(volumes)
        } else {
            None
        };
        Self {
            up: wish == Wish::Up,
            going_down,
        }
    }
}

/// Nodes that take no tasks, by wish or for a while.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drains {
    /// Nodes that a person drained on purpose; `up` changes nothing about it.
    pub drained: BTreeSet<UnitId>,
    /// Nodes that finish their tasks before they end: the run, and until when it is waited for. A
    /// daemon that comes after goes on with what is left of the time.
    pub draining: BTreeMap<UnitId, KeptDrain>,
    /// The runs that are to end and to be followed by another one, as a person asked: what a node
    /// finishes its tasks for is not forgotten with the daemon.
    pub restarts: BTreeMap<UnitId, Instance>,
}

/// What is kept of a demo alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Demo {
    /// Passwords generated for it: sa, then the first user.
    pub generated: Option<(Secret, Secret)>,
    /// The host refused full privileges to it.
    pub unprivileged: bool,
}

/// Backups that are made by themselves, and one that comes back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backups {
    /// A restore that is not finished: no node may run before it is.
    pub restoring: Option<Restoring>,
    /// What the last restore replaced, until the stack is ready on what came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
    /// Backups that are made by themselves.
    pub schedule: Schedule,
    /// An upgrade under way, and the way back from the last one.
    pub upgrades: Upgrades,
}

impl Backups {
    /// A restore or a rollback that is not finished.
    pub fn unfinished(&self) -> Option<Note> {
        let restoring = self.restoring.as_ref().map(|one| Note::RestoreUnfinished {
            set: one.set.clone(),
            kept: self.way_back_from_restore().is_some(),
        });
        let back = self.upgrades.goes_back();
        let back = back.map(|one| Note::RollbackUnfinished {
            set: one.upgrade.set.clone(),
        });
        restoring.or(back)
    }
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    /// What is wished.
    #[serde(flatten)]
    pub wish: Wish,
    /// The engine that the configuration was applied on; none where an older program did it.
    pub endpoint: Option<Endpoint>,
    /// The last applied configuration.
    pub config: Option<Config>,
    /// The last applied desired state.
    pub spec: Option<StackSpec>,
    /// The master key that nodes get, and those before it.
    pub keys: KeyRing,
    /// The password of `sa`.
    #[serde(flatten)]
    pub sa: SaPassword,
    /// What only a demo has.
    #[serde(flatten)]
    pub demo: Demo,
    /// The versions of Octopus Server that last ran, one for each data, the newest last.
    pub ran: Vec<Ran>,
    /// The image, by ID, that each reference stood for at the last `up`.
    pub images: BTreeMap<String, String>,
    /// Units that the operator stopped on purpose.
    pub stopped: BTreeSet<UnitId>,
    /// Nodes that take no tasks.
    #[serde(flatten)]
    pub drains: Drains,
    /// What is made of the data and brought back.
    #[serde(flatten)]
    pub backups: Backups,
    /// The Tentacles that were added.
    #[serde(skip_serializing_if = "Tentacles::is_empty")]
    pub tentacles: Tentacles,
    /// Somebody interrupted the start: nothing that never served is started, until everything is
    /// ready or something is wished.
    #[serde(default)]
    pub held: bool,
    /// What decisions know of the past.
    pub durable: Durable,
}

impl Stored {
    /// Whether nothing is kept that a `down` with the data would forget. Keys outlive it, and so
    /// does what ran on an external database.
    pub fn is_blank(&self) -> bool {
        *self
            == Self {
                keys: self.keys.clone(),
                ran: self.ran.clone(),
                ..Self::default()
            }
    }

    /// The master key that nodes get.
    pub fn master_key(&self) -> Option<&Secret> {
        self.keys.current.as_ref().map(|current| &current.key)
    }

    /// A node came up with this key on this data: from now on it is the data's. True when that is
    /// news, which is to be written.
    pub fn key_proven(&mut self, key: &Secret, data: &Data) -> bool {
        self.keys.prove(key, data)
    }

    /// A version ran: a node of it started, or `/api` reported it. True when that is news, which is
    /// to be written.
    pub fn version_ran(&mut self, ran: Ran) -> bool {
        data::note_ran(&mut self.ran, ran)
    }

    /// What last ran on this data. An older file does not say on which.
    pub fn ran_on(&self, data: &Data) -> Option<&Ran> {
        let of = |data: Option<&Data>| self.ran.iter().rfind(|ran| ran.data.as_ref() == data);
        of(Some(data)).or_else(|| of(None))
    }

    /// The version that last ran on this data, as a node of it told.
    pub fn version_on(&self, data: &Data) -> Option<String> {
        let version = self.ran_on(data).map(|ran| ran.version.clone());
        version.filter(|version| !version.is_empty())
    }

    /// Whether this data is known to have held a database.
    pub fn had_data(&self, data: &Data) -> bool {
        self.keys.proven_for(data).is_some() || self.ran_on(data).is_some()
    }

    /// The volume that is gone although the project's database is known to have been in it: nothing
    /// may be made in its place unasked. None where its end was asked for.
    pub fn lost_volume(&self, seen: &Observed) -> Option<String> {
        let data = Data::of(self.spec.as_ref()?);
        let Data::Volume(name) = &data else {
            return None;
        };
        let is_lost = self.is_up() && !seen.volumes.contains(name) && self.had_data(&data);
        is_lost.then(|| name.clone())
    }

    /// What remains to be kept of a stack whose data was deleted because that was asked for: its
    /// keys, for the backups, and what ran on data that is somebody else's. A key that no
    /// node ever came up with goes into the history, so that it is not taken for the right one.
    #[must_use]
    pub fn data_deleted(&self) -> Self {
        let mut keys = self.keys.clone();
        keys.lose(Data::is_volume);
        let is_unproven = |key: &Key| !key.proven && !key.generated;
        if keys.current.as_ref().is_some_and(is_unproven) {
            keys.replaced.extend(keys.current.take());
        }
        let stays = |ran: &&Ran| ran.data.as_ref().is_some_and(|data| !data.is_volume());
        Self {
            keys,
            ran: self.ran.iter().filter(stays).cloned().collect(),
            ..Self::default()
        }
    }

    /// What is kept once a new, empty database is to take the place of data that is gone.
    pub fn begin_anew(&mut self, data: &Data) {
        self.keys.lose(|other| other == data);
        self.ran
            .retain(|ran| ran.data.as_ref().is_some_and(|other| other != data));
        self.sa = SaPassword::default();
        self.backups.upgrades = Upgrades::default();
        // It stays where it is, since nobody asked to delete it.
        self.backups.replaced = None;
    }

    /// What a daemon at this engine that nobody asked for anything goes on with.
    pub fn goal(&self, here: &Endpoint) -> Goal {
        match self.wish {
            _ if self.elsewhere(here).is_some() => Goal::Hold,
            Wish::Up if self.held => Goal::Hold,
            Wish::Up => Goal::Up,
            Wish::Rest => Goal::Hold,
            Wish::Down { volumes } => Goal::Down { volumes },
        }
    }

    /// The engine that this is about, when it is another.
    pub fn elsewhere(&self, here: &Endpoint) -> Option<&Endpoint> {
        self.endpoint.as_ref().filter(|there| !there.is_same(here))
    }

    /// The applied desired state with its Tentacles.
    pub fn whole_spec(&self) -> Option<StackSpec> {
        let (spec, config) = self.spec.as_ref().zip(self.config.as_ref())?;
        Some(StackSpec {
            tentacles: tentacle::containers(&self.tentacles, config, spec),
            ..spec.clone()
        })
    }

    /// The units that the operator stopped on purpose, Tentacles too.
    pub fn all_stopped(&self) -> BTreeSet<UnitId> {
        let tentacles = self.tentacles.iter().filter(|(_, one)| one.stopped);
        let tentacles = tentacles.map(|(name, _)| UnitId::Tentacle(*name));
        self.stopped.iter().copied().chain(tentacles).collect()
    }

    /// The operator stops these units, or starts them again. Of a Tentacle that is kept with it: an
    /// older octo-local knows no such unit.
    pub fn note_stopped(&mut self, units: &[UnitId], stopped: bool) {
        for unit in units {
            match unit {
                UnitId::Tentacle(name) => {
                    if let Some(one) = self.tentacles.get_mut(name) {
                        one.stopped = stopped;
                    }
                }
                UnitId::Sql | UnitId::Node(_) if stopped => {
                    self.stopped.insert(*unit);
                }
                UnitId::Sql | UnitId::Node(_) => {
                    self.stopped.remove(unit);
                }
            }
        }
    }

    /// The Tentacles that are to go.
    pub fn leaving(&self) -> Tentacles {
        let mut leaving = self.tentacles.clone();
        leaving.retain(|_, one| one.leaves.is_some());
        leaving
    }

    /// What a person should know where nobody goes on with what is kept.
    pub fn held_back(&self, here: &Endpoint) -> Option<Note> {
        match self.elsewhere(here) {
            Some(there) => Some(Note::Elsewhere {
                there: there.to_string(),
                here: here.to_string(),
            }),
            None => self.is_going_down().then_some(Note::Unfinished),
        }
    }

    /// Whether the stack is wished to run.
    pub fn is_up(&self) -> bool {
        self.wish == Wish::Up
    }

    /// Whether a `down` is going on.
    pub fn is_going_down(&self) -> bool {
        matches!(self.wish, Wish::Down { .. })
    }
}

#[cfg(test)]
mod tests;
