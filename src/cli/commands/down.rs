//! `down`: the daemon stops everything in order and removes it; the data stays unless a person asks
//! in so many words.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::time::Instant;

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
use crate::cli::outcome::INTERRUPTED;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::terminal::print;
use crate::cli::terminal::progress::Progress;
use crate::daemon::admit;
use crate::daemon::store;
use crate::daemon::store::Wish;
use crate::engine::observe::ObservationCache;
use crate::reconcile::status::GoalWord;
use crate::reconcile::status::PhaseWord;
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
    carry_out(context, flags).await
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
    let unheard = |error| Failure::new(FAILED, format!("hear Ctrl-C: {error}"));
    let mut asker = Asker {
        volumes: flags.volumes,
        deadline: flags
            .timeout
            .map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        patience: Patience::Waits,
        keyboard: signal(SignalKind::interrupt()).map_err(unheard)?,
    };
    let stays = if flags.volumes {
        not_ours(context).await
    } else {
        Vec::new()
    };
    for _ in 0..=reattach::REPLACED {
        let Some(end) = follow(context, &mut asker, &mut progress).await? else {
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
        );
        match asker.unless_interrupted(next).await? {
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

/// The person who asked for it, and may press Ctrl-C.
struct Asker {
    volumes: bool,
    /// When nodes are to have ended, if that was said.
    deadline: Option<Instant>,
    patience: Patience,
    keyboard: Signal,
}

/// How far somebody is who waits for nodes that finish their tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// They are waited for.
    Waits,
    /// Ctrl-C was pressed, and told whom it would cut off.
    Told,
    /// It was pressed again: they are not waited for.
    Over,
}

/// What Ctrl-C means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pressed {
    /// Nobody follows any more; the daemon goes on.
    Leave,
    /// It is said what is waited for.
    Tell(String),
    /// Nodes that finish their tasks are not waited for any longer.
    SkipTasks,
}

impl Patience {
    fn on_pressed(&mut self, last: Option<&Status>) -> Pressed {
        let drains = last.into_iter().flat_map(|status| &status.units);
        let drains: Vec<String> = drains
            .filter(|unit| unit.phase == PhaseWord::Draining)
            .map(|unit| unit.unit.to_string())
            .collect();
        match self {
            _ if drains.is_empty() => Pressed::Leave,
            Self::Waits => {
                *self = Self::Told;
                Pressed::Tell(format!(
                    "{}: still at work on tasks; Ctrl-C again cuts them off",
                    drains.join(", ")
                ))
            }
            Self::Told => {
                *self = Self::Over;
                Pressed::SkipTasks
            }
            Self::Over => Pressed::Leave,
        }
    }
}

impl Asker {
    /// What the daemon is asked for, now.
    fn body(&self, context: &Context) -> DownBody {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        DownBody {
            volumes: self.volumes,
            timeout_s: self
                .deadline
                .map(|deadline| left(deadline).as_secs_f64().ceil() as u64),
            skips_tasks: self.patience == Patience::Over,
            endpoint: Some(context.endpoint()),
        }
    }

    /// Does something, unless Ctrl-C is pressed.
    async fn unless_interrupted<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        // Cancel-safe: the process ends with what was interrupted.
        tokio::select! {
            done = work => Ok(done),
            _ = self.keyboard.recv() => Err(Failure::new(INTERRUPTED, GOES_ON)),
        }
    }
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
    asker: &mut Asker,
    progress: &mut Progress,
) -> Result<Option<End>, Failure> {
    let body = asker.body(context);
    let asking = async {
        daemon_process::ensure(context).await?;
        let statuses = context.client.follow().await;
        let answer = async { Ok((statuses?, context.client.post(route::DOWN, &body).await?)) };
        Ok::<Result<(Statuses, u64), ClientError>, Failure>(answer.await)
    };
    let (mut statuses, mut generation) = match asker.unless_interrupted(asking).await?? {
        Err(ClientError::Absent | ClientError::Broken(_)) => return Ok(None),
        answer => answer?,
    };
    let mut last = None;
    loop {
        // Cancel-safe: the stream keeps what it read; the tick is awaited again, and a key that was
        // pressed is kept.
        let status = tokio::select! {
            status = statuses.next() => status?,
            () = progress.tick() => continue,
            _ = asker.keyboard.recv() => {
                match asker.patience.on_pressed(last.as_ref()) {
                    Pressed::Leave => return Err(Failure::new(INTERRUPTED, GOES_ON)),
                    Pressed::Tell(line) => progress.interject(&line),
                    Pressed::SkipTasks => {
                        progress.interject("tasks that run are not waited for");
                        let body = asker.body(context);
                        generation = context.client.post(route::DOWN, &body).await?;
                    }
                }
                continue;
            }
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
        Err(Failure::problems(&[admit::moved(there.url(), here.url())]))
    })
}

fn confirm(context: &Context) -> Result<(), Failure> {
    let project = &context.project;
    let answer = print::ask(format_args!(
        "Remove the databases, packages, artifacts and logs of {project}? Its master key stays in the state directory. Type its name:"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::UnitId;

    fn status_of(phases: &[(u8, PhaseWord)]) -> Status {
        let unit = |(node, phase): &(u8, PhaseWord)| {
            let told = serde_json::json!({
                "unit": UnitId::Node(*node), "container": "", "phase": phase, "reason": "",
                "fix": null, "cause": null, "lines": [], "for_seconds": 0, "restarts": 0,
                "retry_in_seconds": null, "image": "", "ports": [], "stopped": false,
            });
            serde_json::from_value(told).unwrap()
        };
        Status {
            units: phases.iter().map(unit).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn ctrl_c_leaves_unless_a_node_finishes_its_tasks() {
        let stops = status_of(&[(1, PhaseWord::Stopping)]);
        let mut patience = Patience::Waits;
        assert_eq!(patience.on_pressed(None), Pressed::Leave);
        assert_eq!(patience.on_pressed(Some(&stops)), Pressed::Leave);

        let drains = status_of(&[(1, PhaseWord::Draining), (2, PhaseWord::Stopping)]);
        let Pressed::Tell(line) = patience.on_pressed(Some(&drains)) else {
            panic!("whom it would cut off is not told");
        };
        assert!(line.contains("octopus-server-1") && !line.contains("octopus-server-2"));
        assert_eq!(patience.on_pressed(Some(&drains)), Pressed::SkipTasks);
        assert_eq!(patience.on_pressed(Some(&drains)), Pressed::Leave);
    }

    #[test]
    fn who_was_told_and_needs_not_wait_any_more_leaves() {
        let drains = status_of(&[(1, PhaseWord::Draining)]);
        let mut patience = Patience::Waits;
        assert!(matches!(
            patience.on_pressed(Some(&drains)),
            Pressed::Tell(_)
        ));
        let over = status_of(&[(1, PhaseWord::Stopping)]);
        assert_eq!(patience.on_pressed(Some(&over)), Pressed::Leave);
    }
}
