//! Stops what a connection is running, and ends the connection, from outside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, InterruptHandle};
use tokio_util::sync::CancellationToken;

/// The ways to reach into a connection from another one.
#[derive(Default)]
pub(super) struct Cancel {
    asked: AtomicBool,
    running: Mutex<Option<InterruptHandle>>,
    /// Cancelled when the whole connection is to end: KILL, or ROLLBACK IMMEDIATE of its database.
    pub(super) killed: CancellationToken,
}

impl Cancel {
    /// Ends the running statement.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if let Some(handle) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            handle.interrupt();
        }
    }

    /// Ends the running statement and the connection.
    pub(super) fn kill(&self) {
        self.killed.cancel();
        self.ask();
    }

    /// Before the next statement: an older wish to end one is not about it.
    pub(super) fn forget(&self) {
        self.asked.store(false, Ordering::SeqCst);
    }

    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst) || self.killed.is_cancelled()
    }

    pub(super) fn watch(&self, connection: &Connection) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(connection.get_interrupt_handle());
    }
}
