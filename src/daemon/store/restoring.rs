//! A restore, as far as what is kept is concerned: while one goes on no node runs, and when it is
//! done the key and the version are those of the data that came back.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use super::Backups;
use super::Data;
use super::Ran;
use super::Stored;
use super::Upgrades;
use super::Wish;
use crate::config::Secret;
use crate::spec::UnitId;

/// The variable that nodes get their key in.
const MASTER_KEY: &str = "MASTER_KEY";

/// A restore that was begun and is not finished: until it is, or the data is deleted, no node may
/// run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restoring {
    /// The name of the set.
    pub set: String,
    /// The units that the operator had stopped before.
    pub stopped: BTreeSet<UnitId>,
}

/// What a restore replaced, and what is kept of it until the stack is ready: each volume's content
/// in another volume of ours, and the database in a file of SQL Server's. One that comes after,
/// before the stack was ready, keeps nothing: what was there first is what somebody may want back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replaced {
    /// What tells it from what other restores kept: part of the names of volumes and file.
    pub id: String,
    /// The set that took, or takes, its place.
    pub set: String,
    /// Everything is kept. Before, what is in its place and what is kept are one only together.
    pub whole: bool,
    /// It is to be removed, or is being: whatever is left of it is no way back.
    pub given_up: bool,
    /// There is a file of the database.
    pub database: bool,
    /// The volumes whose content is in others.
    pub volumes: Vec<String>,
    /// The key of the data, and what ran on it.
    pub of_data: Restored,
}

/// What came back beside the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restored {
    /// The key of the data; none where no database came back.
    pub master_key: Option<Secret>,
    /// Whether octo-local made it.
    pub key_is_ours: bool,
    /// What ran on the data; which data is known here.
    pub ran: Ran,
}

impl Stored {
    /// No node runs from now on, and SQL Server does. One that goes on after it was broken off
    /// still knows what was wished before.
    ///
    /// What it replaces is kept under this name, unless what an earlier one replaced is kept still;
    /// without a name nothing is kept, of that neither.
    pub fn begin_restore(&mut self, set: &str, keep_as: Option<&str>) {
        match keep_as {
            Some(id) if self.backups.way_back_from_restore().is_none() => {
                self.backups.replaced = Some(Replaced {
                    id: id.to_owned(),
                    set: set.to_owned(),
                    of_data: self.of_data(),
                    ..Replaced::default()
                });
            }
            Some(_) => {}
            None => self.backups.give_up_replaced(),
        }
        self.rest_for_a_restore(set);
    }

    /// The same for the way back from one.
    pub fn begin_way_back(&mut self) {
        let set = self.backups.replaced.as_ref().map(|one| one.set.clone());
        self.rest_for_a_restore(&set.unwrap_or_default());
    }

    fn rest_for_a_restore(&mut self, set: &str) {
        let before = self.backups.restoring.take();
        let stopped = before.map_or_else(|| self.stopped.clone(), |before| before.stopped);
        self.backups.restoring = Some(Restoring {
            set: set.to_owned(),
            stopped,
        });
        (self.wish, self.held) = (Wish::Up, false);
        self.stopped = self.node_units();
    }

    /// The data is that of a set. What is known of the data that it replaced counts no more, save
    /// its key, which its backups need.
    pub fn end_restore(&mut self, restored: &Restored) {
        let Some(restoring) = self.backups.restoring.take() else {
            return;
        };
        self.stopped = restoring.stopped;
        // The data is no longer that which an upgrade changed.
        self.backups.upgrades = Upgrades::default();
        self.take_data(restored);
    }

    /// The key of the data, and what ran on it.
    fn of_data(&self) -> Restored {
        let data = self.spec.as_ref().map(Data::of);
        let ran = data.as_ref().and_then(|data| self.ran_on(data)).cloned();
        let key = self.keys.current.as_ref();
        let has_database = self.spec.as_ref().is_some_and(|spec| spec.sql.is_some());
        Restored {
            master_key: key.filter(|_| has_database).map(|key| key.key.clone()),
            key_is_ours: key.is_some_and(|key| key.generated),
            ran: ran.unwrap_or_default(),
        }
    }

    /// All that a restore replaces is kept: from now on what is in its place may be changed.
    pub fn replaced_is_kept(&mut self, database: bool, volumes: &[String]) {
        if let Some(replaced) = &mut self.backups.replaced {
            (replaced.whole, replaced.database) = (true, database);
            replaced.volumes = volumes.to_vec();
        }
    }

    /// What a restore brought is gone, and what it replaced takes its place again.
    pub fn replaced_comes_back(&mut self) {
        if let Some(replaced) = &mut self.backups.replaced {
            replaced.whole = false;
        }
    }

    /// The data is what it was before the restore. What is left of what was kept is not needed any
    /// more: from now on nodes change the data.
    pub fn end_way_back(&mut self) {
        let (Some(restoring), Some(replaced)) =
            (self.backups.restoring.take(), &mut self.backups.replaced)
        else {
            return;
        };
        replaced.given_up = true;
        let of_data = replaced.of_data.clone();
        self.stopped = restoring.stopped;
        self.take_data(&of_data);
    }

    /// Takes in that the data is another now: its key, and the version that ran on it.
    pub(super) fn take_data(&mut self, restored: &Restored) {
        let (Some(spec), Some(key)) = (&mut self.spec, &restored.master_key) else {
            return;
        };
        let data = Data::of(spec);
        for node in &mut spec.nodes {
            node.env.insert(MASTER_KEY.to_owned(), key.clone());
        }
        self.keys.lose(|other| *other == data);
        self.keys.set(key, restored.key_is_ours, &data);
        self.ran
            .retain(|ran| ran.data.as_ref().is_some_and(|other| *other != data));
        if !restored.ran.image.is_empty() {
            let data = Some(data);
            self.version_ran(Ran {
                data,
                ..restored.ran.clone()
            });
        }
    }

    /// The nodes that are out for an unfinished restore alone.
    pub fn out_for_restore(&self) -> BTreeSet<UnitId> {
        let before = self.backups.restoring.as_ref().map(|one| &one.stopped);
        let is_out = |unit: &&UnitId| {
            unit.is_server() && before.is_some_and(|before| !before.contains(unit))
        };
        self.stopped.iter().filter(is_out).copied().collect()
    }

    fn node_units(&self) -> BTreeSet<UnitId> {
        let nodes = self.spec.iter().flat_map(|spec| &spec.nodes);
        nodes.map(|node| node.unit).collect()
    }
}

impl Backups {
    /// What is kept of what a restore replaced, while it is a way back.
    pub fn way_back_from_restore(&self) -> Option<&Replaced> {
        self.replaced.as_ref().filter(|one| !one.given_up)
    }

    /// What is kept of what a restore replaced is to be removed, once the stack is ready.
    pub fn give_up_replaced(&mut self) {
        if let Some(replaced) = &mut self.replaced {
            replaced.given_up = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ContainerSpec;
    use crate::spec::StackSpec;
    use crate::spec::Storage;
    use crate::spec::build::SQL_DATA;

    fn stored() -> Stored {
        let node = |number| ContainerSpec {
            unit: UnitId::Node(number),
            ..ContainerSpec::default()
        };
        let spec = StackSpec {
            sql: Some(ContainerSpec::default()),
            nodes: vec![node(1), node(2)],
            volumes: [(SQL_DATA.to_owned(), Storage::Ours("p_sql-data".to_owned()))].into(),
            ..StackSpec::default()
        };
        let data = Data::of(&spec);
        let mut stored = Stored {
            stopped: [UnitId::Node(2), UnitId::Sql].into(),
            spec: Some(spec),
            ..Stored::default()
        };
        stored.keys.set(&Secret::new("newer"), true, &data);
        stored.key_proven(&Secret::new("newer"), &data);
        stored.version_ran(ran("2026.3.1", Some(data)));
        stored
    }

    fn ran(version: &str, data: Option<Data>) -> Ran {
        Ran {
            version: version.to_owned(),
            image: format!("octopus:{version}"),
            image_id: String::new(),
            data,
        }
    }

    fn restored() -> Restored {
        Restored {
            master_key: Some(Secret::new("older")),
            key_is_ours: true,
            ran: ran("2026.2.7", None),
        }
    }

    #[test]
    fn while_a_restore_goes_on_the_database_runs_and_no_node_does() {
        let mut stored = stored();
        stored.begin_restore("one", Some("1"));
        assert!(stored.is_up());
        assert_eq!(stored.stopped, [UnitId::Node(1), UnitId::Node(2)].into());
        assert_eq!(stored.out_for_restore(), [UnitId::Node(1)].into());
        stored.end_restore(&restored());
        assert_eq!(stored.out_for_restore(), BTreeSet::new());
    }

    #[test]
    fn what_was_wished_before_comes_back_also_after_a_restore_that_was_killed() {
        let mut stored = stored();
        let before = stored.stopped.clone();
        stored.begin_restore("one", Some("1"));
        stored.begin_restore("two", Some("2"));
        assert_eq!(stored.backups.restoring.as_ref().unwrap().set, "two");
        stored.end_restore(&restored());
        assert_eq!(
            (&stored.stopped, &stored.backups.restoring),
            (&before, &None)
        );
    }

    #[test]
    fn the_key_and_the_version_are_those_of_the_data_that_came_back() {
        let mut stored = stored();
        let data = Data::of(stored.spec.as_ref().unwrap());
        stored.begin_restore("one", Some("1"));
        stored.end_restore(&restored());
        let older = Secret::new("older");
        assert_eq!(stored.master_key(), Some(&older));
        assert_eq!(stored.ran_on(&data).unwrap().version, "2026.2.7");
        let nodes = &stored.spec.as_ref().unwrap().nodes;
        assert!(nodes.iter().all(|node| node.env[MASTER_KEY] == older));
        let newer = stored.keys.find(&Secret::new("newer")).unwrap();
        assert!(newer.gone, "it is kept and binds nobody");
        assert_eq!(stored.keys.proven_for(&data), None);
    }

    #[test]
    fn files_alone_change_neither_key_nor_version_and_an_end_without_a_beginning_nothing() {
        let mut stored = stored();
        let before = stored.clone();
        stored.end_restore(&restored());
        assert_eq!(stored, before);
        stored.begin_restore("one", Some("1"));
        stored.end_restore(&Restored::default());
        assert_eq!((&stored.keys, &stored.ran), (&before.keys, &before.ran));
    }
}
