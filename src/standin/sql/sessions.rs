//! Who is connected, in which database, and how far a long statement is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::cancel::Cancel;
use super::types;

/// A statement that tells its progress, as `sys.dm_exec_requests` shows it.
#[derive(Clone)]
pub(super) struct Request {
    /// `BACKUP DATABASE`, `RESTORE DATABASE`, `RESTORE VERIFYON` (cut as the vendor cuts it).
    pub(super) command: &'static str,
    pub(super) percent: f64,
    pub(super) began: Instant,
    /// The same as a point in time.
    pub(super) started: String,
}

/// One connection.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) database: String,
    pub(super) request: Option<Request>,
    cancel: Arc<Cancel>,
}

/// All connections of the server that are logged in.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<BTreeMap<u32, Session>>,
}

impl Sessions {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u32, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection enters a database, leaving the one it was in.
    pub(super) fn enter(&self, spid: u32, database: &str, cancel: &Arc<Cancel>) {
        let session = Session {
            database: database.to_owned(),
            request: None,
            cancel: cancel.clone(),
        };
        self.open().insert(spid, session);
    }

    pub(super) fn leave(&self, spid: u32) {
        self.open().remove(&spid);
    }

    /// A copy of all, for the catalogue.
    pub(super) fn all(&self) -> BTreeMap<u32, Session> {
        self.open().clone()
    }

    /// Who is in a database besides one connection.
    pub(super) fn others(&self, spid: u32, database: &str) -> Vec<u32> {
        let lower = database.to_lowercase();
        let inside = |(other, session): (&u32, &Session)| {
            (*other != spid && session.database.to_lowercase() == lower).then_some(*other)
        };
        self.open().iter().filter_map(inside).collect()
    }

    /// Ends a connection; gives whether it is there.
    pub(super) fn kill(&self, spid: u32) -> bool {
        let found = self.open().get(&spid).map(|session| session.cancel.clone());
        found.inspect(|cancel| cancel.kill()).is_some()
    }

    /// A statement that tells its progress begins.
    pub(super) fn begin(&self, spid: u32, command: &'static str) {
        if let Some(session) = self.open().get_mut(&spid) {
            session.request = Some(Request {
                command,
                percent: 0.0,
                began: Instant::now(),
                started: types::now(),
            });
        }
    }

    /// How far it is, in percent.
    pub(super) fn progress(&self, spid: u32, percent: f64) {
        let mut open = self.open();
        if let Some(request) = open.get_mut(&spid).and_then(|one| one.request.as_mut()) {
            request.percent = percent;
        }
    }

    /// It ended.
    pub(super) fn end(&self, spid: u32) {
        if let Some(session) = self.open().get_mut(&spid) {
            session.request = None;
        }
    }
}
