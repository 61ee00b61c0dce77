//! `logs`: of units, merged as they come, each line with its unit; or of the daemon itself.

use std::path::Path;

use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;

use super::args::LogFlags;
use super::context::Context;
use super::outcome::FAILED;
use super::outcome::Failure;
use super::outcome::INTERRUPTED;
use super::outcome::Outcome;
use super::outcome::USAGE;
use crate::config::read::duration_ms;
use crate::daemon::journal::now_ms;
use crate::daemon::paths;
use crate::engine::logs::Selection;
use crate::engine::observe::Memory;
use crate::spec::UnitId;

/// Shows logs. Works with a broken `.env` and without a daemon.
pub async fn logs(context: &Context, flags: &LogFlags) -> Outcome {
    if flags.units.iter().any(|unit| unit == "daemon") {
        daemon_log(&context.paths.log(), flags.tail);
        return Ok(());
    }
    let units: Vec<UnitId> = flags
        .units
        .iter()
        .map(|unit| unit.parse())
        .collect::<Result<_, _>>()
        .map_err(|error: crate::spec::unit::UnknownUnit| Failure::new(USAGE, error.to_string()))?;
    let since_ms = flags.since.as_deref().map(since).transpose()?;
    let selection = Selection {
        tail: flags.tail,
        since: since_ms.and_then(|at| i32::try_from(at / 1_000).ok()),
        follow: flags.follow,
        timestamps: flags.timestamps,
    };
    // Cancel-safe: printing is all there is to lose.
    tokio::select! {
        outcome = print(context, &units, &selection) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::quiet(INTERRUPTED)),
    }
}

async fn print(context: &Context, units: &[UnitId], selection: &Selection) -> Outcome {
    let engine = context.engine().await?;
    let seen = engine.observe(&context.project, &[], &mut Memory::default()).await?;
    let mut containers: Vec<_> =
        seen.containers.iter().filter(|container| units.is_empty() || units.contains(&container.unit)).collect();
    containers.sort_by_key(|container| container.unit);
    if containers.is_empty() {
        return Err(Failure::new(FAILED, format!("{} has no such container", context.project)));
    }
    let width = containers.iter().map(|container| container.unit.to_string().len()).max().unwrap_or(0);
    let mut all = SelectAll::new();
    for container in containers {
        let unit = container.unit;
        let lines = engine.log(&container.id, selection).map(move |line| (unit, line));
        if selection.follow {
            all.push(Box::pin(lines));
            continue;
        }
        let mut lines = Box::pin(lines);
        while let Some((unit, line)) = lines.next().await {
            show(unit, width, line?);
        }
    }
    while let Some((unit, line)) = all.next().await {
        show(unit, width, line?);
    }
    Ok(())
}

fn show(unit: UnitId, width: usize, (is_error, line): (bool, String)) {
    let text = format!("{unit:<width$} | {line}");
    if is_error { eprintln!("{text}") } else { println!("{text}") }
}

fn daemon_log(path: &Path, tail: Option<u32>) {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let text = read(&paths::older(path)) + &read(path);
    let lines: Vec<&str> = text.lines().collect();
    let skip = tail.map_or(0, |count| lines.len().saturating_sub(count as usize));
    lines[skip..].iter().for_each(|line| println!("{line}"));
}

/// A time of day or a duration before now, as milliseconds since 1970.
pub fn since(text: &str) -> Result<u64, Failure> {
    if let Some(ago) = duration_ms(text) {
        return Ok(now_ms().saturating_sub(ago));
    }
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
    let bad =
        || Failure::new(USAGE, format!("--since {text}: write a time as 2026-01-31T12:00:00Z or a duration as 10m"));
    let seconds = time.map_err(|_| bad())?.unix_timestamp();
    u64::try_from(seconds).map(|seconds| seconds * 1_000).map_err(|_| bad())
}
