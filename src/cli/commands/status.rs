//! `status`: what runs and what does not, from the daemon, or from labels alone when there is none.

use serde::Serialize;

use crate::cli::args::Format;
use crate::cli::args::StatusFlags;
use crate::cli::boot::Boot;
use crate::cli::commands::events;
use crate::cli::context::Context;
use crate::cli::daemon_client::fetch_status;
use crate::cli::drift::Drift;
use crate::cli::drift::drift;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::TIMED_OUT;
use crate::cli::outcome::UNREACHABLE;
use crate::cli::terminal::foreign;
use crate::cli::terminal::print;
use crate::cli::terminal::print::Colour;
use crate::cli::terminal::table;
use crate::cli::unit_names;
use crate::daemon::journal::Entry;
use crate::daemon::journal::now_ms;
use crate::reconcile::status::Health;
use crate::reconcile::status::PhaseWord;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;
use crate::reconcile::status::Verdict;

/// What the daemon says, and what only this side knows: the `.env` as it is now, the history, what
/// starts the stack after a reboot.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    drift: Option<Drift>,
    boot: Boot,
    /// Seconds since the operator stopped the last of the units that rest.
    stopped_for_seconds: Option<u64>,
}

/// Shows the status; with `--check` the exit code tells it too.
pub async fn status(context: &Context, flags: &StatusFlags) -> Outcome {
    let units = unit_names::named(context, &flags.units).await?;
    let mut status = fetch_status::fetch(context).await?;
    let stopped_since = stopped_since(&status, &events::history(context));
    let is_named = |unit: &UnitStatus| units.is_empty() || units.contains(&unit.unit);
    status.units.retain(is_named);
    status.tentacles.retain(is_named);
    let shown = Shown {
        drift: drift(context).await,
        boot: Boot::of(context),
        stopped_for_seconds: stopped_since.map(|since| now_ms().saturating_sub(since) / 1_000),
        status,
    };
    match flags.format {
        Format::Json => print::json(&shown),
        Format::Table => show(context, &shown).await,
    }
    if flags.check {
        return check(&shown.status);
    }
    Ok(())
}

/// What `--check` says of it. A unit that was named counts alone.
fn check(status: &Status) -> Outcome {
    let code = match status.verdict.health() {
        _ if status.verdict == Verdict::EngineDown => UNREACHABLE,
        _ if !status.supervised => FAILED,
        Health::Serves => return Ok(()),
        Health::OnItsWay => TIMED_OUT,
        Health::DoesNotServe => FAILED,
    };
    Err(Failure::quiet(code))
}

/// When the last of the units that the operator stopped came to rest, in milliseconds since 1970.
fn stopped_since(status: &Status, history: &[Entry]) -> Option<u64> {
    let last = |unit: &UnitStatus| {
        let name = unit.unit.to_string();
        let mut entries = history.iter().rev();
        entries
            .find(|entry| entry.subject == name)
            .map(|entry| entry.at_ms)
    };
    let stopped = status.units.iter().filter(|unit| unit.stopped);
    stopped.filter_map(last).max()
}

async fn show(context: &Context, shown: &Shown) {
    let columns = print::data_columns();
    let say = |text: &str| table::paragraph(text, columns).iter().for_each(print::line);
    let status = &shown.status;
    say_head(status, shown.stopped_for_seconds, columns);
    units(status, columns);
    if let Some(line) = front_door(status) {
        say(&line);
    }
    if let Some(line) = polling(status) {
        say(&line);
    }
    for work in &status.work {
        let retry = work.retry_in_seconds.map(retry).unwrap_or_default();
        say(&format!("  {}{retry}", foreign::plain(&work.to_string())));
    }
    for (what, fix) in fixes(status) {
        say(&format!("fix: {what}: {fix}"));
    }
    for note in &status.notes {
        say(&format!("note: {}", foreign::plain(&note.to_string())));
    }
    if let Some(line) = shown.drift.as_ref().and_then(Drift::line) {
        say(&line);
    }
    if let Some(line) = shown.boot.line().filter(|_| status.url.is_some()) {
        say(&format!("boot: {line}"));
    }
    if let Some(other) = other_directory(context).await {
        say(&format!(
            "note: this stack was made from {other}, not from here"
        ));
    }
}

/// The whole stack in one line.
pub fn head(status: &Status, stopped_for_seconds: Option<u64>) -> String {
    let demo = if status.demo {
        " (demo: stand-ins, not the real servers)"
    } else {
        ""
    };
    let since = match (status.verdict, status.goal_for_seconds, stopped_for_seconds) {
        (Verdict::Held, Some(seconds), _) => {
            let at = now_ms().saturating_sub(seconds.saturating_mul(1_000));
            format!(" since {} ({})", events::time_of(at), duration(seconds))
        }
        (Verdict::Stopped, _, Some(seconds)) => format!(" {} ago", duration(seconds)),
        _ => String::new(),
    };
    let line = foreign::plain(&status.headline(&since));
    format!("{}: {line}{demo}", status.project)
}

fn say_head(status: &Status, stopped_for_seconds: Option<u64>, columns: Option<usize>) {
    let colour = match status.verdict.health() {
        _ if !status.supervised => None,
        Health::Serves => Some(Colour::Green),
        Health::OnItsWay => Some(Colour::Yellow),
        Health::DoesNotServe if status.verdict == Verdict::Down => None,
        Health::DoesNotServe => Some(Colour::Red),
    };
    for line in table::paragraph(&head(status, stopped_for_seconds), columns) {
        print::line(print::painted(colour, &line));
    }
}

fn units(status: &Status, columns: Option<usize>) {
    let all: Vec<&UnitStatus> = status.units.iter().chain(&status.tentacles).collect();
    if all.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = all.iter().map(|unit| row(unit)).collect();
    let titles = ["UNIT", "PHASE", "FOR", "RESTARTS", "PORTS", "REASON"];
    for line in table::table(&titles, &rows, columns) {
        let of_unit = |unit: &&&UnitStatus| {
            let name = unit.unit.to_string();
            line.split(' ').next() == Some(name.as_str())
        };
        let unit = all.iter().find(of_unit);
        print::line(print::painted(
            unit.and_then(|unit| colour_of(unit.phase)),
            &line,
        ));
    }
}

/// The one address for all nodes. While it is not open the work on it says so.
fn front_door(status: &Status) -> Option<String> {
    let door = status.front_door.as_ref().filter(|door| door.open)?;
    let url = status.url.as_ref()?;
    let nodes = status.units.iter().filter(|unit| unit.unit.is_server());
    let without = door.without_access_log.as_ref();
    let without = without.map(|why| format!("; no access log: {}", foreign::plain(why)));
    Some(format!(
        "front door: {url}, {} of {} nodes get requests{}",
        door.serving,
        nodes.count(),
        without.unwrap_or_default()
    ))
}

/// What each Tentacle that polls is to be registered with: every one of them, by `poll-server`.
fn polling(status: &Status) -> Option<String> {
    let of = |unit: &UnitStatus| Some(format!("{} {}", unit.polling.as_ref()?, unit.unit));
    let addresses: Vec<String> = status.units.iter().filter_map(of).collect();
    (!addresses.is_empty()).then(|| format!("poll-server: {}", addresses.join(", ")))
}

/// The colour of a phase that a person should see quickly.
pub fn colour_of(phase: PhaseWord) -> Option<Colour> {
    match phase {
        PhaseWord::Ready => Some(Colour::Green),
        PhaseWord::Failed | PhaseWord::CrashLoop => Some(Colour::Red),
        PhaseWord::Running | PhaseWord::Stopped | PhaseWord::Created => None,
        PhaseWord::Absent
        | PhaseWord::Starting
        | PhaseWord::Unready
        | PhaseWord::Draining
        | PhaseWord::Drained
        | PhaseWord::Paused
        | PhaseWord::Dead
        | PhaseWord::Stopping
        | PhaseWord::BackingOff => Some(Colour::Yellow),
    }
}

/// What mends what failed, once each.
fn fixes(status: &Status) -> Vec<(String, String)> {
    let work = status
        .work
        .iter()
        .filter_map(|work| Some((work.what.clone(), work.fix.clone()?)));
    let mut fixes: Vec<(String, String)> = work.collect();
    let all = status.units.iter().chain(&status.tentacles);
    let failed = all.filter(|unit| unit.phase.has_failed());
    for unit in failed {
        let new = |fix: &&String| !fixes.iter().any(|(_, known)| known == *fix);
        if let Some(fix) = unit.fix.as_ref().filter(new) {
            fixes.push((unit.unit.to_string(), fix.clone()));
        }
    }
    fixes
}

fn retry(seconds: u64) -> String {
    format!("; tried again in {seconds}s")
}

fn row(unit: &UnitStatus) -> Vec<String> {
    let retry = unit
        .retry_in_seconds
        .map(|seconds| format!("; next start in {seconds}s"))
        .unwrap_or_default();
    let reason = format!("{}{retry}", foreign::plain(&unit.reason));
    let phase = if unit.external {
        format!("external, {}", unit.phase)
    } else {
        unit.phase.to_string()
    };
    vec![
        unit.unit.to_string(),
        phase,
        if unit.for_seconds == 0 {
            "-".to_owned()
        } else {
            duration(unit.for_seconds)
        },
        unit.restarts.to_string(),
        unit.ports.join(", "),
        reason.trim_start_matches("; ").to_owned(),
    ]
}

/// The directory that the stack was made from, when that is another.
async fn other_directory(context: &Context) -> Option<String> {
    let spec = context.applied().await.and_then(|stored| stored.spec)?;
    let here = context.files.directory.display().to_string();
    (!context.name_on_purpose && spec.working_dir != here).then_some(spec.working_dir)
}

/// A duration as people say it.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
