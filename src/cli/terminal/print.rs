//! What is printed: data on standard output, words for people on standard error, and whether in
//! colour.

#![expect(
    clippy::print_stderr,
    reason = "this is the one place that talks to people"
)]

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::io::Write as _;

use crate::cli::environment::environment;
use crate::cli::outcome::FAILED;
use crate::cli::terminal::foreign;
pub use crate::cli::terminal::foreign::plain;
use crate::cli::terminal::measure;
use crate::config::Secret;
use crate::spec::UnitId;

/// What Ctrl-C sends.
const CTRL_C: u8 = 3;
/// A terminal's line is no longer (termios(3), canonical mode).
const LONGEST_LINE: usize = 4096;

/// The exit code that a shell shows for a program that SIGPIPE ended, as in `octo-local events |
/// head -1`.
const READER_GONE: i32 = 141;

/// How something that people should see quickly is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// It is well.
    Green,
    /// It failed.
    Red,
    /// It is under way.
    Yellow,
}

/// A line of data. On a terminal control characters in it are shown, since parts of it may be
/// somebody else's; a reader behind a pipe gets it as it is. When the reader went away there is
/// nothing left to do; when it cannot be written, that is a failure.
pub fn line(text: impl Display) {
    if std::io::stdout().is_terminal() {
        raw_line(foreign::visible(&text.to_string()));
    } else {
        raw_line(text);
    }
}

/// A line of data as it is, also on a terminal: somebody asked for that.
pub fn raw_line(text: impl Display) {
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}") {
        cannot_print(&error);
    }
}

/// Data as it is.
pub fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        cannot_print(&error);
    }
}

/// A value as JSON on one line.
pub fn json(value: &impl serde::Serialize) {
    line(serde_json::to_string(value).expect("what is shown has only text for keys"));
}

fn cannot_print(error: &std::io::Error) -> ! {
    let code = if error.kind() == std::io::ErrorKind::BrokenPipe {
        READER_GONE
    } else {
        tell(format_args!("write standard output: {error}"));
        i32::from(FAILED)
    };
    #[expect(
        clippy::exit,
        reason = "nobody reads what would follow, whatever command this is"
    )]
    std::process::exit(code)
}

/// A line for people; on a terminal control characters in it are shown. One that cannot be shown
/// stops nothing.
pub fn tell(text: impl Display) {
    if std::io::stderr().is_terminal() {
        raw_tell(foreign::visible(&text.to_string()));
    } else {
        raw_tell(text);
    }
}

/// A line for people as it is, also on a terminal.
pub fn raw_tell(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A question, and the answer from the terminal; none at its end.
pub fn ask(question: impl Display) -> Option<String> {
    eprint!("{question} ");
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(0) | Err(_) => {
            // The cursor still stands behind the question.
            eprintln!();
            None
        }
        Ok(_) => Some(answer.trim().to_owned()),
    }
}

/// A question whose answer is not shown as it is typed; none at the end of the terminal's input, and at
/// Ctrl-C, which ends nothing before the terminal shows again what is typed.
pub fn ask_secretly(question: impl Display) -> Option<Secret> {
    use rustix::termios::LocalModes;
    use rustix::termios::OptionalActions;
    use rustix::termios::SpecialCodeIndex;
    let stdin = std::io::stdin();
    let before = rustix::termios::tcgetattr(&stdin).ok()?;
    let mut silent = before.clone();
    silent
        .local_modes
        .remove(LocalModes::ECHO | LocalModes::ISIG);
    silent.local_modes.insert(LocalModes::ECHONL);
    silent.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
    rustix::termios::tcsetattr(&stdin, OptionalActions::Flush, &silent).ok()?;
    eprint!("{question} ");
    // One line at a time, as a terminal gives them.
    let mut line = [0; LONGEST_LINE];
    let read = rustix::io::read(&stdin, &mut line);
    let _ = rustix::termios::tcsetattr(&stdin, OptionalActions::Flush, &before);
    let said = line.get(..read.ok()?)?;
    if said.is_empty() || said.contains(&CTRL_C) {
        return None;
    }
    let said = std::str::from_utf8(said).ok()?;
    Some(Secret::new(said.trim_end_matches(['\r', '\n'])))
}

/// Whether somebody can be asked.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether standard error is a terminal on which a line can be drawn again.
pub fn can_redraw() -> bool {
    std::io::stderr().is_terminal() && environment().get("TERM").is_some_and(|term| term != "dumb")
}

/// Whether standard error takes colour: no-color.org.
pub fn has_colour() -> bool {
    can_redraw() && environment().get("NO_COLOR").is_none_or(String::is_empty)
}

/// Whether standard output takes colour.
pub fn data_has_colour() -> bool {
    let env = environment();
    std::io::stdout().is_terminal()
        && env.get("TERM").is_some_and(|term| term != "dumb")
        && env.get("NO_COLOR").is_none_or(String::is_empty)
}

/// How wide standard output is, where it is a terminal.
pub fn data_columns() -> Option<usize> {
    let out = std::io::stdout();
    out.is_terminal().then(|| measure::size_of(out).columns)
}

/// A line of data in a colour, where the terminal takes it.
pub fn painted(colour: Option<Colour>, text: &str) -> String {
    match colour.filter(|_| data_has_colour()) {
        Some(colour) => colour.paint(text),
        None => text.to_owned(),
    }
}

impl Colour {
    /// The text in this colour.
    pub fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Green => 32,
            Self::Red => 31,
            Self::Yellow => 33,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Prints a line of a unit's log, on the output that it was written to. `raw`: also on a terminal
/// as it is.
pub fn unit_line(unit: UnitId, width: usize, (is_error, said): (bool, String), raw: bool) {
    let text = format!("{unit:<width$} | {said}");
    match (is_error, raw) {
        (true, true) => raw_tell(text),
        (true, false) => tell(text),
        (false, true) => raw_line(text),
        (false, false) => line(text),
    }
}
