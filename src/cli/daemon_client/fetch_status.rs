//! The status of a stack: the daemon's, or one made from labels when there is none.

use crate::api::client::ClientError;
use crate::cli::context::Context;
use crate::cli::known;
use crate::cli::outcome::Failure;
use crate::cli::supervisor;
use crate::daemon::admit::Claims;
use crate::engine::Engine;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Desired;
use crate::reconcile::Mono;
use crate::reconcile::UnitRecords;
use crate::reconcile::status::Note;
use crate::reconcile::status::Status;
use crate::reconcile::status::StatusInput;
use crate::reconcile::status::status as derive;

/// Asks for it.
pub async fn fetch(context: &Context) -> Result<Status, Failure> {
    match context.client.status().await {
        Ok(status) => Ok(status),
        Err(ClientError::Absent) => from_labels(context).await,
        Err(error) => Err(error.into()),
    }
}

async fn from_labels(context: &Context) -> Result<Status, Failure> {
    let engine = context.engine().await?;
    let seen = engine
        .observe(&context.project, &[], &mut ObservationCache::default())
        .await?;
    let around = StatusInput {
        project: context.project.to_string(),
        ..StatusInput::default()
    };
    let mut status = derive(
        &around,
        &Desired::default(),
        &seen,
        &UnitRecords::default(),
        Mono::default(),
    );
    status.supervised = false;
    let kept = context.applied().await.unwrap_or_default();
    status.notes.extend(kept.held_back(&context.endpoint()));
    if kept.spec.is_none() && seen.containers.is_empty() {
        status.notes.extend(beside(context, &engine).await);
    }
    if let Some(other) = supervisor::another(&context.project, &context.endpoint()) {
        status.set_unsupervised("not ours to ask", &other.line(context.project.as_str()));
    } else if kept.is_up() || seen.all().next().is_some() {
        status.set_unsupervised(
            "nobody supervises",
            "no daemon runs; `octo-local up` starts one",
        );
    } else if let Some(line) = known::others(context).filter(|_| kept.spec.is_none()) {
        status.set_unsupervised("down", &line);
    }
    Ok(status)
}

/// Whoever came from docker compose must not be told that all is down while compose's stack serves.
async fn beside(context: &Context, engine: &Engine) -> Option<Note> {
    let all = engine.inventory().await.ok()?;
    let claims = Claims::of(&context.project, &all);
    (!claims.0.is_empty()).then(|| Note::Beside {
        what: claims.told(),
    })
}
