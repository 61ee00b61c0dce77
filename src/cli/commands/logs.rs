//! `logs`: of units, each line with its unit; or of the daemon itself.

use std::time::Duration;

use futures_util::StreamExt as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::args::LogFlags;
use crate::cli::context::Context;
use crate::cli::daemon_client::follow_logs::follow;
use crate::cli::daemon_client::tail::Tail;
use crate::cli::known;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::cli::unit_names;
use crate::config::timing::duration;
use crate::daemon::journal::now_ms;
use crate::engine::logs::Selection;
use crate::engine::observe::ObservationCache;
use crate::spec::UnitId;

/// The name that means the daemon.
const DAEMON: &str = "daemon";
/// How often the daemon's log is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Shows logs. Works with a broken `.env` and without a daemon.
pub async fn logs(context: &Context, flags: &LogFlags) -> Outcome {
    let since_ms = flags.since.as_deref().map(since).transpose()?;
    match flags.units.as_slice() {
        [only] if only == DAEMON => {
            interruptible("", daemon_log(context, flags, since_ms.unwrap_or(0))).await
        }
        names if names.iter().any(|name| name == DAEMON) => Err(Failure::new(
            USAGE,
            "the daemon's log is shown alone: `octo-local logs daemon`",
        )),
        names => {
            let units = unit_names::named(context, names).await?;
            let selection = Selection {
                tail: flags.tail.0,
                since: since_ms.and_then(|at| i32::try_from(at / 1_000).ok()),
                follow: flags.follow,
                timestamps: flags.timestamps,
            };
            interruptible("", container_logs(context, &units, &selection, flags.raw)).await
        }
    }
}

async fn container_logs(
    context: &Context,
    units: &[UnitId],
    selection: &Selection,
    raw: bool,
) -> Outcome {
    let engine = context.engine().await?;
    let seen = engine
        .observe(&context.project, &[], &mut ObservationCache::default())
        .await?;
    let mut containers: Vec<_> = seen
        .all()
        .filter(|container| units.is_empty() || units.contains(&container.unit))
        .collect();
    containers.sort_by_key(|container| container.unit);
    if containers.is_empty() {
        let line = format!(
            "{} has no containers; `octo-local up` makes them",
            context.project
        );
        let mut failure = Failure::new(FAILED, line);
        failure.lines.extend(known::others(context));
        return Err(failure);
    }
    if selection.follow {
        return follow(context, &engine, units, selection, raw).await;
    }
    let width = containers
        .iter()
        .map(|container| container.unit.to_string().len())
        .max()
        .unwrap_or(0);
    for container in containers {
        let mut lines = Box::pin(engine.log(&container.id, selection));
        while let Some(line) = lines.next().await {
            print::unit_line(container.unit, width, line?, raw);
        }
    }
    Ok(())
}

async fn daemon_log(context: &Context, flags: &LogFlags, from_ms: u64) -> Outcome {
    let mut log = Tail::of(context.paths.log());
    let lines: Vec<String> = log
        .lines()
        .into_iter()
        .skip_while(|line| is_before(line, from_ms))
        .collect();
    let skip = flags
        .tail
        .0
        .map_or(0, |count| lines.len().saturating_sub(count as usize));
    lines[skip..].iter().for_each(print::line);
    if lines.is_empty() && !context.paths.log().exists() {
        print::tell(
            "no daemon of this project has written a log here; systemd's is shown by `journalctl -u`",
        );
    }
    if !flags.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        log.lines().iter().for_each(print::line);
    }
}

/// Whether a line of the daemon's log was written before a time. One without a time belongs to the
/// line above it.
fn is_before(line: &str, from_ms: u64) -> bool {
    let time = line
        .split_whitespace()
        .next()
        .and_then(|word| OffsetDateTime::parse(word, &Rfc3339).ok());
    from_ms > 0
        && time.is_none_or(|time| time.unix_timestamp_nanos() / 1_000_000 < i128::from(from_ms))
}

/// A time of day or a duration before now, as milliseconds since 1970.
pub fn since(text: &str) -> Result<u64, Failure> {
    if let Some(ago) = duration(text) {
        return Ok(now_ms().saturating_sub(ago.as_millis() as u64));
    }
    let bad = || {
        Failure::new(
            USAGE,
            format!("--since {text}: write a time as 2026-01-31T12:00:00Z or a duration as 10m"),
        )
    };
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad())?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_times_and_durations() {
        assert_eq!(since("1970-01-01T00:00:02.5Z").unwrap(), 2_500);
        assert!(now_ms() - since("10m").unwrap() >= 600_000);
        for bad in ["yesterday", "2026-01-31", "1969-12-31T23:59:59Z", ""] {
            assert_eq!(since(bad).unwrap_err().code, USAGE, "{bad}");
        }
    }

    #[test]
    fn lines_of_the_daemon_know_their_time() {
        assert!(is_before(
            "1970-01-01T00:00:01.000001Z  INFO it began",
            2_000
        ));
        assert!(!is_before("1970-01-01T00:00:03Z  INFO it went on", 2_000));
        assert!(is_before("a line of a panic", 2_000));
        assert!(!is_before("a line of a panic", 0));
    }
}
