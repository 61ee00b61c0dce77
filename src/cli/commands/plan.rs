//! `plan`: what `up` would do and why.

use crate::cli::args::Format;
use crate::cli::args::UpFlags;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::daemon_client::request;
use crate::cli::outcome::CHANGES;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::reconcile::preview::Change;
use crate::reconcile::preview::Step;

/// Says what `up` would do and why.
pub async fn plan(context: &Context, flags: &UpFlags) -> Outcome {
    let changes = interruptible("", changes(context, flags)).await?;
    match flags.format {
        Format::Json => print::json(&changes),
        Format::Table if changes.is_empty() => {
            print::line("nothing to do: the stack is what the configuration says");
        }
        Format::Table => changes
            .iter()
            .for_each(|change| print::line(line_of(change))),
    }
    if changes.is_empty() {
        Ok(())
    } else {
        Err(Failure::quiet(CHANGES))
    }
}

async fn changes(context: &Context, flags: &UpFlags) -> Result<Vec<Change>, Failure> {
    let resolved = request::resolve(context, &flags.into()).await?;
    request::tell_warnings(&resolved);
    let had_daemon = context.client.identity().await.is_ok();
    let changes = daemon_process::ask(
        context,
        "/v1/plan",
        &resolved.into_request(context, flags.fresh),
    )
    .await;
    if !had_daemon {
        // A daemon that was started only to answer leaves again, and what ran unsupervised still
        // does.
        let _: Result<bool, _> = context.client.post("/v1/handover", &()).await;
    }
    changes
}

/// One change as a line.
pub fn line_of(change: &Change) -> String {
    let verb = match change.what {
        Step::Pull => "pull",
        Step::Create => "create",
        Step::Recreate => "recreate",
        Step::Start => "start",
        Step::Restart => "restart",
        Step::Remove => "remove",
    };
    format!("{verb:<9} {}: {}", change.name, change.why.join(", "))
}
