//! `up` and `plan`: the configuration goes to the daemon, and the person sees how it becomes true.

use std::time::Duration;

use super::args::Format;
use super::args::UpFlags;
use super::context::Context;
use super::demo;
use super::outcome::CHANGES;
use super::outcome::FAILED;
use super::outcome::Failure;
use super::outcome::INTERRUPTED;
use super::outcome::Outcome;
use super::outcome::TIMED_OUT;
use super::progress::Progress;
use super::spawn;
use crate::api::client::ClientError;
use crate::config::Secret;
use crate::config::read::Input;
use crate::config::read::Read;
use crate::config::read::read;
use crate::daemon::event::Accepted;
use crate::daemon::event::UpRequest;
use crate::daemon::store;
use crate::engine::Engine;
use crate::reconcile::preview::Change;
use crate::reconcile::preview::Step;
use crate::reconcile::status::Status;
use crate::reconcile::status::Verdict;

/// Brings the stack up and waits until it serves.
pub async fn up(context: &Context, flags: &UpFlags) -> Outcome {
    let request = request(context, flags, true).await?;
    let accepted: Accepted = ask(context, "/v1/up", &request).await?;
    if flags.format == Format::Table {
        tell_changes(&accepted.changes);
        for note in &accepted.notes {
            eprintln!("note: {note}");
        }
    }
    let outcome = if flags.no_wait { Ok(()) } else { follow(context, flags, &accepted).await };
    let _: Result<bool, _> = context.client.post("/v1/session/end", &()).await;
    outcome
}

/// Asks the daemon. One that is just ending (a `down` came before) breaks off; then a new one is started and asked.
async fn ask<T: serde::de::DeserializeOwned>(context: &Context, path: &str, request: &UpRequest) -> Result<T, Failure> {
    const TRIES: u32 = 5;
    for _ in 1..TRIES {
        spawn::ensure(context).await?;
        match context.client.post(path, request).await {
            Err(ClientError::Absent | ClientError::Broken(_)) => {}
            answer => return Ok(answer?),
        }
    }
    spawn::ensure(context).await?;
    Ok(context.client.post(path, request).await?)
}

/// Says what `up` would do and why.
pub async fn plan(context: &Context, flags: &UpFlags) -> Outcome {
    let request = request(context, flags, false).await?;
    let had_daemon = context.client.identity().await.is_ok();
    let changes: Result<Vec<Change>, Failure> = ask(context, "/v1/plan", &request).await;
    if !had_daemon {
        // A daemon that was started only to answer leaves again, and what ran unsupervised still does.
        let _: Result<bool, _> = context.client.post("/v1/handover", &()).await;
    }
    let changes = changes?;
    match flags.format {
        Format::Json => println!("{}", serde_json::to_string(&changes).unwrap_or_default()),
        Format::Table if changes.is_empty() => println!("nothing to do: the stack is what the configuration says"),
        Format::Table => changes.iter().for_each(|change| println!("{}", line_of(change))),
    }
    if changes.is_empty() { Ok(()) } else { Err(Failure::quiet(CHANGES)) }
}

/// Everything that can be said about the configuration without the daemon, and the demo's images.
async fn request(context: &Context, flags: &UpFlags, import: bool) -> Result<UpRequest, Failure> {
    let variables = context.variables()?;
    let stored = stored(context).await;
    let generated = flags.demo.then(|| passwords(&stored));
    let demo = generated.as_ref().map(|passwords| demo::demo(&demo_tag(&stored), passwords));
    let input = Input {
        vars: variables.vars,
        origins: variables.origins,
        demo: demo.clone(),
        nodes: flags.nodes,
        pull: flags.pull,
    };
    let Read { config, warnings } = read(&input).map_err(|problems| Failure::problems(&problems))?;
    if flags.format == Format::Table {
        for warning in &warnings {
            eprintln!("warning: {warning}");
        }
        for name in variables.unset.iter().collect::<std::collections::BTreeSet<_>>() {
            eprintln!("warning: the .env uses {name}, which is not set; it counts as empty");
        }
    }
    if let (Some(demo), true) = (&demo, import) {
        let engine: Engine = context.engine().await?;
        demo::import(&engine, demo).await?;
    }
    Ok(UpRequest {
        config,
        working_dir: context.directory.display().to_string(),
        name_on_purpose: context.name_on_purpose,
        generated,
    })
}

/// What is kept of the project: the daemon knows it also when its file is gone.
async fn stored(context: &Context) -> store::Stored {
    match context.client.get("/v1/stored").await {
        Ok(stored) => stored,
        Err(_) => store::read(&context.paths.store()).unwrap_or_default(),
    }
}

/// A demo that is up keeps its images: a newer octo-local recreates nothing.
fn demo_tag(stored: &store::Stored) -> String {
    let applied = stored.config.as_ref().filter(|config| config.demo && stored.up);
    applied.map_or_else(demo::own_tag, |config| config.octopus.tag.clone())
}

/// The passwords of this project's demo: those made before, else new ones.
fn passwords(stored: &store::Stored) -> (Secret, Secret) {
    stored.generated.clone().unwrap_or_else(|| (super::init::strong_password(), super::init::strong_password()))
}

fn tell_changes(changes: &[Change]) {
    for change in changes.iter().filter(|change| matches!(change.what, Step::Recreate | Step::Restart | Step::Remove)) {
        eprintln!("{}", line_of(change));
    }
}

fn line_of(change: &Change) -> String {
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

/// How the wait for a stack ends.
enum End {
    Ready(Box<Status>),
    Failed(Box<Status>),
    TimedOut,
    Interrupted,
    DaemonGone,
}

async fn follow(context: &Context, flags: &UpFlags, accepted: &Accepted) -> Outcome {
    let mut progress = Progress::new(flags.format);
    let end = wait(context, flags, accepted, &mut progress).await?;
    progress.end();
    match end {
        End::Ready(status) => {
            if flags.format == Format::Table {
                summary(context, &status, &progress);
            }
            Ok(())
        }
        End::Failed(status) => Err(failure(context, &status)),
        End::TimedOut => Err(Failure::new(TIMED_OUT, "not ready in time; the daemon goes on, see `octo-local status`")),
        End::Interrupted => interrupted(context).await,
        End::DaemonGone => {
            let log = context.paths.log();
            Err(Failure::new(FAILED, format!("the daemon ended meanwhile; its log is {}", log.display())))
        }
    }
}

async fn wait(
    context: &Context,
    flags: &UpFlags,
    accepted: &Accepted,
    progress: &mut Progress,
) -> Result<End, Failure> {
    let mut statuses = context.client.follow().await?;
    let limit = flags.wait_timeout.map_or(Duration::MAX, Duration::from_secs);
    let deadline = tokio::time::sleep(limit.min(Duration::from_secs(365 * 24 * 3600)));
    tokio::pin!(deadline);
    loop {
        // Cancel-safe: the stream keeps what it read; the deadline and the signal are awaited again.
        let status = tokio::select! {
            status = statuses.next() => status?,
            () = &mut deadline => return Ok(End::TimedOut),
            _ = tokio::signal::ctrl_c() => return Ok(End::Interrupted),
        };
        let Some(status) = status else { return Ok(End::DaemonGone) };
        if status.generation < accepted.generation {
            continue;
        }
        progress.tell(&status);
        match status.verdict {
            Verdict::Ready => return Ok(End::Ready(Box::new(status))),
            Verdict::Failed => return Ok(End::Failed(Box::new(status))),
            Verdict::Held | Verdict::Down => return Ok(End::DaemonGone),
            Verdict::Working | Verdict::Degraded | Verdict::EngineDown => {}
        }
    }
}

/// The first Ctrl-C: nothing further is started, unless another `up` follows. The second ends this process at once.
async fn interrupted(context: &Context) -> Outcome {
    let second = tokio::spawn(async {
        let _ = tokio::signal::ctrl_c().await;
        #[expect(clippy::exit, reason = "the second Ctrl-C ends the process at once, whatever it waits for")]
        std::process::exit(i32::from(INTERRUPTED));
    });
    let alone: Result<bool, _> = context.client.post("/v1/cancel", &()).await;
    second.abort();
    let line = match alone {
        Ok(true) => "interrupted: nothing further is started; `octo-local up` goes on, `octo-local down` takes it away",
        Ok(false) => "interrupted; another `up` follows, so the start goes on",
        Err(_) => "interrupted",
    };
    Err(Failure::new(INTERRUPTED, line))
}

fn summary(context: &Context, status: &Status, progress: &Progress) {
    let seconds = progress.elapsed().as_secs_f64();
    let stand_in = if status.demo { " (stand-ins, not the real servers)" } else { "" };
    eprintln!("{} is ready after {seconds:.1}s{stand_in}", status.project);
    if let Some(url) = &status.url {
        eprintln!("  open      {url}");
    }
    eprintln!("  user      {}", status.admin_username);
    let place = if status.demo { "generated or given; kept in" } else { "as in your .env; what was generated is in" };
    eprintln!("  secrets   {place} {}", context.paths.store().display());
    if let Some((unit, waited)) = progress.longest().filter(|(_, waited)| *waited >= Duration::from_millis(100)) {
        eprintln!("  waited    longest for {unit}: {:.1}s", waited.as_secs_f64());
    }
    for note in &status.notes {
        eprintln!("  note      {note}");
    }
}

fn failure(context: &Context, status: &Status) -> Failure {
    let mut lines = vec![format!("{} failed: {}", context.project, status.message)];
    for unit in status.units.iter().filter(|unit| unit.cause.is_some()) {
        lines.extend(unit.lines.iter().rev().take(20).rev().map(|line| format!("  {} | {line}", unit.unit)));
        lines.extend(unit.fix.iter().map(|fix| format!("{}: {fix}", unit.unit)));
    }
    Failure { code: FAILED, lines }
}
