//! What every command begins with: the environment, the project, the `.env` files, the way to the daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use super::args::Args;
use super::outcome::CONFIGURATION;
use super::outcome::Failure;
use super::outcome::USAGE;
use crate::api::client::Client;
use crate::config::project;
use crate::config::project::ProjectName;
use crate::daemon::paths::Paths;
use crate::dotenv;
use crate::dotenv::Vars;
use crate::engine::Engine;
use crate::engine::connect;

/// What every command needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// The process environment.
    pub env: BTreeMap<String, String>,
    /// The project.
    pub project: ProjectName,
    /// Whether its name was given on purpose.
    pub name_on_purpose: bool,
    /// The project directory, absolute.
    pub directory: PathBuf,
    /// The project's files.
    pub paths: Paths,
    /// The daemon, if there is one.
    pub client: Client,
    env_files: Vec<PathBuf>,
}

/// Variables and where they were written.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// The process environment merged over the files.
    pub vars: Vars,
    /// `.env:12` for each variable of a file.
    pub origins: BTreeMap<String, String>,
    /// Names that a file uses and nothing sets.
    pub unset: Vec<String>,
}

impl Context {
    /// Finds the project. The `.env` is read here only for `COMPOSE_PROJECT_NAME`, and a broken one is no failure yet.
    pub fn new(args: &Args) -> Result<Self, Failure> {
        let env = environment();
        let given = args.project_directory.clone().unwrap_or_else(|| PathBuf::from("."));
        let directory = std::fs::canonicalize(&given)
            .map_err(|error| Failure::new(USAGE, format!("--project-directory {}: {error}", given.display())))?;
        let files = args.env_file.clone();
        let named_in_file =
            read(&directory, &files, &env).ok().and_then(|read| read.vars.get("COMPOSE_PROJECT_NAME").cloned());
        let variable = env.get("COMPOSE_PROJECT_NAME").cloned().or(named_in_file);
        let base = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (project, name_on_purpose) = project::resolve(args.project_name.as_deref(), variable.as_deref(), &base)
            .map_err(|problem| Failure::problems(&[problem]))?;
        let paths = Paths::of(&project, &env);
        let client = Client::at(paths.socket());
        Ok(Self { env, project, name_on_purpose, directory, paths, client, env_files: files })
    }

    /// All variables, or what is wrong with a file.
    pub fn variables(&self) -> Result<Variables, Failure> {
        read(&self.directory, &self.env_files, &self.env).map_err(|why| Failure::new(CONFIGURATION, why))
    }

    /// A connection of our own to the engine.
    pub async fn engine(&self) -> Result<Engine, Failure> {
        Ok(Engine::connect(connect::endpoint(&self.env)).await?)
    }

    /// The options that make another octo-local speak of the same project.
    pub fn same_project(&self) -> Vec<String> {
        vec!["-p".to_owned(), self.project.to_string()]
    }
}

/// The process environment. What is not UTF-8 cannot be one of ours.
#[expect(clippy::disallowed_methods, reason = "the one home of the process environment")]
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The files in order: those given, else `.env` of the project directory if it is there.
fn read(directory: &Path, files: &[PathBuf], env: &BTreeMap<String, String>) -> Result<Variables, String> {
    let default = directory.join(".env");
    let skip = env.get("COMPOSE_DISABLE_ENV_FILE").is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    let paths: Vec<&Path> = match files {
        [] if default.is_file() && !skip => vec![&default],
        [] => Vec::new(),
        files => files.iter().map(PathBuf::as_path).collect(),
    };
    let mut contents = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))?;
        let name = path.strip_prefix(directory).unwrap_or(path).display().to_string();
        contents.push((name, bytes));
    }
    let sources: Vec<dotenv::Source<'_>> =
        contents.iter().map(|(name, bytes)| dotenv::Source { name, bytes }).collect();
    let parsed = dotenv::parse(&sources, env).map_err(|error| error.to_string())?;
    let origins = parsed.origins.iter().map(|(key, origin)| (key.clone(), format!("{}:{}", origin.file, origin.line)));
    Ok(Variables { origins: origins.collect(), vars: dotenv::merge(&parsed.vars, env), unset: parsed.unset })
}
