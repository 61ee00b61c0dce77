//! ALTER DATABASE, DBCC CHECKDB and KILL.

use std::time::Duration;

use tokio::time::Instant;

use super::engine::Engine;
use super::error::SqlError;
use super::instance::Access;
use super::lexer::Token;
use super::scope::Listed;
use super::statement::{Change, Termination};
use super::store;
use super::tokens::Reply;

/// How often a statement that waits for other connections looks again.
const LOOK: Duration = Duration::from_millis(10);

impl Engine {
    pub(super) fn alter_database(
        &mut self,
        database: Option<&String>,
        change: &Change,
        termination: Termination,
    ) -> Result<(), SqlError> {
        let name = database.unwrap_or(&self.database).clone();
        let done = self.try_alter(&name, change, termination);
        done.map_err(|error| error.then(5069, "ALTER DATABASE statement failed."))
    }

    fn try_alter(
        &self,
        name: &str,
        change: &Change,
        termination: Termination,
    ) -> Result<(), SqlError> {
        let store = &self.server.store;
        let found = store
            .find(name)
            .filter(|_| !self.server.faults.not_sysadmin);
        let Some(found) = found else {
            let text = format!(
                "User does not have permission to alter database '{name}', the database does not exist, or the database is not in a state that allows access checks."
            );
            return Err(SqlError::new(5011, 14, text));
        };
        if found.id <= 4 && !matches!(change, Change::Recovery(_) | Change::Nothing) {
            let text = format!("Option cannot be set in database '{name}'.");
            return Err(SqlError::new(5058, 16, text));
        }
        match change {
            Change::Nothing => Ok(()),
            Change::Recovery(model) => store.change(name, |kept| kept.recovery = *model),
            Change::Access(Access::Single) => self.exclude(&found, termination, |kept, on| {
                kept.access = if on { Access::Single } else { Access::Multi };
            }),
            Change::Access(access) => {
                let single = found.access.0 == 1;
                if single && !store.sessions.others(self.spid, name).is_empty() {
                    let text = format!(
                        "Changes to the state or options of database '{name}' cannot be made at this time. The database is in single-user mode, and a user is currently connected to it."
                    );
                    return Err(SqlError::new(5064, 16, text));
                }
                store.change(name, |kept| kept.access = *access)
            }
            Change::Offline(true) => {
                self.not_inside(&found.name)?;
                self.exclude(&found, termination, |kept, on| kept.offline = on)
            }
            Change::Offline(false) => store.change(name, |kept| kept.offline = false),
            Change::Name(new) => {
                self.not_inside(&found.name)?;
                if !store.sessions.others(self.spid, name).is_empty() {
                    return Err(not_locked());
                }
                store.rename(name, new)
            }
        }
    }

    /// A connection cannot take away the database that it is in.
    fn not_inside(&self, name: &str) -> Result<(), SqlError> {
        if self.database.eq_ignore_ascii_case(name) {
            return Err(not_locked());
        }
        Ok(())
    }

    /// Keeps newcomers out with `set`, and gets the others out as the statement says; undoes it
    /// where they stay.
    fn exclude(
        &self,
        found: &Listed,
        termination: Termination,
        set: impl Fn(&mut super::instance::Details, bool),
    ) -> Result<(), SqlError> {
        let (store, began) = (&self.server.store, Instant::now());
        store.change(&found.name, |kept| set(kept, true))?;
        loop {
            let others = store.sessions.others(self.spid, &found.name);
            if others.is_empty() {
                return Ok(());
            }
            let failed = match termination {
                Termination::NoWait => {
                    let text = format!(
                        "Database state cannot be changed while other users are using the database '{}'",
                        found.name
                    );
                    Some(SqlError::new(5070, 16, text))
                }
                _ if self.cancel.asked() => Some(SqlError::cancelled()),
                Termination::Rollback(after) if began.elapsed() >= after => {
                    for spid in others {
                        store.sessions.kill(spid);
                    }
                    None
                }
                Termination::Rollback(_) | Termination::Wait => None,
            };
            if let Some(error) = failed {
                store.change(&found.name, |kept| set(kept, false))?;
                return Err(error);
            }
            std::thread::sleep(LOOK);
        }
    }

    pub(super) fn check_database(
        &mut self,
        database: Option<&Token>,
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let said = database.map(|database| self.said(database)).transpose()?;
        let name = self
            .server
            .store
            .usable(said.as_ref().unwrap_or(&self.database))?;
        let sessions = &self.server.store.sessions;
        sessions.begin(self.spid, "DBCC CHECKDB");
        let found = store::open(&self.server.store.file(&name)).and_then(|connection| {
            connection.query_row("PRAGMA integrity_check(1)", [], |row| {
                row.get::<_, String>(0)
            })
        });
        sessions.end(self.spid);
        let corrupt = self.server.faults.is_corrupt(&name);
        let whole = !corrupt && found.is_ok_and(|found| found == "ok");
        let errors = usize::from(!whole);
        let text = format!(
            "CHECKDB found 0 allocation errors and {errors} consistency errors in database '{name}'."
        );
        if whole {
            reply.notice(8989, &text);
            return Ok(());
        }
        let first = format!(
            "Table error: Object ID 1, index ID 1, page (1:1). Test (IS_OFF (BUF_IOERR, pBUF->bstat)) failed in database '{name}'."
        );
        Err(SqlError::new(8939, 16, first).then(8989, &text))
    }

    pub(super) fn kill(&self, spid: u32) -> Result<(), SqlError> {
        if spid == self.spid {
            return Err(SqlError::new(
                6104,
                16,
                "Cannot use KILL to kill your own process.",
            ));
        }
        if self.server.store.sessions.kill(spid) {
            return Ok(());
        }
        let text = format!("Process ID {spid} is not an active process ID.");
        Err(SqlError::new(6106, 16, text))
    }
}

fn not_locked() -> SqlError {
    SqlError::new(
        5030,
        16,
        "The database could not be exclusively locked to perform the operation.",
    )
}
