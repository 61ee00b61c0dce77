//! Who else supervises a project: root's daemon, or another user's. Each has a socket of its owner
//! only, so it cannot be asked; but the name that keeps a second daemon out tells whose it is.

use std::os::unix::fs::MetadataExt as _;

use crate::config::project::ProjectName;
use crate::daemon::run;
use crate::engine::Endpoint;

/// A daemon of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    uid: u32,
    pid: i32,
}

/// The daemon of another user that supervises a project on an engine.
pub fn another(project: &ProjectName, endpoint: &Endpoint) -> Option<Other> {
    let run::Holder { uid, pid } = run::holder_of_name(project, endpoint)?;
    let is_another = uid != rustix::process::geteuid().as_raw();
    (is_another && may_use(endpoint, uid, pid)).then_some(Other { uid, pid })
}

/// Whether a process may speak to the engine. Anybody can listen under a name; who may not use the
/// engine supervises nothing on it, and keeps nobody out. Where that cannot be known it may.
fn may_use(endpoint: &Endpoint, uid: u32, pid: i32) -> bool {
    let socket = endpoint.identity().strip_prefix("unix://");
    let Some(socket) = socket.and_then(|path| std::fs::metadata(path).ok()) else {
        return true;
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let socket = Access {
        mode: socket.mode(),
        owner: socket.uid(),
        group: socket.gid(),
    };
    socket.lets_in(uid, &groups(&status))
}

/// Who may connect to a socket (unix(7): the right to write).
#[derive(Clone, Copy, Debug)]
struct Access {
    mode: u32,
    owner: u32,
    group: u32,
}

impl Access {
    fn lets_in(self, uid: u32, groups: &[u32]) -> bool {
        let right = match uid {
            0 => return true,
            uid if uid == self.owner => 0o200,
            _ if groups.contains(&self.group) => 0o020,
            _ => 0o002,
        };
        self.mode & right != 0
    }
}

/// The groups of a process (proc(5), `status`).
fn groups(status: &str) -> Vec<u32> {
    let of_groups = |line: &&str| line.starts_with("Gid:") || line.starts_with("Groups:");
    let words = status.lines().filter(of_groups);
    let words = words.flat_map(str::split_whitespace);
    words.filter_map(|word| word.parse().ok()).collect()
}

impl Other {
    /// Whose it is, and how it is asked.
    pub fn line(&self, project: &str) -> String {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, pid) = (self.uid, self.pid);
        let who = match user_of(&passwd, uid) {
            Some(name) => format!("{name} (uid {uid})"),
            None => format!("the user with uid {uid}"),
        };
        let sudo = match uid {
            0 => "sudo".to_owned(),
            uid => format!("sudo -u '#{uid}'"),
        };
        format!(
            "a daemon of {who}, process {pid}, supervises this stack; ask it with `{sudo} octo-local -p {project} …`"
        )
    }
}

/// The name of a user, passwd(5).
fn user_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_use_the_engine_supervises_nothing_on_it() {
        let docker = Access {
            mode: 0o140_660,
            owner: 0,
            group: 998,
        };
        let status =
            "Uid:\t1001\t1001\t1001\t1001\nGid:\t1001\t1001\t1001\t1001\nGroups:\t27 998 \n";
        assert!(docker.lets_in(1001, &groups(status)));
        assert!(docker.lets_in(0, &[]));
        assert!(!docker.lets_in(65534, &groups("Gid:\t65534\nGroups:\t \n")));
        let rootless = Access {
            owner: 1001,
            ..docker
        };
        assert!(rootless.lets_in(1001, &[]) && !rootless.lets_in(1002, &[]));
        let open = Access {
            mode: 0o140_666,
            ..docker
        };
        assert!(open.lets_in(65534, &[]));
    }

    #[test]
    fn the_owner_of_another_daemon_is_named_and_how_to_ask_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nops:x:1001:1001::/home/ops:/bin/sh\n";
        assert_eq!(user_of(passwd, 1001), Some("ops"));
        assert_eq!(user_of(passwd, 1002), None);
        let line = Other { uid: 0, pid: 7 }.line("octo");
        assert!(
            line.contains("uid 0") && line.contains("`sudo octo-local -p octo"),
            "{line}"
        );
        let line = Other {
            uid: 4_000_000,
            pid: 7,
        }
        .line("octo");
        assert!(
            line.contains("uid 4000000") && line.contains("sudo -u '#4000000'"),
            "{line}"
        );
    }
}
