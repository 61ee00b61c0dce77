//! Takes a file apart by compose's grammar: one statement after another, several on a line where a quoted value ends early.

use super::ErrorKind;
use super::escapes;

/// `KEY=value`, `KEY: value` or a bare `KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The name.
    pub key: String,
    /// The line it begins on.
    pub line: usize,
    /// What it is set to.
    pub value: Value,
}

/// What a name is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A bare name: what the process environment says.
    Inherited,
    /// Taken as it is.
    Literal(String),
    /// With `$NAME` and `${…}` in it.
    Template(String),
}

/// The statements of a text.
#[derive(Clone, Debug)]
pub struct Statements<'a> {
    rest: &'a str,
    line: usize,
}

type Broken = (usize, ErrorKind);

/// A blank within a line (Go's `unicode.IsSpace` of Latin-1, without the newline).
fn is_blank(letter: char) -> bool {
    matches!(letter, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

impl<'a> Statements<'a> {
    /// Begins at the first line.
    pub fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// Skips white space and comment lines.
    fn skip(&mut self) {
        loop {
            let start = self.rest.find(|letter: char| !letter.is_whitespace()).unwrap_or(self.rest.len());
            self.line += self.rest[..start].matches('\n').count();
            self.rest = &self.rest[start..];
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
        }
    }

    fn statement(&mut self) -> Result<Statement, Broken> {
        let line = self.line;
        let (key, inherited) = self.key()?;
        if key.contains(' ') {
            return Err((self.line, ErrorKind::SpaceInName));
        }
        let value = if inherited { Value::Inherited } else { self.value(&key)? };
        Ok(Statement { key, line, value })
    }

    /// Reads a name up to and with what ends it. A name at the very end of the file is an empty name set to that word,
    /// which is what compose makes of it.
    fn key(&mut self) -> Result<(String, bool), Broken> {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with([' ', '\t', '\n', '\u{c}', '\r'])
        {
            self.rest = after.trim_start_matches(is_blank);
        }
        let end = self.rest.char_indices().find(|(_, letter)| !is_blank(*letter) && !is_name(*letter));
        let (key, inherited, offset) = match end {
            Some((at, '=' | ':')) => (&self.rest[..at], false, at + 1),
            Some((at, '\n')) => (&self.rest[..at], true, at + 1),
            Some((_, other)) => return Err((self.line, ErrorKind::BadName(other))),
            None => ("", false, 0),
        };
        if inherited && !key.contains(' ') {
            self.line += 1;
        }
        self.rest = self.rest[offset..].trim_start_matches(is_blank);
        Ok((key.trim_end().to_owned(), inherited))
    }

    fn value(&mut self, key: &str) -> Result<Value, Broken> {
        if let Some(quote) = self.rest.chars().next().filter(|first| matches!(first, '"' | '\'')) {
            return self.quoted(key, quote);
        }
        let (value, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.line += 1;
        self.rest = rest;
        let value = value.split_once(" #").map_or(value, |(value, _)| value);
        Ok(Value::Template(value.trim_end().to_owned()))
    }

    fn quoted(&mut self, key: &str, quote: char) -> Result<Value, Broken> {
        let mut value = String::new();
        let mut escaped = false;
        for (at, letter) in self.rest.char_indices().skip(1) {
            if letter == '\n' {
                self.line += 1;
            }
            if letter == quote && !escaped {
                self.rest = &self.rest[at + 1..];
                return Ok(match quote {
                    '"' => Value::Template(escapes::expand(&value)),
                    _ => Value::Literal(value),
                });
            }
            if letter == '\\' && !escaped {
                escaped = true;
                continue;
            }
            if escaped && letter != quote {
                value.push('\\');
            }
            escaped = false;
            value.push(letter);
        }
        Err((self.line, ErrorKind::OpenQuote(key.to_owned())))
    }
}

fn is_name(letter: char) -> bool {
    matches!(letter, '_' | '.' | '-' | '[' | ']') || letter.is_alphanumeric()
}

impl Iterator for Statements<'_> {
    type Item = Result<Statement, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip();
        (!self.rest.is_empty()).then(|| self.statement())
    }
}
