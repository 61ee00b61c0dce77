//! What another version of Octopus Server needs before anything is out for it: a backup that can be
//! made, and a licence that Octopus Server upgrades with.

use super::Asked;
use super::Facts;
use super::problem;
use crate::backup::progress::size;
use crate::backup::run::MARGIN;
use crate::config::Problem;
use crate::config::licence;
use crate::daemon::store::Data;
use crate::daemon::store::Stored;

/// What was found out about the backup that comes before an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saving {
    /// The directory that it goes to.
    pub place: String,
    /// Why nothing can be written there.
    pub unwritable: Option<String>,
    /// Bytes that are free there.
    pub free: Option<u64>,
    /// Bytes of the database's files.
    pub database: Option<u64>,
    /// Bytes that are free where SQL Server writes its part of it first.
    pub server_free: Option<u64>,
    /// The newest whole set of the project, which tells how much the files are, and how small all
    /// becomes.
    pub last: Option<LastSet>,
}

/// What a set has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastSet {
    /// Bytes as they are stored.
    pub stored: u64,
    /// Bytes of what they hold.
    pub plain: u64,
    /// Bytes of the database among these.
    pub database: u64,
}

/// A node that Octopus Server lists as one that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Online {
    /// Its name there.
    pub name: String,
}

pub(super) fn judge(
    asked: &Asked<'_>,
    stored: &Stored,
    facts: &Facts,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) {
    if !is_upgrade(asked, stored) {
        return;
    }
    licence(asked, problems);
    notes.extend(others(asked, stored, &facts.versions.online));
    let is_begun = stored.backups.upgrades.migrating().is_some();
    let saving = facts.versions.saving.as_ref();
    if let Some(saving) = saving.filter(|_| !asked.no_backup && !is_begun) {
        problems.extend(room(saving));
    }
}

/// Whether another image is asked for than the one that ran on this data last.
fn is_upgrade(asked: &Asked<'_>, stored: &Stored) -> bool {
    let ran = stored.ran_on(&Data::of(asked.spec));
    let wanted = asked.spec.nodes.first();
    ran.zip(wanted)
        .is_some_and(|(ran, wanted)| ran.image != wanted.image)
}

/// Octopus Server refuses to upgrade with a licence that ended, or that allows fewer nodes.
fn licence(asked: &Asked<'_>, problems: &mut Vec<Problem>) {
    const KEY: &str = "OCTOPUS_SERVER_BASE64_LICENSE";
    let octopus = &asked.config.octopus;
    let read = octopus
        .licence
        .as_ref()
        .map(|one| licence::read(one.expose()));
    let (Some(Ok(licence)), false) = (read, asked.config.demo) else {
        return;
    };
    let ended = licence
        .valid_to
        .zip(asked.today)
        .filter(|(end, today)| end < today);
    if let Some((end, _)) = ended {
        problems.push(problem(
            KEY,
            format!("the licence ended on {end}, and Octopus Server does not upgrade with it"),
            "set one that holds; or leave it out where a newer one was entered in Octopus Server itself",
        ));
    }
    let nodes = u32::from(octopus.nodes);
    if let Some(limit) = licence.node_limit.filter(|limit| *limit < nodes) {
        problems.push(problem(
            KEY,
            format!("it allows {limit} of the {nodes} nodes, and Octopus Server does not upgrade with it"),
            "set one that allows as many, or fewer OCTOPUS_NODES",
        ));
    }
}

/// Nodes that run and are none of this stack's: the migration waits for their end, or refuses.
fn others(asked: &Asked<'_>, stored: &Stored, online: &[Online]) -> Vec<String> {
    let of_stack = asked
        .spec
        .nodes
        .iter()
        .chain(stored.spec.iter().flat_map(|spec| &spec.nodes));
    let name = |node: &crate::spec::ContainerSpec| {
        let name = node.env.get("OCTOPUS_SERVER_NODE_NAME");
        name.map(|name| name.expose().to_owned())
    };
    let ours: Vec<String> = of_stack.filter_map(name).collect();
    let strange = online.iter().filter(|node| !ours.contains(&node.name));
    strange
        .map(|node| {
            format!(
                "node {} is none of this stack's and runs, as Octopus Server says: the migration waits for its end, or is \
                 refused; stop it, or delete it under Configuration > Nodes",
                node.name
            )
        })
        .collect()
}

fn room(saving: &Saving) -> Vec<Problem> {
    let mut problems = Vec::new();
    let place = &saving.place;
    if let Some(why) = &saving.unwritable {
        problems.push(problem(
            "backup",
            format!("the backup before the upgrade cannot be written into {place}: {why}"),
            "make it writable; --no-backup does without, and without a way back",
        ));
    }
    let (needed, free) = (needed(saving), saving.free);
    if let (Some(needed), Some(free)) = (needed, free)
        && free < needed
    {
        problems.push(problem(
            "backup",
            format!(
                "the backup before the upgrade needs about {} in {place}, and {} are free",
                size(needed),
                size(free)
            ),
            "make room; --no-backup does without, and without a way back",
        ));
    }
    if let (Some(database), Some(free)) = (saving.database, saving.server_free)
        && free < database
    {
        problems.push(problem(
            "backup",
            format!(
                "SQL Server has {} free for the backup before the upgrade, and its database has {}",
                size(free),
                size(database)
            ),
            "make room on the engine's disk; --no-backup does without, and without a way back",
        ));
    }
    problems
}

/// Bytes that the set will need: the database as large as it is now, the files as large as they were,
/// and all of it as small as the last set became.
fn needed(saving: &Saving) -> Option<u64> {
    let Some(last) = saving.last else {
        return Some(saving.database?.saturating_add(MARGIN));
    };
    let files = last.plain.saturating_sub(last.database);
    let plain = files.saturating_add(saving.database.unwrap_or(last.database));
    let share = u128::from(plain) * u128::from(last.stored) / u128::from(last.plain.max(1));
    let stored = u64::try_from(share).unwrap_or(u64::MAX);
    Some(stored.saturating_add(MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn saving() -> Saving {
        Saving {
            place: "/s/upgrades".to_owned(),
            free: Some(10 * GIB),
            database: Some(GIB),
            server_free: Some(2 * GIB),
            ..Saving::default()
        }
    }

    #[test]
    fn what_is_needed_grows_with_the_database_and_shrinks_as_the_last_set_did() {
        assert_eq!(needed(&Saving::default()), None);
        assert_eq!(needed(&saving()), Some(GIB + MARGIN));
        let last = LastSet {
            stored: 2 * GIB,
            plain: 8 * GIB,
            database: GIB,
        };
        let grown = Saving {
            database: Some(5 * GIB),
            last: Some(last),
            ..saving()
        };
        assert_eq!(needed(&grown), Some(3 * GIB + MARGIN));
    }

    #[test]
    fn every_reason_against_the_backup_is_told_at_once() {
        assert_eq!(room(&saving()), []);
        let bad = Saving {
            unwritable: Some("read-only file system".to_owned()),
            free: Some(GIB),
            server_free: Some(GIB - 1),
            ..saving()
        };
        let words: Vec<String> = room(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), 3);
        for (said, wanted) in words
            .iter()
            .zip(["read-only", "are free", "SQL Server has"])
        {
            assert!(
                said.contains(wanted) && said.contains("--no-backup"),
                "{said}"
            );
        }
    }
}
