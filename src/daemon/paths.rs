//! Where a project keeps its state and its socket.
//!
//! State: `OCTO_LOCAL_STATE_DIR`, else `/var/lib/octo-local` for root, else
//! `$XDG_STATE_HOME/octo-local`, else `~/.local/state/octo-local`. Runtime:
//! `OCTO_LOCAL_RUNTIME_DIR`, else `/run/octo-local` for root, else `$XDG_RUNTIME_DIR/octo-local`,
//! else `run` in the state directory. Both have one directory a project, 0700.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::config::project::ProjectName;

/// The files of one project.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The project's state directory.
    pub state: PathBuf,
    /// The project's runtime directory.
    pub runtime: PathBuf,
}

impl Paths {
    /// Chooses the directories. `env` is the process environment.
    pub fn of(project: &ProjectName, env: &BTreeMap<String, String>) -> Self {
        let root = rustix::process::geteuid().is_root();
        let var = |key: &str| {
            env.get(key)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = var("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let state = var("OCTO_LOCAL_STATE_DIR").unwrap_or_else(|| {
            if root {
                return PathBuf::from("/var/lib/octo-local");
            }
            var("XDG_STATE_HOME")
                .unwrap_or_else(|| home.join(".local/state"))
                .join("octo-local")
        });
        let runtime = var("OCTO_LOCAL_RUNTIME_DIR").unwrap_or_else(|| {
            if root {
                return PathBuf::from("/run/octo-local");
            }
            var("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |dir| dir.join("octo-local"))
        });
        Self {
            state: state.join(project.as_str()),
            runtime: runtime.join(project.as_str()),
        }
    }

    /// Makes both directories, for their owner only. One that is there already must be as private:
    /// whoever can write to it could put a socket or a state file of their own there.
    pub fn create(&self) -> std::io::Result<()> {
        for dir in [&self.state, &self.runtime] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
            let found = std::fs::metadata(dir)?;
            let own = rustix::process::geteuid().as_raw();
            if let Some(why) = why_not_private(found.uid(), found.mode(), own) {
                let why = format!("{}: {why}", dir.display());
                return Err(std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    why,
                ));
            }
        }
        Ok(())
    }

    /// Where the state directory of each project is.
    pub fn root(&self) -> PathBuf {
        self.state.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// The front door's control socket.
    pub fn front_door(&self) -> PathBuf {
        self.runtime.join("web.sock")
    }

    /// The front door's log.
    pub fn front_door_log(&self) -> PathBuf {
        self.state.join("web.log")
    }

    /// Where the front door writes requests, in a directory of its own.
    pub fn access_log(&self) -> PathBuf {
        self.state.join("access").join("access.log")
    }

    /// The lock that one daemon of the project holds; its text names the owner.
    pub fn lock(&self) -> PathBuf {
        self.state.join("daemon.lock")
    }

    /// The state file.
    pub fn store(&self) -> PathBuf {
        self.state.join("state.json")
    }

    /// What is kept of an adoption.
    pub fn adopted(&self) -> PathBuf {
        self.state.join("adopted.json")
    }

    /// What is kept of a handover to a cluster.
    pub fn handover(&self) -> PathBuf {
        self.state.join("handover.json")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.state.join("daemon.log")
    }

    /// The history of what the daemon saw and did.
    pub fn events(&self) -> PathBuf {
        self.state.join("events.jsonl")
    }
}

/// What is wrong with a directory that is to be ours alone, with this owner and mode.
fn why_not_private(uid: u32, mode: u32, own: u32) -> Option<String> {
    if uid != own {
        return Some(format!(
            "it belongs to the user with uid {uid}; look at OCTO_LOCAL_STATE_DIR, OCTO_LOCAL_RUNTIME_DIR and XDG_RUNTIME_DIR"
        ));
    }
    let is_open = mode & 0o002 != 0;
    is_open.then(|| "everybody may write to it; `chmod 700` it".to_owned())
}

/// The size from which a bounded file is set aside: the newer half megabyte and the older one are
/// kept.
pub const LOG_LIMIT: u64 = 512 * 1024;

/// The file's predecessor, kept when it grew too large.
pub fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_of_somebody_else_is_no_place_for_secrets() {
        assert_eq!(why_not_private(1000, 0o40700, 1000), None);
        assert_eq!(why_not_private(1000, 0o40755, 1000), None);
        let why = why_not_private(1001, 0o40700, 1000).unwrap();
        assert!(
            why.contains("uid 1001") && why.contains("XDG_RUNTIME_DIR"),
            "{why}"
        );
        assert!(why_not_private(1000, 0o40777, 1000).is_some());
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            state: dir.path().join("s/p"),
            runtime: dir.path().join("r/p"),
        };
        paths.create().unwrap();
        let mode = std::fs::metadata(&paths.runtime).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::set_permissions(&paths.runtime, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = paths.create().unwrap_err();
        assert!(error.to_string().contains("everybody may write"), "{error}");
    }
}
