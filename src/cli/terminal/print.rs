//! What is printed: data on standard output, words for people on standard error, and whether in
//! colour.

#![expect(
    clippy::print_stderr,
    reason = "this is the one place that talks to people"
)]

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::io::Write as _;

use crate::cli::outcome::FAILED;
use crate::cli::variables::environment;

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

/// A line of data. When the reader went away there is nothing left to do; when it cannot be
/// written, that is a failure.
pub fn line(text: impl Display) {
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

/// A line for people. One that cannot be shown stops nothing.
pub fn tell(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A question, and the answer from the terminal; empty at its end.
pub fn ask(question: impl Display) -> String {
    eprint!("{question} ");
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    answer.trim().to_owned()
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

/// Text of somebody else, such as a log line, without what would move the cursor or change the
/// terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
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
