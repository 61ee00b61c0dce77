//! `backup`, `backup list`, `backup verify` and `backup restore`. `list` and `verify` tell what is in
//! a backup directory, and whether every byte of a set is what was written: they only read, and need
//! neither daemon nor engine, save for `--restore-test`.

pub(in crate::cli::commands) mod create;
mod quiesce;
mod restore;
mod restore_test;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::backup::Directory;
use crate::backup::Manifest;
use crate::backup::SetName;
use crate::backup::directory::DirectoryError;
use crate::backup::directory::Listed;
use crate::backup::manifest::Database;
use crate::backup::manifest::Encryption;
use crate::backup::part::Identities;
use crate::backup::progress;
use crate::backup::progress::Progress;
use crate::backup::restore::Opened;
use crate::backup::run::RunError;
use crate::backup::verify;
use crate::backup::verify::Depth;
use crate::backup::verify::Finding;
use crate::cli::args::BackupCommand;
use crate::cli::args::BackupFlags;
use crate::cli::args::Format;
use crate::cli::args::VerifyFlags;
use crate::cli::commands::events::time_of;
use crate::cli::context::Context;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::terminal::print;
use crate::daemon::back_up;

/// The form of what `--format json` prints.
const SCHEMA_VERSION: u32 = 1;

/// An identity file has a few lines; what is larger is none.
const IDENTITY_LIMIT: u64 = 64 * 1024;
/// How often progress is told: often enough to see that it moves, seldom enough for a log.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Runs one of them.
pub async fn backup(context: &Context, flags: &BackupFlags) -> Outcome {
    let Some(command) = &flags.command else {
        return create::create(context, flags).await;
    };
    match command {
        BackupCommand::List { from, format } => list(&directory(context, from.as_ref()), *format),
        BackupCommand::Restore(flags) => restore::restore(context, flags).await,
        BackupCommand::Verify(flags) => verify(context, flags).await,
    }
}

/// `--from`, else `BACKUP_DIR` of the variables, else of what was applied last, else one in the
/// project's state. A broken `.env` keeps nobody from a backup.
fn directory(context: &Context, from: Option<&PathBuf>) -> Directory {
    if let Some(from) = from {
        return Directory::at(from.clone());
    }
    let variables = context.variables().ok();
    let named = variables.and_then(|variables| variables.vars.get("BACKUP_DIR").cloned());
    let path = named.filter(|path| !path.is_empty()).map_or_else(
        || context.paths.state.join(back_up::DEFAULT),
        |path| context.files.directory.join(path),
    );
    Directory::at(path)
}

/// One set, for machines.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a SetName,
    whole: bool,
    faults: Vec<String>,
    stored_size: Option<u64>,
    manifest: Option<&'a Manifest>,
}

fn list(directory: &Directory, format: Format) -> Outcome {
    let (sets, leftovers) = directory.list()?;
    match format {
        Format::Json => {
            let sets: Vec<Shown<'_>> = sets.iter().map(shown).collect();
            print::json(&serde_json::json!({
                "schema_version": SCHEMA_VERSION,
                "directory": directory.path(),
                "sets": sets,
                "leftovers": leftovers,
            }));
        }
        Format::Table => {
            table(&sets);
            if sets.is_empty() {
                print::tell(format_args!("no backups in {}", directory.path().display()));
            }
            if leftovers > 0 {
                print::tell(format_args!(
                    "{leftovers} unfinished in {}: under way, or left by a run that was killed; the next backup of the project removes what is left",
                    directory.path().display()
                ));
            }
        }
    }
    Ok(())
}

fn shown(set: &Listed) -> Shown<'_> {
    let manifest = set.manifest.as_ref().ok();
    let bad = set.manifest.as_ref().err().map(ToString::to_string);
    Shown {
        name: &set.name,
        whole: set.is_whole(),
        faults: bad.into_iter().chain(set.faults.clone()).collect(),
        stored_size: manifest.map(Manifest::stored_size),
        manifest,
    }
}

fn table(sets: &[Listed]) {
    if sets.is_empty() {
        return;
    }
    let width = sets
        .iter()
        .map(|set| set.name.as_str().len())
        .max()
        .unwrap_or(0)
        .max(4);
    print::line(format_args!(
        "{:<width$}  {:<20}  {:>10}  CONTENT",
        "NAME", "MADE", "SIZE"
    ));
    for set in sets {
        let (made, size, content) = match &set.manifest {
            Ok(manifest) if set.faults.is_empty() => (
                time_of(manifest.began_ms),
                progress::size(manifest.stored_size()),
                content(manifest),
            ),
            Ok(manifest) => {
                let faults = format!("NOT WHOLE: {}", set.faults.join("; "));
                (
                    time_of(manifest.began_ms),
                    progress::size(manifest.stored_size()),
                    faults,
                )
            }
            Err(fault) => (
                "-".to_owned(),
                "-".to_owned(),
                format!("NOT USABLE: {fault}"),
            ),
        };
        let content = print::plain(&content);
        print::line(format_args!(
            "{:<width$}  {made:<20}  {size:>10}  {content}",
            set.name
        ));
    }
}

/// What matters of a set, in one line.
fn content(manifest: &Manifest) -> String {
    let mut words = vec![format!("{} {}", manifest.project, manifest.octopus.image)];
    if let Database::Missing { .. } = manifest.database {
        words.push("without the database".to_owned());
    }
    if !manifest.has_secrets {
        words.push("without secrets".to_owned());
    }
    if manifest.quiesced {
        words.push("quiesced".to_owned());
    }
    if manifest.encryption != Encryption::None {
        words.push("encrypted".to_owned());
    }
    if manifest.demo {
        words.push("a demo's".to_owned());
    }
    words.join(", ")
}

/// The secret keys in a file as `age-keygen` writes it. Their text is never repeated.
fn identities(file: Option<&PathBuf>) -> Result<Identities, Failure> {
    use std::io::Read as _;
    let Some(path) = file else {
        return Ok(Identities::default());
    };
    let bad = |why: String| Failure::new(CONFIGURATION, format!("{}: {why}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(IDENTITY_LIMIT).read_to_string(&mut text))
        .map_err(|error| bad(error.to_string()))?;
    let lines = text.lines().map(str::trim);
    let keys: Result<Vec<age::x25519::Identity>, Failure> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.parse().map_err(|_| bad(NO_IDENTITY.to_owned())))
        .collect();
    match keys? {
        keys if keys.is_empty() => Err(bad(NO_IDENTITY.to_owned())),
        keys => Ok(Identities(keys)),
    }
}

const NO_IDENTITY: &str =
    "it is no file of age identities; give the file that `age-keygen -o FILE` wrote";

async fn verify(context: &Context, flags: &VerifyFlags) -> Outcome {
    let name = flags.set.name.parse::<SetName>();
    let name = name.map_err(|error| Failure::new(USAGE, error.to_string()))?;
    let directory = directory(context, flags.set.place.from.as_ref());
    let set = Opened {
        manifest: directory.manifest(&name)?,
        directory,
        name,
        identities: identities(flags.set.place.identity.as_ref())?,
    };
    let is_encrypted = set.manifest.encryption != Encryption::None;
    let is_opened = !is_encrypted || !set.identities.0.is_empty();
    if verify::is_of_others(&set.reading()) {
        return Err(of_others(&set));
    }
    let findings = read(&set, is_opened).await?;
    let is_whole = findings.iter().all(|one| one.fault.is_none());
    let restored = if flags.restore_test && is_whole {
        Some(restore_test::restore_test(context, &set).await?)
    } else {
        None
    };
    let verified = Verified {
        name: &set.name,
        findings: &findings,
        is_opened,
        restored,
    };
    verified.tell(flags.format)
}

/// Nothing speaks against a set that another key opens.
fn of_others(set: &Opened) -> Failure {
    let mut lines = vec![format!(
        "the identity that was given does not open backup {}, so nothing is known of its parts",
        set.name
    )];
    if let Encryption::Recipients { recipients } = &set.manifest.encryption {
        let recipients = recipients.join(", ");
        lines.push(format!(
            "fix: give the file with the identity of whom it is encrypted for: {}; or none, to compare what is stored",
            print::plain(&recipients)
        ));
    }
    Failure {
        code: CONFIGURATION,
        lines,
    }
}

/// Reads every byte of a set, opened if it can be.
async fn read(set: &Opened, is_opened: bool) -> Result<Vec<Finding>, Failure> {
    let total = if is_opened {
        set.manifest.plain_size()
    } else {
        set.manifest.stored_size()
    };
    let began = tokio::time::Instant::now();
    let set = set.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut progress = Progress::of("reading", Some(total));
        let mut told = Duration::ZERO;
        verify::verify(&set.reading(), Depth::Content, |more| {
            let elapsed = began.elapsed();
            progress.moved(progress.done + more, elapsed);
            if elapsed.saturating_sub(told) >= TELL_EVERY {
                told = elapsed;
                print::tell(&progress);
            }
            true
        })
    });
    reading
        .await
        .map_err(|error| Failure::new(crate::cli::outcome::BUG, format!("read the set: {error}")))
}

/// What was found of a set.
struct Verified<'a> {
    name: &'a SetName,
    findings: &'a [Finding],
    is_opened: bool,
    /// How its database was restored for a test, if it was.
    restored: Option<Result<(), RunError>>,
}

impl Verified<'_> {
    fn tell(&self, format: Format) -> Outcome {
        let Self { name, findings, .. } = self;
        let faults = findings.iter().filter_map(|one| one.fault.clone());
        let unusable = self.restored.as_ref().and_then(|test| test.as_ref().err());
        let unusable = unusable.map(|error| format!("it cannot be restored: {error}"));
        let faults: Vec<String> = faults.chain(unusable).collect();
        match format {
            Format::Json => print::json(&serde_json::json!({
                "schema_version": SCHEMA_VERSION,
                "name": name,
                "good": faults.is_empty(),
                "opened": self.is_opened,
                "restored": self.restored.as_ref().map(Result::is_ok),
                "parts": findings,
            })),
            Format::Table => {
                for one in *findings {
                    let verdict = one.fault.as_deref().map_or("good", |_| "BAD");
                    let size = progress::size(one.stored_size);
                    print::line(format_args!("{verdict:<4}  {size:>10}  {}", one.file));
                }
            }
        }
        if !faults.is_empty() {
            let mut lines = vec![format!("backup {name} is damaged; do not rely on it:")];
            lines.extend(faults.iter().map(|fault| format!("  {fault}")));
            return Err(Failure {
                code: FAILED,
                lines,
            });
        }
        let how = if self.is_opened {
            "every byte is what was written"
        } else {
            "every stored byte is what was written; with --identity FILE the content is opened too"
        };
        print::tell(format_args!("backup {name} is good: {how}"));
        if self.restored.is_some() {
            print::tell(
                "SQL Server restored its database beside the running one, found no error in it (DBCC CHECKDB), and dropped it again",
            );
        }
        Ok(())
    }
}

impl From<DirectoryError> for Failure {
    fn from(error: DirectoryError) -> Self {
        Self::new(FAILED, error.to_string())
    }
}
