//! Whether data can be where a person wants it: the place is there, and who runs on it may write.

use super::problem;
use crate::config::Problem;
use crate::config::storage::Kind;
use crate::spec::ExtraMount;
use crate::spec::Storage;

/// The user of SQL Server's images since 2019, and the groups that its process may be of: the second
/// one up to 2022 CU10 (learn.microsoft.com, "non-root containers").
const MSSQL: u32 = 10001;
const MSSQL_GROUPS: [u32; 2] = [10001, 0];
/// What a directory's owner, its group or all others need: to read, write and enter it.
const ALL: u32 = 0o7;

/// What this host shows of a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// It cannot be seen from here.
    #[default]
    Unknown,
    /// There is no such place.
    Absent,
    /// There is something else.
    NoDirectory,
    /// A volume of the project's own.
    Ours,
    /// It is there.
    There {
        /// The user and the group that it belongs to.
        owner: (u32, u32),
        /// Its permissions.
        mode: u32,
        /// There is nothing in it.
        is_empty: bool,
    },
}

/// Who runs on a place: a user, and the groups that it may be of. Nobody is known where the image
/// names a user that only it knows; root may write everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// Root, or somebody whom only the image knows.
    Unjudged,
    /// This user.
    User(u32, Vec<u32>),
}

impl Runner {
    /// SQL Server, by the user that its image names; none where it is not there to be asked.
    pub fn of_sql(user: Option<&str>) -> Self {
        match user {
            Some("" | "root" | "0") => Self::Unjudged,
            None | Some("mssql") => Self::User(MSSQL, MSSQL_GROUPS.to_vec()),
            Some(user) => Self::numeric(user),
        }
    }

    /// A node, by `CONTAINER_USER`.
    pub fn of_nodes(user: Option<&str>) -> Self {
        user.map_or(Self::Unjudged, Self::numeric)
    }

    fn numeric(user: &str) -> Self {
        let (user, group) = user.split_once(':').unwrap_or((user, "0"));
        match (user.parse(), group.parse()) {
            (Ok(user), Ok(group)) if user != 0 => Self::User(user, vec![group]),
            _ => Self::Unjudged,
        }
    }

    fn may_write(&self, owner: (u32, u32), mode: u32) -> bool {
        let Self::User(user, groups) = self else {
            return true;
        };
        let bits = if owner.0 == *user {
            mode >> 6
        } else if groups.contains(&owner.1) {
            mode >> 3
        } else {
            mode
        };
        bits & ALL == ALL
    }
}

/// Whether data is there. What cannot be seen is taken for data: nobody is to get a new key for it.
pub fn has_data(look: Look) -> bool {
    match look {
        Look::Unknown
        | Look::Ours
        | Look::There {
            is_empty: false, ..
        } => true,
        Look::Absent | Look::NoDirectory | Look::There { is_empty: true, .. } => false,
    }
}

/// What is wrong with a place, if anything is. A volume that is empty gets its owner from the image;
/// a directory does not.
pub fn unfit(kind: &Kind, storage: &Storage, look: Look, runner: &Runner) -> Option<Problem> {
    let told = |why: String, fix: String| {
        let mut told = problem(kind.variable, why, fix);
        told.value = Some(storage.source().to_owned());
        told
    };
    match (storage, look) {
        (Storage::Ours(_), _) | (_, Look::Unknown) => None,
        (Storage::Theirs(name), Look::Absent | Look::NoDirectory) => Some(told(
            "there is no volume of this name, and octo-local makes none that is not its own"
                .to_owned(),
            format!(
                "correct it, make it with `docker volume create {name}`, or leave it out for one of octo-local's own"
            ),
        )),
        (_, Look::Ours) => Some(told(
            "it is a volume of octo-local's own, and would be taken for somebody else's".to_owned(),
            "leave the variable out: it is used anyway".to_owned(),
        )),
        (Storage::Directory(path), Look::Absent) => Some(told(
            "there is no such directory on this host".to_owned(),
            match runner {
                Runner::User(user, _) => format!(
                    "is its disk mounted? else make it: `mkdir -p {path} && chown {user} {path}`"
                ),
                Runner::Unjudged => format!("is its disk mounted? else make it: `mkdir -p {path}`"),
            },
        )),
        (Storage::Directory(_), Look::NoDirectory) => Some(told(
            "it is no directory".to_owned(),
            "name a directory".to_owned(),
        )),
        (Storage::Directory(path), Look::There { owner, mode, .. })
            if !runner.may_write(owner, mode) =>
        {
            let Runner::User(user, _) = runner else {
                return None;
            };
            let who = if kind.of_sql {
                "SQL Server"
            } else {
                "Octopus Server"
            };
            Some(told(
                format!(
                    "{who} runs as user {user} and may not write there: it belongs to {}:{}, mode {:o}",
                    owner.0,
                    owner.1,
                    mode & 0o777
                ),
                format!("`chown -R {user} {path}` and `chmod u+rwx {path}`"),
            ))
        }
        (Storage::Theirs(_) | Storage::Directory(_), Look::There { .. }) => None,
    }
}

/// What is wrong with something that is to be mounted beside the stack's own. A file is as good as
/// a directory.
pub fn missing(mount: &ExtraMount, look: Look) -> Option<Problem> {
    let (why, fix) = match (&mount.source, look) {
        (Storage::Directory(_), Look::Absent | Look::Ours) => (
            "there is nothing at this path on this host",
            "is its disk mounted? else make it, or correct the path",
        ),
        (Storage::Theirs(_) | Storage::Ours(_), Look::Absent | Look::NoDirectory) => (
            "there is no volume of this name, and octo-local makes none that is not its own",
            "correct it, or make it with `docker volume create`",
        ),
        (_, Look::Ours) => (
            "it is a volume of octo-local's own, which is mounted where it belongs",
            "leave it out",
        ),
        (_, Look::Unknown | Look::NoDirectory | Look::There { .. }) => return None,
    };
    let mut told = problem("EXTRA_MOUNTS", why, fix);
    told.value = Some(mount.source.source().to_owned());
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::storage::KINDS;

    fn there(owner: (u32, u32), mode: u32) -> Look {
        Look::There {
            owner,
            mode,
            is_empty: true,
        }
    }

    fn sql(look: Look) -> Option<String> {
        let directory = Storage::Directory("/srv/sql".to_owned());
        let runner = Runner::of_sql(Some("mssql"));
        unfit(&KINDS[0], &directory, look, &runner).map(|told| told.to_string())
    }

    #[test]
    fn sql_server_must_be_able_to_write_to_a_directory() {
        for fine in [
            there((10001, 10001), 0o40700),
            there((0, 10001), 0o40770),
            there((0, 0), 0o40770),
            there((7, 7), 0o40777),
            Look::Unknown,
        ] {
            assert_eq!(sql(fine), None, "{fine:?}");
        }
        for (wrong, says) in [
            (there((0, 0), 0o40755), "belongs to 0:0, mode 755"),
            (there((10001, 0), 0o40577), "mode 577"),
            (there((1000, 1000), 0o40750), "chown -R 10001 /srv/sql"),
            (Look::Absent, "mkdir -p /srv/sql && chown 10001"),
            (Look::NoDirectory, "it is no directory"),
        ] {
            let said = sql(wrong).unwrap_or_default();
            assert!(said.starts_with("SQL_DATA=/srv/sql: "), "{said}");
            assert!(said.contains(says), "{wrong:?}: {said}");
        }
    }

    #[test]
    fn root_and_users_that_only_the_image_knows_are_not_judged() {
        let shut = there((1000, 1000), 0o40700);
        let of = |runner: &Runner| {
            let directory = Storage::Directory("/srv/a".to_owned());
            unfit(&KINDS[2], &directory, shut, runner).is_some()
        };
        for fine in [None, Some("octopus"), Some("0"), Some("1000:1000")] {
            assert!(!of(&Runner::of_nodes(fine)), "{fine:?}");
        }
        assert!(of(&Runner::of_nodes(Some("999"))));
        assert!(!of(&Runner::of_sql(Some(""))) && of(&Runner::of_sql(None)));
    }

    #[test]
    fn a_volume_that_is_not_there_is_refused_and_one_that_is_there_not_judged() {
        let of = |storage: &Storage, look| {
            unfit(&KINDS[0], storage, look, &Runner::of_sql(None)).is_some()
        };
        let theirs = Storage::Theirs("shop_sqlvolume".to_owned());
        assert!(of(&theirs, Look::Absent) && of(&theirs, Look::Ours));
        assert!(!of(&theirs, there((0, 0), 0o40755)) && !of(&theirs, Look::Unknown));
        assert!(!of(&Storage::Ours("p_sql-data".to_owned()), Look::Absent));
    }

    #[test]
    fn what_is_mounted_besides_must_be_there_and_may_be_a_file() {
        let of = |source: Storage, look| {
            let mount = ExtraMount {
                source,
                ..ExtraMount::default()
            };
            missing(&mount, look).map(|told| told.to_string())
        };
        let directory = || Storage::Directory("/srv/tools".to_owned());
        let gone = of(directory(), Look::Absent).unwrap();
        assert!(
            gone.starts_with("EXTRA_MOUNTS=/srv/tools: there is nothing"),
            "{gone}"
        );
        for fine in [Look::NoDirectory, Look::Unknown, there((7, 7), 0o40000)] {
            assert_eq!(of(directory(), fine), None);
        }
        let volume = || Storage::Theirs("tools".to_owned());
        assert!(of(volume(), Look::Absent).is_some() && of(volume(), Look::Ours).is_some());
        assert_eq!(of(volume(), Look::Unknown), None);
    }

    #[test]
    fn what_cannot_be_seen_counts_as_data() {
        assert!(has_data(Look::Unknown) && !has_data(there((0, 0), 0o755)));
        assert!(!has_data(Look::Absent));
    }
}
