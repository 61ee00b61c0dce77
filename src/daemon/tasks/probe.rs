//! Asks one run once how it is, or reads the last lines of its log.

use std::net::SocketAddr;
use std::time::Duration;

use crate::daemon::message::ProbeTarget;
use crate::engine::Engine;
use crate::octopus;
use crate::reconcile::health::Probe;
use crate::spec::tentacle;
use crate::sql::kept_login::KeptLogin;

/// So many of the last lines of a starting unit's log tell whether it moves, and whether SQL Server
/// says that it is open, also beside lines of refused logins.
const PROGRESS_LINES: u32 = 20;

/// How often a node that serves is asked for its version before that is given up until its next
/// run: the tag remains.
const VERSION_TRIES: u32 = 5;
/// How long it has for each answer, and the pause after one that did not come.
const VERSION_LIMIT: Duration = Duration::from_secs(2);

/// The version that a node reports. One that has just begun to serve may be slow: it is asked a few
/// times.
pub(in crate::daemon) async fn version(address: SocketAddr) -> Option<String> {
    for _ in 0..VERSION_TRIES {
        if let Some(version) = octopus::version(address, VERSION_LIMIT).await {
            return Some(version);
        }
        tokio::time::sleep(VERSION_LIMIT).await;
    }
    None
}

/// Asks a database, a node or a Tentacle.
pub(in crate::daemon) async fn probe(
    login: &KeptLogin,
    target: &ProbeTarget,
    engine: Option<&Engine>,
    limit: Duration,
) -> Probe {
    match target {
        ProbeTarget::Database(target) => login.probe(target, limit).await,
        ProbeTarget::Node(address) => octopus::ping(*address, limit).await,
        ProbeTarget::Tentacle(container) => {
            let Some(engine) = engine else {
                return Probe::Unknown("the engine does not answer".to_owned());
            };
            match engine.published_port(container, tentacle::PORT).await {
                Ok(Some(address)) => octopus::tentacle::ping(address, limit).await,
                Ok(None) => Probe::Unknown("the engine does not say where it listens".to_owned()),
                Err(error) => Probe::Unknown(error.to_string()),
            }
        }
    }
}

/// The last lines of a container's log; none where they cannot be read: that says nothing.
pub(in crate::daemon) async fn log_lines(engine: &Engine, container: &str) -> Vec<String> {
    let lines = engine.last_lines(container, PROGRESS_LINES, true).await;
    lines.unwrap_or_else(|error| {
        tracing::debug!(%error, "the log of a starting unit cannot be read");
        Vec::new()
    })
}
