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
mod tests {
    use super::*;
    use crate::reconcile::observed::Instance;
    use crate::reconcile::record::Migrated;

    fn known(password: &str) -> SaPassword {
        SaPassword {
            known: Some(Secret::new(password)),
            ..SaPassword::default()
        }
    }

    #[test]
    fn a_wish_counts_only_on_the_engine_that_it_was_made_for() {
        let at = |socket: &str| Endpoint::at(format!("unix:///nowhere/{socket}"));
        let wishes = [
            (Wish::Up, Goal::Up),
            (Wish::Rest, Goal::Hold),
            (Wish::Down { volumes: false }, Goal::Down { volumes: false }),
            (Wish::Down { volumes: true }, Goal::Down { volumes: true }),
        ];
        for (wish, goal) in wishes {
            let stored = |endpoint| Stored {
                wish,
                endpoint,
                ..Stored::default()
            };
            assert_eq!(
                stored(None).goal(&at("a")),
                goal,
                "an older file does not say where"
            );
            assert_eq!(stored(Some(at("a"))).goal(&at("a")), goal);
            assert_eq!(stored(Some(at("a"))).goal(&at("b")), Goal::Hold);
        }
    }

    #[test]
    fn wishes_are_written_as_they_always_were() {
        let stored = |wish| Stored {
            wish,
            ..Stored::default()
        };
        let down = |volumes| Wish::Down { volumes };
        for (wish, up, going_down) in [
            (Wish::Up, true, None),
            (Wish::Rest, false, None),
            (down(false), false, Some(false)),
            (down(true), false, Some(true)),
        ] {
            let mut value = serde_json::to_value(stored(wish)).unwrap();
            assert_eq!(
                (&value["up"], &value["going_down"]),
                (&up.into(), &serde_json::json!(going_down))
            );
            assert_eq!(
                serde_json::from_value::<Stored>(value.clone()).unwrap(),
                stored(wish)
            );
            // Before `down`s were kept.
            let older = value.as_object_mut().unwrap();
            older.retain(|key, _| !matches!(key.as_str(), "going_down" | "endpoint"));
            let read: Stored = serde_json::from_value(value).unwrap();
            assert_eq!(read.wish, if up { Wish::Up } else { Wish::Rest });
        }
    }

    #[test]
    fn what_is_saved_is_read_and_only_its_owner_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let stored = Stored {
            wish: Wish::Up,
            sa: known("k"),
            ..Stored::default()
        };
        save(&path, &stored).unwrap();
        save(&path, &stored).unwrap();
        assert!(matches!(load(&path), Loaded::Fine(read) if *read == stored));
        for file in std::fs::read_dir(dir.path()).unwrap() {
            assert_eq!(
                file.unwrap().metadata().unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            2,
            "the file and its copy"
        );
    }

    #[test]
    fn a_damaged_file_is_set_aside_for_its_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let keyed = |key: &str| Stored {
            sa: known(key),
            ..Stored::default()
        };
        save(&path, &keyed("one")).unwrap();
        save(&path, &keyed("two")).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let one_letter_off = whole.replace("two", "tvo");
        for broken in [
            "",
            &whole[..whole.len() / 2],
            "[]",
            "\0\0\0",
            one_letter_off.as_str(),
        ] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(read(&path), Some(keyed("two")));
            let Loaded::Quarantined(_, Some(copy)) = load(&path) else {
                panic!("{broken:?}")
            };
            assert_eq!(*copy, keyed("two"));
            assert!(!path.exists());
        }
        std::fs::remove_file(copy_of(&path)).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(load(&path), Loaded::Quarantined(_, None)));
    }

    #[test]
    fn a_newer_file_is_left_alone_and_read_as_far_as_possible() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let up = Stored {
            wish: Wish::Up,
            ..Stored::default()
        };
        save(&path, &up).unwrap();
        let newer =
            std::fs::read_to_string(&path)
                .unwrap()
                .replacen("\"form\": 2", "\"form\": 99", 1);
        std::fs::write(&path, &newer).unwrap();
        assert!(matches!(load(&path), Loaded::Newer(99, Some(read)) if *read == up));
        std::fs::write(&path, "{\"form\":99}").unwrap();
        assert!(matches!(load(&path), Loaded::Newer(99, None)));
        assert!(path.exists());
    }

    #[test]
    fn the_second_lock_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap().unwrap();
        assert_eq!(
            lock(&path).unwrap().unwrap_err(),
            std::process::id().to_string()
        );
        drop(held);
        assert!(lock(&path).unwrap().is_ok());
    }

    /// A file of each form, as the program of that time wrote it. Never change one: add one when
    /// the form changes.
    const GOLDEN: [&[u8]; 2] = [
        include_bytes!("../../tests/golden/state-form-1.json"),
        include_bytes!("../../tests/golden/state-form-2.json"),
    ];

    /// Of the containers in the golden files.
    const DIGESTS: [&str; 2] = [
        "daac554b836c73c39f9fcac4a096a340",
        "fafc7a71632e25272000c196b3e0d83f",
    ];

    #[test]
    fn files_of_every_form_are_read_and_mean_what_they_meant() {
        for text in GOLDEN {
            let stored = parse(text).expect("a whole file");
            assert!(stored.is_up() && stored.stopped == [UnitId::Node(2)].into());
            let config = stored.config.as_ref().expect("a configuration");
            assert_eq!(config.octopus.nodes, 1);
            assert_eq!(config.octopus.tag, "2026.2.7");
            let spec = stored.spec.as_ref().expect("a desired state");
            let digests: Vec<String> = spec.containers().map(|one| one.digest().0).collect();
            assert_eq!(digests, DIGESTS, "or healthy containers would be recreated");
            let data = Data::of(spec);
            assert_eq!(data, Data::Volume("shop_sql-data".to_owned()));
            let key = stored.keys.proven_for(&data).expect("the data's key");
            assert!(key.generated && key.key.expose() == "bmV2ZXJ1c2VkYXRhbGwhIQ==");
            let ran = stored.ran_on(&data).expect("what ran");
            assert_eq!(ran.image, "octopusdeploy/octopusdeploy:2026.2.7");
            assert_eq!(stored.sa.known.unwrap().expose(), "Str0ng-enough");
        }
    }

    /// A file in which everything that may be absent is there.
    fn full() -> Stored {
        let mut stored = parse(GOLDEN[1]).expect("a whole file");
        let run = Instance {
            id: "c1".to_owned(),
            started_at: "2026-01-31T12:00:00Z".to_owned(),
        };
        stored.durable = Durable {
            ended_by_us: [(UnitId::Node(1), run.clone())].into(),
            is_data_new: true,
            migrated: Some(Migrated {
                image_id: "sha256:1".to_owned(),
                database: "db/octopus".to_owned(),
            }),
            roster: [("octopus-1".to_owned(), "db/octopus".to_owned())].into(),
        };
        let drain = KeptDrain { run, until_ms: 1 };
        stored.drains.draining = [(UnitId::Node(1), drain)].into();
        let applied = || Applied {
            config: stored.config.clone().unwrap(),
            spec: stored.spec.clone().unwrap(),
            images: stored.images.clone(),
        };
        let upgrade = Upgrade {
            from: "octopus:1".to_owned(),
            to: "octopus:2".to_owned(),
            set: "before".to_owned(),
            before: Box::new(applied()),
        };
        stored.backups = Backups {
            restoring: Some(Restoring::default()),
            schedule: Schedule::default(),
            upgrades: Upgrades {
                upgrading: Some(Upgrading {
                    upgrade: upgrade.clone(),
                    needs: ["octopus:2".to_owned()].into(),
                    next: Some(Box::new(applied())),
                }),
                last: Some(upgrade.clone()),
                rolling_back: Some(RollingBack {
                    upgrade,
                    failure: Some("a reason".to_owned()),
                    ..RollingBack::default()
                }),
                failure: Some("a reason".to_owned()),
            },
        };
        stored
    }

    #[test]
    fn a_field_that_an_older_file_lacks_damages_nothing() {
        fn without(value: &serde_json::Value, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
            for (key, inner) in value.as_object().into_iter().flatten() {
                path.push(key.clone());
                all.push(path.clone());
                without(inner, path, all);
                path.pop();
            }
        }
        let full = serde_json::to_value(full()).unwrap();
        let mut paths = Vec::new();
        without(&full, &mut Vec::new(), &mut paths);
        let is_told = |name: &str| paths.iter().any(|path| path.last().unwrap() == name);
        for name in [
            "until_ms",
            "database",
            "started_at",
            "front_door",
            "may_be_touched",
            "next",
            "set",
        ] {
            assert!(is_told(name), "{name} is in no path");
        }
        // A choice without its word is no older file.
        paths.retain(|path| {
            path.iter()
                .rev()
                .nth(1)
                .is_none_or(|parent| parent != "data")
        });
        for path in paths {
            let mut stored = full.clone();
            let (last, before) = path.split_last().unwrap();
            let place = before
                .iter()
                .fold(&mut stored, |value, key| &mut value[key]);
            place.as_object_mut().unwrap().remove(last);
            let read = serde_json::from_value::<Stored>(stored);
            assert!(read.is_ok(), "without {path:?}: {}", read.unwrap_err());
        }
    }

    #[test]
    fn a_key_that_nodes_of_an_older_file_ran_with_is_the_current_one() {
        let mut envelope: Envelope = serde_json::from_slice(GOLDEN[0]).unwrap();
        envelope.stored["master_key"] = "another".into();
        envelope.check = check(&envelope.stored);
        let stored = parse(&serde_json::to_vec(&envelope).unwrap()).unwrap();
        assert_eq!(
            stored.master_key().unwrap().expose(),
            "bmV2ZXJ1c2VkYXRhbGwhIQ=="
        );
        assert_eq!(stored.keys.replaced[0].key.expose(), "another");
    }

    #[test]
    fn an_unreadable_file_costs_nothing_that_its_copy_holds() {
        let keyed = Stored {
            sa: known("kept"),
            ..Stored::default()
        };
        let take_away: [fn(&Path); 3] = [
            |path| std::fs::remove_file(path).unwrap(),
            |path| {
                std::fs::remove_file(path).unwrap();
                std::fs::create_dir(path).unwrap();
            },
            // A name that leads to itself: reading fails, and nobody knows what it would show.
            |path| {
                std::fs::remove_file(path).unwrap();
                std::os::unix::fs::symlink(path, path).unwrap();
            },
        ];
        for take in take_away {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.json");
            save(&path, &keyed).unwrap();
            take(&path);
            assert_eq!(read(&path).as_ref(), Some(&keyed));
            let Loaded::Quarantined(_, Some(copy)) = load(&path) else {
                panic!("the copy is whole")
            };
            assert_eq!(*copy, keyed);
            save(&path, &copy).unwrap();
            assert!(matches!(load(&path), Loaded::Fine(stored) if *stored == keyed));
        }
    }

    #[test]
    fn what_cannot_be_read_at_all_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(matches!(load(&path), Loaded::Unreadable(why) if why.contains("state.json")));
        assert!(std::fs::symlink_metadata(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(copy_of(&path), copy_of(&path)).unwrap();
        assert!(matches!(load(&path), Loaded::Unreadable(_)));
        std::fs::remove_file(copy_of(&path)).unwrap();
        std::fs::write(copy_of(&path), "damaged").unwrap();
        assert!(matches!(load(&path), Loaded::Quarantined(_, None)));
        let aside = dir.path().join("state.json.copy.corrupt");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "damaged");
    }

    #[test]
    fn a_copy_of_another_project_is_not_taken_for_this_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store").join("state.json");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(copy_of(&path), GOLDEN[1]).unwrap();
        assert!(matches!(load(&path), Loaded::Quarantined(_, None)));
        assert!(path.with_file_name("state.json.copy.corrupt").exists());
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        save(&path, &Stored::default()).unwrap();
        std::fs::write(dir.path().join(".stateXYZ123"), "a secret").unwrap();
        std::fs::write(dir.path().join("events.jsonl"), "").unwrap();
        assert!(matches!(load(&path), Loaded::Fine(_)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn tentacles_are_kept_with_what_stopped_them_and_older_files_have_none() {
        let mut stored = parse(GOLDEN[1]).unwrap();
        assert!(stored.tentacles.is_empty());
        assert!(
            serde_json::to_value(&stored)
                .unwrap()
                .get("tentacles")
                .is_none()
        );
        let text = r#"{"web":{"purpose":{"worker":{"pool":"P"}},"space":"Default"}}"#;
        stored.tentacles = serde_json::from_str(text).unwrap();
        let again = serde_json::to_value(&stored).unwrap();
        assert_eq!(again["tentacles"].to_string(), text);
        stored.stopped.clear();
        let web = UnitId::Tentacle("web".parse().unwrap());
        stored.note_stopped(&[web, UnitId::Node(1)], true);
        assert_eq!(stored.stopped, BTreeSet::from([UnitId::Node(1)]));
        assert_eq!(stored.all_stopped(), BTreeSet::from([UnitId::Node(1), web]));
        stored.note_stopped(&[web, UnitId::Node(1)], false);
        assert!(stored.all_stopped().is_empty());
    }

    #[test]
    fn a_volume_with_a_database_that_is_gone_is_missed_until_its_end_was_asked_for() {
        let mut stored = parse(GOLDEN[1]).unwrap();
        let there = Observed {
            volumes: ["shop_sql-data".to_owned()].into(),
            ..Observed::default()
        };
        assert_eq!(stored.lost_volume(&there), None);
        let gone = Observed::default();
        assert_eq!(stored.lost_volume(&gone).as_deref(), Some("shop_sql-data"));
        stored.begin_anew(&Data::Volume("shop_sql-data".to_owned()));
        assert_eq!(stored.lost_volume(&gone), None);
        let mut down = parse(GOLDEN[1]).unwrap();
        down.wish = Wish::Down { volumes: true };
        assert_eq!(down.lost_volume(&gone), None);
    }

    #[test]
    fn deleted_data_leaves_its_keys_and_what_ran_on_external_ones() {
        let volume = Data::Volume("p_sql-data".to_owned());
        let external = Data::External {
            server: "sql:1433".to_owned(),
            database: "octopus".to_owned(),
        };
        let ran = |data: &Data| Ran {
            version: "2026.2.7".to_owned(),
            data: Some(data.clone()),
            ..Ran::default()
        };
        let key = Secret::new("k");
        let mut stored = Stored {
            wish: Wish::Down { volumes: true },
            ..Stored::default()
        };
        stored.keys.set(&key, true, &volume);
        assert!(stored.key_proven(&key, &volume) && stored.had_data(&volume));
        assert!(stored.version_ran(ran(&external)) && stored.version_ran(ran(&volume)));
        let left = stored.data_deleted();
        assert!(left.is_blank() && !left.had_data(&volume) && left.had_data(&external));
        assert_eq!(
            left.master_key(),
            Some(&key),
            "it is used again: backups need it"
        );
        // A given key that no node came up with is not taken for the right one.
        let mut wrong = Stored::default();
        wrong.keys.set(&key, false, &external);
        let left = wrong.data_deleted();
        assert!(left.master_key().is_none() && left.keys.replaced.len() == 1);
    }
}
