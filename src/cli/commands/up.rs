//! `up`: the configuration goes to the daemon, and the person sees how it becomes true.

use crate::api::route;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::client::ClientError;
use crate::cli::args::UpFlags;
use crate::cli::boot::Boot;
use crate::cli::commands::plan;
use crate::cli::commands::sa_password;
use crate::cli::commands::tentacle;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::daemon_client::reattach;
use crate::cli::daemon_client::reattach::Followed;
use crate::cli::daemon_client::reattach::Next;
use crate::cli::daemon_client::request;
use crate::cli::demo;
use crate::cli::handed_over;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::INTERRUPTED;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::TIMED_OUT;
use crate::cli::terminal::foreign;
use crate::cli::terminal::print;
use crate::cli::terminal::progress::Progress;
use crate::config::AfterFailedUpgrade;
use crate::daemon::message::Accepted;
use crate::daemon::message::Cancelled;
use crate::daemon::message::UpRequest;
use crate::kubernetes::handover::Stage;
use crate::reconcile::cause::Class;
use crate::reconcile::preview::Step;
use crate::reconcile::status::GoalWord;
use crate::reconcile::status::Note;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;
use crate::reconcile::status::Verdict;
use crate::reconcile::status::VersionStep;

/// How many of a failed unit's log lines are shown.
const LINES: usize = 20;
/// A wait that nobody bounded.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// What was waited for shorter is not worth a word.
const WORTH_TELLING: Duration = Duration::from_millis(100);

/// Brings the stack up and waits until it serves.
pub async fn up(context: &Context, flags: &UpFlags) -> Outcome {
    if flags.again {
        take_back(context)?;
    }
    let mut session = None;
    // Cancel-safe: what the daemon was asked for is taken back, and nothing else outlives this
    // process.
    let outcome = tokio::select! {
        outcome = bring_up(context, flags, &mut session) => outcome,
        _ = tokio::signal::ctrl_c() => interrupted(context, flags, session).await,
    };
    if let Some(session) = session {
        let _: Result<bool, _> = context.client.post(route::SESSION_END, &session).await;
    }
    outcome
}

/// What a cluster has is this host's again: somebody said so.
fn take_back(context: &Context) -> Outcome {
    match context.handover()? {
        Some(kept) if kept.stage != Stage::Done => {
            Err(Failure::new(CONFIGURATION, kept.in_the_way()))
        }
        Some(_) => handed_over::remove(&context.paths.handover()),
        None => Ok(()),
    }
}

async fn bring_up(context: &Context, flags: &UpFlags, session: &mut Option<u64>) -> Outcome {
    let mut progress = Progress::new(flags.format);
    sa_password::finish_writing(context).await?;
    let wish = request::Wish {
        tentacles: flags.tentacles.is_some(),
        ..(&flags.overrides).into()
    };
    let resolved = request::resolve(context, &wish).await?;
    request::tell_warnings(&resolved);
    if let Some(demo) = &resolved.demo {
        demo::import(&context.engine().await?, demo).await?;
    }
    let request = resolved.into_request(context, &flags.overrides);
    let accepted: Accepted = match daemon_process::ask(context, route::UP, &request).await {
        Ok(accepted) => accepted,
        Err(failure) => return Err(with_what_is_unfinished(context, failure).await),
    };
    *session = Some(accepted.generation);
    tell_accepted(&accepted);
    if flags.no_wait {
        return Ok(());
    }
    let end = follow(context, flags, &request, session, accepted, &mut progress).await?;
    progress.end();
    match end {
        End::Ready(status) if let Some(kept) = kept_version(&status) => {
            Err(Failure::new(FAILED, kept))
        }
        End::Ready(status) => {
            // A change that was broken off is finished by the daemon while this waits.
            sa_password::finish_writing(context).await?;
            let added = match flags.tentacles {
                Some(count) => tentacle::add_to_demo(context, count).await,
                None => Ok(()),
            };
            summary(context, &status, &progress);
            added
        }
        End::Failed(status) => Err(failure(context, &status)),
        End::TakenBack(status) => Err(taken_back(context, &status)),
        End::Overruled(status) => Err(Failure::overruled(status.as_deref())),
        End::TimedOut(status) => Err(timed_out(flags, status.as_deref())),
        End::DaemonGone(_) => {
            let log = context.paths.log();
            Err(Failure::new(
                FAILED,
                format!("the daemon ended meanwhile; its log is {}", log.display()),
            ))
        }
    }
}

/// What was asked for was another version, and the one before goes on.
fn kept_version(status: &Status) -> Option<String> {
    let is_it = |note: &&Note| matches!(note, Note::VersionKept { .. });
    status.notes.iter().find(is_it).map(ToString::to_string)
}

/// A refused configuration goes on with nothing, least of all with what is half taken away: that is
/// said.
async fn with_what_is_unfinished(context: &Context, mut failure: Failure) -> Failure {
    let status = context.client.status().await.unwrap_or_default();
    failure.lines.extend(
        status
            .notes
            .iter()
            .filter(|note| **note == Note::Unfinished)
            .map(ToString::to_string),
    );
    failure
}

/// What is worth a line before it happens: what goes away or is interrupted, and why.
fn tell_accepted(accepted: &Accepted) {
    let disturbs = |step: Step| {
        matches!(
            step,
            Step::BackUp | Step::Recreate | Step::Restart | Step::Remove
        )
    };
    for change in accepted
        .changes
        .iter()
        .filter(|change| disturbs(change.what))
    {
        print::tell(plan::line_of(change));
    }
    for note in &accepted.notes {
        print::tell(format_args!("note: {note}"));
    }
}

/// How the wait for a stack ends.
enum End {
    Ready(Box<Status>),
    Failed(Box<Status>),
    /// The next version did not come up, and the one before runs again; with what was said last of
    /// the one that failed.
    TakenBack(Box<Status>),
    /// A `down`, or the Ctrl-C of another `up`.
    Overruled(Option<Box<Status>>),
    TimedOut(Option<Box<Status>>),
    /// With what it said last.
    DaemonGone(Option<Box<Status>>),
}

/// Follows the stack, also from one daemon to the next: one that was killed or replaced is no end
/// of the wait.
async fn follow(
    context: &Context,
    flags: &UpFlags,
    request: &UpRequest,
    session: &mut Option<u64>,
    mut accepted: Accepted,
    progress: &mut Progress,
) -> Result<End, Failure> {
    let limit = flags
        .wait_timeout
        .map_or(A_YEAR, Duration::from_secs)
        .min(A_YEAR);
    let deadline = Instant::now() + limit;
    let mut replaced = 0;
    loop {
        let followed = (accepted.generation, request);
        let last = match wait(context, deadline, followed, progress).await? {
            End::DaemonGone(last) if replaced < reattach::REPLACED => last,
            end => return Ok(end),
        };
        let (generation, config) = (accepted.generation, Some(&request.config));
        let followed = Followed {
            goal: GoalWord::Up,
            generation,
            config,
            last: last.as_deref(),
        };
        let again = async {
            let next = reattach::next(context, followed).await;
            if next == Next::AskAgain {
                progress.interject("the daemon is gone; another one goes on");
                return Ok((
                    next,
                    Some(daemon_process::ask::<Accepted>(context, route::UP, request).await?),
                ));
            }
            Ok::<_, Failure>((next, None))
        };
        // Cancel-safe: the daemon answers whoever asks next.
        match tokio::time::timeout_at(deadline, again).await {
            Err(_) => return Ok(End::TimedOut(last)),
            Ok(answer) => match answer? {
                (_, Some(again)) => accepted = again,
                (Next::Overruled, None) => return Ok(End::Overruled(last)),
                (Next::Gone | Next::AskAgain, None) => return Ok(End::DaemonGone(last)),
            },
        }
        replaced += 1;
        *session = Some(accepted.generation);
    }
}

async fn wait(
    context: &Context,
    deadline: Instant,
    (generation, request): (u64, &UpRequest),
    progress: &mut Progress,
) -> Result<End, Failure> {
    let takes_back = request.config.octopus.after_failed_upgrade == AfterFailedUpgrade::RollBack;
    let mut goes_back = None;
    let mut statuses = match context.client.follow_up(generation).await {
        Err(ClientError::Absent | ClientError::Broken(_)) => return Ok(End::DaemonGone(None)),
        statuses => statuses?,
    };
    let mut last = None;
    loop {
        // Cancel-safe: the stream keeps what it read; the deadline and the tick are awaited again.
        let status = tokio::select! {
            status = statuses.next() => status?,
            () = tokio::time::sleep_until(deadline) => return Ok(End::TimedOut(last)),
            () = progress.tick() => continue,
        };
        let Some(status) = status else {
            return Ok(End::DaemonGone(last));
        };
        if status.generation < generation {
            continue;
        }
        progress.tell(&status);
        let status = Box::new(status);
        let step = status.version_change.as_ref().map(|change| change.step);
        match status.verdict {
            Verdict::Ready => return Ok(goes_back.map_or(End::Ready(status), End::TakenBack)),
            // The daemon takes it back by itself, which is the end to wait for.
            Verdict::Failed if takes_back && is_about_to_go_back(&status) => {
                goes_back = Some(status);
            }
            Verdict::Working if step == Some(VersionStep::BringingBack) => {
                goes_back.get_or_insert(status);
            }
            Verdict::Failed | Verdict::ChangeWaits => return Ok(End::Failed(status)),
            Verdict::Held | Verdict::Down | Verdict::Stopped | Verdict::Restoring => {
                return Ok(End::Overruled(Some(status)));
            }
            Verdict::Working | Verdict::Degraded | Verdict::EngineDown => last = Some(status),
        }
    }
}

/// Whether the daemon takes an upgrade back by itself now: a node failed by itself, since what only
/// the host lacks is not its version's fault, and that was not tried in vain before.
fn is_about_to_go_back(status: &Status) -> bool {
    let step = status.version_change.as_ref().map(|change| change.step);
    let is_in_vain =
        |note: &Note| matches!(note, Note::VersionKept { .. } | Note::RollbackFailed { .. });
    if !matches!(step, Some(VersionStep::Migrating | VersionStep::Checking))
        || status.notes.iter().any(is_in_vain)
    {
        return false;
    }
    let by_itself =
        |unit: &UnitStatus| unit.cause.is_some_and(|cause| cause.class() != Class::Host);
    let mut nodes = status.units.iter().filter(|unit| unit.unit.is_server());
    nodes.any(|unit| unit.phase.has_failed() && by_itself(unit))
}

/// The first Ctrl-C: nothing further is started, unless another `up` follows or the version changes.
/// The second ends this process at once.
async fn interrupted(context: &Context, flags: &UpFlags, session: Option<u64>) -> Outcome {
    let second = tokio::spawn(async {
        let _ = tokio::signal::ctrl_c().await;
        #[expect(
            clippy::exit,
            reason = "the second Ctrl-C ends the process at once, whatever it waits for"
        )]
        std::process::exit(i32::from(INTERRUPTED));
    });
    let cancelled: Result<Cancelled, _> = context
        .client
        .post(route::CANCEL, &session.unwrap_or_default())
        .await;
    second.abort();
    let line = match (cancelled, &flags.overrides.tag) {
        (Ok(Cancelled::Held), None) => {
            "interrupted: nothing further is started; `octo-local up` goes on, `octo-local down` takes it away"
                .to_owned()
        }
        (Ok(Cancelled::Held), Some(tag)) => {
            format!("interrupted: nothing further is started; `octo-local upgrade {tag}` goes on")
        }
        (Ok(Cancelled::Followed), _) => {
            "interrupted; another `up` follows, so the start goes on".to_owned()
        }
        (Ok(Cancelled::VersionChanges), None) => {
            "interrupted; the change of the version goes on: `octo-local up` waits for its end"
                .to_owned()
        }
        (Ok(Cancelled::VersionChanges), Some(tag)) => format!(
            "interrupted; the upgrade goes on: `octo-local upgrade {tag}` waits for its end, and writes {tag} where \
             the variables are, without which the next `up` asks for the version before"
        ),
        (Err(_), _) => "interrupted".to_owned(),
    };
    Err(Failure::new(INTERRUPTED, line))
}

fn timed_out(flags: &UpFlags, status: Option<&Status>) -> Failure {
    let seconds = flags.wait_timeout.unwrap_or_default();
    let why = status
        .map(|status| format!(": {}", status.message))
        .unwrap_or_default();
    let line =
        format!("not ready after {seconds}s{why}; the daemon goes on, see `octo-local status`");
    Failure::new(TIMED_OUT, line)
}

fn summary(context: &Context, status: &Status, progress: &Progress) {
    let seconds = progress.elapsed().as_secs_f64();
    let stand_in = if status.demo {
        " (stand-ins, not the real servers)"
    } else {
        ""
    };
    print::tell(format_args!(
        "{} is ready after {seconds:.1}s{stand_in}",
        status.project
    ));
    if let Some(url) = &status.url {
        print::tell(format_args!("  open      {url}"));
    }
    print::tell(format_args!("  user      {}", status.admin_username));
    print::tell(
        "  secrets   `octo-local secrets` shows them: passwords, the master key to back up",
    );
    if let Some((unit, waited)) = progress
        .longest()
        .filter(|(_, waited)| *waited >= WORTH_TELLING)
    {
        print::tell(format_args!(
            "  waited    longest for {unit}: {:.1}s",
            waited.as_secs_f64()
        ));
    }
    if let Some(line) = Boot::of(context).line() {
        print::tell(format_args!("  boot      {line}"));
    }
    for note in &status.notes {
        print::tell(format_args!("  note      {note}"));
    }
}

fn failure(context: &Context, status: &Status) -> Failure {
    let mut lines = vec![format!(
        "{} {}",
        context.project,
        foreign::plain(&status.message)
    )];
    for work in status.work.iter().filter(|work| work.problem.is_some()) {
        lines.push(format!("  {}", foreign::plain(&work.to_string())));
        lines.extend(
            work.fix
                .iter()
                .map(|fix| format!("fix: {}: {fix}", work.what)),
        );
    }
    // What fails on a part that was told above has no lines and no other fix.
    let told = |unit: &&UnitStatus| unit.cause.is_some() && !unit.reason.is_empty();
    for unit in status.units.iter().filter(told) {
        let from = unit.lines.len().saturating_sub(LINES);
        let log = unit.lines[from..].iter();
        lines.extend(log.map(|line| format!("  {} | {}", unit.unit, foreign::plain(line))));
        let fix = unit
            .fix
            .iter()
            .filter(|_| status.work.iter().all(|work| work.fix != unit.fix));
        lines.extend(fix.map(|fix| format!("{}: {fix}", unit.unit)));
    }
    lines.extend(what_happens_next(status));
    let is_way_back =
        |note: &&Note| matches!(note, Note::UpgradeFailed { .. } | Note::VersionKept { .. });
    let back = status.notes.iter().filter(is_way_back);
    lines.extend(back.map(|note| format!("fix: {note}")));
    Failure {
        code: FAILED,
        lines,
    }
}

/// An upgrade that `UPGRADE_ROLLBACK` had taken back: what failed, and what runs.
fn taken_back(context: &Context, failed: &Status) -> Failure {
    let mut failure = failure(context, failed);
    failure.lines.retain(|line| !line.starts_with("fix: "));
    if let Some(change) = &failed.version_change {
        let (from, to) = (&change.from, &change.to);
        failure.lines.push(format!(
            "{to} did not come up and was taken back, as UPGRADE_ROLLBACK says: {from} runs again, with the data of before"
        ));
    }
    failure
}

/// Whether the daemon tries again by itself, and when.
fn what_happens_next(status: &Status) -> Option<String> {
    let units = status.units.iter().filter_map(|unit| unit.retry_in_seconds);
    let work = status.work.iter().filter_map(|work| work.retry_in_seconds);
    let seconds = units.chain(work).min()?;
    Some(format!(
        "the daemon goes on trying, next in {seconds}s: `octo-local status`; `octo-local down` ends it"
    ))
}
