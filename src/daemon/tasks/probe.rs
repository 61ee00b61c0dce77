//! Asks one run once how it is, or reads the last lines of its log.

use std::time::Duration;

use crate::daemon::message::ProbeTarget;
use crate::engine::Engine;
use crate::octopus;
use crate::reconcile::health::Probe;
use crate::sql;

/// So many of the last lines of a starting unit's log tell whether it moves.
const PROGRESS_LINES: u32 = 5;

/// Asks a database or a node.
pub(in crate::daemon) async fn probe(target: &ProbeTarget, limit: Duration) -> Probe {
    match target {
        ProbeTarget::Database(target) => sql::probe(target, limit).await,
        ProbeTarget::Node(address) => octopus::ping(*address, limit).await,
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
