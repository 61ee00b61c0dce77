//! The stand-in's log: lines on stdout in the style of SQL Server's error log.

use std::io::Write as _;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:2]");

/// A line of the error log. `source` is `Server`, `Logon` or `spid51`.
pub(super) fn line(source: &str, text: &str) {
    let stamp = OffsetDateTime::now_utc().format(STAMP).unwrap_or_default();
    plain(&format!("{stamp} {source:<11} {text}"));
}

/// A line as set-up prints it before there is a log. Nobody listening is no reason to stop.
pub(super) fn plain(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
