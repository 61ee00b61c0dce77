//! A block of lines that is drawn again in place. Lines never wrap and the block never scrolls, so
//! that going back to its first line is always possible.

use std::io::Write as _;

use crate::cli::terminal::foreign;
use crate::cli::terminal::measure;
use crate::cli::terminal::measure::Size;
use crate::cli::terminal::measure::width;
use crate::cli::terminal::measure::width_of;
use crate::cli::terminal::print::Colour;

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
        let size = measure::size_of(std::io::stderr());
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
    if lines.len() <= room {
        return lines.iter().map(fits).collect();
    }
    // What is at work or has failed is worth a row more than what is well. The head stays.
    let is_well = |index: &usize| *index > 0 && lines[*index].colour == Some(Colour::Green);
    let (well, mut kept): (Vec<usize>, Vec<usize>) = (0..lines.len()).partition(is_well);
    kept.extend(well);
    kept.truncate(room - 1);
    kept.sort_unstable();
    let left_out = format!("   … and {} more", lines.len() - kept.len());
    let mut fitting: Vec<Line> = kept.into_iter().map(|index| fits(&lines[index])).collect();
    fitting.push(cut(&left_out, size.columns).into());
    fitting
}

/// A line of one row, its last column left free: some terminals go to the next row when it is
/// filled.
fn cut(line: &str, columns: usize) -> String {
    let line = foreign::plain(line);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_takes_one_row_and_shows_that_it_was_cut() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("exactly te", 10), "exactly …");
        assert_eq!(cut("日本語日本語", 8), "日本語…");
        assert_eq!(cut("a\x1b[2Jb\tc\r\nd", 40), "a␛[2Jb c d");
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

    #[test]
    fn in_a_short_window_what_is_at_work_is_shown_before_what_is_well() {
        let line = |text: &str, colour| Line {
            text: text.to_owned(),
            colour,
        };
        let mut lines = vec![line("head", None)];
        lines.extend((1..=6).map(|number| line(&format!("n{number}"), Some(Colour::Green))));
        lines.push(line("n7", Some(Colour::Yellow)));
        lines.push(line("n8", Some(Colour::Red)));
        let size = Size {
            columns: 40,
            rows: 6,
        };
        let fitting = fit(&lines, size);
        let texts: Vec<&str> = fitting.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["head", "n1", "n7", "n8", "   … and 5 more"]);
    }

    proptest! {
        #[test]
        fn no_line_reaches_the_edge(text in "\\PC{0,60}", columns in 2usize..50) {
            prop_assert!(width(&cut(&text, columns)) < columns);
        }
    }
}
