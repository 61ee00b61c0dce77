//! Takes, renews and gives back the lease on the engine.

use crate::config::project::ProjectName;
use crate::daemon::message::LeaseStep;
use crate::daemon::message::NoLease;
use crate::engine::Engine;
use crate::engine::lease;
use crate::engine::lease::Lease;
use crate::engine::lease::Owner;

/// Takes one step; gives the lease that this process has after it.
pub(in crate::daemon) async fn carry_out(
    engine: &Engine,
    project: &ProjectName,
    step: LeaseStep,
    held: Option<Lease>,
) -> Result<Option<Lease>, NoLease> {
    let me = Owner::this_process().await;
    match (step, held) {
        (LeaseStep::Renew, Some(mut held)) => {
            engine.renew(&mut held).await.map_err(words)?;
            Ok(Some(held))
        }
        (LeaseStep::Take | LeaseStep::Renew, _) => {
            let taken = engine.take_lease(project, &me).await.map_err(words)?;
            Ok(Some(taken))
        }
        (LeaseStep::Release, _) => {
            let released = engine.release(project, &me).await;
            released.map_err(|error| NoLease::Unknown(error.to_string()))?;
            Ok(None)
        }
    }
}

fn words(error: lease::NoLease) -> NoLease {
    match error {
        lease::NoLease::Held { by } => NoLease::Held(by.to_string()),
        lease::NoLease::Engine(error) => NoLease::Unknown(error.to_string()),
    }
}
