//! The master key that a running node has, by the vendor's own command.

use std::time::Duration;

use crate::config::Secret;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::octopus::master_key;

/// How long a node gets to show its key.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks the node in this container; none where its command does not tell.
pub async fn of(engine: &Engine, container: &str) -> Result<Option<Secret>, EngineError> {
    for command in master_key::commands() {
        let ran = engine.exec(container, &command, LIMIT).await?;
        if let Some(key) = master_key::in_answer(&ran.said) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}
