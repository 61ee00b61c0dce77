//! What every command begins with: the environment, the project, the `.env` files, the way to the
//! daemon.

use crate::api::route;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use crate::adopt::Record;
use crate::api::client::Client;
use crate::cli::adopted;
use crate::cli::args::Args;
use crate::cli::environment::environment;
use crate::cli::handed_over;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::USAGE;
use crate::cli::supervisor;
use crate::cli::variables::Files;
use crate::cli::variables::Variables;
use crate::config::project;
use crate::config::project::ProjectName;
use crate::daemon::paths::Paths;
use crate::daemon::store;
use crate::daemon::store::Stored;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::connect;
use crate::kubernetes::handover::Handover;

/// What every command needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// The process environment.
    pub env: BTreeMap<String, String>,
    /// The project.
    pub project: ProjectName,
    /// Whether its name was given on purpose.
    pub name_on_purpose: bool,
    /// Where its variables are.
    pub files: Files,
    /// Whether the project directory was named, rather than taken for granted.
    pub directory_on_purpose: bool,
    /// The project's files.
    pub paths: Paths,
    /// What is kept of its adoption, or why that cannot be read.
    pub adopted: Result<Option<Record>, String>,
    /// What is kept of its handover to a cluster, or why that cannot be read.
    pub handover: Result<Option<Handover>, String>,
    /// The daemon, if there is one.
    pub client: Client,
}

impl Context {
    /// Finds the project. The `.env` is read here only for `COMPOSE_PROJECT_NAME`, and a broken one
    /// is no failure yet.
    pub fn new(args: &Args) -> Result<Self, Failure> {
        let env = with_absolute_places(environment());
        let files = Files::of(args)?;
        let variable = files.project_name(&env);
        let base = files
            .directory
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let flag = args.project_name.as_deref();
        let code = if flag.is_some() { USAGE } else { CONFIGURATION };
        let (project, name_on_purpose) = project::resolve(flag, variable.as_deref(), &base)
            .map_err(|problem| Failure::new(code, problem.to_string()))?;
        let paths = Paths::of(&project, &env);
        let client = Client::at(paths.socket());
        let directory_on_purpose = args.project_directory.is_some() || !args.env_file.is_empty();
        Ok(Self {
            env,
            project,
            name_on_purpose,
            files,
            directory_on_purpose,
            adopted: adopted::read(&paths.adopted()),
            handover: handed_over::read(&paths.handover()),
            paths,
            client,
        })
    }

    /// All variables, or what is wrong with a file.
    pub fn variables(&self) -> Result<Variables, Failure> {
        let mut variables = self.files.read(&self.env)?;
        if let Some(record) = self.adopted()? {
            adopted::fill_in(&mut variables, &record.variables);
        }
        Ok(variables)
    }

    /// What is kept of its adoption.
    pub fn adopted(&self) -> Result<Option<&Record>, Failure> {
        let kept = self.adopted.as_ref();
        kept.map(Option::as_ref)
            .map_err(|why| Failure::new(FAILED, why.as_str()))
    }

    /// Refuses while an adoption, or the way back, is not finished: nothing may run on data that is
    /// half moved.
    pub fn must_not_be_moving(&self) -> Result<(), Failure> {
        match self.adopted()?.and_then(Record::in_the_way) {
            Some(why) => Err(Failure::new(CONFIGURATION, why)),
            None => Ok(()),
        }
    }

    /// What is kept of its handover to a cluster.
    pub fn handover(&self) -> Result<Option<&Handover>, Failure> {
        let kept = self.handover.as_ref();
        kept.map(Option::as_ref)
            .map_err(|why| Failure::new(FAILED, why.as_str()))
    }

    /// Refuses while a cluster has the stack, or is about to: two servers on one identity must never
    /// run.
    pub fn must_not_be_handed_over(&self) -> Result<(), Failure> {
        match self.handover()? {
            Some(kept) => Err(Failure::new(CONFIGURATION, kept.in_the_way())),
            None => Ok(()),
        }
    }

    /// Where the engine is that is meant.
    pub fn endpoint(&self) -> Endpoint {
        connect::endpoint(&self.env)
    }

    /// A connection of our own to the engine.
    pub async fn engine(&self) -> Result<Engine, Failure> {
        let endpoint = self.endpoint();
        let forbidden = may_not_open(&endpoint);
        Engine::connect(endpoint).await.map_err(|error| {
            let mut failure = Failure::from(error);
            if let Some(line) = forbidden {
                failure.lines.truncate(1);
                failure.lines.push(line);
            }
            if let Some(other) = supervisor::another(&self.project, &self.endpoint()) {
                failure.lines.push(other.line(self.project.as_str()));
            }
            failure
        })
    }

    /// What is kept of the project: the daemon knows it also when its file is gone. Only looks.
    pub async fn applied(&self) -> Option<Stored> {
        match self.client.get(route::STORED).await {
            Ok(stored) => Some(stored),
            Err(_) => store::read(&self.paths.store()),
        }
    }

    /// The directory that the stack of this name was made from, when that is another and the name
    /// was not given on purpose.
    pub async fn other_directory(&self) -> Result<Option<String>, Failure> {
        if self.name_on_purpose {
            return Ok(None);
        }
        let applied = self
            .applied()
            .await
            .and_then(|stored| stored.spec)
            .map(|spec| spec.working_dir);
        let made_from = match applied {
            Some(directory) => Some(directory),
            None => self
                .engine()
                .await?
                .origin(&self.project)
                .await?
                .map(|origin| origin.working_dir),
        };
        let here = self.files.directory.display().to_string();
        Ok(made_from.filter(|directory| *directory != here))
    }

    /// Refuses to touch a stack that only happens to have this directory's name.
    pub async fn must_be_from_here(&self) -> Result<(), Failure> {
        let Some(other) = self.other_directory().await? else {
            return Ok(());
        };
        let project = &self.project;
        let line = format!(
            "{project} was made from {other}; go there, or name it on purpose with -p {project}"
        );
        Err(Failure::new(CONFIGURATION, line))
    }

    /// The options that make another octo-local speak of the same project.
    pub fn same_project(&self) -> Vec<String> {
        vec!["-p".to_owned(), self.project.to_string()]
    }

    /// The variables that make it keep state and socket in the same places, wherever it runs.
    pub fn same_places(&self) -> [(&'static str, PathBuf); 2] {
        let base = |path: &Path| path.parent().unwrap_or(path).to_owned();
        [
            (STATE_DIR, base(&self.paths.state)),
            (RUNTIME_DIR, base(&self.paths.runtime)),
        ]
    }
}

/// The variable that says where state is kept.
const STATE_DIR: &str = "OCTO_LOCAL_STATE_DIR";
/// The variable that says where the control socket is.
const RUNTIME_DIR: &str = "OCTO_LOCAL_RUNTIME_DIR";

/// A place that is given relative to this directory means the same one to a daemon, which runs
/// elsewhere.
fn with_absolute_places(mut env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for key in [STATE_DIR, RUNTIME_DIR] {
        let Some(value) = env.get_mut(key).filter(|value| !value.is_empty()) else {
            continue;
        };
        if let Ok(path) = std::path::absolute(&*value) {
            *value = path.display().to_string();
        }
    }
    env
}

/// What helps whoever may not open the engine's socket: that it is not down.
fn may_not_open(endpoint: &Endpoint) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let path = endpoint.url().strip_prefix("unix://")?;
    let error = std::os::unix::net::UnixStream::connect(path).err()?;
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return None;
    }
    let file = std::fs::metadata(path).ok();
    let group = file.and_then(|file| {
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        group_of(&groups, file.gid()).map(str::to_owned)
    });
    let group = group.unwrap_or_else(|| "docker".to_owned());
    Some(format!(
        "you may not open {path}: join the group that may, `sudo usermod -aG {group} $USER`, and log in anew; or call octo-local with sudo"
    ))
}

/// The name of a group that is not root's own, group(5).
fn group_of(groups: &str, gid: u32) -> Option<&str> {
    groups.lines().filter(|_| gid != 0).find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_absolute_before_anything_uses_them() {
        let env = |value: &str| BTreeMap::from([(STATE_DIR.to_owned(), value.to_owned())]);
        let here = std::env::current_dir().unwrap().join("s");
        let made = with_absolute_places(env("s"));
        assert_eq!(made[STATE_DIR], here.display().to_string());
        assert_eq!(with_absolute_places(env("/srv/s")), env("/srv/s"));
        assert_eq!(with_absolute_places(env("")), env(""));
    }

    #[test]
    fn the_group_of_a_socket_is_named() {
        let groups = "root:x:0:\ndocker:x:998:me\n";
        assert_eq!(group_of(groups, 998), Some("docker"));
        assert_eq!(group_of(groups, 0), None);
    }
}
