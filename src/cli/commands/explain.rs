//! `explain`: what a unit is doing, since when and why, what was tried, what happens next and when.

use std::time::Duration;

use serde::Serialize;

use crate::cli::args::ExplainFlags;
use crate::cli::args::Format;
use crate::cli::commands::events;
use crate::cli::commands::status;
use crate::cli::commands::status::duration;
use crate::cli::context::Context;
use crate::cli::daemon_client::fetch_status;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::foreign;
use crate::cli::terminal::print;
use crate::cli::terminal::table;
use crate::cli::unit_names;
use crate::config::Timing;
use crate::daemon::core::TENTACLE_PACE;
use crate::daemon::journal::Entry;
use crate::daemon::journal::now_ms;
use crate::engine::Engine;
use crate::reconcile::status::PhaseWord;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;
use crate::reconcile::status::Verdict;
use crate::spec::UnitId;

/// The form of what machines read.
const SCHEMA: u32 = 1;
/// How many past events an explanation shows.
const RECENT: usize = 8;
/// How many lines of a log it shows.
const LINES: u32 = 8;

/// What explanations are made from, besides the unit.
struct Material {
    status: Status,
    history: Vec<Entry>,
    timing: Timing,
    /// To read logs with. Without it there are none.
    engine: Option<Engine>,
}

/// All that is said of one unit.
#[derive(Serialize)]
struct Explanation {
    unit: UnitId,
    phase: PhaseWord,
    /// Since when it is in that phase, in milliseconds since 1970, where that is known.
    since_ms: Option<u64>,
    restarts: u32,
    why: Option<String>,
    fix: Option<String>,
    past: Vec<Entry>,
    next: String,
    log: Vec<String>,
}

/// What machines read.
#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    project: &'a str,
    verdict: &'static str,
    message: &'a str,
    units: Vec<Explanation>,
}

/// Explains units; none named means all.
pub async fn explain(context: &Context, flags: &ExplainFlags) -> Outcome {
    let units = unit_names::named(context, &flags.units).await?;
    let applied = context.applied().await.and_then(|stored| stored.config);
    let material = Material {
        status: fetch_status::fetch(context).await?,
        history: events::history(context),
        timing: applied.map(|config| config.timing).unwrap_or_default(),
        engine: context.engine().await.ok(),
    };
    let status = &material.status;
    let mut explanations = Vec::new();
    for unit in status.units.iter().chain(&status.tentacles) {
        if units.is_empty() || units.contains(&unit.unit) {
            explanations.push(explain_unit(unit, &material).await);
        }
    }
    if flags.format == Format::Json {
        print::json(&Shown {
            schema: SCHEMA,
            project: &status.project,
            verdict: status.verdict.word(),
            message: &status.message,
            units: explanations,
        });
        return Ok(());
    }
    let columns = print::data_columns();
    let say = |text: &str| table::paragraph(text, columns).iter().for_each(print::line);
    if units.is_empty() {
        say(&status::head(status, None));
        for work in &status.work {
            say(&format!("  {}", foreign::plain(&work.to_string())));
        }
    }
    explanations.iter().for_each(show);
    Ok(())
}

async fn explain_unit(unit: &UnitStatus, material: &Material) -> Explanation {
    let name = unit.unit.to_string();
    let of_unit = |entry: &&Entry| entry.subject == name;
    let past: Vec<Entry> = material.history.iter().filter(of_unit).cloned().collect();
    let past = past[past.len().saturating_sub(RECENT)..].to_vec();
    // What does not run has been so since something last happened to it.
    let since_ms = match unit.for_seconds {
        0 => past.last().map(|entry| entry.at_ms),
        seconds => Some(now_ms().saturating_sub(seconds.saturating_mul(1_000))),
    };
    Explanation {
        unit: unit.unit,
        phase: unit.phase,
        since_ms,
        restarts: unit.restarts,
        why: Some(unit.reason.clone()).filter(|why| !why.is_empty()),
        fix: unit.fix.clone(),
        past,
        next: next(unit, &material.status, &material.timing),
        log: log_lines(unit, material.engine.as_ref()).await,
    }
}

fn show(told: &Explanation) {
    let columns = print::data_columns();
    let say = |text: &str| table::paragraph(text, columns).iter().for_each(print::line);
    let head = format!("{}: {}", told.unit, state(told));
    print::line(print::painted(status::colour_of(told.phase), &head));
    if let Some(why) = &told.why {
        say(&format!("  why    {}", foreign::plain(why)));
    }
    if let Some(fix) = &told.fix {
        say(&format!("  fix    {fix}"));
    }
    for entry in &told.past {
        let what = foreign::plain(&entry.what);
        say(&format!(
            "  past   {}  {what}",
            events::time_of(entry.at_ms)
        ));
    }
    say(&format!("  next   {}", told.next));
    for line in &told.log {
        // A log line is shown as it was written, however long.
        print::line(format_args!("  log    {}", foreign::plain(line)));
    }
}

/// The phase, since when, and how often it was restarted.
fn state(told: &Explanation) -> String {
    let since = told.since_ms.map(|since| {
        let ago = duration(now_ms().saturating_sub(since) / 1_000);
        format!(", since {} ({ago})", events::time_of(since))
    });
    let restarts = match told.restarts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        times => format!(", restarted {times} times"),
    };
    format!("{}{}{restarts}", told.phase, since.unwrap_or_default())
}

/// What happens next, and when.
fn next(unit: &UnitStatus, status: &Status, timing: &Timing) -> String {
    if !status.supervised {
        return "nothing: nobody supervises; `octo-local up` starts a daemon".to_owned();
    }
    if status.engine_problem.is_some() {
        return "nothing until the Docker Engine answers, which is tried every second".to_owned();
    }
    if unit.stopped {
        return format!(
            "nothing until `octo-local start {}` or `octo-local up`",
            unit.unit
        );
    }
    if status.verdict == Verdict::Restoring && unit.unit.is_server() {
        return "nothing until the restore is finished, see `octo-local status`".to_owned();
    }
    if unit.external {
        return next_of_external(unit.phase).to_owned();
    }
    if let Some(seconds) = unit.retry_in_seconds {
        let at = events::time_of(now_ms().saturating_add(seconds.saturating_mul(1_000)));
        return format!(
            "it is tried again in {seconds}s, at {at}; `octo-local start {}` does so now",
            unit.unit
        );
    }
    let rounded = |time: Duration| duration(time.as_secs_f64().ceil() as u64);
    match unit.phase {
        PhaseWord::Ready => format!(
            "it is probed every {}; {} failures in a row, and it is restarted",
            rounded(match unit.unit {
                UnitId::Sql | UnitId::Node(_) => timing.steady_probe,
                UnitId::Tentacle(_) => timing.steady_probe * TENTACLE_PACE,
            }),
            timing.misses
        ),
        PhaseWord::Failed => format!(
            "nothing until the configuration changes, or `octo-local start {}` asks for another try",
            unit.unit
        ),
        PhaseWord::Created | PhaseWord::Absent => {
            "it is started when what it waits for is ready".to_owned()
        }
        PhaseWord::Paused => "nothing until somebody unpauses it".to_owned(),
        PhaseWord::Starting => {
            let limit = match unit.unit {
                UnitId::Sql => timing.sql_start_limit,
                UnitId::Node(_) | UnitId::Tentacle(_) => timing.node_start_limit,
            };
            format!(
                "it is waited for while it moves; after {} without progress it is restarted",
                rounded(limit)
            )
        }
        PhaseWord::Draining => {
            "it finishes its tasks; then it ends, or stays drained as somebody wished".to_owned()
        }
        PhaseWord::Drained => format!(
            "it takes no tasks until `octo-local undrain {}`, if somebody drained it; else it is \
             asked to take some again",
            unit.unit
        ),
        PhaseWord::Stopping => "it ends, at the latest when its grace is over".to_owned(),
        PhaseWord::Unready
        | PhaseWord::Dead
        | PhaseWord::BackingOff
        | PhaseWord::CrashLoop
        | PhaseWord::Running
        | PhaseWord::Stopped => "it is looked at again within seconds".to_owned(),
    }
}

/// Somebody else's database is asked, and nothing more: no command of ours names it, and nothing
/// there is ever started or restarted.
fn next_of_external(phase: PhaseWord) -> &'static str {
    if phase == PhaseWord::Ready {
        "it is asked again and again; while it does not answer, no node is started or blamed"
    } else if phase == PhaseWord::Failed {
        "it is asked again, ever more rarely; the nodes go on by themselves once it lets them in"
    } else {
        "it is asked again within seconds; the nodes go on by themselves once it answers"
    }
}

/// The last lines of the failed run, else those of the container.
async fn log_lines(unit: &UnitStatus, engine: Option<&Engine>) -> Vec<String> {
    if !unit.lines.is_empty() {
        return unit.lines.clone();
    }
    match engine.filter(|_| !unit.container.is_empty()) {
        Some(engine) => engine
            .last_lines(&unit.container, LINES, false)
            .await
            .unwrap_or_default(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(unit: UnitId, external: bool, phase: PhaseWord) -> UnitStatus {
        let told = serde_json::json!({
            "unit": unit, "container": "", "phase": phase, "external": external, "reason": "",
            "fix": null, "cause": null, "lines": [], "for_seconds": 0, "restarts": 0,
            "retry_in_seconds": null, "image": "", "ports": [], "stopped": false,
        });
        serde_json::from_value(told).unwrap()
    }

    #[test]
    fn nothing_is_promised_of_a_database_of_somebody_else_that_we_cannot_do() {
        let status = Status {
            supervised: true,
            ..Status::default()
        };
        for phase in [
            PhaseWord::Starting,
            PhaseWord::Ready,
            PhaseWord::Unready,
            PhaseWord::Failed,
        ] {
            let told = |external| {
                next(
                    &unit(UnitId::Sql, external, phase),
                    &status,
                    &Timing::default(),
                )
            };
            assert!(told(true).contains("asked again"), "{}", told(true));
            for promise in ["octo-local start", "is restarted"] {
                assert!(!told(true).contains(promise), "{}", told(true));
            }
        }
        let ours = next(
            &unit(UnitId::Sql, false, PhaseWord::Failed),
            &status,
            &Timing::default(),
        );
        assert!(ours.contains("octo-local start db"), "{ours}");
    }
}
