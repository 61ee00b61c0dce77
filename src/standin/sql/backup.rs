//! BACKUP DATABASE, and what it shares with RESTORE: options, devices, and their errors.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::types::Value;

use super::engine::Engine;
use super::error::SqlError;
use super::instance::{self, Backup};
use super::lexer::Token;
use super::media::{self, Damage, Header, PAGE};
use super::pace::{Pace, STATS};
use super::scope::Listed;
use super::statement::{Medium, Opt};
use super::store;
use super::tokens::Reply;
use super::types;

/// The options of a BACKUP or RESTORE, with their values.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) checksum: Option<bool>,
    pub(super) compression: Option<bool>,
    pub(super) copy_only: bool,
    pub(super) format: bool,
    pub(super) init: bool,
    pub(super) replace: bool,
    pub(super) no_recovery: bool,
    pub(super) stats: u64,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    /// The set's place on the medium, from 1.
    pub(super) file: usize,
    /// Logical names and the paths they are to have.
    pub(super) moves: Vec<(String, String)>,
}

impl Engine {
    /// The text of a name, string, number or variable.
    pub(super) fn said(&self, token: &Token) -> Result<String, SqlError> {
        let Token::Variable(name) = token else {
            return Ok(token.shown().to_owned());
        };
        match self.variables.get(name) {
            Some((_, Value::Text(text))) => Ok(text.clone()),
            Some((_, Value::Integer(number))) => Ok(number.to_string()),
            Some(_) => Err(SqlError::syntax(name)),
            None => Err(SqlError::undeclared(name)),
        }
    }

    pub(super) fn wishes(&self, options: &[Opt]) -> Result<Wishes, SqlError> {
        let mut wishes = Wishes {
            stats: STATS,
            file: 1,
            ..Wishes::default()
        };
        for option in options {
            let value = option.value.as_ref().map(|value| self.said(value));
            let value = value.transpose()?;
            let number = || value.as_deref().and_then(|text| text.parse().ok());
            match option.name {
                "CHECKSUM" => wishes.checksum = Some(true),
                "NO_CHECKSUM" => wishes.checksum = Some(false),
                "COMPRESSION" => wishes.compression = Some(true),
                "NO_COMPRESSION" => wishes.compression = Some(false),
                "COPY_ONLY" => wishes.copy_only = true,
                "FORMAT" => wishes.format = true,
                "INIT" => wishes.init = true,
                "REPLACE" => wishes.replace = true,
                "NORECOVERY" => wishes.no_recovery = true,
                "STATS" => wishes.stats = number().unwrap_or(STATS),
                "NAME" => wishes.name = value,
                "DESCRIPTION" => wishes.description = value,
                "FILE" => {
                    wishes.file = number().and_then(|at| at.try_into().ok()).unwrap_or(0);
                }
                "MOVE" => {
                    let to = option.to.as_ref().map(|to| self.said(to)).transpose()?;
                    wishes
                        .moves
                        .push((value.unwrap_or_default(), to.unwrap_or_default()));
                }
                _ => {}
            }
        }
        Ok(wishes)
    }

    /// The server's fault `not-sysadmin` takes the rights away.
    pub(super) fn check_right(&self, what: &str, database: &str) -> Result<(), SqlError> {
        if self.server.faults.not_sysadmin {
            let text = format!("{what} permission denied in database '{database}'.");
            return Err(SqlError::new(262, 14, text));
        }
        Ok(())
    }

    pub(super) fn backup(
        &mut self,
        database: &Token,
        medium: &Medium,
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let sessions = &self.server.store.sessions;
        sessions.begin(self.spid, "BACKUP DATABASE");
        let done = self.try_backup(database, medium, reply);
        self.server.store.sessions.end(self.spid);
        let _ = fs::remove_file(self.server.store.scratch(self.spid));
        done.map_err(|error| error.then(3013, "BACKUP DATABASE is terminating abnormally."))
    }

    fn try_backup(
        &self,
        database: &Token,
        medium: &Medium,
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let wishes = self.wishes(&medium.options)?;
        let found = self.to_back_up(&self.said(database)?, &wishes)?;
        let disk = medium.disk.as_ref().map(|disk| self.said(disk));
        let disk = disk.transpose()?.unwrap_or_default();
        let path = self.server.store.path(&disk);
        let (mut out, position) = device(&path, &disk, &wishes)?;
        let mut source = self.snapshot(&found.name)?;
        let size = source.metadata().map_or(0, |meta| meta.len());
        let header = self.header(&found, &wishes, size);
        let pace = Pace::new(&self.server, &self.cancel, self.spid, size);
        let mut pace = pace.every(wishes.stats);
        let (limit, mut full) = (self.server.faults.backup_disk_full, false);
        let written = media::append(&mut out, &header, &mut source, &mut |done| {
            full = limit.is_some_and(|limit| done > limit);
            !full && pace.step(done)
        });
        let end = written.map_err(|damage| {
            if full {
                damaged(&Damage::Write(io::ErrorKind::StorageFull.into()), &disk)
            } else {
                damaged(&damage, &disk)
            }
        })?;
        let backup = Backup {
            database: found.name.clone(),
            name: wishes.name,
            set_id: header.set_id,
            started: header.started,
            finished: end.finished,
            size,
            stored: end.stored,
            copy_only: header.copy_only,
            checksum: header.checksum,
            position,
            device: disk,
        };
        let mut instance = self.server.store.instance();
        instance.backed_up(backup);
        let saved = self.server.store.save(&instance);
        drop(instance);
        saved.map_err(|error| store::broken_disk(&error))?;
        pace.tell("BACKUP DATABASE", &files(&found, size, position), reply);
        Ok(())
    }

    fn to_back_up(&self, name: &str, wishes: &Wishes) -> Result<Listed, SqlError> {
        let store = &self.server.store;
        let found = store
            .find(name)
            .ok_or_else(|| SqlError::no_database(name))?;
        self.check_right("BACKUP DATABASE", &found.name)?;
        if found.name == "tempdb" {
            return Err(SqlError::new(
                3147,
                16,
                "Backup and restore operations are not allowed on database tempdb.",
            ));
        }
        store.usable(&found.name)?;
        let edition = self.server.edition;
        if wishes.compression == Some(true) && !edition.compresses {
            let text = format!(
                "BACKUP DATABASE WITH COMPRESSION is not supported on {}.",
                edition.name
            );
            return Err(SqlError::new(1844, 16, text));
        }
        let corrupt = self.server.faults.is_corrupt(&found.name);
        if corrupt && wishes.checksum == Some(true) {
            let text = format!(
                "BACKUP '{}' detected an error on page (1:1) in file '{}'.",
                found.name, found.file
            );
            return Err(SqlError::new(3043, 16, text));
        }
        Ok(found)
    }

    /// The database as it is at this moment, in a file of its own.
    fn snapshot(&self, name: &str) -> Result<File, SqlError> {
        let (store, path) = (&self.server.store, self.server.store.scratch(self.spid));
        let _ = fs::remove_file(&path);
        let copied = store::open(&store.file(name)).and_then(|connection| {
            connection.execute("VACUUM INTO ?1", [path.to_string_lossy().as_ref()])
        });
        copied.map_err(|error| SqlError::of_sqlite(&error))?;
        File::open(&path).map_err(|error| store::broken_disk(&error))
    }

    fn header(&self, found: &Listed, wishes: &Wishes, size: u64) -> Header {
        Header {
            database: found.name.clone(),
            logical: found.logical.clone(),
            physical: found.file.clone(),
            family: found.family.clone(),
            set_id: instance::random_hex(),
            name: wishes.name.clone(),
            description: wishes.description.clone(),
            data_version: self.server.store.instance().data_version,
            created: found.created.clone(),
            started: types::now(),
            recovery: found.recovery.1.to_owned(),
            copy_only: wishes.copy_only,
            checksum: wishes.checksum == Some(true),
            compressed: wishes.compression == Some(true),
            size,
        }
    }
}

/// Opens the file to write to; gives the place that the new set will have on it.
fn device(path: &Path, said: &str, wishes: &Wishes) -> Result<(File, usize), SqlError> {
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o660)
        .open(path);
    let mut file = opened.map_err(|error| no_device(said, &error))?;
    let length = file.metadata().map_or(0, |meta| meta.len());
    if length == 0 {
        return Ok((file, 1));
    }
    let mut position = 1;
    if !wishes.format {
        let sets = media::sets(&mut file).map_err(|damage| damaged(&damage, said))?;
        if !wishes.init {
            if sets.iter().any(|set| set.end.is_none()) {
                return Err(damaged(&Damage::Incomplete, said));
            }
            position = sets.len() + 1;
        }
    }
    if position == 1 {
        file.set_len(0).map_err(|error| no_device(said, &error))?;
    }
    Ok((file, position))
}

/// The data and the log file, as messages name them, and their pages.
pub(super) fn files(database: &Listed, size: u64, position: usize) -> [(String, u64); 2] {
    let file = |suffix: &str| {
        format!(
            "database '{}', file '{}{suffix}' on file {position}",
            database.name, database.logical
        )
    };
    [(file(""), size.div_ceil(PAGE as u64)), (file("_log"), 2)]
}

/// The vendor's error of a device that cannot be opened.
pub(super) fn no_device(said: &str, error: &io::Error) -> SqlError {
    let why = system_words(error);
    SqlError::new(
        3201,
        16,
        format!("Cannot open backup device '{said}'. Operating system error {why}."),
    )
}

/// Windows' number and words, which the vendor's Linux images use too.
pub(super) fn system_words(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "2(The system cannot find the file specified.)",
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => "5(Access is denied.)",
        io::ErrorKind::ReadOnlyFilesystem => "19(The media is write protected.)",
        io::ErrorKind::StorageFull => "112(There is not enough space on the disk.)",
        _ => "31(A device attached to the system is not functioning.)",
    }
}

/// The vendor's error of a medium that is not as it should be.
pub(super) fn damaged(damage: &Damage, said: &str) -> SqlError {
    let (number, text) = match damage {
        Damage::Malformed => (
            3241,
            format!(
                "The media family on device '{said}' is incorrectly formed. SQL Server cannot process this media family."
            ),
        ),
        Damage::Incomplete => (
            3256,
            format!(
                "The backup set on device '{said}' was terminated while it was being created and is incomplete. RESTORE sequence is terminated abnormally."
            ),
        ),
        Damage::Page(_) => (3189, "Damage to the backup set was detected.".to_owned()),
        Damage::Aborted => (3204, "The backup or restore was aborted.".to_owned()),
        Damage::Read(error) => (
            3203,
            format!("Read on \"{said}\" failed: {}", system_words(error)),
        ),
        Damage::Write(error) => (
            3202,
            format!("Write on \"{said}\" failed: {}", system_words(error)),
        ),
    };
    SqlError::new(number, 16, text)
}
