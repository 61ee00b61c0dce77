//! The running server: who may log in, the accept loop, and the two ways to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::applock::Locks;
use super::error::SqlError;
use super::faults::Faults;
use super::request::Login;
use super::session;
use super::store::Store;

/// Connections at a time: enough for any stack of this project, few enough for the threads their statements take.
const MAX_CONNECTIONS: usize = 256;
/// A pause after a failed accept, so that running out of file descriptors does not turn into a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Server {
    pub(super) store: Store,
    pub(super) locks: Locks,
    pub(super) faults: Faults,
    pub(super) tls: TlsAcceptor,
    /// Cancelled by SHUTDOWN and by signals: idle connections end, running statements finish.
    pub(super) stopping: CancellationToken,
    pub(super) nowait: AtomicBool,
    /// Logins fail until recovery is complete, although the log already says "ready".
    pub(super) recovered: AtomicBool,
    pub(super) started: Instant,
    spids: AtomicU16,
}

impl Server {
    pub(super) fn new(store: Store, faults: Faults, tls: TlsAcceptor) -> Self {
        Self {
            store,
            faults,
            tls,
            locks: Locks::default(),
            stopping: CancellationToken::new(),
            nowait: AtomicBool::new(false),
            recovered: AtomicBool::new(false),
            started: Instant::now(),
            spids: AtomicU16::new(51),
        }
    }

    pub(super) fn next_spid(&self) -> u16 {
        self.spids.fetch_add(1, Ordering::Relaxed)
    }

    /// Stops the server. With `nowait` running statements are not waited for, and nothing is checkpointed.
    pub(super) fn stop(&self, nowait: bool) {
        self.nowait.store(nowait, Ordering::SeqCst);
        self.stopping.cancel();
    }

    /// Whether this login is let in.
    pub(super) fn admits(&self, login: &Login) -> Result<(), SqlError> {
        if self.stopping.is_cancelled() {
            return Err(SqlError::shutting_down());
        }
        if self.faults.upgrade_mode.is_some_and(|time| self.started.elapsed() < time) {
            return Err(SqlError::upgrading(&login.user));
        }
        if self.recovered.load(Ordering::SeqCst) && self.store.login_matches(&login.user, &login.password) {
            return Ok(());
        }
        Err(SqlError::login_failed(&login.user))
    }
}

/// Accepts until the server stops, then waits for the connections unless told not to.
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
    if !server.nowait.load(Ordering::SeqCst) {
        sessions.wait().await;
    }
}
