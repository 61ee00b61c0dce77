//! `down`: the daemon stops everything in order and removes it; the data stays unless a person asks
//! in so many words.

use crate::api::DownBody;
use crate::api::client::ClientError;
use crate::api::client::Statuses;
use crate::api::route;
use crate::cli::args::DownFlags;
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::daemon_client::reattach;
use crate::cli::daemon_client::reattach::Followed;
use crate::cli::daemon_client::reattach::Next;
use crate::cli::known;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::cli::terminal::progress::Progress;
use crate::daemon::admit;
use crate::daemon::store;
use crate::daemon::store::Wish;
use crate::engine::observe::ObservationCache;
use crate::reconcile::status::GoalWord;
use crate::reconcile::status::Status;
use crate::reconcile::status::Verdict;
use crate::spec::Storage;

/// What Ctrl-C says: the wish was taken, and the daemon keeps it.
const GOES_ON: &str =
    "interrupted; the daemon goes on taking the stack down, see `octo-local status`";

/// Takes the stack down. Works with a broken `.env`, and without a daemon by starting one for it.
pub async fn down(context: &Context, flags: &DownFlags) -> Outcome {
    let asks = flags.volumes && !flags.yes;
    if asks && !print::can_ask() {
        let line = "this removes data, and nobody can be asked here: `octo-local down --volumes --yes` does it unasked";
        return Err(Failure::new(USAGE, line));
    }
    context.must_be_from_here().await?;
    must_be_on_this_engine(context).await?;
    if asks {
        confirm(context)?;
    }
    if context.client.identity().await.is_err() && is_over(context, flags.volumes).await? {
        print::tell(format_args!("{}: nothing to take down", context.project));
        known::tell_others(context);
        return Ok(());
    }
    interruptible(GOES_ON, carry_out(context, flags)).await
}

/// What the stack uses and `--volumes` leaves as it is.
async fn not_ours(context: &Context) -> Vec<Storage> {
    let spec = context.applied().await.and_then(|stored| stored.spec);
    let used = spec.map(|spec| spec.volumes.into_values());
    let used = used.into_iter().flatten();
    used.filter(|storage| storage.ours().is_none()).collect()
}

/// Asks for it, also the daemon that comes in the place of one that was killed over it.
async fn carry_out(context: &Context, flags: &DownFlags) -> Outcome {
    let mut progress = Progress::new(Format::Table);
    let endpoint = Some(context.endpoint());
    let stays = if flags.volumes {
        not_ours(context).await
    } else {
        Vec::new()
    };
    let body = DownBody {
        volumes: flags.volumes,
        timeout_s: flags.timeout,
        endpoint,
    };
    for _ in 0..=reattach::REPLACED {
        let Some(end) = follow(context, &body, &mut progress).await? else {
            continue;
        };
        let last = end.last.as_ref();
        if last.is_some_and(|status| status.verdict == Verdict::Down)
            || is_over(context, flags.volumes).await?
        {
            progress.end_gone();
            let data = if flags.volumes {
                ", and its data is deleted"
            } else {
                "; the data stays"
            };
            print::tell(format_args!("{} is down{data}", context.project));
            for storage in &stays {
                print::tell(format_args!(
                    "  note      {storage} is not octo-local's: it stays, with what is in it"
                ));
            }
            for note in last.iter().flat_map(|status| &status.notes) {
                print::tell(format_args!(
                    "  note      {}",
                    print::plain(&note.to_string())
                ));
            }
            return Ok(());
        }
        let next = reattach::next(
            context,
            Followed {
                goal: GoalWord::Down,
                generation: end.generation,
                config: None,
                last,
            },
        )
        .await;
        match next {
            Next::AskAgain => progress.interject("the daemon is gone; another one goes on"),
            Next::Overruled => {
                progress.end();
                return Err(Failure::overruled(last));
            }
            Next::Gone => break,
        }
    }
    progress.end();
    Err(Failure::new(
        FAILED,
        "the daemon ended before everything was gone; `octo-local down` again",
    ))
}

/// How a daemon that was asked went, or was done.
struct End {
    generation: u64,
    /// What it said last about this wish or a later one. A daemon that was killed may not have said
    /// anything.
    last: Option<Status>,
}

/// Follows one daemon. None: it went before it answered.
async fn follow(
    context: &Context,
    body: &DownBody,
    progress: &mut Progress,
) -> Result<Option<End>, Failure> {
    daemon_process::ensure(context).await?;
    let asking = async {
        let statuses = context.client.follow().await?;
        Ok::<(Statuses, u64), ClientError>((
            statuses,
            context.client.post(route::DOWN, body).await?,
        ))
    };
    let (mut statuses, generation) = match asking.await {
        Err(ClientError::Absent | ClientError::Broken(_)) => return Ok(None),
        answer => answer?,
    };
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
        // One that `up` started ends, and with it the stream.
        let is_over = status.verdict == Verdict::Down && !status.ends_when_down;
        let is_overruled = status.generation > generation && status.goal != GoalWord::Down;
        last = Some(status);
        if is_over || is_overruled {
            break;
        }
    }
    Ok(Some(End { generation, last }))
}

/// What is kept tells which engine this is about. Nothing is started to find it out.
async fn must_be_on_this_engine(context: &Context) -> Result<(), Failure> {
    let (kept, here) = (
        context.applied().await.unwrap_or_default(),
        context.endpoint(),
    );
    let there = kept.elsewhere(&here);
    there.map_or(Ok(()), |there| {
        Err(Failure::problems(&[admit::moved(&there.0, &here.0)]))
    })
}

fn confirm(context: &Context) -> Result<(), Failure> {
    let project = &context.project;
    let answer = print::ask(format_args!(
        "Remove the databases, packages, artifacts, logs and the master key of {project}? Type its name:"
    ));
    if answer.as_deref() == Some(project.as_str()) {
        return Ok(());
    }
    Err(Failure::new(
        USAGE,
        format!("that is not its name, {project}: nothing was removed"),
    ))
}

/// Whether there is nothing to take down, and nobody who comes later would bring anything up again.
/// For when no daemon is there.
async fn is_over(context: &Context, volumes: bool) -> Result<bool, Failure> {
    if !nothing_is_there(context, volumes).await? {
        return Ok(false);
    }
    let kept = store::read(&context.paths.store()).unwrap_or_default();
    Ok(kept.wish == Wish::Rest && (!volumes || kept.is_blank()))
}

async fn nothing_is_there(context: &Context, volumes: bool) -> Result<bool, Failure> {
    let engine = context.engine().await?;
    let seen = engine
        .observe(&context.project, &[], &mut ObservationCache::default())
        .await?;
    Ok(seen.all().next().is_none()
        && seen.networks.is_empty()
        && (!volumes || seen.volumes.is_empty()))
}
