//! What persists in `/var/opt/mssql`: the instance's own record and one SQLite file per database.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::error::SqlError;
use super::faults::Broken;
use super::scope::Listed;

/// How long SQLite itself waits for another writer before the caller may look whether it was
/// cancelled.
const BUSY: Duration = Duration::from_millis(50);
/// The databases that every instance has, with their ids.
const SYSTEM: [(i64, &str); 4] = [(1, "master"), (2, "tempdb"), (3, "model"), (4, "msdb")];
/// Longest name of a database, as SQL Server has it.
const MAX_NAME: usize = 128;

/// The instance's record: what real ones keep in `master`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Instance {
    data_version: u32,
    salt: String,
    password: String,
    databases: Vec<(i64, String)>,
}

/// The data directory of a running server. It holds the directory's lock.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    instance: Mutex<Instance>,
    /// The database each connection is in.
    sessions: Mutex<HashMap<u32, String>>,
    broken: Vec<(String, Broken, Option<Instant>)>,
    /// Whether the last server on this directory stopped by itself.
    pub(super) clean: bool,
    /// The version of the data before this start, where it was older.
    pub(super) upgraded_from: Option<u32>,
    _lock: File,
}

/// Why the directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("another server runs on this data directory")]
    Locked,
    #[error("the data has version {0}")]
    Newer(u32),
    #[error("the password does not meet the policy")]
    WeakPassword,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The settings of a start.
pub(super) struct Opening<'a> {
    pub(super) root: &'a Path,
    pub(super) password: &'a str,
    pub(super) version: u32,
    pub(super) broken: Vec<(String, Broken, Option<Duration>)>,
}

/// SQL Server's policy: 8 to 128 characters of three classes, without the account's name.
pub(super) fn strong(password: &str) -> bool {
    let classes: [fn(char) -> bool; 4] = [
        |c| c.is_uppercase(),
        |c| c.is_lowercase(),
        |c| c.is_numeric(),
        |c| !c.is_alphanumeric(),
    ];
    let found = classes
        .iter()
        .filter(|class| password.chars().any(**class))
        .count();
    (8..=128).contains(&password.chars().count())
        && found >= 3
        && !password.to_lowercase().contains("sa")
}

impl Store {
    /// Locks the directory, makes it at the first start, and marks it as in use.
    pub(super) fn open(opening: Opening<'_>) -> Result<Self, OpenError> {
        let root = opening.root.to_owned();
        let system = root.join(".system");
        fs::create_dir_all(&system)?;
        fs::create_dir_all(root.join("data"))?;
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(system.join("instance.lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => OpenError::Locked,
            fs::TryLockError::Error(error) => OpenError::Io(error),
        })?;
        let instance = match fs::read(system.join("instance.json")) {
            Ok(bytes) => serde_json::from_slice::<Instance>(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                first(opening.password, opening.version)?
            }
            Err(error) => return Err(error.into()),
        };
        if instance.data_version > opening.version {
            return Err(OpenError::Newer(instance.data_version));
        }
        let upgraded_from =
            (instance.data_version < opening.version).then_some(instance.data_version);
        let running = system.join("running");
        let clean = !running.exists();
        let broken = opening
            .broken
            .into_iter()
            .map(|(name, how, time)| (name, how, time.map(|time| Instant::now() + time)))
            .collect();
        let store = Self {
            root,
            instance: Mutex::new(instance),
            sessions: Mutex::default(),
            broken,
            clean,
            upgraded_from,
            _lock: lock,
        };
        store.instance().data_version = opening.version;
        store.save(&store.instance())?;
        File::create(running)?.sync_all()?;
        for (_, name) in SYSTEM {
            if name == "tempdb" {
                store.remove_file(name)?;
            }
            store.create_file(name)?;
        }
        Ok(store)
    }

    fn instance(&self) -> MutexGuard<'_, Instance> {
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u32, String>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the record in one step, safe against a kill at any moment.
    fn save(&self, instance: &Instance) -> io::Result<()> {
        let system = self.root.join(".system");
        let mut file = tempfile::NamedTempFile::new_in(&system)?;
        file.write_all(&serde_json::to_vec_pretty(instance)?)?;
        file.as_file().sync_all()?;
        file.persist(system.join("instance.json"))?;
        File::open(system)?.sync_all()
    }

    pub(super) fn login_matches(&self, user: &str, password: &str) -> bool {
        let instance = self.instance();
        user.eq_ignore_ascii_case("sa")
            && !instance.password.is_empty()
            && instance.password == hashed(&instance.salt, password)
    }

    pub(super) fn set_password(&self, login: &str, password: &str) -> Result<(), SqlError> {
        if !login.eq_ignore_ascii_case("sa") {
            let text = format!(
                "Cannot alter the login '{login}', because it does not exist or you do not have permission."
            );
            return Err(SqlError::new(15151, 16, text));
        }
        if !strong(password) {
            return Err(SqlError::new(
                15118,
                16,
                "Password validation failed. The password does not meet the operating system policy requirements because it is not complex enough.",
            ));
        }
        let mut instance = self.instance();
        instance.password = hashed(&instance.salt, password);
        self.save(&instance).map_err(|error| broken_disk(&error))
    }

    /// `sys.databases`.
    pub(super) fn databases(&self) -> Vec<Listed> {
        let user = self.instance().databases.clone();
        let all = SYSTEM
            .iter()
            .map(|(id, name)| (*id, (*name).to_owned()))
            .chain(user);
        let listed = all.map(|(id, name)| {
            let (state, state_desc) = match self.broken(&name) {
                None => (0, "ONLINE"),
                Some(Broken::Recovering) => (2, "RECOVERING"),
                Some(Broken::RecoveryPending) => (3, "RECOVERY_PENDING"),
                Some(Broken::Suspect) => (4, "SUSPECT"),
            };
            Listed {
                id,
                name,
                state,
                state_desc,
            }
        });
        listed.collect()
    }

    fn broken(&self, name: &str) -> Option<Broken> {
        let name = name.to_lowercase();
        let now = Instant::now();
        self.broken
            .iter()
            .find(|(broken, _, until)| *broken == name && until.is_none_or(|until| until > now))
            .map(|(_, how, _)| *how)
    }

    /// The database's name as it was created, if it is there and can be opened.
    pub(super) fn usable(&self, name: &str) -> Result<String, SqlError> {
        let found = self
            .databases()
            .into_iter()
            .find(|database| database.name.to_lowercase() == name.to_lowercase());
        let Some(found) = found else {
            return Err(SqlError::no_database(name));
        };
        let name = found.name;
        Err(match self.broken(&name) {
            None => return Ok(name),
            Some(Broken::Recovering) => SqlError::new(
                922,
                14,
                format!(
                    "Database '{name}' is being recovered. Waiting until recovery is finished."
                ),
            ),
            Some(Broken::RecoveryPending) => {
                let why = "cannot be opened due to inaccessible files or insufficient memory or disk space. See the SQL Server errorlog for details.";
                SqlError::new(945, 14, format!("Database '{name}' {why}"))
            }
            Some(Broken::Suspect) => {
                let why = "cannot be opened. It has been marked SUSPECT by recovery. See the SQL Server errorlog for more information.";
                SqlError::new(926, 14, format!("Database '{name}' {why}"))
            }
        })
    }

    /// A connection to a database that `usable` has named, and a note of who is in it.
    pub(super) fn connect(&self, spid: u32, name: &str) -> Result<Connection, SqlError> {
        let connection = open(&self.file(name)).map_err(|error| SqlError::of_sqlite(&error))?;
        self.sessions().insert(spid, name.to_owned());
        Ok(connection)
    }

    pub(super) fn leave(&self, spid: u32) {
        self.sessions().remove(&spid);
    }

    pub(super) fn create(&self, name: &str) -> Result<(), SqlError> {
        if name.is_empty() || name.chars().count() > MAX_NAME {
            return Err(SqlError::new(
                103,
                15,
                "The identifier is too long. Maximum length is 128.",
            ));
        }
        let mut instance = self.instance();
        let taken = SYSTEM
            .iter()
            .map(|(_, taken)| *taken)
            .chain(instance.databases.iter().map(|(_, taken)| taken.as_str()));
        if taken
            .into_iter()
            .any(|taken| taken.to_lowercase() == name.to_lowercase())
        {
            return Err(SqlError::new(
                1801,
                16,
                format!("Database '{name}' already exists. Choose a different database name."),
            ));
        }
        self.remove_file(name)
            .and_then(|()| self.create_file(name))
            .map_err(|error| broken_disk(&error))?;
        let id = instance
            .databases
            .iter()
            .map(|(id, _)| *id)
            .max()
            .unwrap_or(4)
            + 1;
        instance.databases.push((id, name.to_owned()));
        self.save(&instance).map_err(|error| broken_disk(&error))
    }

    pub(super) fn drop(&self, name: &str) -> Result<(), SqlError> {
        let mut instance = self.instance();
        let Some(at) = instance
            .databases
            .iter()
            .position(|(_, known)| known.to_lowercase() == name.to_lowercase())
        else {
            return Err(SqlError::new(
                3701,
                11,
                format!(
                    "Cannot drop the database '{name}', because it does not exist or you do not have permission."
                ),
            ));
        };
        if self
            .sessions()
            .values()
            .any(|used| *used == instance.databases[at].1)
        {
            return Err(SqlError::new(
                3702,
                16,
                format!("Cannot drop database \"{name}\" because it is currently in use."),
            ));
        }
        let (_, name) = instance.databases.remove(at);
        self.save(&instance)
            .and_then(|()| self.remove_file(&name))
            .map_err(|error| broken_disk(&error))
    }

    /// Writes every log back into its database and takes the mark away: the end of a clean stop.
    pub(super) fn close(&self) -> io::Result<()> {
        for database in self.databases() {
            let checkpoint = open(&self.file(&database.name))
                .and_then(|connection| connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"));
            checkpoint.map_err(io::Error::other)?;
        }
        fs::remove_file(self.root.join(".system/running"))
    }

    /// The file of a database. Everything but letters and digits is written as its code, in lower
    /// case as names compare.
    fn file(&self, name: &str) -> PathBuf {
        let safe: String = name
            .to_lowercase()
            .chars()
            .map(|c| {
                if c.is_alphanumeric() {
                    c.to_string()
                } else {
                    format!("%{:x}", u32::from(c))
                }
            })
            .collect();
        self.root.join("data").join(format!("{safe}.mdf"))
    }

    fn create_file(&self, name: &str) -> io::Result<()> {
        let path = self.file(name);
        let connection = Connection::open(path).map_err(io::Error::other)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(io::Error::other)
    }

    fn remove_file(&self, name: &str) -> io::Result<()> {
        let path = self.file(name);
        for suffix in ["", "-wal", "-shm"] {
            let mut file = path.clone().into_os_string();
            file.push(suffix);
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn first(password: &str, version: u32) -> Result<Instance, OpenError> {
    if !password.is_empty() && !strong(password) {
        return Err(OpenError::WeakPassword);
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let salt = hex(&bytes);
    let password = if password.is_empty() {
        String::new()
    } else {
        hashed(&salt, password)
    };
    Ok(Instance {
        data_version: version,
        salt,
        password,
        databases: Vec::new(),
    })
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

fn broken_disk(error: &io::Error) -> SqlError {
    SqlError::new(
        5123,
        16,
        format!("CREATE FILE encountered operating system error: {error}."),
    )
}

fn hashed(salt: &str, password: &str) -> String {
    hex(&sha2::Sha256::digest(format!("{salt}:{password}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_policy() {
        for weak in [
            "",
            "Short1!",
            "alllowercase1",
            "NoDigitsHere",
            "Has-sa-1-Inside",
            &"aB3!".repeat(33),
        ] {
            assert!(!strong(weak), "{weak}");
        }
        assert!(strong("N0tS3cr3t!") && strong("Abcdefg1"));
    }
}
