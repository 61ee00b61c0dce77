//! The variables: the process environment over the `.env` files.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::cli::args::Args;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::Failure;
use crate::cli::outcome::USAGE;
use crate::config::keys;
use crate::dotenv;
use crate::dotenv::DotenvError;
use crate::dotenv::ErrorKind;
use crate::dotenv::Vars;
use crate::dotenv::interpolate::InterpolateError;
use crate::dotenv::limits::MAX_FILE;

/// The variable that names the project.
const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// Where variables are read from.
#[derive(Clone, Default)]
pub struct Files {
    /// The project directory, absolute.
    pub directory: PathBuf,
    /// What `--env-file` named; else it is `.env` of the directory.
    pub given: Vec<PathBuf>,
    /// What pipes had in them: they are read once only.
    pub pipes: Pipes,
    /// What files are taken to say instead of what they do: what a change of them would mean.
    pub instead: BTreeMap<PathBuf, String>,
}

/// The contents of pipes by path, shared by the copies of a [`Files`].
#[derive(Clone, Default)]
pub struct Pipes(Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>);

/// Nothing: the contents are secret.
impl fmt::Debug for Pipes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Pipes")
    }
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
    /// A sentence for each variable whose value has a blank in the place of one that is not set.
    pub blanks: Vec<String>,
}

/// Without texts: they hold secrets.
impl fmt::Debug for Files {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Files");
        shown.field("directory", &self.directory);
        shown.field("given", &self.given).finish_non_exhaustive()
    }
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
            ..Self::default()
        })
    }

    /// `.env` of the project directory.
    pub fn usual(&self) -> PathBuf {
        self.directory.join(".env")
    }

    /// Whether nothing was named and there is no `.env`: most often a new user, or the wrong
    /// directory.
    pub fn are_missing(&self) -> bool {
        self.given.is_empty() && !self.usual().exists()
    }

    /// The file that has the last word, when it is written down what a variable is to be; none where
    /// that is no file on a disk.
    pub fn last(&self, env: &BTreeMap<String, String>) -> Option<PathBuf> {
        let last = self.paths(env).pop().unwrap_or_else(|| self.usual());
        std::fs::canonicalize(last)
            .ok()
            .filter(|path| path.is_file())
    }

    /// The files that count, in order.
    fn paths(&self, env: &BTreeMap<String, String>) -> Vec<PathBuf> {
        let skip = env
            .get("COMPOSE_DISABLE_ENV_FILE")
            .is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        match self.given.as_slice() {
            [] if self.usual().exists() && !self.usual().is_dir() && !skip => vec![self.usual()],
            [] => Vec::new(),
            given => given.to_vec(),
        }
    }

    /// The same as far as they are files on a disk, which can be written.
    pub fn regular(&self, env: &BTreeMap<String, String>) -> Vec<PathBuf> {
        let paths = self.paths(env).into_iter();
        paths.filter(|path| path.is_file()).collect()
    }

    /// The files' names, as messages show them, and contents.
    fn contents(&self, env: &BTreeMap<String, String>) -> Result<Vec<(String, Vec<u8>)>, String> {
        let read = |path: PathBuf| {
            let bytes = match self.instead.get(&path) {
                Some(text) => text.clone().into_bytes(),
                None => self.bytes_of(&path)?,
            };
            let shown = path.strip_prefix(&self.directory).unwrap_or(&path);
            Ok((shown.display().to_string(), bytes))
        };
        self.paths(env).into_iter().map(read).collect()
    }

    /// A file's bytes, one more than are taken at the most. What is no file would be waited for, or
    /// read, without an end: only pipes that a shell made for us are read besides.
    fn bytes_of(&self, path: &Path) -> Result<Vec<u8>, String> {
        let failed = |error: std::io::Error| format!("read {}: {error}", path.display());
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if kind.is_dir() {
            return Err(format!(
                "read {}: it is a directory; name the file in it",
                path.display()
            ));
        }
        let is_ours = ["/dev/stdin", "/dev/fd/", "/proc/self/fd/"]
            .iter()
            .any(|place| path.starts_with(place.trim_end_matches('/')));
        if !(kind.is_file() || is_ours || path == Path::new("/dev/null")) {
            return Err(format!(
                "read {}: it is a pipe, a socket or a device, not a file; name a file, or `/dev/stdin`",
                path.display()
            ));
        }
        let mut pipes = self.pipes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = pipes.get(path) {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
        if !kind.is_file() {
            pipes.insert(path.to_owned(), bytes.clone());
        }
        Ok(bytes)
    }

    /// All variables, or what is wrong with a file.
    pub fn read(&self, env: &BTreeMap<String, String>) -> Result<Variables, Failure> {
        let failure = |why: String| Failure::new(CONFIGURATION, why);
        let contents = self.contents(env).map_err(failure)?;
        let sources: Vec<dotenv::Source<'_>> = contents
            .iter()
            .map(|(name, bytes)| dotenv::Source { name, bytes })
            .collect();
        let parsed =
            dotenv::parse(&sources, env).map_err(|error| failure(without_secret(&error)))?;
        let origin = |origin: &dotenv::Origin| format!("{}:{}", origin.file, origin.line);
        let origins = parsed
            .origins
            .iter()
            .map(|(key, place)| (key.clone(), origin(place)))
            .collect();
        let blanks = parsed.blanks.iter().zip(&parsed.unset);
        let blanks = blanks.map(|(key, name)| blank(key.as_deref(), name, &origins));
        Ok(Variables {
            blanks: blanks.collect::<BTreeSet<_>>().into_iter().collect(),
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
            ..Self::default()
        }
    }
}

/// An error as it may be shown: in a secret value, what looks like the name of a variable is a part
/// of the secret.
fn without_secret(error: &DotenvError) -> String {
    let is_secret = error.key.as_deref().is_none_or(keys::is_secret);
    match error.kind {
        ErrorKind::Interpolate(InterpolateError::Required(_)) if is_secret => format!(
            "{}: line {}: a secret value requires a variable that is not set; write $$ for a dollar sign, or put the \
             value in single quotes",
            error.file, error.line
        ),
        _ => error.to_string(),
    }
}

/// What is said of a value that refers to a variable that is not set.
fn blank(key: Option<&str>, name: &str, origins: &BTreeMap<String, String>) -> String {
    let place = match key {
        Some(key) => origins
            .get(key)
            .map_or_else(|| key.to_owned(), |origin| format!("{key} ({origin})")),
        None => "a value of the .env".to_owned(),
    };
    if key.is_none_or(keys::is_secret) {
        return format!(
            "{place}: a `$` in it begins the name of a variable that is not set, so that a part of the value is \
             missing; write $$ for a dollar sign, or put the value in single quotes"
        );
    }
    format!(
        "{place}: it uses {name}, which is not set and counts as empty; set that, write $$ for a dollar sign, or put \
         the value in single quotes"
    )
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
            std::fs::write(files.usual(), text).unwrap();
            assert!(files.read(&BTreeMap::new()).is_err(), "{text}");
            assert_eq!(
                files.project_name(&BTreeMap::new()).as_deref(),
                name,
                "{text}"
            );
        }
    }

    #[test]
    fn a_blank_in_a_secret_shows_no_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::at(dir.path());
        std::fs::write(
            files.usual(),
            "SA_PASSWORD=XanAm@z1ng$word\nADMIN_EMAIL=a@$HOSTISH\n",
        )
        .unwrap();
        let blanks = files.read(&BTreeMap::new()).unwrap().blanks;
        assert!(blanks[0].starts_with("ADMIN_EMAIL (.env:2): it uses HOSTISH,"));
        assert!(blanks[1].starts_with("SA_PASSWORD (.env:1): a `$`"));
        assert!(!blanks[1].contains("word,") && !blanks[1].contains("XanAm"));
        std::fs::write(files.usual(), "SA_PASSWORD=pa${ss:?w0rd}").unwrap();
        let failure = files.read(&BTreeMap::new()).unwrap_err();
        let said = failure.lines.join(" ");
        assert!(said.contains("line 1") && !said.contains("ss is"), "{said}");
    }

    #[test]
    fn only_files_and_pipes_of_the_shell_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::at(dir.path());
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            files.usual(),
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        let refused = |files: &Files| files.read(&BTreeMap::new()).unwrap_err().lines.join(" ");
        assert!(refused(&files).contains("not a file"));
        let of = |path: &str| Files {
            given: vec![PathBuf::from(path)],
            ..Files::at(dir.path())
        };
        for device in ["/dev/zero", "/dev/full"] {
            assert!(refused(&of(device)).contains("not a file"), "{device}");
        }
        assert!(of("/dev/null").read(&BTreeMap::new()).is_ok());
        let large = dir.path().join("large.env");
        std::fs::write(&large, vec![b'\n'; MAX_FILE + 9]).unwrap();
        let said = refused(&of(&large.display().to_string()));
        assert!(said.contains("larger than 1 MiB"), "{said}");
    }
}
