//! The one small state file: what was applied, what the operator wishes, and generated secrets.
//! Docker has the rest.

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
use crate::reconcile::status::Note;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// The form of the file. A daemon that finds a newer one supervises and writes nothing.
pub const FORM: u32 = 1;

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

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// What is wished.
    #[serde(flatten)]
    pub wish: Wish,
    /// The engine that the configuration was applied on; none where an older program did it.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// The last applied configuration.
    pub config: Option<Config>,
    /// The last applied desired state.
    pub spec: Option<StackSpec>,
    /// The master key of the data, generated or given.
    pub master_key: Option<Secret>,
    /// Whether octo-local made the master key itself.
    pub master_key_is_ours: bool,
    /// The `sa` password that the data knows, since it was last accepted.
    pub sa_password: Option<Secret>,
    /// Passwords generated for a demo: sa, then the first user.
    pub generated: Option<(Secret, Secret)>,
    /// The host refused full privileges to this demo.
    pub unprivileged: bool,
    /// The tag of Octopus Server that last ran on the data.
    pub ran_tag: Option<String>,
    /// The image, by ID, that each reference stood for at the last `up`.
    #[serde(default)]
    pub images: BTreeMap<String, String>,
    /// Units that the operator stopped on purpose.
    #[serde(default)]
    pub stopped: BTreeSet<UnitId>,
    /// Somebody interrupted the start: nothing that never served is started, until everything is
    /// ready or something is wished.
    #[serde(default)]
    pub held: bool,
}

impl Stored {
    /// Whether nothing is kept that a `down` with the data would forget. An external database's
    /// master key outlives it.
    pub fn is_blank(&self) -> bool {
        *self
            == Self {
                master_key: self.master_key.clone(),
                ..Self::default()
            }
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

    /// Forgets what went with the data. An external database is still there, and so is its key.
    pub fn forget_data(&mut self) {
        let external = self.spec.as_ref().is_some_and(|spec| spec.sql.is_none());
        let key = self.master_key.take().filter(|_| external);
        *self = Self {
            master_key: key,
            ..Self::default()
        };
    }

    /// The engine that this is about, when it is another.
    pub fn elsewhere(&self, here: &Endpoint) -> Option<&Endpoint> {
        self.endpoint.as_ref().filter(|there| !there.is_same(here))
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
    /// It could not be read as what it should be, and was set aside under this name. With it comes
    /// its copy, if that is whole.
    Quarantined(String, Option<Box<Stored>>),
    /// It is of a newer form: it must not be written. With it comes what of it can be understood.
    Newer(u32, Option<Box<Stored>>),
}

/// Reads what is kept, and touches nothing: the file if it is whole, else its copy.
pub fn read(path: &Path) -> Option<Stored> {
    let whole = |path: &Path| std::fs::read(path).ok().and_then(|text| parse(&text));
    whole(path).or_else(|| whole(&copy_of(path)))
}

/// Reads the state file for the daemon, which sets a damaged one aside.
pub fn load(path: &Path) -> Loaded {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Loaded::Fine(Box::default());
        }
        Err(error) => return Loaded::Quarantined(error.to_string(), None),
    };
    let form = serde_json::from_slice::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("form")?.as_u64());
    if let Some(form) = form.filter(|form| *form > u64::from(FORM)) {
        return Loaded::Newer(
            u32::try_from(form).unwrap_or(u32::MAX),
            parse(&text).map(Box::new),
        );
    }
    if let Some(stored) = parse(&text) {
        return Loaded::Fine(Box::new(stored));
    }
    let aside = path.with_extension("json.corrupt");
    let moved = std::fs::rename(path, &aside);
    let name = moved.map_or_else(|error| error.to_string(), |()| aside.display().to_string());
    let copy = std::fs::read(copy_of(path))
        .ok()
        .and_then(|text| parse(&text))
        .map(Box::new);
    Loaded::Quarantined(name, copy)
}

fn parse(text: &[u8]) -> Option<Stored> {
    let envelope: Envelope = serde_json::from_slice(text).ok()?;
    (check(&envelope.stored) == envelope.check)
        .then(|| serde_json::from_value(envelope.stored).ok())?
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
            .prefix(".state")
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

    #[test]
    fn a_wish_counts_only_on_the_engine_that_it_was_made_for() {
        let at = |socket: &str| Endpoint(format!("unix:///nowhere/{socket}"));
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
            master_key: Some(Secret::new("k")),
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
            master_key: Some(Secret::new(key)),
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
                .replacen("\"form\": 1", "\"form\": 99", 1);
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
}
