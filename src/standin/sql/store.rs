//! What persists in `/var/opt/mssql`: the instance's own record and one SQLite file per database.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::time::Instant;

use super::cancel::Cancel;
use super::error::SqlError;
use super::faults::Broken;
use super::instance::{self, Access, Details, Instance, Restoring};
use super::scope::Listed;
use super::sessions::Sessions;
use super::types;

/// How long SQLite itself waits for another writer before the caller may look whether it was
/// cancelled.
const BUSY: Duration = Duration::from_millis(50);
/// The databases that every instance has, with their ids.
const SYSTEM: [(i64, &str); 4] = [(1, "master"), (2, "tempdb"), (3, "model"), (4, "msdb")];
/// Longest name of a database, as SQL Server has it.
const MAX_NAME: usize = 128;

/// Where the vendor's image has its data, and so what clients call the root.
const HOME: &str = "/var/opt/mssql";

/// The data directory of a running server. It holds the directory's lock.
pub(super) struct Store {
    root: PathBuf,
    instance: Mutex<Instance>,
    pub(super) sessions: Sessions,
    broken: Vec<(String, Broken, Option<Instant>)>,
    /// Whether the last server on this directory stopped by itself.
    pub(super) clean: bool,
    /// Whether the databases of users are recovered after an unclean end.
    pub(super) recovered: AtomicBool,
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

impl Store {
    /// Locks the directory, makes it at the first start, and marks it as in use.
    pub(super) fn open(opening: Opening<'_>) -> Result<Self, OpenError> {
        let root = opening.root.to_owned();
        let system = root.join(".system");
        fs::create_dir_all(&system)?;
        fs::create_dir_all(root.join("data"))?;
        let lock = lock(&system)?;
        let mut instance = match Instance::load(&system)? {
            Some(instance) => instance,
            None if !opening.password.is_empty()
                && instance::weakness(opening.password).is_some() =>
            {
                return Err(OpenError::WeakPassword);
            }
            None => Instance::new(opening.password, opening.version),
        };
        if instance.data_version > opening.version {
            return Err(OpenError::Newer(instance.data_version));
        }
        let upgraded_from =
            (instance.data_version < opening.version).then_some(instance.data_version);
        instance.data_version = opening.version;
        instance.begin_run();
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
            sessions: Sessions::default(),
            broken,
            clean,
            recovered: AtomicBool::new(clean),
            upgraded_from,
            _lock: lock,
        };
        store.save(&store.instance())?;
        File::create(running)?.sync_all()?;
        for (_, name) in SYSTEM {
            if name == "tempdb" {
                remove_file(&store.file(name))?;
            }
            create_file(&store.file(name))?;
        }
        Ok(store)
    }

    /// The instance's record.
    pub(super) fn instance(&self) -> MutexGuard<'_, Instance> {
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the record, as it was changed.
    pub(super) fn save(&self, instance: &Instance) -> io::Result<()> {
        instance.save(&self.root.join(".system"))
    }

    /// A path as clients say it, on this machine's disk: the vendor's data directory is the root.
    pub(super) fn path(&self, said: &str) -> PathBuf {
        match Path::new(said).strip_prefix(HOME) {
            Ok(inside) => self.root.join(inside),
            Err(_) if said.starts_with('/') => said.into(),
            Err(_) => self.root.join("data").join(said),
        }
    }

    /// A file for a moment, beside the data.
    pub(super) fn scratch(&self, spid: u32) -> PathBuf {
        self.root.join(".system").join(format!("snapshot-{spid}"))
    }

    pub(super) fn login_matches(&self, user: &str, password: &str) -> bool {
        user.eq_ignore_ascii_case("sa") && self.instance().takes_password(password)
    }

    /// `old` is checked where it is given.
    pub(super) fn set_password(
        &self,
        login: &str,
        password: &str,
        old: Option<&str>,
    ) -> Result<(), SqlError> {
        let mut instance = self.instance();
        let known = login.eq_ignore_ascii_case("sa");
        if !known || old.is_some_and(|old| !instance.takes_password(old)) {
            let text = format!(
                "Cannot alter the login '{login}', because it does not exist or you do not have permission."
            );
            return Err(SqlError::new(15151, 16, text));
        }
        if let Some((number, why)) = instance::weakness(password) {
            let text = format!(
                "Password validation failed. The password does not meet the operating system policy requirements because {why}."
            );
            return Err(SqlError::new(number, 16, text));
        }
        instance.set_password(password);
        self.save(&instance).map_err(|error| broken_disk(&error))
    }

    /// `sys.databases`.
    pub(super) fn databases(&self) -> Vec<Listed> {
        let instance = self.instance();
        let system = SYSTEM.iter().map(|(id, name)| (*id, (*name).to_owned()));
        let listed = system.chain(instance.databases.clone()).map(|(id, name)| {
            let details = instance.details.get(&id).cloned().unwrap_or_default();
            let (state, state_desc) = self.state(id, &name, &details);
            let file = details.file.unwrap_or_else(|| default_file(&name));
            Listed {
                id,
                logical: details.logical.unwrap_or_else(|| name.clone()),
                size: fs::metadata(self.path(&file)).map_or(0, |meta| meta.len()),
                file,
                state,
                state_desc,
                created: Some(details.created)
                    .filter(|created| !created.is_empty())
                    .unwrap_or_else(|| "2003-04-08 09:13:36.3900000".to_owned()),
                recovery: details.recovery.shown(),
                access: details.access.shown(),
                family: details.family,
                name,
            }
        });
        listed.collect()
    }

    /// `state` and its description.
    fn state(&self, id: i64, name: &str, details: &Details) -> (i64, &'static str) {
        if details.offline {
            return (6, "OFFLINE");
        }
        if details.restoring != Restoring::No {
            return (1, "RESTORING");
        }
        let unrecovered = id > 4 && !self.recovered.load(Ordering::SeqCst);
        match self.broken(name).filter(|_| !details.is_restored) {
            Some(Broken::Suspect) => (4, "SUSPECT"),
            Some(Broken::RecoveryPending) => (3, "RECOVERY_PENDING"),
            Some(Broken::Recovering) => (2, "RECOVERING"),
            None if unrecovered => (2, "RECOVERING"),
            None => (0, "ONLINE"),
        }
    }

    fn broken(&self, name: &str) -> Option<Broken> {
        let name = name.to_lowercase();
        let now = Instant::now();
        self.broken
            .iter()
            .find(|(broken, _, until)| *broken == name && until.is_none_or(|until| until > now))
            .map(|(_, how, _)| *how)
    }

    /// The database of a name, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<Listed> {
        let lower = name.to_lowercase();
        let mut all = self.databases().into_iter();
        all.find(|database| database.name.to_lowercase() == lower)
    }

    /// The database's name as it was created, if it is there and can be opened.
    pub(super) fn usable(&self, name: &str) -> Result<String, SqlError> {
        let found = self.find(name).ok_or_else(|| SqlError::no_database(name))?;
        let name = found.name;
        let (number, why) = match found.state_desc {
            "ONLINE" => return Ok(name),
            "RECOVERING" => (
                922,
                "is being recovered. Waiting until recovery is finished.",
            ),
            "RESTORING" => (927, "cannot be opened. It is in the middle of a restore."),
            "OFFLINE" => (942, "cannot be opened because it is offline."),
            "RECOVERY_PENDING" => (
                945,
                "cannot be opened due to inaccessible files or insufficient memory or disk space. See the SQL Server errorlog for details.",
            ),
            _ => (
                926,
                "cannot be opened. It has been marked SUSPECT by recovery. See the SQL Server errorlog for more information.",
            ),
        };
        Err(SqlError::new(
            number,
            14,
            format!("Database '{name}' {why}"),
        ))
    }

    /// A connection to a database that `usable` has named, and a note of who is in it.
    pub(super) fn connect(
        &self,
        spid: u32,
        name: &str,
        cancel: &Arc<Cancel>,
    ) -> Result<Connection, SqlError> {
        let single = self.details(name).access == Access::Single;
        if single && !self.sessions.others(spid, name).is_empty() {
            let text =
                format!("Database '{name}' is already open and can only have one user at a time.");
            return Err(SqlError::new(924, 14, text));
        }
        let connection = open(&self.file(name)).map_err(|error| SqlError::of_sqlite(&error))?;
        self.sessions.enter(spid, name, cancel);
        Ok(connection)
    }

    /// What is kept of a database.
    pub(super) fn details(&self, name: &str) -> Details {
        let instance = self.instance();
        id_of(&instance, name)
            .and_then(|id| instance.details.get(&id).cloned())
            .unwrap_or_default()
    }

    /// Changes what is kept of a user's database.
    pub(super) fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut Details),
    ) -> Result<(), SqlError> {
        let mut instance = self.instance();
        let id = id_of(&instance, name).ok_or_else(|| SqlError::no_database(name))?;
        change(instance.details.entry(id).or_default());
        self.save(&instance).map_err(|error| broken_disk(&error))
    }

    /// Gives a database another name; its file stays where it is.
    pub(super) fn rename(&self, name: &str, new: &str) -> Result<(), SqlError> {
        let found = self.find(name).ok_or_else(|| SqlError::no_database(name))?;
        let mut instance = self.instance();
        check_new(&instance, new)?;
        let details = instance.details.entry(found.id).or_default();
        details.file = Some(found.file);
        details.logical = Some(found.logical);
        for (id, known) in &mut instance.databases {
            if *id == found.id {
                new.clone_into(known);
            }
        }
        self.save(&instance).map_err(|error| broken_disk(&error))
    }

    pub(super) fn create(&self, name: &str) -> Result<(), SqlError> {
        let details = Details {
            created: types::now(),
            family: instance::random_hex(),
            ..Details::default()
        };
        let make = |path: &Path| remove_file(path).and_then(|()| create_file(path));
        self.enter(name, details, make).map(|_| ())
    }

    /// Enters a database once `make` has made its file; gives the file's path.
    pub(super) fn enter(
        &self,
        name: &str,
        mut details: Details,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, SqlError> {
        let mut instance = self.instance();
        check_new(&instance, name)?;
        let said = details.file.take().unwrap_or_else(|| default_file(name));
        // A renamed database may still have the file that this name would make.
        let taken = |id: &i64| instance.details.get(id).and_then(|kept| kept.file.clone());
        let mut others = instance.databases.iter();
        let free =
            !others.any(|(id, other)| taken(id).unwrap_or_else(|| default_file(other)) == said);
        let last = instance.databases.iter().map(|(id, _)| *id).max();
        let id = last.unwrap_or(4) + 1;
        let said = if free { said } else { format!("{said}.{id}") };
        if said != default_file(name) {
            details.file = Some(said.clone());
        }
        instance.databases.push((id, name.to_owned()));
        instance.details.insert(id, details);
        let path = self.path(&said);
        let done = make(&path).and_then(|()| self.save(&instance));
        if let Err(error) = done {
            instance.databases.retain(|(known, _)| *known != id);
            instance.details.remove(&id);
            return Err(broken_disk(&error));
        }
        Ok(path)
    }

    pub(super) fn drop(&self, name: &str) -> Result<(), SqlError> {
        let found = self.find(name).filter(|found| found.id > 4);
        let Some(found) = found else {
            return Err(SqlError::new(
                3701,
                11,
                format!(
                    "Cannot drop the database '{name}', because it does not exist or you do not have permission."
                ),
            ));
        };
        if !self.sessions.others(0, &found.name).is_empty() {
            return Err(SqlError::new(
                3702,
                16,
                format!("Cannot drop database \"{name}\" because it is currently in use."),
            ));
        }
        let path = self.path(&found.file);
        let mut instance = self.instance();
        instance.databases.retain(|(id, _)| *id != found.id);
        instance.details.remove(&found.id);
        self.save(&instance).map_err(|error| broken_disk(&error))?;
        // The file of an offline database stays, as with the vendor.
        if found.state_desc == "OFFLINE" {
            return Ok(());
        }
        remove_file(&path).map_err(|error| broken_disk(&error))
    }

    /// Writes every log back into its database and takes the mark away: the end of a clean stop.
    pub(super) fn close(&self) -> io::Result<()> {
        for database in self.databases() {
            let path = self.path(&database.file);
            if database.state_desc == "RESTORING" || !path.exists() {
                continue;
            }
            let checkpoint = open(&path)
                .and_then(|connection| connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"));
            checkpoint.map_err(io::Error::other)?;
        }
        fs::remove_file(self.root.join(".system/running"))
    }

    /// Notes how this run ends.
    pub(super) fn end_run(&self, how: &str, by: &str) -> io::Result<()> {
        let mut instance = self.instance();
        if let Some(run) = instance.runs.last_mut() {
            (run.ended, run.by) = (Some(how.to_owned()), Some(by.to_owned()));
        }
        self.save(&instance)
    }

    /// The file of a database on this machine's disk.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        let said = self.details(name).file;
        self.path(&said.unwrap_or_else(|| default_file(name)))
    }
}

fn lock(system: &Path) -> Result<File, OpenError> {
    let lock = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(system.join("instance.lock"))?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => OpenError::Locked,
        fs::TryLockError::Error(error) => OpenError::Io(error),
    })?;
    Ok(lock)
}

fn id_of(instance: &Instance, name: &str) -> Option<i64> {
    let lower = name.to_lowercase();
    let mut all = instance.databases.iter();
    all.find(|(_, known)| known.to_lowercase() == lower)
        .map(|(id, _)| *id)
}

fn check_new(instance: &Instance, name: &str) -> Result<(), SqlError> {
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return Err(SqlError::new(
            103,
            15,
            "The identifier is too long. Maximum length is 128.",
        ));
    }
    let is_system = SYSTEM
        .iter()
        .any(|(_, known)| known.eq_ignore_ascii_case(name));
    if is_system || id_of(instance, name).is_some() {
        return Err(SqlError::new(
            1801,
            16,
            format!("Database '{name}' already exists. Choose a different database name."),
        ));
    }
    Ok(())
}

/// Where a new database's file is, as clients say it. Everything but letters and digits is written
/// as its code, in lower case as names compare.
fn default_file(name: &str) -> String {
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
    format!("{HOME}/data/{safe}.mdf")
}

/// Makes an empty database, or turns one that came from a backup into the form that servers use.
pub(super) fn create_file(path: &Path) -> io::Result<()> {
    let connection = Connection::open(path).map_err(io::Error::other)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(io::Error::other)
}

/// Removes a database's file and its logs.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.to_owned().into_os_string();
        file.push(suffix);
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Opens a database's file as every connection does.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
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

/// The vendor's error for its own files.
pub(super) fn broken_disk(error: &io::Error) -> SqlError {
    SqlError::new(
        5123,
        16,
        format!("CREATE FILE encountered operating system error: {error}."),
    )
}
