//! What every command begins with: the environment, the project, the `.env` files, the way to the
//! daemon.

use std::collections::BTreeMap;

use crate::api::client::Client;
use crate::cli::args::Args;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::Failure;
use crate::cli::outcome::USAGE;
use crate::cli::variables::Files;
use crate::cli::variables::Variables;
use crate::cli::variables::environment;
use crate::config::project;
use crate::config::project::ProjectName;
use crate::daemon::paths::Paths;
use crate::daemon::store;
use crate::daemon::store::Stored;
use crate::engine::Endpoint;
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
    /// Where its variables are.
    pub files: Files,
    /// Whether the project directory was named, rather than taken for granted.
    pub directory_on_purpose: bool,
    /// The project's files.
    pub paths: Paths,
    /// The daemon, if there is one.
    pub client: Client,
}

impl Context {
    /// Finds the project. The `.env` is read here only for `COMPOSE_PROJECT_NAME`, and a broken one
    /// is no failure yet.
    pub fn new(args: &Args) -> Result<Self, Failure> {
        let env = environment();
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
            paths,
            client,
        })
    }

    /// All variables, or what is wrong with a file.
    pub fn variables(&self) -> Result<Variables, Failure> {
        self.files.read(&self.env)
    }

    /// Where the engine is that is meant.
    pub fn endpoint(&self) -> Endpoint {
        connect::endpoint(&self.env)
    }

    /// A connection of our own to the engine.
    pub async fn engine(&self) -> Result<Engine, Failure> {
        Ok(Engine::connect(self.endpoint()).await?)
    }

    /// What is kept of the project: the daemon knows it also when its file is gone. Only looks.
    pub async fn applied(&self) -> Option<Stored> {
        match self.client.get("/v1/stored").await {
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
}
