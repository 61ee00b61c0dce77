//! Whether the user that nodes are to run as may write into the directories that are there already.
//! It is told before anything is touched: a node that cannot write ends, and it would be one that
//! served.

use super::Asked;
use super::Facts;
use super::problem;
use crate::config::Problem;

/// What of the nodes' directories belongs to whom, as an existing node has them.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// The directories that volumes are mounted at.
    pub directories: Vec<Directory>,
    /// The image's `/etc/passwd`; empty where it has none or could not be asked.
    pub passwd: String,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is in a node.
    pub path: String,
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// Its permissions.
    pub mode: u32,
}

/// A user by number. A group that is not known is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct User {
    uid: u64,
    gid: Option<u64>,
}

pub(super) fn judge(asked: &Asked<'_>, facts: &Facts, problems: &mut Vec<Problem>) {
    let Some(name) = asked.spec.nodes.first().and_then(|node| node.user.as_ref()) else {
        return;
    };
    let Some(user) = user_of(name, &facts.node.owners.passwd) else {
        return;
    };
    let all = facts.node.owners.directories.iter();
    let closed: Vec<&str> = all
        .filter(|directory| !may_write(user, directory))
        .map(|directory| directory.path.as_str())
        .collect();
    let Some(first) = closed.first() else {
        return;
    };
    let uid = user.uid;
    let who = if *name == uid.to_string() {
        format!("uid {uid}")
    } else {
        format!("{name}, uid {uid},")
    };
    problems.push(problem(
        "CONTAINER_USER",
        format!("{who} may not write what is there already: {}", closed.join(", ")),
        format!(
            "give it to that user while the stack is stopped, as with `chown -R {uid} {first}` in a container that mounts \
             the volume; or leave CONTAINER_USER as it was"
        ),
    ));
}

/// A user as the engine reads one (moby `daemon/exec_linux.go`, runc `libcontainer/user`): a name or
/// a number, and perhaps a group after a colon. Without one it is the user's own, or root's for a
/// number that nobody has.
fn user_of(text: &str, passwd: &str) -> Option<User> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let known = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else {
            return None;
        };
        (*name == user || *uid == user).then_some((uid.parse().ok()?, gid.parse().ok()?))
    });
    let (uid, own) = match (known, user.parse()) {
        (Some((uid, gid)), _) => (uid, Some(gid)),
        (None, Ok(uid)) => (uid, Some(0).filter(|_| !passwd.is_empty())),
        (None, Err(_)) => return None,
    };
    let gid = match group {
        Some(group) => group.parse().ok(),
        None => own,
    };
    Some(User { uid, gid })
}

/// Whether a directory can be written into. One whose group decides, where that is not known, can.
fn may_write(user: User, directory: &Directory) -> bool {
    let (owner, group, others) = (0o200, 0o020, 0o002);
    let has = |bit: u32| directory.mode & bit != 0;
    if user.uid == 0 {
        return true;
    }
    if user.uid == directory.uid {
        return has(owner);
    }
    match user.gid {
        Some(gid) if gid == directory.gid => has(group),
        Some(_) => has(others),
        None => has(group) || has(others),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\noctopus:x:999:998::/home/octopus:/bin/sh\n";

    #[test]
    fn a_user_is_read_as_the_engine_reads_it() {
        let user = |uid, gid| Some(User { uid, gid });
        for (text, passwd, expected) in [
            ("octopus", PASSWD, user(999, Some(998))),
            ("999", PASSWD, user(999, Some(998))),
            ("octopus:0", PASSWD, user(999, Some(0))),
            ("octopus:staff", PASSWD, user(999, None)),
            ("1000", PASSWD, user(1000, Some(0))),
            ("1000", "", user(1000, None)),
            ("1000:7", "", user(1000, Some(7))),
            ("octopus", "", None),
            ("nobody", PASSWD, None),
        ] {
            assert_eq!(user_of(text, passwd), expected, "{text}");
        }
    }

    #[test]
    fn a_directory_is_written_by_its_owner_its_group_or_all() {
        let directory = |uid, gid, mode| Directory {
            path: "/repository".to_owned(),
            uid,
            gid,
            mode,
        };
        let user = |uid, gid| User { uid, gid };
        for (user, directory, expected) in [
            (user(0, Some(0)), directory(999, 999, 0o700), true),
            (user(999, Some(0)), directory(999, 999, 0o755), true),
            (user(999, Some(0)), directory(999, 999, 0o555), false),
            (user(999, Some(998)), directory(0, 0, 0o755), false),
            (user(999, Some(0)), directory(0, 0, 0o775), true),
            (user(999, Some(0)), directory(0, 0, 0o757), false),
            (user(999, Some(998)), directory(0, 0, 0o777), true),
            (user(999, None), directory(0, 0, 0o775), true),
            (user(999, None), directory(0, 0, 0o755), false),
        ] {
            assert_eq!(
                may_write(user, &directory),
                expected,
                "{user:?} {directory:?}"
            );
        }
    }
}
