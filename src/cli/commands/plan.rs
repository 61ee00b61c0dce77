//! `plan`: what `up` would do and why.

use serde::Serialize;

use crate::cli::args::Format;
use crate::cli::args::PlanFlags;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::daemon_client::request;
use crate::cli::drift;
use crate::cli::outcome::CHANGES;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::daemon::store::Stored;
use crate::reconcile::preview::Change;
use crate::reconcile::preview::Step;

/// The form of what machines read.
const SCHEMA: u32 = 2;

/// What `up` would do.
#[derive(Serialize)]
struct Shown {
    schema: u32,
    changes: Vec<Change>,
    /// Variables with another value than what is applied: all that differ, also those whose
    /// consequence is no change of a container.
    variables: Vec<String>,
}

/// Says what `up` would do and why.
pub async fn plan(context: &Context, flags: &PlanFlags) -> Outcome {
    let shown = interruptible("", consider(context, flags)).await?;
    let is_empty = shown.changes.is_empty() && shown.variables.is_empty();
    match flags.format {
        Format::Json => print::json(&shown),
        Format::Table if is_empty => {
            print::line("nothing to do: the stack is what the configuration says");
        }
        Format::Table => {
            let changes = shown.changes.iter();
            changes.for_each(|change| print::line(line_of(change)));
            if shown.changes.is_empty() {
                let names = shown.variables.join(", ");
                print::line(format_args!("apply     {names}: no container is touched"));
            }
        }
    }
    if is_empty {
        Ok(())
    } else {
        Err(Failure::quiet(CHANGES))
    }
}

/// What applying a configuration would do to things, as lines.
pub(super) async fn lines(context: &Context, flags: &PlanFlags) -> Result<Vec<String>, Failure> {
    let shown = consider(context, flags).await?;
    Ok(shown.changes.iter().map(line_of).collect())
}

async fn consider(context: &Context, flags: &PlanFlags) -> Result<Shown, Failure> {
    let resolved = request::resolve(context, &(&flags.overrides).into()).await?;
    request::tell_warnings(&resolved);
    let applied = context.applied().await.filter(Stored::is_up);
    let applied = applied.and_then(|stored| stored.config);
    let variables = applied.map(|applied| drift::differences(&applied, &resolved.config));
    let request = resolved.into_request(context, &flags.overrides);
    Ok(Shown {
        schema: SCHEMA,
        changes: daemon_process::preview(context, request).await?,
        variables: variables.unwrap_or_default(),
    })
}

/// One change as a line.
pub fn line_of(change: &Change) -> String {
    let verb = match change.what {
        Step::Pull => "pull",
        Step::BackUp => "back up",
        Step::Create => "create",
        Step::Recreate => "recreate",
        Step::Start => "start",
        Step::Restart => "restart",
        Step::Remove => "remove",
    };
    format!("{verb:<9} {}: {}", change.name, change.why.join(", "))
}
