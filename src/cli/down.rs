//! `down`: the daemon stops everything in order and removes it; the data stays unless a person asks in so many words.

use super::args::DownFlags;
use super::args::Format;
use super::context::Context;
use super::outcome::FAILED;
use super::outcome::Failure;
use super::outcome::Outcome;
use super::outcome::USAGE;
use super::outcome::interruptible;
use super::print;
use super::progress::Progress;
use super::spawn;
use crate::api::DownBody;
use crate::daemon::store;
use crate::engine::observe::Memory;
use crate::reconcile::status::Verdict;

/// What Ctrl-C says: the wish was taken, and the daemon keeps it.
const GOES_ON: &str = "interrupted; the daemon goes on taking the stack down, see `octo-local status`";

/// Takes the stack down. Works with a broken `.env`, and without a daemon by starting one for it.
pub async fn down(context: &Context, flags: &DownFlags) -> Outcome {
    let asks = flags.volumes && !flags.yes;
    if asks && !print::can_ask() {
        let line = "this removes data, and nobody can be asked here: `octo-local down --volumes --yes` does it unasked";
        return Err(Failure::new(USAGE, line));
    }
    context.must_be_from_here().await?;
    if asks {
        confirm(context)?;
    }
    if context.client.identity().await.is_err() && is_over(context, flags.volumes).await? {
        print::tell(format_args!("{}: nothing to take down", context.project));
        return Ok(());
    }
    interruptible(GOES_ON, carry_out(context, flags)).await
}

async fn carry_out(context: &Context, flags: &DownFlags) -> Outcome {
    spawn::ensure(context).await?;
    let mut progress = Progress::new(Format::Table);
    let mut statuses = context.client.follow().await?;
    let body = DownBody { volumes: flags.volumes, timeout_s: flags.timeout };
    let generation: u64 = context.client.post("/v1/down", &body).await?;
    let mut last = None;
    loop {
        // Cancel-safe: the stream keeps what it read; the tick is awaited again.
        let status = tokio::select! {
            status = statuses.next() => status?,
            () = progress.tick() => continue,
        };
        let Some(status) = status else { break };
        if status.generation < generation {
            continue;
        }
        progress.tell(&status);
        if status.generation > generation && status.goal != "down" {
            progress.end();
            return Err(Failure::new(FAILED, format!("somebody else decided otherwise: {}", status.message)));
        }
        let over = status.verdict == Verdict::Down && !status.ends_when_down;
        last = Some(status);
        // One that `up` started ends, and with it the stream.
        if over {
            break;
        }
    }
    progress.end();
    // A daemon that was killed may not have said anything about this wish.
    let was_told = last.is_some_and(|status| status.verdict == Verdict::Down);
    if !was_told && !is_over(context, flags.volumes).await? {
        return Err(Failure::new(FAILED, "the daemon ended before everything was gone; `octo-local down` again"));
    }
    let data = if flags.volumes { ", with its data" } else { "; the data stays" };
    print::tell(format_args!("{} is down{data}", context.project));
    Ok(())
}

fn confirm(context: &Context) -> Result<(), Failure> {
    let project = &context.project;
    let answer = print::ask(format_args!(
        "Remove the databases, packages, artifacts, logs and the master key of {project}? Type its name:"
    ));
    if answer == project.as_str() {
        return Ok(());
    }
    Err(Failure::new(USAGE, format!("that is not its name, {project}: nothing was removed")))
}

/// Whether there is nothing to take down, and nobody who comes later would bring anything up again. For when no daemon is there.
async fn is_over(context: &Context, volumes: bool) -> Result<bool, Failure> {
    if !nothing_is_there(context, volumes).await? {
        return Ok(false);
    }
    let kept = store::read(&context.paths.store()).unwrap_or_default();
    Ok(!kept.up && kept.going_down.is_none() && (!volumes || kept.is_blank()))
}

async fn nothing_is_there(context: &Context, volumes: bool) -> Result<bool, Failure> {
    let engine = context.engine().await?;
    let seen = engine.observe(&context.project, &[], &mut Memory::default()).await?;
    Ok(seen.containers.is_empty() && seen.networks.is_empty() && (!volumes || seen.volumes.is_empty()))
}
