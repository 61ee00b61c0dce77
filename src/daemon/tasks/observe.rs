//! One look at the engine, and the engine's events as they come.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::project::ProjectName;
use crate::daemon::message::Event;
use crate::daemon::message::Invalidated;
use crate::engine::Endpoint;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Observed;

/// How long one look may take. The engine's own list of containers takes milliseconds.
pub const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// How long after an opening of the engine's events the next one may follow: an engine that closes
/// each stream at once is no reason to look at everything again and again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What a look came to.
#[derive(Debug)]
pub(in crate::daemon) struct Looked {
    /// The engine that answered and what it showed, or why there is nothing.
    pub(in crate::daemon) seen: Result<(Engine, Box<Observed>), String>,
    /// What the next look may trust.
    pub(in crate::daemon) cache: ObservationCache,
}

/// Looks at the engine, and connects to it first where nobody is.
pub(in crate::daemon) async fn look(
    engine: Option<Engine>,
    endpoint: Endpoint,
    project: ProjectName,
    images: Vec<String>,
    invalidated: Invalidated,
    mut cache: ObservationCache,
) -> Looked {
    invalidated.forget_in(&mut cache);
    let looking = async {
        let engine = match engine {
            Some(engine) => engine,
            None => Engine::connect(endpoint).await?,
        };
        let seen = engine.observe(&project, &images, &mut cache).await?;
        Ok::<(Engine, Box<Observed>), EngineError>((engine, Box::new(seen)))
    };
    let seen = match tokio::time::timeout(LOOK_LIMIT, looking).await {
        Ok(seen) => seen.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOK_LIMIT.as_secs())),
    };
    Looked { seen, cache }
}

/// Passes on the engine's events until their stream ends, and says why it did.
pub(in crate::daemon) async fn follow_events(
    engine: Engine,
    project: ProjectName,
    queue: mpsc::Sender<impl From<Event>>,
) -> String {
    let opened_at = Instant::now();
    let mut hints = Box::pin(engine.hints(&project));
    // The first look may have come before the stream was open, so everything is looked at again.
    let _ = queue.send(Event::StreamOpened.into()).await;
    let mut why = "it was closed".to_owned();
    while let Some(hint) = hints.next().await {
        match hint {
            Ok(hint) => {
                let _ = queue.send(Event::Hinted(hint).into()).await;
            }
            Err(error) => {
                why = error.to_string();
                break;
            }
        }
    }
    tokio::time::sleep_until(opened_at + REOPEN_AFTER).await;
    why
}
