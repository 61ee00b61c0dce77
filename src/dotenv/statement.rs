//! Takes a file apart by compose's grammar: statement after statement, several on a line where a
//! quoted value ends early.

use super::{DotenvError, ErrorKind, escapes};

/// `KEY=value`, `KEY: value`, or `KEY` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// The name.
    pub(super) key: String,
    /// The line it begins on, from 1.
    pub(super) line: usize,
    /// It follows a closing quote on the same line, so that its name may be a part of a value that
    /// was not quoted well.
    after_quote: bool,
    /// What the name is set to.
    pub(super) value: Value,
}

/// What a name is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Whatever the process environment has.
    Inherited,
    /// The text as it is.
    Literal(String),
    /// The text with references to other variables in it.
    Template(String),
}

/// What is wrong, on which line by compose's count, and in whose value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    line: usize,
    key: Option<String>,
    kind: ErrorKind,
}

/// The statements of a text; nothing after a mistake.
pub(super) struct Statements<'a> {
    rest: &'a str,
    /// The line by compose's count.
    line: usize,
    /// How many lines that count has left out.
    uncounted: usize,
    after_quote: bool,
}

impl Statement {
    /// An error in its value.
    pub(super) fn error(&self, file: &str, kind: ErrorKind) -> DotenvError {
        DotenvError {
            file: file.to_owned(),
            line: self.line,
            key: self.shown_key(),
            kind,
        }
    }

    /// The name, unless it may be what an early quote cut off a value.
    pub(super) fn shown_key(&self) -> Option<String> {
        (!self.after_quote).then(|| self.key.clone())
    }
}

impl Value {
    pub(super) fn contains(&self, letter: char) -> bool {
        match self {
            Self::Inherited => false,
            Self::Literal(text) | Self::Template(text) => text.contains(letter),
        }
    }
}

impl Mistake {
    pub(super) fn in_file(self, file: &str) -> DotenvError {
        DotenvError {
            file: file.to_owned(),
            line: self.line,
            key: self.key,
            kind: self.kind,
        }
    }
}

impl<'a> Statements<'a> {
    /// Begins at the first line.
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 1,
            uncounted: 0,
            after_quote: false,
        }
    }

    /// Skips white space and comment lines.
    fn skip_blanks(&mut self) {
        loop {
            let start = self.rest.trim_start();
            let newlines = self.rest[..self.rest.len() - start.len()]
                .matches('\n')
                .count();
            self.line += newlines;
            self.after_quote &= newlines == 0;
            self.rest = start;
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
        }
    }

    fn statement(&mut self) -> Result<Statement, Mistake> {
        let (line, after_quote) = (self.line + self.uncounted, self.after_quote);
        let (key, inherited) = self.key()?;
        if key.contains(' ') {
            return Err(self.mistake(ErrorKind::SpaceInName));
        }
        self.after_quote = false;
        let value = if inherited {
            Value::Inherited
        } else {
            self.value().map_err(|mistake| Mistake {
                key: (!after_quote).then(|| key.clone()),
                ..mistake
            })?
        };
        Ok(Statement {
            key,
            line,
            after_quote,
            value,
        })
    }

    /// Reads a name with what ends it, and says whether it stands alone. Words at the very end of
    /// the file that nothing ends are, for compose, the value of a variable without a name.
    fn key(&mut self) -> Result<(String, bool), Mistake> {
        self.skip_export();
        if self.rest.is_empty() {
            return Err(self.mistake(ErrorKind::NothingExported));
        }
        let end = self
            .rest
            .char_indices()
            .find(|(_, letter)| !is_blank(*letter) && !is_name(*letter));
        let (key, length, inherited) = match end {
            Some((at, '=' | ':')) => (&self.rest[..at], at + 1, false),
            Some((at, '\n')) => (&self.rest[..at], at + 1, true),
            Some((_, '\0' | char::REPLACEMENT_CHARACTER)) => {
                return Err(self.mistake(ErrorKind::NotText));
            }
            Some((_, other)) => return Err(self.mistake(ErrorKind::BadName(other))),
            None => ("", 0, false),
        };
        if inherited {
            // Compose's count misses the end of such a line if there is a space in it.
            let counter = if key.contains(' ') {
                &mut self.uncounted
            } else {
                &mut self.line
            };
            *counter += 1;
        }
        self.rest = self.rest[length..].trim_start_matches(is_blank);
        Ok((key.trim_end().to_owned(), inherited))
    }

    fn skip_export(&mut self) {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with([' ', '\t', '\n', '\u{c}', '\r'])
        {
            self.rest = after.trim_start_matches(is_blank);
        }
    }

    fn value(&mut self) -> Result<Value, Mistake> {
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            _ => Ok(self.unquoted()),
        }
    }

    /// To the end of the line, or to a `#` after a space.
    fn unquoted(&mut self) -> Value {
        let (value, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        let value = value
            .split_once(" #")
            .map_or(value, |(value, _comment)| value);
        Value::Template(value.trim_end().to_owned())
    }

    /// To the closing quote, over several lines if need be. A backslash takes the quote's meaning
    /// away.
    fn quoted(&mut self, quote: char) -> Result<Value, Mistake> {
        let mut value = String::new();
        let mut escaped = false;
        for (at, letter) in self.rest.char_indices().skip(1) {
            self.line += usize::from(letter == '\n');
            if letter == quote && !escaped {
                self.rest = &self.rest[at + 1..];
                self.after_quote = true;
                return Ok(match quote {
                    '"' => Value::Template(escapes::expand(&value)),
                    _ => Value::Literal(value),
                });
            }
            if escaped && letter != quote {
                value.push('\\');
            }
            escaped = letter == '\\' && !escaped;
            if !escaped {
                value.push(letter);
            }
        }
        Err(self.mistake(ErrorKind::OpenQuote))
    }

    fn mistake(&self, kind: ErrorKind) -> Mistake {
        Mistake {
            line: self.line,
            key: None,
            kind,
        }
    }
}

/// Where the value of a name is written, as the last statement of it has it: with its quotes, and
/// without the comment after it. None where nothing sets it.
pub(super) fn place_of_value(text: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let mut statements = Statements::new(text);
    let mut found = None;
    loop {
        statements.skip_blanks();
        let begin = text.len() - statements.rest.len();
        let Some(Ok(statement)) = statements.next() else {
            return found;
        };
        if statement.key != name || statement.value == Value::Inherited {
            continue;
        }
        let mut again = Statements::new(&text[begin..]);
        let (_, is_inherited) = again.key().ok()?;
        let value = again.rest;
        let from = text.len() - value.len();
        let written = match value.chars().next() {
            Some('"' | '\'') => text.len() - statements.rest.len() - from,
            _ => {
                let line = value.split('\n').next().unwrap_or(value);
                let line = line.split_once(" #").map_or(line, |(before, _)| before);
                line.trim_end().len()
            }
        };
        debug_assert!(!is_inherited, "its value was read");
        found = Some(from..from + written);
    }
}

impl Iterator for Statements<'_> {
    type Item = Result<Statement, Mistake>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_blanks();
        if self.rest.is_empty() {
            return None;
        }
        let statement = self.statement();
        if statement.is_err() {
            self.rest = "";
        }
        Some(statement)
    }
}

/// White space within a line, as compose knows it around names and before values. Other kinds
/// belong to the value.
fn is_blank(letter: char) -> bool {
    matches!(
        letter,
        '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}'
    )
}

/// What names are made of; letters and digits of any script.
fn is_name(letter: char) -> bool {
    matches!(letter, '_' | '.' | '-' | '[' | ']') || letter.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Vec<(String, Value)> {
        Statements::new(text)
            .map(|statement| statement.map(|it| (it.key, it.value)).unwrap())
            .collect()
    }

    fn template(key: &str, value: &str) -> (String, Value) {
        (key.to_owned(), Value::Template(value.to_owned()))
    }

    #[test]
    fn text_after_a_closing_quote_is_another_statement() {
        assert_eq!(
            statements("A=\"a\" B=2"),
            [template("A", "a"), template("B", "2")]
        );
        assert_eq!(
            statements("A='a'b\n"),
            [
                ("A".to_owned(), Value::Literal("a".to_owned())),
                ("b".to_owned(), Value::Inherited)
            ]
        );
    }

    #[test]
    fn export_needs_a_name_at_the_end_of_the_file_only() {
        let kind = |text: &str| {
            Statements::new(text).find_map(|statement| statement.err().map(|mistake| mistake.kind))
        };
        assert_eq!(kind("export "), Some(ErrorKind::NothingExported));
        assert_eq!(kind("export \n"), None);
        assert_eq!(statements("export"), [template("", "export")]);
    }

    #[test]
    fn a_line_that_compose_does_not_count_shifts_the_errors_after_it_but_not_the_origins() {
        let read: Vec<_> = Statements::new("A \nB=1\nC!=1")
            .map(|statement| statement.map(|it| it.line).map_err(|it| it.line))
            .collect();
        assert_eq!(read, [Ok(1), Ok(2), Err(2)]);
    }
}
