//! RESTORE: what is on a medium, whether it is whole, and a database from it.

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::types::Value;

use super::backup::{Wishes, damaged, files, no_device, system_words};
use super::engine::Engine;
use super::error::SqlError;
use super::instance::{self, Access, Details, Recovery, Restoring};
use super::media::{self, Damage, Set};
use super::pace::Pace;
use super::scope::Listed;
use super::statement::{Medium, RestoreWhat};
use super::store;
use super::tokens::{Column, Reply};
use super::types::{self, SqlType};

impl Engine {
    pub(super) fn restore(
        &mut self,
        what: &RestoreWhat,
        medium: &Medium,
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let (shown, listed) = match what {
            RestoreWhat::Verify => ("VERIFY DATABASE", "RESTORE VERIFYON"),
            RestoreWhat::Header => ("RESTORE HEADERONLY", "RESTORE HEADERON"),
            RestoreWhat::FileList => ("RESTORE FILELIST", "RESTORE FILELIST"),
            RestoreWhat::Database(_) => ("RESTORE DATABASE", "RESTORE DATABASE"),
        };
        self.server.store.sessions.begin(self.spid, listed);
        let done = self.try_restore(what, medium, reply);
        self.server.store.sessions.end(self.spid);
        if done.is_ok() && matches!(what, RestoreWhat::Verify | RestoreWhat::Database(_)) {
            reply.done(None, false);
        }
        done.map_err(|error| error.then(3013, &format!("{shown} is terminating abnormally.")))
    }

    fn try_restore(
        &self,
        what: &RestoreWhat,
        medium: &Medium,
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let wishes = self.wishes(&medium.options)?;
        self.check_right("RESTORE DATABASE", "master")?;
        let Some(disk) = &medium.disk else {
            let RestoreWhat::Database(name) = what else {
                return Err(SqlError::syntax("RESTORE"));
            };
            return self.recover(&self.said(name)?);
        };
        let said = self.said(disk)?;
        let path = self.server.store.path(&said);
        let mut file = File::open(path).map_err(|error| no_device(&said, &error))?;
        let sets = media::sets(&mut file).map_err(|damage| damaged(&damage, &said))?;
        if matches!(what, RestoreWhat::Header) {
            return header_rows(&sets, reply);
        }
        let set = chosen(&sets, &wishes, &said)?;
        match what {
            RestoreWhat::Header => Ok(()),
            RestoreWhat::FileList => file_rows(&set, reply),
            RestoreWhat::Verify => self.verify(&mut file, &set, &said, &wishes, reply),
            RestoreWhat::Database(name) => {
                let name = self.said(name)?;
                self.restore_database(&mut file, &set, (&name, &said), &wishes, reply)
            }
        }
    }

    fn verify(
        &self,
        file: &mut File,
        set: &Set,
        said: &str,
        wishes: &Wishes,
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let total = set.header.size;
        let mut pace = Pace::new(&self.server, &self.cancel, self.spid, total);
        media::read(file, set, &mut io::sink(), &mut |done| pace.step(done))
            .map_err(|damage| damaged(&damage, said))?;
        let text = format!("The backup set on file {} is valid.", wishes.file);
        reply.notice(3262, &text);
        Ok(())
    }

    /// RESTORE DATABASE x WITH RECOVERY, after one with NORECOVERY.
    fn recover(&self, name: &str) -> Result<(), SqlError> {
        let found = self.server.store.find(name);
        let name = found.ok_or_else(|| SqlError::no_database(name))?.name;
        match self.server.store.details(&name).restoring {
            Restoring::Whole => self
                .server
                .store
                .change(&name, |details| details.restoring = Restoring::No),
            Restoring::No => Err(SqlError::new(
                3153,
                16,
                "The database is already fully recovered.",
            )),
            Restoring::Partial => Err(SqlError::new(
                4333,
                16,
                "The database cannot be recovered because the log was not restored.",
            )),
        }
    }

    fn restore_database(
        &self,
        file: &mut File,
        set: &Set,
        (name, said): (&str, &str),
        wishes: &Wishes,
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let store = &self.server.store;
        let existing = store.find(name);
        self.check_target(name, existing.as_ref(), set, wishes)?;
        let target = self.target(name, existing.as_ref(), set, wishes)?;
        let path = self.begin_restore(name, existing.as_ref(), &target, set)?;
        let mut pace =
            Pace::new(&self.server, &self.cancel, self.spid, set.header.size).every(wishes.stats);
        // From here on the old database is gone: a failure leaves one that is being restored.
        let read = File::create(&path)
            .map_err(Damage::Write)
            .and_then(|mut out| {
                media::read(file, set, &mut out, &mut |done| pace.step(done))?;
                out.sync_all().map_err(Damage::Write)
            });
        read.map_err(|damage| restoring_failed(&damage, set, said, &target))?;
        store::create_file(&path).map_err(|error| store::broken_disk(&error))?;
        store.change(name, |details| {
            details.restoring = if wishes.no_recovery {
                Restoring::Whole
            } else {
                Restoring::No
            };
        })?;
        let mut instance = store.instance();
        instance.restored(instance::Restore {
            database: name.to_owned(),
            at: types::now(),
            replaced: existing.is_some(),
        });
        let saved = store.save(&instance);
        drop(instance);
        saved.map_err(|error| store::broken_disk(&error))?;
        if let Some(now) = store.find(name) {
            let files = files(&now, set.header.size, wishes.file);
            pace.tell("RESTORE DATABASE", &files, reply);
        }
        Ok(())
    }

    /// Whether the set may be restored under this name at all.
    fn check_target(
        &self,
        name: &str,
        existing: Option<&Listed>,
        set: &Set,
        wishes: &Wishes,
    ) -> Result<(), SqlError> {
        if set.end.is_none() {
            return Err(damaged(&Damage::Incomplete, name));
        }
        let ours = self.server.store.instance().data_version;
        if set.header.data_version > ours {
            let text = format!(
                "The database was backed up on a server running database version {}. That version is incompatible with this server, which is running database version {ours}. Either restore the database on a server that supports the backup, or use a backup that is compatible with this server.",
                set.header.data_version
            );
            return Err(SqlError::new(3169, 16, text));
        }
        let Some(existing) = existing else {
            return Ok(());
        };
        if existing.id <= 4 {
            let text = format!("RESTORE cannot process database '{name}' while the server runs.");
            return Err(SqlError::new(3108, 16, text));
        }
        if self.database.eq_ignore_ascii_case(name) {
            let text = format!(
                "RESTORE cannot process database '{name}' because it is in use by this session. It is recommended that the master database be used when performing this operation."
            );
            return Err(SqlError::new(3102, 16, text));
        }
        if !self
            .server
            .store
            .sessions
            .others(self.spid, name)
            .is_empty()
        {
            let text = "Exclusive access could not be obtained because the database is in use.";
            return Err(SqlError::new(3101, 16, text));
        }
        if wishes.replace || existing.state_desc == "RESTORING" {
            return Ok(());
        }
        if existing.family != set.header.family {
            let text = format!(
                "The backup set holds a backup of a database other than the existing '{name}' database."
            );
            return Err(SqlError::new(3154, 16, text));
        }
        if existing.recovery.1 == "FULL" {
            let text = format!(
                "The tail of the log for the database \"{name}\" has not been backed up. Use BACKUP LOG WITH NORECOVERY to backup the log if it contains work you do not want to lose. Use the WITH REPLACE or WITH STOPAT clause of the RESTORE statement to just overwrite the contents of the log."
            );
            return Err(SqlError::new(3159, 16, text));
        }
        Ok(())
    }

    /// The path of the data file, as clients say it: where MOVE says, else where it was.
    fn target(
        &self,
        name: &str,
        existing: Option<&Listed>,
        set: &Set,
        wishes: &Wishes,
    ) -> Result<String, SqlError> {
        let (logical, log) = (&set.header.logical, format!("{}_log", set.header.logical));
        for (moved, _) in &wishes.moves {
            if !moved.eq_ignore_ascii_case(logical) && !moved.eq_ignore_ascii_case(&log) {
                let text = format!(
                    "Logical file '{moved}' is not part of database '{name}'. Use RESTORE FILELISTONLY to list the logical file names."
                );
                return Err(SqlError::new(3234, 16, text));
            }
        }
        let mut wanted = wishes.moves.iter();
        let moved = wanted.find(|(moved, _)| moved.eq_ignore_ascii_case(logical));
        let target = moved.map_or(&set.header.physical, |(_, to)| to).clone();
        let store = &self.server.store;
        let mut others = store.databases().into_iter();
        let owner = others.find(|other| other.file == target);
        let problem = match owner {
            Some(owner) if !owner.name.eq_ignore_ascii_case(name) => Some((
                1834,
                format!(
                    "The file '{target}' cannot be overwritten. It is being used by database '{}'.",
                    owner.name
                ),
            )),
            None if !wishes.replace && existing.is_none() && store.path(&target).exists() => {
                Some((
                    5170,
                    format!(
                        "Cannot create file '{target}' because it already exists. Change the file path or the file name, and retry the operation."
                    ),
                ))
            }
            _ if !store.path(&target).parent().is_some_and(Path::is_dir) => Some((
                5133,
                format!(
                    "Directory lookup for the file \"{target}\" failed with the operating system error 2(The system cannot find the file specified.)."
                ),
            )),
            _ => None,
        };
        let Some((number, text)) = problem else {
            return Ok(target);
        };
        let advice = format!(
            "File '{logical}' cannot be restored to '{target}'. Use WITH MOVE to identify a valid location for the file."
        );
        let last = "Problems were identified while planning for the RESTORE statement. Previous messages provide details.";
        Err(SqlError::new(number, 16, text)
            .then(3156, &advice)
            .then(3119, last))
    }

    /// Marks the database as being restored and takes its old file away; gives the new one's path.
    fn begin_restore(
        &self,
        name: &str,
        existing: Option<&Listed>,
        target: &str,
        set: &Set,
    ) -> Result<std::path::PathBuf, SqlError> {
        let store = &self.server.store;
        let details = Details {
            created: types::now(),
            recovery: match set.header.recovery.as_str() {
                "SIMPLE" => Recovery::Simple,
                "BULK_LOGGED" => Recovery::BulkLogged,
                _ => Recovery::Full,
            },
            access: Access::Multi,
            offline: false,
            restoring: Restoring::Partial,
            file: Some(target.to_owned()),
            logical: Some(set.header.logical.clone()),
            family: set.header.family.clone(),
            is_restored: true,
        };
        let path = store.path(target);
        let remove = |path: &Path| store::remove_file(path);
        match existing {
            None => store.enter(name, details, remove)?,
            Some(existing) => {
                let old = store.path(&existing.file);
                let created = existing.created.clone();
                store.change(name, |kept| *kept = Details { created, ..details })?;
                let removed = remove(&old).and_then(|()| remove(&path));
                removed.map_err(|error| store::broken_disk(&error))?;
                path
            }
        };
        Ok(store.path(target))
    }
}

fn restoring_failed(damage: &Damage, set: &Set, said: &str, target: &str) -> SqlError {
    match damage {
        Damage::Page(number) => SqlError::new(
            3183,
            16,
            format!(
                "RESTORE detected an error on page (1:{number}) in database \"{}\" as read from the backup set.",
                set.header.database
            ),
        ),
        Damage::Write(error) => SqlError::new(
            3634,
            16,
            format!(
                "The operating system returned the error '{}' while attempting 'WriteFile' on '{target}'.",
                system_words(error)
            ),
        ),
        other => damaged(other, said),
    }
}

/// The set that FILE names, to be checked as CHECKSUM says.
fn chosen(sets: &[Set], wishes: &Wishes, said: &str) -> Result<Set, SqlError> {
    let at = wishes.file.checked_sub(1);
    let Some(mut set) = at.and_then(|at| sets.get(at)).cloned() else {
        let text = format!("Cannot find file ID {} on device '{said}'.", wishes.file);
        return Err(SqlError::new(4038, 16, text));
    };
    match wishes.checksum {
        Some(true) if !set.header.checksum => Err(SqlError::new(
            3187,
            16,
            "RESTORE WITH CHECKSUM cannot be specified because the backup set does not contain checksum information.",
        )),
        Some(false) => {
            set.header.checksum = false;
            Ok(set)
        }
        Some(true) | None => Ok(set),
    }
}

type Cell = (&'static str, SqlType, Value);

const TEXT: SqlType = SqlType::Text { max: false };

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn optional(value: Option<&String>) -> Value {
    value.map_or(Value::Null, |value| text(value))
}

/// A GUID, where it is one: databases of older volumes have none.
fn guid(value: &str) -> Value {
    if value.len() == 32 {
        text(value)
    } else {
        Value::Null
    }
}

fn number(value: u64) -> Value {
    Value::Integer(value.cast_signed())
}

/// Rows whose columns are told beside their values.
fn rows(rows: Vec<Vec<Cell>>, reply: &mut Reply) -> Result<(), SqlError> {
    let columns = rows.first().into_iter().flatten();
    let columns: Vec<Column> = columns
        .map(|(name, sql_type, _)| Column {
            name: (*name).to_owned(),
            sql_type: *sql_type,
        })
        .collect();
    reply.columns(&columns);
    let count = rows.len() as u64;
    for row in rows {
        let values: Vec<Value> = row.into_iter().map(|(_, _, value)| value).collect();
        reply.row(&columns, &values)?;
    }
    reply.done(Some(count), false);
    Ok(())
}

/// The columns of RESTORE HEADERONLY that are commonly read, in the documented order.
fn header_rows(sets: &[Set], reply: &mut Reply) -> Result<(), SqlError> {
    let row = |(at, set): (usize, &Set)| {
        let (header, end) = (&set.header, set.end.as_ref());
        let name = match end {
            Some(_) => optional(header.name.as_ref()),
            None => text("*** INCOMPLETE ***"),
        };
        let bit = |set: bool| Value::Integer(set.into());
        vec![
            ("BackupName", TEXT, name),
            (
                "BackupDescription",
                TEXT,
                optional(header.description.as_ref()),
            ),
            ("BackupType", SqlType::SmallInt, Value::Integer(1)),
            ("Compressed", SqlType::TinyInt, bit(header.compressed)),
            ("Position", SqlType::SmallInt, number(at as u64 + 1)),
            ("DeviceType", SqlType::TinyInt, Value::Integer(2)),
            ("UserName", TEXT, text("sa")),
            ("ServerName", TEXT, text("octo-local-standin")),
            ("DatabaseName", TEXT, text(&header.database)),
            (
                "DatabaseVersion",
                SqlType::Int,
                number(header.data_version.into()),
            ),
            (
                "DatabaseCreationDate",
                SqlType::DateTime2,
                text(&header.created),
            ),
            (
                "BackupSize",
                SqlType::Numeric,
                end.map_or(Value::Null, |end| number(end.size)),
            ),
            ("BackupStartDate", SqlType::DateTime2, text(&header.started)),
            (
                "BackupFinishDate",
                SqlType::DateTime2,
                optional(end.map(|end| &end.finished)),
            ),
            ("SoftwareVersionMajor", SqlType::Int, Value::Integer(16)),
            ("FamilyGUID", SqlType::Guid, guid(&header.family)),
            ("HasBackupChecksums", SqlType::Bit, bit(header.checksum)),
            ("IsDamaged", SqlType::Bit, bit(false)),
            ("IsCopyOnly", SqlType::Bit, bit(header.copy_only)),
            ("RecoveryModel", TEXT, text(&header.recovery)),
            ("BackupTypeDescription", TEXT, text("Database")),
            ("BackupSetGUID", SqlType::Guid, guid(&header.set_id)),
            (
                "CompressedBackupSize",
                SqlType::BigInt,
                end.map_or(Value::Null, |end| number(end.stored)),
            ),
        ]
    };
    rows(sets.iter().enumerate().map(row).collect(), reply)
}

/// The columns of RESTORE FILELISTONLY that are commonly read, in the documented order.
fn file_rows(set: &Set, reply: &mut Reply) -> Result<(), SqlError> {
    let header = &set.header;
    let log = header.physical.trim_end_matches(".mdf").to_owned() + "_log.ldf";
    let file = |id: i64, kind: &str, logical: &str, physical: &str, size: u64| {
        let group = if kind == "D" {
            text("PRIMARY")
        } else {
            Value::Null
        };
        vec![
            ("LogicalName", TEXT, text(logical)),
            ("PhysicalName", TEXT, text(physical)),
            ("Type", TEXT, text(kind)),
            ("FileGroupName", TEXT, group),
            ("Size", SqlType::Numeric, number(size)),
            (
                "MaxSize",
                SqlType::Numeric,
                Value::Integer(35_184_372_080_640),
            ),
            ("FileID", SqlType::BigInt, Value::Integer(id)),
            ("UniqueID", SqlType::Guid, guid(&header.family)),
            ("BackupSizeInBytes", SqlType::BigInt, number(size)),
            ("SourceBlockSize", SqlType::Int, Value::Integer(512)),
            (
                "FileGroupID",
                SqlType::Int,
                Value::Integer((kind == "D").into()),
            ),
            ("IsReadOnly", SqlType::Bit, Value::Integer(0)),
            ("IsPresent", SqlType::Bit, Value::Integer(1)),
        ]
    };
    let log_name = format!("{}_log", header.logical);
    let files = vec![
        file(1, "D", &header.logical, &header.physical, header.size),
        file(2, "L", &log_name, &log, 0),
    ];
    rows(files, reply)
}
