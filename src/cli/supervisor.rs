//! Who else supervises a project: root's daemon, or another user's. Each has a socket of its owner
//! only, so it cannot be asked; but the name that keeps a second daemon out tells whose it is.

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
    (uid != rustix::process::geteuid().as_raw()).then_some(Other { uid, pid })
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
