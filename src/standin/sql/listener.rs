//! The accept loop, and how long each way to stop waits for the connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::log;
use super::server::{Server, Stop};
use super::session;

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
