//! What `restart`, `stop` and `start` share: a wish about units goes to the daemon, which carries it
//! out in order. Without a daemon one is started for it.

use serde::Serialize;

use crate::api::UnitsBody;
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::known;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::cli::terminal::progress::Progress;
use crate::cli::unit_names;
use crate::reconcile::status::GoalWord;
use crate::reconcile::status::Status;
use crate::reconcile::status::Verdict;
use crate::spec::UnitId;

/// What Ctrl-C says: the wish was taken, and the daemon keeps it.
pub(super) const GOES_ON: &str = "interrupted; the daemon goes on, see `octo-local status`";

/// Makes the wish and waits until it is true. `before`: what is told about these units first, if
/// there is anything to tell; none named means all.
pub(super) async fn wish(
    context: &Context,
    path: &str,
    names: &[String],
    before: impl Fn(&[UnitId]) -> Option<String>,
) -> Outcome {
    must_be_applied(context).await?;
    context.must_be_from_here().await?;
    let units = unit_names::named(context, names).await?;
    before(&units).iter().for_each(print::tell);
    interruptible(GOES_ON, carry_out(context, path, units)).await
}

/// No daemon is started for a project of which nothing is known.
pub(super) async fn must_be_applied(context: &Context) -> Result<(), Failure> {
    if context
        .applied()
        .await
        .is_some_and(|kept| kept.spec.is_some())
    {
        return Ok(());
    }
    let line = format!(
        "nothing was applied of {} yet: `octo-local up` first",
        context.project
    );
    let mut failure = Failure::new(FAILED, line);
    failure.lines.extend(known::others(context));
    Err(failure)
}

async fn carry_out(context: &Context, path: &str, units: Vec<UnitId>) -> Outcome {
    let body = UnitsBody {
        units,
        endpoint: Some(context.endpoint()),
    };
    until_true(context, path, &body).await
}

/// Makes a wish and waits until it is true.
pub(super) async fn until_true(context: &Context, path: &str, body: &impl Serialize) -> Outcome {
    until(context, path, body, end).await
}

/// Makes a wish and waits until a status says how it ended.
pub(super) async fn until(
    context: &Context,
    path: &str,
    body: &impl Serialize,
    end: impl Fn(&Status) -> Option<Outcome>,
) -> Outcome {
    let mut progress = Progress::new(Format::Table);
    // What somebody asks for by name must not be lost to a daemon that nobody started.
    daemon_process::ensure(context).await?;
    let mut statuses = context.client.follow().await?;
    let generation: u64 = context.client.post(path, body).await?;
    loop {
        // Cancel-safe: the stream keeps what it read; the tick is awaited again.
        let status = tokio::select! {
            status = statuses.next() => status?,
            () = progress.tick() => continue,
        };
        let Some(status) = status else {
            return Err(Failure::new(FAILED, "the daemon ended meanwhile"));
        };
        if status.generation < generation {
            continue;
        }
        progress.tell(&status);
        if let Some(outcome) = end(&status) {
            return outcome;
        }
    }
}

/// How a wish ended, if it has.
pub(super) fn end(status: &Status) -> Option<Outcome> {
    let failed = || Some(Err(Failure::new(FAILED, status.message.clone())));
    match status.verdict {
        // What waits for an image or another thing of the host is not what was asked for here.
        Verdict::Ready | Verdict::Stopped | Verdict::Restoring | Verdict::ChangeWaits => {
            Some(Ok(()))
        }
        Verdict::Failed | Verdict::Held => failed(),
        Verdict::Down if status.goal != GoalWord::Up => failed(),
        Verdict::Down | Verdict::Working | Verdict::Degraded | Verdict::EngineDown => None,
    }
}
