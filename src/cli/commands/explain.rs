//! `explain`: what a unit is doing, since when and why, what was tried, what happens next and when.

use std::time::Duration;

use crate::cli::commands::events;
use crate::cli::commands::status;
use crate::cli::commands::status::duration;
use crate::cli::commands::units;
use crate::cli::context::Context;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::config::Timing;
use crate::daemon::journal::Entry;
use crate::daemon::journal::now_ms;
use crate::engine::Engine;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;
use crate::spec::UnitId;

/// How many past events an explanation shows.
const RECENT: usize = 8;
/// How many lines of a log it shows.
const LINES: u32 = 8;

/// What explanations are made from, besides the unit.
struct StatusInput {
    status: Status,
    history: Vec<Entry>,
    timing: Timing,
    /// To read logs with. Without it there are none.
    engine: Option<Engine>,
}

/// Explains units; none named means all.
pub async fn explain(context: &Context, names: &[String]) -> Outcome {
    let units = units::named(context, names).await?;
    let applied = context.applied().await.and_then(|stored| stored.config);
    let around = StatusInput {
        status: status::fetch(context).await?,
        history: events::history(context),
        timing: applied.map(|config| config.timing).unwrap_or_default(),
        engine: context.engine().await.ok(),
    };
    if units.is_empty() {
        print::line(status::head(&around.status));
        around
            .status
            .work
            .iter()
            .for_each(|work| print::line(format_args!("  {}", print::plain(work))));
    }
    for unit in around
        .status
        .units
        .iter()
        .filter(|unit| units.is_empty() || units.contains(&unit.unit))
    {
        explain_unit(unit, &around).await;
    }
    Ok(())
}

async fn explain_unit(unit: &UnitStatus, around: &StatusInput) {
    let past: Vec<&Entry> = around
        .history
        .iter()
        .filter(|entry| entry.subject == unit.unit.to_string())
        .collect();
    let recent = &past[past.len().saturating_sub(RECENT)..];
    print::line(format_args!(
        "{}: {}",
        unit.unit,
        state(unit, recent.last().copied())
    ));
    if !unit.reason.is_empty() {
        print::line(format_args!("  why    {}", print::plain(&unit.reason)));
    }
    if let Some(fix) = &unit.fix {
        print::line(format_args!("  fix    {fix}"));
    }
    for entry in recent {
        print::line(format_args!(
            "  past   {}  {}",
            events::time_of(entry.at_ms),
            print::plain(&entry.what)
        ));
    }
    print::line(format_args!(
        "  next   {}",
        next(unit, &around.status, &around.timing)
    ));
    for line in log_lines(unit, around.engine.as_ref()).await {
        print::line(format_args!("  log    {}", print::plain(&line)));
    }
}

/// The phase, since when, and how often it was restarted. What does not run has been so since
/// something last happened to it.
fn state(unit: &UnitStatus, last: Option<&Entry>) -> String {
    let now = now_ms();
    let since_ms = match unit.for_seconds {
        0 => last.map(|entry| entry.at_ms),
        seconds => Some(now.saturating_sub(seconds.saturating_mul(1_000))),
    };
    let since = since_ms.map(|since| {
        let ago = duration(now.saturating_sub(since) / 1_000);
        format!(", since {} ({ago})", events::time_of(since))
    });
    let restarts = match unit.restarts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        times => format!(", restarted {times} times"),
    };
    format!("{}{}{restarts}", unit.phase, since.unwrap_or_default())
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
    if let Some(seconds) = unit.retry_in_seconds {
        let at = events::time_of(now_ms().saturating_add(seconds.saturating_mul(1_000)));
        return format!(
            "it is tried again in {seconds}s, at {at}; `octo-local start {}` does so now",
            unit.unit
        );
    }
    let seconds = |limit: Duration| duration(limit.as_millis().div_ceil(1_000) as u64);
    match unit.phase.rsplit(' ').next().unwrap_or_default() {
        "ready" => format!(
            "it is probed every {}; {} failures in a row, and it is restarted",
            seconds(timing.steady_probe),
            timing.misses
        ),
        "failed" => {
            format!(
                "nothing until the configuration changes, or `octo-local start {}` asks for another try",
                unit.unit
            )
        }
        "created" | "absent" => "it is started when what it waits for is ready".to_owned(),
        "paused" => "nothing until somebody unpauses it".to_owned(),
        "starting" => {
            let limit = if unit.unit == UnitId::Sql {
                timing.sql_start_limit
            } else {
                timing.node_start_limit
            };
            format!(
                "it is waited for while it moves; after {} without progress it is restarted",
                seconds(limit)
            )
        }
        "stopping" => "it ends, at the latest when its grace is over".to_owned(),
        _ => "it is looked at again within seconds".to_owned(),
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
