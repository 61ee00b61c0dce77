//! The one small state file: what was applied, what the operator wishes, and what is known of the
//! data: its master key, the version that ran on it. Docker has the rest.
//!
//! # Forms
//!
//! All that is kept has a default for each of its fields, so a new field needs no new form: an
//! older file means by it what `Default` says. A form is new where something is said in other
//! words; `older` translates. `tests/golden` has a file of each form, which a test reads.
//!
//! # What is never lost
//!
//! The file and its copy are written one after the other, each whole or not at all. A file that is
//! damaged, unreadable or missing costs nothing that its copy holds, and nothing is written over a
//! file that may still hold something.

mod data;
mod older;
mod restoring;
mod sa_password;
mod schedule;
mod upgrades;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;

use crate::config::Config;
use crate::config::Secret;
use crate::engine::Endpoint;
use crate::reconcile::Goal;
use crate::reconcile::Observed;
use crate::reconcile::record::Durable;
use crate::reconcile::status::Note;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::tentacle;
use crate::spec::tentacle::Tentacles;

pub use data::Data;
pub use data::KeptDrain;
pub use data::Key;
pub use data::KeyRing;
pub use data::Ran;
pub use restoring::Restored;
pub use restoring::Restoring;
pub use sa_password::PasswordChange;
pub use sa_password::SaPassword;
pub use schedule::Schedule;
pub use upgrades::Applied;
pub use upgrades::RollingBack;
pub use upgrades::Upgrade;
pub use upgrades::Upgrades;
pub use upgrades::Upgrading;

/// The form of the file. A daemon that finds a newer one supervises and writes nothing.
pub const FORM: u32 = 2;
/// How the names of files begin that are being written.
const UNFINISHED_FILE: &str = ".state";
/// How many damaged files are kept beside the state file before the last one is replaced.
const SET_ASIDE: u32 = 9;

/// What is wished of the stack, in the order of what it takes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Words", into = "Words")]
pub enum Wish {
    /// It runs.
    Up,
    /// Nothing.
    #[default]
    Rest,
    /// A `down` that was taken and is not done yet.
    Down {
        /// The data goes too.
        volumes: bool,
    },
}

/// The same as the file has it, since before `down`s were kept.
#[derive(Serialize, Deserialize)]
struct Words {
    #[serde(default)]
    up: bool,
    #[serde(default)]
    going_down: Option<bool>,
}

impl From<Words> for Wish {
    fn from(words: Words) -> Self {
        match words.going_down {
            Some(volumes) => Self::Down { volumes },
            None if words.up => Self::Up,
            None => Self::Rest,
        }
    }
}

impl From<Wish> for Words {
    fn from(wish: Wish) -> Self {
        let going_down = if let Wish::Down { volumes } = wish {
            Some(volumes)
        } else {
            None
        };
        Self {
            up: wish == Wish::Up,
            going_down,
        }
    }
}

/// Nodes that take no tasks, by wish or for a while.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drains {
    /// Nodes that a person drained on purpose; `up` changes nothing about it.
    pub drained: BTreeSet<UnitId>,
    /// Nodes that finish their tasks before they end: the run, and until when it is waited for. A
    /// daemon that comes after goes on with what is left of the time.
    pub draining: BTreeMap<UnitId, KeptDrain>,
}

/// What is kept of a demo alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Demo {
    /// Passwords generated for it: sa, then the first user.
    pub generated: Option<(Secret, Secret)>,
    /// The host refused full privileges to it.
    pub unprivileged: bool,
}

/// Backups that are made by themselves, and one that comes back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backups {
    /// A restore that is not finished: no node may run before it is.
    pub restoring: Option<Restoring>,
    /// Backups that are made by themselves.
    pub schedule: Schedule,
    /// An upgrade under way, and the way back from the last one.
    pub upgrades: Upgrades,
}

impl Backups {
    /// A restore or a rollback that is not finished.
    pub fn unfinished(&self) -> Option<Note> {
        let restoring = self.restoring.as_ref().map(|one| Note::RestoreUnfinished {
            set: one.set.clone(),
        });
        let back = self.upgrades.rolling_back.as_ref();
        let back = back.map(|one| Note::RollbackUnfinished {
            set: one.upgrade.set.clone(),
        });
        restoring.or(back)
    }
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    /// What is wished.
    #[serde(flatten)]
    pub wish: Wish,
    /// The engine that the configuration was applied on; none where an older program did it.
    pub endpoint: Option<Endpoint>,
    /// The last applied configuration.
    pub config: Option<Config>,
    /// The last applied desired state.
    pub spec: Option<StackSpec>,
    /// The master key that nodes get, and those before it.
    pub keys: KeyRing,
    /// The password of `sa`.
    #[serde(flatten)]
    pub sa: SaPassword,
    /// What only a demo has.
    #[serde(flatten)]
    pub demo: Demo,
    /// The versions of Octopus Server that last ran, one for each data, the newest last.
    pub ran: Vec<Ran>,
    /// The image, by ID, that each reference stood for at the last `up`.
    pub images: BTreeMap<String, String>,
    /// Units that the operator stopped on purpose.
    pub stopped: BTreeSet<UnitId>,
    /// Nodes that take no tasks.
    #[serde(flatten)]
    pub drains: Drains,
    /// What is made of the data and brought back.
    #[serde(flatten)]
    pub backups: Backups,
    /// The Tentacles that were added.
    #[serde(skip_serializing_if = "Tentacles::is_empty")]
    pub tentacles: Tentacles,
    /// Somebody interrupted the start: nothing that never served is started, until everything is
    /// ready or something is wished.
    #[serde(default)]
    pub held: bool,
    /// What decisions know of the past.
    pub durable: Durable,
}

impl Stored {
    /// Whether nothing is kept that a `down` with the data would forget. Keys outlive it, and so
    /// does what ran on an external database.
    pub fn is_blank(&self) -> bool {
        *self
            == Self {
                keys: self.keys.clone(),
                ran: self.ran.clone(),
                ..Self::default()
            }
    }

    /// The master key that nodes get.
    pub fn master_key(&self) -> Option<&Secret> {
        self.keys.current.as_ref().map(|current| &current.key)
    }

    /// A node came up with this key on this data: from now on it is the data's. True when that is
    /// news, which is to be written.
    pub fn key_proven(&mut self, key: &Secret, data: &Data) -> bool {
        self.keys.prove(key, data)
    }

    /// A version ran: a node of it started, or `/api` reported it. True when that is news, which is
    /// to be written.
    pub fn version_ran(&mut self, ran: Ran) -> bool {
        data::note_ran(&mut self.ran, ran)
    }

    /// What last ran on this data. An older file does not say on which.
    pub fn ran_on(&self, data: &Data) -> Option<&Ran> {
        let of = |data: Option<&Data>| self.ran.iter().rfind(|ran| ran.data.as_ref() == data);
        of(Some(data)).or_else(|| of(None))
    }

    /// The version that last ran on this data, as a node of it told.
    pub fn version_on(&self, data: &Data) -> Option<String> {
        let version = self.ran_on(data).map(|ran| ran.version.clone());
        version.filter(|version| !version.is_empty())
    }

    /// Whether this data is known to have held a database.
    pub fn had_data(&self, data: &Data) -> bool {
        self.keys.proven_for(data).is_some() || self.ran_on(data).is_some()
    }

    /// The volume that is gone although the project's database is known to have been in it: nothing
    /// may be made in its place unasked. None where its end was asked for.
    pub fn lost_volume(&self, seen: &Observed) -> Option<String> {
        let data = Data::of(self.spec.as_ref()?);
        let Data::Volume(name) = &data else {
            return None;
        };
        let is_lost = self.is_up() && !seen.volumes.contains(name) && self.had_data(&data);
        is_lost.then(|| name.clone())
    }

    /// What remains to be kept of a stack whose data was deleted because that was asked for: its
    /// keys, for the backups, and what ran on data that is somebody else's. A key that no
    /// node ever came up with goes into the history, so that it is not taken for the right one.
    #[must_use]
    pub fn data_deleted(&self) -> Self {
        let mut keys = self.keys.clone();
        keys.lose(Data::is_volume);
        let is_unproven = |key: &Key| !key.proven && !key.generated;
        if keys.current.as_ref().is_some_and(is_unproven) {
            keys.replaced.extend(keys.current.take());
        }
        let stays = |ran: &&Ran| ran.data.as_ref().is_some_and(|data| !data.is_volume());
        Self {
            keys,
            ran: self.ran.iter().filter(stays).cloned().collect(),
            ..Self::default()
        }
    }

    /// What is kept once a new, empty database is to take the place of data that is gone.
    pub fn begin_anew(&mut self, data: &Data) {
        self.keys.lose(|other| other == data);
        self.ran
            .retain(|ran| ran.data.as_ref().is_some_and(|other| other != data));
        self.sa = SaPassword::default();
        self.backups.upgrades = Upgrades::default();
    }

    /// What a daemon at this engine that nobody asked for anything goes on with.
    pub fn goal(&self, here: &Endpoint) -> Goal {
        match self.wish {
            _ if self.elsewhere(here).is_some() => Goal::Hold,
            Wish::Up if self.held => Goal::Hold,
            Wish::Up => Goal::Up,
            Wish::Rest => Goal::Hold,
            Wish::Down { volumes } => Goal::Down { volumes },
        }
    }

    /// The engine that this is about, when it is another.
    pub fn elsewhere(&self, here: &Endpoint) -> Option<&Endpoint> {
        self.endpoint.as_ref().filter(|there| !there.is_same(here))
    }

    /// The applied desired state with its Tentacles.
    pub fn whole_spec(&self) -> Option<StackSpec> {
        let (spec, config) = self.spec.as_ref().zip(self.config.as_ref())?;
        Some(StackSpec {
            tentacles: tentacle::containers(&self.tentacles, config, spec),
            ..spec.clone()
        })
    }

    /// The units that the operator stopped on purpose, Tentacles too.
    pub fn all_stopped(&self) -> BTreeSet<UnitId> {
        let tentacles = self.tentacles.iter().filter(|(_, one)| one.stopped);
        let tentacles = tentacles.map(|(name, _)| UnitId::Tentacle(*name));
        self.stopped.iter().copied().chain(tentacles).collect()
    }

    /// The operator stops these units, or starts them again. Of a Tentacle that is kept with it: an
    /// older octo-local knows no such unit.
    pub fn note_stopped(&mut self, units: &[UnitId], stopped: bool) {
        for unit in units {
            match unit {
                UnitId::Tentacle(name) => {
                    if let Some(one) = self.tentacles.get_mut(name) {
                        one.stopped = stopped;
                    }
                }
                UnitId::Sql | UnitId::Node(_) if stopped => {
                    self.stopped.insert(*unit);
                }
                UnitId::Sql | UnitId::Node(_) => {
                    self.stopped.remove(unit);
                }
            }
        }
    }

    /// The Tentacles that are to go.
    pub fn leaving(&self) -> Tentacles {
        let mut leaving = self.tentacles.clone();
        leaving.retain(|_, one| one.leaves.is_some());
        leaving
    }

    /// What a person should know where nobody goes on with what is kept.
    pub fn held_back(&self, here: &Endpoint) -> Option<Note> {
        match self.elsewhere(here) {
            Some(there) => Some(Note::Elsewhere {
                there: there.to_string(),
                here: here.to_string(),
            }),
            None => self.is_going_down().then_some(Note::Unfinished),
        }
    }

    /// Whether the stack is wished to run.
    pub fn is_up(&self) -> bool {
        self.wish == Wish::Up
    }

    /// Whether a `down` is going on.
    pub fn is_going_down(&self) -> bool {
        matches!(self.wish, Wish::Down { .. })
    }
}

/// The file: what is kept, and a checksum over it, so that a damaged secret is never taken for a
/// secret.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    form: u32,
    check: String,
    stored: serde_json::Value,
}

/// How reading went.
#[derive(Debug)]
pub enum Loaded {
    /// There was none, or it was read.
    Fine(Box<Stored>),
    /// It was not what it should be. With it comes its copy, if that is whole.
    Quarantined(String, Option<Box<Stored>>),
    /// Neither it nor its copy could be read, and what they hold may be whole: nothing must be
    /// written over them. With it comes why.
    Unreadable(String),
    /// It is of a newer form: it must not be written. With it comes what of it can be understood.
    Newer(u32, Option<Box<Stored>>),
}

/// One file, as it was found.
enum Found {
    Nothing,
    Whole(Box<Stored>),
    Newer(u32, Option<Box<Stored>>),
    Damaged,
    Unreadable(String),
}

fn find(path: &Path) -> Found {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Found::Nothing,
        // Something else has the name: there is nothing of ours in it.
        Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => return Found::Damaged,
        Err(error) => return Found::Unreadable(format!("{}: {error}", path.display())),
    };
    let form = serde_json::from_slice::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("form")?.as_u64());
    let stored = parse(&text).map(Box::new);
    match (form, stored) {
        (Some(form), stored) if form > u64::from(FORM) => {
            Found::Newer(u32::try_from(form).unwrap_or(u32::MAX), stored)
        }
        (_, Some(stored)) => Found::Whole(stored),
        (_, None) => Found::Damaged,
    }
}

/// Reads what is kept, and touches nothing: the file if it is whole, else its copy.
pub fn read(path: &Path) -> Option<Stored> {
    let whole = |path: &Path| std::fs::read(path).ok().and_then(|text| parse(&text));
    whole(path).or_else(|| whole(&copy_of(path)))
}

/// So many other projects are looked at: one host carries a handful of stacks.
const PROJECTS: usize = 256;

/// What is kept of the other projects whose state is under the same directory.
pub fn others(root: &Path, except: &str) -> Vec<(String, Stored)> {
    let mut names: Vec<String> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != except)
        .collect();
    names.sort_unstable();
    names.truncate(PROJECTS);
    let kept = |name: String| {
        let stored = read(&root.join(&name).join("state.json"))?;
        Some((name, stored))
    };
    names.into_iter().filter_map(kept).collect()
}

/// Reads the state file for the daemon, which holds the project's lock: a damaged file is set
/// aside, and what a killed writer left is swept away, since it holds secrets.
pub fn load(path: &Path) -> Loaded {
    sweep(path);
    judge(path, set_aside)
}

/// Reads the state file as [`load`] does, for one that only wants to know: nothing is moved.
pub fn peek(path: &Path) -> Loaded {
    judge(path, |path| path.display().to_string())
}

/// `set_aside` is given what is no state file, and says where it is then.
fn judge(path: &Path, set_aside: impl Fn(&Path) -> String) -> Loaded {
    let copy_path = copy_of(path);
    let why = match find(path) {
        Found::Whole(stored) => return Loaded::Fine(stored),
        Found::Newer(form, stored) => return Loaded::Newer(form, stored),
        Found::Nothing => None,
        Found::Damaged => Some(None),
        Found::Unreadable(why) => Some(Some(why)),
    };
    let copy = find(&copy_path);
    match (why, copy) {
        (None, Found::Nothing) => Loaded::Fine(Box::default()),
        (_, Found::Newer(form, stored)) => Loaded::Newer(form, stored),
        // Its copy is whole, and the project's own: the file itself can be spared.
        (None, Found::Whole(copy)) if is_of_this_project(path, &copy) => {
            Loaded::Quarantined("(it was missing)".to_owned(), Some(copy))
        }
        (Some(_), Found::Whole(copy)) => Loaded::Quarantined(set_aside(path), Some(copy)),
        (Some(Some(why)), _) | (_, Found::Unreadable(why)) => Loaded::Unreadable(why),
        (Some(None), Found::Nothing) => Loaded::Quarantined(set_aside(path), None),
        (Some(None), Found::Damaged) => {
            set_aside(&copy_path);
            Loaded::Quarantined(set_aside(path), None)
        }
        (None, Found::Damaged | Found::Whole(_)) => {
            Loaded::Quarantined(set_aside(&copy_path), None)
        }
    }
}

/// The directory of a project has its name: a copy that came from elsewhere is not its own.
fn is_of_this_project(path: &Path, copy: &Stored) -> bool {
    let directory = path.parent().and_then(Path::file_name);
    let project = copy.spec.as_ref().map(|spec| spec.project.as_str());
    project.is_none_or(|project| directory.is_none_or(|name| name == project))
}

/// Gives what is no state file another name, and tells it. What was set aside before stays.
fn set_aside(path: &Path) -> String {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(".corrupt");
        if number > 1 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let is_free = |aside: &PathBuf| std::fs::symlink_metadata(aside).is_err();
    let aside = (1..=SET_ASIDE).map(named).find(is_free);
    let aside = aside.unwrap_or_else(|| named(SET_ASIDE));
    let moved = std::fs::rename(path, &aside);
    moved.map_or_else(|error| error.to_string(), |()| aside.display().to_string())
}

/// Removes files that a writer had not finished when it was killed.
fn sweep(path: &Path) {
    let dir = path.parent().unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_unfinished = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(UNFINISHED_FILE));
        if is_unfinished && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn parse(text: &[u8]) -> Option<Stored> {
    let envelope: Envelope = serde_json::from_slice(text).ok()?;
    if check(&envelope.stored) != envelope.check {
        return None;
    }
    let mut stored: Stored = serde_json::from_value(envelope.stored.clone()).ok()?;
    if envelope.form < 2 {
        let form_1: older::Form1 = serde_json::from_value(envelope.stored).ok()?;
        form_1.translate(&mut stored);
    }
    Some(stored)
}

fn check(stored: &serde_json::Value) -> String {
    let hash = sha2::Sha256::digest(stored.to_string());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The second file of the same content, for when the first is damaged.
fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("json.copy")
}

/// Writes the state file and its copy: each whole or not at all, also when the power goes.
pub fn save(path: &Path, stored: &Stored) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let stored = serde_json::to_value(stored)?;
    let text = serde_json::to_vec_pretty(&Envelope {
        form: FORM,
        check: check(&stored),
        stored,
    })?;
    for target in [copy_of(path), path.to_owned()] {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED_FILE)
            .permissions(std::fs::Permissions::from_mode(0o600))
            .tempfile_in(dir)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(target).map_err(|error| error.error)?;
    }
    File::open(dir)?.sync_all()
}

/// Takes the project's lock, or says who holds it. The kernel frees it when the holder dies,
/// however it dies.
pub fn lock(path: &Path) -> std::io::Result<Result<File, String>> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {
            // The name of its holder is for people: a full disk must not end the daemon.
            let _ = file.set_len(0);
            let _ = (&file).write_all(format!("{}\n", std::process::id()).as_bytes());
            Ok(Ok(file))
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            Ok(Err(std::fs::read_to_string(path)?.trim().to_owned()))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
