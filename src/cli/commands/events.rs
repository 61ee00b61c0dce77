//! `events`: the history of what the daemon saw and did.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::args::EventFlags;
use crate::cli::args::Format;
use crate::cli::commands::logs;
use crate::cli::context::Context;
use crate::cli::daemon_client::tail::Tail;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::foreign;
use crate::cli::terminal::print;
use crate::daemon::journal::Entry;

/// How often the history is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The form of what machines read.
const SCHEMA: u32 = 1;

/// An entry for machines.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// Shows the history.
pub async fn events(context: &Context, flags: &EventFlags) -> Outcome {
    let from_ms = flags
        .since
        .as_deref()
        .map(logs::since)
        .transpose()?
        .unwrap_or(0);
    let mut tail = Tail::of(context.paths.events());
    let mut count = tell(&mut tail, from_ms, flags.format);
    if count == 0 && flags.format == Format::Table {
        let when = match &flags.since {
            Some(since) => format!("since {since}"),
            None => "yet".to_owned(),
        };
        print::tell(format_args!(
            "{}: nothing has happened {when}",
            context.project
        ));
    }
    if !flags.follow {
        return Ok(());
    }
    interruptible("", async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            count += tell(&mut tail, from_ms, flags.format);
        }
    })
    .await
}

/// All that is kept of the history, oldest first.
pub fn history(context: &Context) -> Vec<Entry> {
    entries(&mut Tail::of(context.paths.events())).collect()
}

fn entries(tail: &mut Tail) -> impl Iterator<Item = Entry> {
    tail.lines()
        .into_iter()
        .filter_map(|line| serde_json::from_str(&line).ok())
}

fn tell(tail: &mut Tail, from_ms: u64, format: Format) -> usize {
    let mut count = 0;
    for entry in entries(tail).filter(|entry| entry.at_ms >= from_ms) {
        count += 1;
        match format {
            Format::Json => print::json(&Line {
                schema: SCHEMA,
                entry: &entry,
            }),
            Format::Table => {
                let (time, what) = (time_of(entry.at_ms), foreign::plain(&entry.what));
                print::line(format_args!("{time}  {:<17}  {what}", entry.subject));
            }
        }
    }
    count
}

/// A time as people write it, in UTC.
pub fn time_of(at_ms: u64) -> String {
    let seconds = i64::try_from(at_ms / 1_000).ok();
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| at_ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::journal::Journal;

    /// Entries are told by their place in the file, never by their time.
    #[test]
    fn entries_of_one_moment_are_all_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let told = |tail: &mut Tail| {
            entries(tail)
                .map(|entry| (entry.at_ms, entry.what))
                .collect::<Vec<_>>()
        };
        let mut tail = Tail::of(path.clone());
        let line = |what: &str| format!("{{\"at_ms\":7,\"subject\":\"\",\"what\":\"{what}\"}}\n");
        std::fs::write(&path, line("one") + &line("two")).unwrap();
        assert_eq!(
            told(&mut tail),
            [(7, "one".to_owned()), (7, "two".to_owned())]
        );
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, line("three").as_bytes()).unwrap();
        assert_eq!(told(&mut tail), [(7, "three".to_owned())]);
        let journal = Journal::at(path);
        journal.write("", "four");
        journal.close(std::time::Duration::from_secs(30));
        assert_eq!(told(&mut tail).len(), 1);
    }
}
