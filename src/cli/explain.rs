//! `explain` and `events`: what a unit is doing and why, and what happened before.

use std::time::Duration;

use super::args::EventFlags;
use super::args::Format;
use super::context::Context;
use super::logs;
use super::outcome::FAILED;
use super::outcome::Failure;
use super::outcome::INTERRUPTED;
use super::outcome::Outcome;
use super::status;
use crate::daemon::journal::Entry;
use crate::daemon::paths;
use crate::reconcile::status::UnitStatus;
use crate::spec::UnitId;

/// How many past events an explanation shows.
const RECENT: usize = 8;

/// Explains units; none named means all.
pub async fn explain(context: &Context, units: &[UnitId]) -> Outcome {
    let status = status::fetch(context).await?;
    let history = history(context, 0);
    let chosen: Vec<&UnitStatus> =
        status.units.iter().filter(|unit| units.is_empty() || units.contains(&unit.unit)).collect();
    if chosen.is_empty() {
        return Err(Failure::new(FAILED, format!("{} has no such unit", context.project)));
    }
    for unit in chosen {
        explain_unit(unit, status.supervised, &history);
    }
    Ok(())
}

fn explain_unit(unit: &UnitStatus, supervised: bool, history: &[Entry]) {
    println!("{}: {} for {}s, restarted {} times", unit.unit, unit.phase, unit.for_seconds, unit.restarts);
    if !unit.reason.is_empty() {
        println!("  why    {}", unit.reason);
    }
    if let Some(fix) = &unit.fix {
        println!("  fix    {fix}");
    }
    println!("  next   {}", next(unit, supervised));
    let name = unit.unit.to_string();
    let of_unit: Vec<&Entry> = history.iter().filter(|entry| entry.subject == name).collect();
    for entry in &of_unit[of_unit.len().saturating_sub(RECENT)..] {
        println!("  past   {} {}", time_of(entry.at_ms), entry.what);
    }
    for line in &unit.lines {
        println!("  log    {line}");
    }
}

fn next(unit: &UnitStatus, supervised: bool) -> String {
    if !supervised {
        return "nothing: nobody supervises; `octo-local up` starts a daemon".to_owned();
    }
    match (unit.phase.as_str(), unit.retry_in_seconds) {
        (_, Some(seconds)) => format!("it is started again in {seconds}s"),
        ("ready", None) => "it is probed, and restarted if it fails".to_owned(),
        ("failed", None) => {
            "nothing until the configuration changes or `octo-local start` asks for another try".to_owned()
        }
        (_, None) if unit.stopped => "nothing until `octo-local start`".to_owned(),
        ("created", None) => "it is started when what it waits for is ready".to_owned(),
        (_, None) => "it is waited for while it moves".to_owned(),
    }
}

/// Shows the history.
pub async fn events(context: &Context, flags: &EventFlags) -> Outcome {
    let mut from = flags.since.as_deref().map(logs::since).transpose()?.unwrap_or(0);
    loop {
        let mut entries = history(context, from);
        if let Some(last) = entries.last() {
            from = last.at_ms + 1;
        }
        for entry in entries.drain(..) {
            tell(&entry, flags.format);
        }
        if !flags.follow {
            return Ok(());
        }
        // Cancel-safe: nothing is in flight between two looks at the file.
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            _ = tokio::signal::ctrl_c() => return Err(Failure::quiet(INTERRUPTED)),
        }
    }
}

fn tell(entry: &Entry, format: Format) {
    match format {
        Format::Json => println!("{}", serde_json::to_string(entry).unwrap_or_default()),
        Format::Table => println!("{}  {:<18} {}", time_of(entry.at_ms), entry.subject, entry.what),
    }
}

fn history(context: &Context, from_ms: u64) -> Vec<Entry> {
    let path = context.paths.events();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let text = read(&paths::older(&path)) + &read(&path);
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    entries.filter(|entry| entry.at_ms >= from_ms).collect()
}

fn time_of(at_ms: u64) -> String {
    let time =
        i64::try_from(at_ms / 1_000).ok().and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| at_ms.to_string())
}
