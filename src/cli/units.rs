//! `restart`, `stop` and `start`: wishes about single units, which the daemon carries out in order.

use super::args::Format;
use super::context::Context;
use super::outcome::FAILED;
use super::outcome::Failure;
use super::outcome::Outcome;
use super::progress::Progress;
use crate::api::UnitsBody;
use crate::reconcile::status::Verdict;
use crate::spec::UnitId;

/// Restarts units and waits until everything serves again.
pub async fn restart(context: &Context, units: &[UnitId]) -> Outcome {
    wish(context, "/v1/restart", units).await
}

/// Stops units until they are started again.
pub async fn stop(context: &Context, units: &[UnitId]) -> Outcome {
    wish(context, "/v1/stop", units).await
}

/// Starts units again.
pub async fn start(context: &Context, units: &[UnitId]) -> Outcome {
    wish(context, "/v1/start", units).await
}

async fn wish(context: &Context, path: &str, units: &[UnitId]) -> Outcome {
    let mut statuses = context.client.follow().await?;
    let generation: u64 = context.client.post(path, &UnitsBody { units: units.to_vec() }).await?;
    let mut progress = Progress::new(Format::Table);
    while let Some(status) = statuses.next().await? {
        if status.generation < generation {
            continue;
        }
        progress.tell(&status);
        match status.verdict {
            Verdict::Ready => {
                progress.end();
                return Ok(());
            }
            Verdict::Failed => {
                progress.end();
                return Err(Failure::new(FAILED, status.message));
            }
            Verdict::Down | Verdict::Working | Verdict::Degraded | Verdict::EngineDown | Verdict::Held => {}
        }
    }
    Err(Failure::new(FAILED, "the daemon ended meanwhile"))
}
