//! A block of lines that is drawn again in place. Lines never wrap and the block never scrolls, so
//! that going back to its first line is always possible.

use std::io::Write as _;

use crate::cli::terminal::print;
use crate::cli::terminal::print::Colour;

/// The size of a terminal that does not tell its own.
const USUAL: Size = Size {
    columns: 80,
    rows: 24,
};

/// The terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

/// A line of the block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// The colour of its first two columns, where its mark is.
    pub colour: Option<Colour>,
}

/// A block on standard error.
#[derive(Debug)]
pub struct Screen {
    has_colour: bool,
    /// How wide each line was that is on the terminal now.
    drawn: Vec<usize>,
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self { text, colour: None }
    }
}

impl Screen {
    /// A block of which nothing is drawn yet.
    pub fn new(has_colour: bool) -> Self {
        Self {
            has_colour,
            drawn: Vec::new(),
        }
    }

    /// Draws the lines over those drawn before. One write, so that nothing half-drawn is seen.
    pub fn draw(&mut self, lines: &[Line]) {
        let size = size();
        let lines = fit(lines, size);
        let mut frame = match rows_of(&self.drawn, size.columns) {
            0 => String::new(),
            rows => format!("\x1b[{rows}F"),
        };
        for line in &lines {
            frame.push_str(&self.painted(line));
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        self.drawn = lines.iter().map(|line| width(&line.text)).collect();
        let _ = std::io::stderr().lock().write_all(frame.as_bytes());
    }

    fn painted(&self, line: &Line) -> String {
        match line.colour.filter(|_| self.has_colour) {
            Some(colour) => {
                let end = line
                    .text
                    .char_indices()
                    .nth(2)
                    .map_or(line.text.len(), |(end, _)| end);
                format!("{}{}", colour.paint(&line.text[..end]), &line.text[end..])
            }
            None => line.text.clone(),
        }
    }
}

fn size() -> Size {
    let told = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    let told = told.filter(|told| told.ws_col > 0 && told.ws_row > 0);
    told.map_or(USUAL, |told| Size {
        columns: told.ws_col.into(),
        rows: told.ws_row.into(),
    })
}

/// How many rows lines of these widths take: a terminal that was made narrower has broken them.
fn rows_of(widths: &[usize], columns: usize) -> usize {
    widths
        .iter()
        .map(|width| width.div_ceil(columns).max(1))
        .sum()
}

/// The lines cut to the terminal: each to one row, and all to the rows above the cursor's.
fn fit(lines: &[Line], size: Size) -> Vec<Line> {
    let room = size.rows.saturating_sub(1).max(1);
    let fits = |line: &Line| Line {
        text: cut(&line.text, size.columns),
        colour: line.colour,
    };
    let mut fitting: Vec<Line> = lines.iter().take(room).map(fits).collect();
    if lines.len() > room {
        fitting[room - 1] = cut(
            &format!("   … and {} more", lines.len() - room + 1),
            size.columns,
        )
        .into();
    }
    fitting
}

/// A line of one row, its last column left free: some terminals go to the next row when it is
/// filled.
fn cut(line: &str, columns: usize) -> String {
    let line = print::plain(line);
    if width(&line) < columns {
        return line;
    }
    let mut room = columns.saturating_sub(2);
    let mut kept: String = line
        .chars()
        .take_while(|letter| {
            let fits = width_of(*letter) <= room;
            room = room.saturating_sub(width_of(*letter));
            fits
        })
        .collect();
    kept.push('…');
    kept
}

fn width(line: &str) -> usize {
    line.chars().map(width_of).sum()
}

/// How many columns a character takes: two for those of East Asia and for pictures.
fn width_of(letter: char) -> usize {
    match u32::from(letter) {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60 => 2,
        0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_takes_one_row_and_shows_that_it_was_cut() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("exactly te", 10), "exactly …");
        assert_eq!(cut("日本語日本語", 8), "日本語…");
        assert_eq!(cut("a\x1b[2Jb\tc\r\nd", 40), "a [2Jb c  d");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines: Vec<Line> = (0..9).map(|number| number.to_string().into()).collect();
        let fitting = fit(
            &lines,
            Size {
                columns: 40,
                rows: 5,
            },
        );
        let texts: Vec<&str> = fitting.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["0", "1", "2", "   … and 6 more"]);
    }

    proptest! {
        #[test]
        fn no_line_reaches_the_edge(text in "\\PC{0,60}", columns in 2usize..50) {
            prop_assert!(width(&cut(&text, columns)) < columns);
        }
    }
}
