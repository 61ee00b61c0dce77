//! Whether something starts the stack after a reboot: a systemd unit that runs this project's
//! daemon and is enabled.

use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::context::Context;

/// The units of the system's manager.
const SYSTEM: &str = "/etc/systemd/system";

/// What is set up for the boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// The unit that starts this project's daemon.
    pub unit: Option<String>,
}

impl Boot {
    /// Looks for it. Only files are read: a unit is enabled when a target wants it.
    pub fn of(context: &Context) -> Self {
        let home = context
            .env
            .get("HOME")
            .map(|home| Path::new(home).join(".config"));
        let config = context
            .env
            .get("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or(home);
        let user = config.map(|config| config.join("systemd/user"));
        let mut roots = vec![PathBuf::from(SYSTEM)];
        roots.extend(user);
        Self {
            unit: roots
                .iter()
                .find_map(|root| enabled(root, context.project.as_str())),
        }
    }

    /// What a person is told when nothing is set up.
    pub fn line(&self) -> Option<String> {
        self.unit
            .is_none()
            .then(|| "not set up, see `octo-local systemd`".to_owned())
    }
}

/// The enabled unit under a manager's directory that runs the project's daemon.
fn enabled(root: &Path, project: &str) -> Option<String> {
    let files = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let wants = files(root.to_owned())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "wants"));
    let units = wants.flat_map(|dir| files(dir).map(|entry| entry.path()));
    units
        .filter(|path| path.extension().is_some_and(|ending| ending == "service"))
        .find(|path| std::fs::read_to_string(path).is_ok_and(|text| runs(&text, project)))
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
}

/// Whether a unit's text runs the daemon of a project.
fn runs(text: &str, project: &str) -> bool {
    let words = format!(" -p {project} daemon");
    text.lines()
        .filter(|line| line.starts_with("ExecStart="))
        .any(|line| line.trim_end().ends_with(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_enabled_unit_of_this_project_counts() {
        let dir = tempfile::tempdir().unwrap();
        let wants = dir.path().join("multi-user.target.wants");
        std::fs::create_dir(&wants).unwrap();
        let unit = "[Service]\nExecStart=/usr/local/bin/octo-local -p octo daemon\n";
        std::fs::write(dir.path().join("octo-local-octo.service"), unit).unwrap();
        assert_eq!(enabled(dir.path(), "octo"), None, "installed, not enabled");
        std::fs::write(wants.join("octo-local-octo.service"), unit).unwrap();
        let found = enabled(dir.path(), "octo");
        assert_eq!(found.as_deref(), Some("octo-local-octo.service"));
        assert_eq!(enabled(dir.path(), "oct"), None);
        assert_eq!(enabled(&dir.path().join("nowhere"), "octo"), None);
    }
}
