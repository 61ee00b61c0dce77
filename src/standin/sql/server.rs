//! The running server: who may log in, the accept loop, and the two ways to stop.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::applock::Locks;
use super::error::SqlError;
use super::faults::Faults;
use super::log;
use super::request::Login;
use super::session;
use super::store::Store;

/// Connections at a time: enough for any stack of this project, few enough for the threads their
/// statements take.
const MAX_CONNECTIONS: usize = 256;
/// How long SHUTDOWN waits for running statements. A supervisor kills the server later than that.
const SHUTDOWN_TIME: Duration = Duration::from_mins(1);
/// The same for a signal: well within the ten seconds that `docker stop` gives.
const SIGNAL_TIME: Duration = Duration::from_secs(5);
/// The same for SHUTDOWN WITH NOWAIT: only for its own reply to get out.
const NOWAIT_TIME: Duration = Duration::from_millis(200);
/// A pause after a failed accept, so that running out of file descriptors does not turn into a busy
/// loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    spids: AtomicU32,
}

impl Server {
    pub(super) fn new(store: Store, faults: Faults, tls: TlsAcceptor) -> Self {
        Self {
            store,
            faults,
            tls,
            locks: Locks::default(),
            stopping: CancellationToken::new(),
            how: OnceLock::new(),
            recovered: AtomicBool::new(false),
            started: Instant::now(),
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

/// Accepts until the server stops, then waits for the connections as long as `Stop` allows.
pub(super) async fn accept(server: &Arc<Server>, listener: TcpListener) {
    let sessions = TaskTracker::new();
    loop {
        // Both arms are cancel-safe: a token, and a listener's accept.
        let accepted: io::Result<_> = tokio::select! {
            () = server.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, _)) if sessions.len() < MAX_CONNECTIONS => {
                sessions.spawn(session::serve(server.clone(), tcp));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    sessions.close();
    let limit = match server.how() {
        Stop::Orderly => SHUTDOWN_TIME,
        Stop::Signal => SIGNAL_TIME,
        Stop::NoWait => NOWAIT_TIME,
    };
    if tokio::time::timeout(limit, sessions.wait()).await.is_err() {
        log::line("Server", "Statements that still run are abandoned.");
    }
}
