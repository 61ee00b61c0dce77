//! The variables: the process environment over the `.env` files.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::args::Args;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::Failure;
use crate::cli::outcome::USAGE;
use crate::dotenv;
use crate::dotenv::Vars;

/// The variable that names the project.
const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// Where variables are read from.
#[derive(Clone, Debug)]
pub struct Files {
    /// The project directory, absolute.
    pub directory: PathBuf,
    /// What `--env-file` named; else it is `.env` of the directory.
    pub given: Vec<PathBuf>,
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

/// The process environment. What is not UTF-8 cannot be one of ours.
#[expect(
    clippy::disallowed_methods,
    reason = "the one home of the process environment"
)]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Files {
    /// As the arguments say.
    pub fn of(args: &Args) -> Result<Self, Failure> {
        let given = args
            .project_directory
            .clone()
            .unwrap_or_else(|| PathBuf::from("."));
        let directory = std::fs::canonicalize(&given)
            .ok()
            .filter(|directory| directory.is_dir());
        let directory = directory.ok_or_else(|| {
            Failure::new(
                USAGE,
                format!("there is no directory {}; correct it", given.display()),
            )
        })?;
        Ok(Self {
            directory,
            given: args.env_file.clone(),
        })
    }

    /// `.env` of the project directory.
    pub fn default(&self) -> PathBuf {
        self.directory.join(".env")
    }

    /// Whether nothing was named and there is no `.env`: most often a new user, or the wrong
    /// directory.
    pub fn are_missing(&self) -> bool {
        self.given.is_empty() && !self.default().exists()
    }

    /// The files that count, in order.
    fn paths(&self, env: &BTreeMap<String, String>) -> Vec<PathBuf> {
        let skip = env
            .get("COMPOSE_DISABLE_ENV_FILE")
            .is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        match self.given.as_slice() {
            [] if self.default().is_file() && !skip => vec![self.default()],
            [] => Vec::new(),
            given => given.to_vec(),
        }
    }

    /// The files' names, as messages show them, and contents.
    fn contents(&self, env: &BTreeMap<String, String>) -> Result<Vec<(String, Vec<u8>)>, String> {
        let read = |path: PathBuf| {
            let bytes = std::fs::read(&path)
                .map_err(|error| format!("read {}: {error}", path.display()))?;
            Ok((
                path.strip_prefix(&self.directory)
                    .unwrap_or(&path)
                    .display()
                    .to_string(),
                bytes,
            ))
        };
        self.paths(env).into_iter().map(read).collect()
    }

    /// All variables, or what is wrong with a file.
    pub fn read(&self, env: &BTreeMap<String, String>) -> Result<Variables, Failure> {
        let failure = |why: String| Failure::new(CONFIGURATION, why);
        let contents = self.contents(env).map_err(failure)?;
        let sources: Vec<dotenv::Source<'_>> = contents
            .iter()
            .map(|(name, bytes)| dotenv::Source { name, bytes })
            .collect();
        let parsed = dotenv::parse(&sources, env).map_err(|error| failure(error.to_string()))?;
        let origin = |origin: &dotenv::Origin| format!("{}:{}", origin.file, origin.line);
        let origins = parsed
            .origins
            .iter()
            .map(|(key, place)| (key.clone(), origin(place)))
            .collect();
        Ok(Variables {
            origins,
            vars: dotenv::merge(&parsed.vars, env),
            unset: parsed.unset,
        })
    }

    /// What names the project. A file with a mistake in it still does: `down` must not turn to
    /// another project because of it.
    pub fn project_name(&self, env: &BTreeMap<String, String>) -> Option<String> {
        if let Some(name) = env.get(PROJECT_NAME) {
            return Some(name.clone());
        }
        match self.read(env) {
            Ok(read) => read.vars.get(PROJECT_NAME).cloned(),
            Err(_) => self
                .contents(env)
                .ok()?
                .iter()
                .rev()
                .find_map(|(name, bytes)| name_in(name, bytes, env)),
        }
    }

    /// The files of another project directory.
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            given: Vec::new(),
        }
    }
}

/// The name from the lines that set it, whatever the other lines are.
fn name_in(name: &str, bytes: &[u8], env: &BTreeMap<String, String>) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let sets = |line: &&str| {
        line.trim_start()
            .trim_start_matches("export ")
            .trim_start()
            .starts_with(PROJECT_NAME)
    };
    let lines = text.lines().filter(sets).collect::<Vec<_>>().join("\n");
    let parsed = dotenv::parse(
        &[dotenv::Source {
            name,
            bytes: lines.as_bytes(),
        }],
        env,
    )
    .ok()?;
    parsed.vars.get(PROJECT_NAME).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_still_names_its_project() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::at(dir.path());
        for (text, name) in [
            ("COMPOSE_PROJECT_NAME=octo\nNOT A LINE\n", Some("octo")),
            (
                "A='open\n  export COMPOSE_PROJECT_NAME='octo'\n",
                Some("octo"),
            ),
            ("NOT A LINE\n", None),
        ] {
            std::fs::write(files.default(), text).unwrap();
            assert!(files.read(&BTreeMap::new()).is_err(), "{text}");
            assert_eq!(
                files.project_name(&BTreeMap::new()).as_deref(),
                name,
                "{text}"
            );
        }
    }
}
