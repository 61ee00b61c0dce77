//! The stand-in's log: lines on standard output, as a container's are. A reader that went away is
//! no reason to end.

use std::fmt::Display;
use std::io::Write as _;

/// Writes one line.
pub(super) fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
