//! Tables and paragraphs that fit a width: columns where there is room, else what is long below its
//! row; words stay whole. Pure.

use crate::cli::terminal::measure::width;

/// Between two columns.
const GAP: usize = 2;
/// Before what stands below its row.
const INDENT: usize = 4;
/// The last column is not worth wrapping in less.
const NARROW: usize = 24;

/// Rows as columns. The last cell of each may be long: it is wrapped in its column, or below its
/// row where the column is too narrow. `columns`: how wide the terminal is; none for a pipe, where
/// nothing is wrapped. Cells may not hold colours.
pub fn table(titles: &[&str], rows: &[Vec<String>], columns: Option<usize>) -> Vec<String> {
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let all = || std::iter::once(&titles).chain(rows);
    let last = titles.len().saturating_sub(1);
    let widths: Vec<usize> = (0..last)
        .map(|column| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell)).max().unwrap_or_default()
        })
        .collect();
    let Some(columns) = columns else {
        return all().map(|row| line_of(row, &widths)).collect();
    };
    let used: usize = widths.iter().map(|width| width + GAP).sum();
    let room = columns.saturating_sub(used + 1);
    let mut lines = Vec::new();
    for row in all() {
        let (head, tail) = row.split_at(last.min(row.len()));
        let tail = tail.first().map_or("", String::as_str);
        if room >= NARROW {
            let mut wrapped = wrap(tail, room).into_iter();
            let first = wrapped.next().unwrap_or_default();
            lines.push(line_of(&[head, &[first]].concat(), &widths));
            lines.extend(wrapped.map(|more| format!("{}{more}", " ".repeat(used))));
        } else {
            lines.extend(narrow(head, &widths, columns));
            let is_title = row == &titles;
            let below = wrap(
                if is_title { "" } else { tail },
                columns.saturating_sub(INDENT + 1),
            );
            let below = below.into_iter().filter(|line| !line.is_empty());
            lines.extend(below.map(|line| format!("{}{line}", " ".repeat(INDENT))));
        }
    }
    lines
}

/// The first cells in one line as far as they fit, the rest below.
fn narrow(cells: &[String], widths: &[usize], columns: usize) -> Vec<String> {
    let mut used = 0;
    let fitting = widths
        .iter()
        .take_while(|width| {
            used += **width + GAP;
            used <= columns + GAP
        })
        .count()
        .max(1);
    let mut lines = vec![line_of(&cells[..fitting.min(cells.len())], widths)];
    let more = cells.iter().skip(fitting).filter(|cell| !cell.is_empty());
    lines.extend(more.map(|cell| format!("{}{cell}", " ".repeat(INDENT))));
    lines
}

fn line_of(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().enumerate().map(|(column, cell)| {
        let missing = widths
            .get(column)
            .map_or(0, |all| all.saturating_sub(width(cell)));
        format!("{cell}{}", " ".repeat(missing))
    });
    let line = padded.collect::<Vec<_>>().join(&" ".repeat(GAP));
    line.trim_end().to_owned()
}

/// The text in lines of at most so many columns. A word that is longer than a line has one of its
/// own.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A paragraph with its further lines indented. In a pipe it is one line.
pub fn paragraph(text: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns.filter(|columns| width(text) > *columns) else {
        return vec![text.to_owned()];
    };
    let begins = text.len() - text.trim_start().len();
    let indent = " ".repeat(begins + INDENT);
    let room = columns.saturating_sub(indent.len() + 1).max(1);
    let mut lines = wrap(text, room).into_iter();
    let first = lines.next().unwrap_or_default();
    let first = format!("{}{first}", " ".repeat(begins));
    std::iter::once(first)
        .chain(lines.map(|line| format!("{indent}{line}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![
            row(["db", "ready", "127.0.0.1:1401->1433", ""]),
            row([
                "octopus-server-1",
                "failed",
                "127.0.0.1:8080->8080",
                "the Octopus licence does not cover this version: expired on Monday",
            ]),
        ]
    }

    const TITLES: [&str; 4] = ["UNIT", "PHASE", "PORTS", "REASON"];

    #[test]
    fn a_pipe_gets_one_line_a_row() {
        let lines = table(&TITLES, &rows(), None);
        assert_eq!(lines.len(), 3);
        assert!(lines[2].ends_with("expired on Monday"));
    }

    #[test]
    fn at_any_width_no_line_is_too_long_and_no_word_is_broken() {
        for columns in [50, 60, 80, 100, 200] {
            let lines = table(&TITLES, &rows(), Some(columns));
            let text = lines.join("\n");
            assert!(lines.iter().all(|line| width(line) <= columns), "{text}");
            for word in [
                "octopus-server-1",
                "127.0.0.1:8080->8080",
                "licence",
                "Monday",
            ] {
                assert!(text.contains(word), "{columns}: {word} in\n{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn wrapping_loses_no_word(text in "[a-z ]{0,80}", columns in 1usize..30) {
            let lines = wrap(&text, columns);
            let words: Vec<&str> = text.split_whitespace().collect();
            let joined = lines.join(" ");
            prop_assert_eq!(joined.split_whitespace().collect::<Vec<_>>(), words);
        }
    }
}
