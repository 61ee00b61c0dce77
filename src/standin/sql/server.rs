//! The running server: what its connections share, who may log in, and the ways to stop.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use std::time::Duration;

use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::applock::Locks;
use super::edition::Edition;
use super::error::SqlError;
use super::faults::Faults;
use super::request::Login;
use super::store::Store;

/// How the server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// SHUTDOWN: running statements are waited for.
    Orderly,
    /// SIGTERM or SIGINT: they are waited for shortly, whoever sent it will not wait for long.
    Signal,
    /// SHUTDOWN WITH NOWAIT: running statements are abandoned, and there is no checkpoint.
    NoWait,
}

/// What all connections share.
pub(super) struct Server {
    pub(super) store: Store,
    pub(super) locks: Locks,
    pub(super) faults: Faults,
    pub(super) tls: TlsAcceptor,
    /// Cancelled by SHUTDOWN and by signals: idle connections end, running statements finish.
    pub(super) stopping: CancellationToken,
    how: OnceLock<Stop>,
    /// Logins fail until recovery is complete, although the log already says "ready".
    pub(super) recovered: AtomicBool,
    pub(super) started: Instant,
    pub(super) edition: Edition,
    /// How long a backup or restore takes at least.
    pub(super) pace: Duration,
    spids: AtomicU32,
}

impl Server {
    pub(super) fn new(
        store: Store,
        faults: Faults,
        tls: TlsAcceptor,
        (edition, pace): (Edition, Duration),
    ) -> Self {
        Self {
            store,
            faults,
            tls,
            locks: Locks::default(),
            stopping: CancellationToken::new(),
            how: OnceLock::new(),
            recovered: AtomicBool::new(false),
            started: Instant::now(),
            edition,
            pace,
            spids: AtomicU32::new(51),
        }
    }

    pub(super) fn next_spid(&self) -> u32 {
        self.spids.fetch_add(1, Ordering::Relaxed)
    }

    /// Stops the server. The first call says how.
    pub(super) fn stop(&self, how: Stop) {
        self.how.get_or_init(|| how);
        self.stopping.cancel();
    }

    /// How it is being stopped.
    pub(super) fn how(&self) -> Stop {
        self.how.get().copied().unwrap_or(Stop::Orderly)
    }

    /// Whether this login is let in.
    pub(super) fn admits(&self, login: &Login) -> Result<(), SqlError> {
        if self.stopping.is_cancelled() {
            return Err(SqlError::shutting_down());
        }
        if self
            .faults
            .upgrade_mode
            .is_some_and(|time| self.started.elapsed() < time)
        {
            return Err(SqlError::upgrading(&login.user));
        }
        if self.recovered.load(Ordering::SeqCst)
            && self.store.login_matches(&login.user, &login.password)
        {
            return Ok(());
        }
        Err(SqlError::login_failed(&login.user))
    }
}
