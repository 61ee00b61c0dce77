//! What is known of a stack's data: which it is, the master keys that encrypted it, and the version
//! of Octopus Server that last ran on it. All of it outlives the containers.

use serde::Deserialize;
use serde::Serialize;

use crate::config::Secret;
use crate::engine::inventory::Inventory;
use crate::reconcile::observed::Instance;
use crate::spec::StackSpec;
use crate::spec::Storage;
use crate::spec::build::SQL_DATA;

/// How many replaced keys are kept. A key is 40 bytes and is replaced by a person's hand; beyond
/// this many, those that no node ever came up with go first, and proven ones never.
const REPLACED_KEYS: usize = 64;
/// Of how many databases the last version is kept: a project has one, or moves a few times.
const DATABASES: usize = 16;

/// Which database a stack's data is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// The volume of this name, of a SQL Server of the stack's own.
    Volume(String),
    /// The same in a volume that a person named, whosever it is.
    Theirs(String),
    /// The same in a directory of the host.
    Directory(String),
    /// Somebody else's database.
    External {
        /// [`DatabaseTarget::server`](crate::spec::DatabaseTarget::server).
        server: String,
        /// The database's name, in lower case, as SQL Server compares it by default.
        database: String,
    },
}

impl Data {
    /// The data that a desired state runs on.
    pub fn of(spec: &StackSpec) -> Self {
        if spec.sql.is_some() {
            return match spec.volumes.get(SQL_DATA).cloned().unwrap_or_default() {
                Storage::Ours(name) => Self::Volume(name),
                Storage::Theirs(name) => Self::Theirs(name),
                Storage::Directory(path) => Self::Directory(path),
            };
        }
        let target = &spec.database;
        Self::External {
            server: target.server(),
            database: target.database.to_lowercase(),
        }
    }

    /// Whether an engine has the volume that it is in. Of a directory the engine knows nothing.
    pub fn is_in(&self, all: &Inventory) -> bool {
        match self {
            Self::Volume(name) | Self::Theirs(name) => {
                all.volumes.iter().any(|volume| volume.name == *name)
            }
            Self::Directory(_) | Self::External { .. } => false,
        }
    }

    /// Whether it goes with `down --volumes`.
    pub fn is_volume(&self) -> bool {
        matches!(self, Self::Volume(_))
    }
}

impl std::fmt::Display for Data {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(name) | Self::Theirs(name) => write!(out, "volume {name}"),
            Self::Directory(path) => write!(out, "directory {path}"),
            Self::External { server, database } => write!(out, "database {database} on {server}"),
        }
    }
}

/// A master key and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Key {
    /// The key itself.
    pub key: Secret,
    /// octo-local made it; else a person gave it.
    pub generated: bool,
    /// The data that it was first used for.
    pub data: Option<Data>,
    /// A node came up with it on that data, so it is the data's: no other one can be.
    pub proven: bool,
    /// That data is gone: deleted when asked, or replaced by a new, empty database when asked. The
    /// key binds nobody any more; it is kept for the backups.
    pub gone: bool,
}

/// The key that nodes get, and those that nodes had before it. None is ever forgotten while data
/// or a backup may need it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRing {
    /// What nodes get.
    pub current: Option<Key>,
    /// What they had before, the oldest first.
    pub replaced: Vec<Key>,
}

impl KeyRing {
    fn all(&self) -> impl Iterator<Item = &Key> {
        self.current.iter().chain(self.replaced.iter().rev())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Key> {
        self.current.iter_mut().chain(&mut self.replaced)
    }

    /// Whether nothing was ever kept.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.replaced.is_empty()
    }

    /// The key that a node came up with on this data.
    pub fn proven_for(&self, data: &Data) -> Option<&Key> {
        self.all()
            .find(|key| key.proven && !key.gone && key.data.as_ref() == Some(data))
    }

    /// The key that was made here for this data, whether a node came up with it or not: a node that
    /// failed halfway may have encrypted something.
    pub fn made_for(&self, data: &Data) -> Option<&Key> {
        self.all()
            .find(|key| key.generated && !key.gone && key.data.as_ref() == Some(data))
    }

    /// What is known of a key by its value.
    pub fn find(&self, key: &Secret) -> Option<&Key> {
        self.all().find(|known| known.key == *key)
    }

    /// Makes this the key that nodes get. The one before it goes into the history. One whose data
    /// is gone begins anew with it: no node came up with it on what comes now.
    pub fn set(&mut self, key: &Secret, generated: bool, data: &Data) {
        let is_same = |known: &Key| known.key == *key && known.data.as_ref() == Some(data);
        let again = |known: Key| Key {
            proven: known.proven && !known.gone,
            gone: false,
            ..known
        };
        if self.current.as_ref().is_some_and(is_same) {
            self.current = self.current.take().map(again);
            return;
        }
        let next = match self.replaced.iter().position(is_same) {
            Some(known) => again(self.replaced.remove(known)),
            None => Key {
                key: key.clone(),
                generated: generated || self.find(key).is_some_and(|known| known.generated),
                data: Some(data.clone()),
                ..Key::default()
            },
        };
        self.replaced.extend(self.current.replace(next));
        if self.replaced.len() > REPLACED_KEYS
            && let Some(least) = self.replaced.iter().position(|key| !key.proven)
        {
            self.replaced.remove(least);
        }
    }

    /// A node came up with this key on this data. True when that is news.
    pub fn prove(&mut self, key: &Secret, data: &Data) -> bool {
        let is_it = |known: &Key| known.key == *key && known.data.as_ref() == Some(data);
        if !self.all().any(is_it) {
            self.set(key, false, data);
        }
        let mut news = false;
        for known in self.all_mut() {
            if is_it(known) {
                news |= !known.proven || known.gone;
                (known.proven, known.gone) = (true, false);
            }
        }
        news
    }

    /// Data is gone, and no key of it binds anybody any more.
    pub fn lose(&mut self, is_gone: impl Fn(&Data) -> bool) {
        for key in self.all_mut() {
            key.gone |= key.data.as_ref().is_some_and(&is_gone);
        }
    }
}

/// A run of a node that finishes its tasks before it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptDrain {
    /// Which.
    pub run: Instance,
    /// Until when it is waited for: milliseconds since 1970, by the host's clock.
    pub until_ms: i64,
}

/// A version of Octopus Server that ran, and on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ran {
    /// As `/api` reported it, such as `2026.2.7`; empty where nobody could ask.
    pub version: String,
    /// The image's reference.
    pub image: String,
    /// The image's ID: a tag may stand for another image tomorrow.
    pub image_id: String,
    /// The data that it ran on; none in what an older file says.
    pub data: Option<Data>,
}

/// Notes what ran, the newest last; one for each data. A start that nobody could ask the version of
/// does not take the place of what the same image reported. True when that is news.
pub(super) fn note_ran(all: &mut Vec<Ran>, mut ran: Ran) -> bool {
    let before = all.iter().position(|known| known.data == ran.data);
    if let Some(known) = before.map(|at| &all[at])
        && ran.version.is_empty()
        && (&known.image, &known.image_id) == (&ran.image, &ran.image_id)
    {
        ran.version.clone_from(&known.version);
    }
    if before.is_some_and(|at| all[at] == ran) {
        return false;
    }
    all.retain(|known| known.data != ran.data);
    all.push(ran);
    if all.len() > DATABASES {
        all.remove(0);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> Data {
        Data::Volume("p_sql-data".to_owned())
    }

    fn external() -> Data {
        Data::External {
            server: "sql.example.com:1433".to_owned(),
            database: "octopus".to_owned(),
        }
    }

    #[test]
    fn a_replaced_key_stays_in_the_history_and_is_found_for_its_data() {
        let (one, two) = (Secret::new("one"), Secret::new("two"));
        let mut keys = KeyRing::default();
        keys.set(&one, true, &volume());
        assert_eq!(keys.proven_for(&volume()), None);
        assert!(keys.prove(&one, &volume()) && !keys.prove(&one, &volume()));
        keys.set(&two, false, &external());
        assert_eq!(keys.current.as_ref().unwrap().key, two);
        assert_eq!(keys.proven_for(&volume()).unwrap().key, one);
        assert_eq!(keys.proven_for(&external()), None);
        keys.set(&one, false, &volume());
        let current = keys.current.as_ref().unwrap();
        assert!(current.proven && current.generated, "it is the same key");
        assert_eq!(keys.replaced.len(), 1);
    }

    #[test]
    fn a_proven_key_is_never_pushed_out_of_the_history() {
        let mut keys = KeyRing::default();
        keys.set(&Secret::new("right"), false, &volume());
        keys.prove(&Secret::new("right"), &volume());
        for number in 0..2 * REPLACED_KEYS {
            keys.set(&Secret::new(format!("wrong {number}")), false, &volume());
        }
        assert_eq!(keys.proven_for(&volume()).unwrap().key.expose(), "right");
        assert!(keys.replaced.len() <= REPLACED_KEYS);
    }

    #[test]
    fn the_key_of_lost_data_is_kept_and_binds_nobody() {
        let mut keys = KeyRing::default();
        keys.set(&Secret::new("one"), true, &volume());
        keys.prove(&Secret::new("one"), &volume());
        keys.lose(Data::is_volume);
        assert_eq!(
            (keys.proven_for(&volume()), keys.made_for(&volume())),
            (None, None)
        );
        assert_eq!(keys.current.as_ref().unwrap().key.expose(), "one");
        keys.set(&Secret::new("one"), false, &volume());
        assert!(keys.made_for(&volume()).is_some() && keys.proven_for(&volume()).is_none());
        assert!(
            keys.prove(&Secret::new("one"), &volume()),
            "a new database with it"
        );
        assert!(keys.proven_for(&volume()).is_some());
    }

    #[test]
    fn a_start_whose_version_is_unknown_hides_no_reported_one_of_the_same_image() {
        let ran = |version: &str, image_id: &str| Ran {
            version: version.to_owned(),
            image: "octopus:latest".to_owned(),
            image_id: image_id.to_owned(),
            data: Some(volume()),
        };
        let mut all = Vec::new();
        assert!(note_ran(&mut all, ran("2026.2.7", "a")));
        assert!(!note_ran(&mut all, ran("", "a")));
        assert_eq!(all, [ran("2026.2.7", "a")]);
        assert!(note_ran(&mut all, ran("", "b")));
        assert_eq!(all, [ran("", "b")], "the tag stands for another image now");
    }
}
