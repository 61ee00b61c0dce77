//! docker compose's `.env` dialect on top of dotenvy.
//!
//! dotenvy reads the files, but half of what compose takes it reads differently. So `statement`
//! takes a file apart by compose's grammar, `escapes` and `interpolate` resolve the values, and
//! `rewrite` writes every statement down as a line that dotenvy cannot misread.
//! `tests/conformance.rs` holds the whole against docker compose's own answers.

pub mod edit;
mod escapes;
pub mod interpolate;
pub mod limits;
pub mod quote;
mod rewrite;
mod statement;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use interpolate::{InterpolateError, interpolate_within};
use limits::{MAX_EXPANDED, MAX_FILE, MAX_STATEMENTS};
use statement::{Statement, Statements, Value};

/// Name to value.
pub type Vars = BTreeMap<String, String>;

/// One file.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Its path, for messages.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// What the files say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The variables of all files.
    pub vars: Vars,
    /// Where each of them was last set.
    pub origins: BTreeMap<String, Origin>,
    /// Names that values refer to and that are not set: in order, once for each use, as compose
    /// warns of them.
    pub unset: Vec<String>,
    /// The variables whose values have a blank there, in the same order; none where the name may be
    /// a part of a value.
    pub blanks: Vec<Option<String>>,
}

/// Names and places only: values may be secrets.
impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parsed")
            .field("origins", &self.origins)
            .field("unset", &self.unset)
            .finish_non_exhaustive()
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file's name.
    pub file: String,
    /// The line on which the statement begins, from 1.
    pub line: usize,
}

/// Why the files cannot be taken. Shows names of variables, never a value or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: line {line}: {}{kind}", in_value_of(key.as_deref()))]
pub struct DotenvError {
    /// The file's name.
    pub file: String,
    /// The line, from 1, by compose's count: that of the mistake, and where compose names none,
    /// that of the statement.
    pub line: usize,
    /// The variable, if its value is at fault, and if the name is not itself what an early quote
    /// cut off a value.
    pub key: Option<String>,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// A name or a value is not UTF-8 text.
    #[error("not UTF-8 text; save the file as UTF-8")]
    NotText,
    /// A character that a name cannot have. It is not shown: in a value that was not quoted as a
    /// whole it is a part of the value.
    #[error(
        "unexpected character in a variable name; a value that has several lines, or goes on after a quote, must \
         be quoted as a whole"
    )]
    BadName(char),
    /// A space in a name.
    #[error("a variable name cannot contain a space")]
    SpaceInName,
    /// `export` and nothing after it at the end of the file.
    #[error("export is not followed by a variable name")]
    NothingExported,
    /// A quoted value that does not end.
    #[error("the closing quote is missing")]
    OpenQuote,
    /// A file longer than [`MAX_FILE`].
    #[error("the file is larger than {} MiB", MAX_FILE >> 20)]
    TooLarge,
    /// More statements than [`MAX_STATEMENTS`].
    #[error("the files set more than {MAX_STATEMENTS} variables")]
    TooMany,
    /// A reference to another variable that cannot be resolved.
    #[error(transparent)]
    Interpolate(InterpolateError),
}

/// Parses files in order into one map: later ones win, and see what earlier ones set. `env`, the
/// process environment, is asked first for every variable that a value refers to, and gives names
/// without a value theirs.
///
/// # Errors
/// For what compose refuses, for a name or value that is not UTF-8 text, and for what exceeds the
/// [`limits`].
pub fn parse(sources: &[Source<'_>], env: &Vars) -> Result<Parsed, DotenvError> {
    let mut reading = Reading {
        env,
        resolved: Vars::new(),
        lines: rewrite::Lines::default(),
        not_text: None,
        statements: 0,
        budget: MAX_EXPANDED,
        so_far: Parsed::default(),
    };
    for source in sources {
        reading.file(source)?;
    }
    reading.finish()
}

/// The process environment over the files, where it is empty too.
pub fn merge(files: &Vars, env: &Vars) -> Vars {
    let mut merged = files.clone();
    merged.extend(env.iter().map(|(key, value)| (key.clone(), value.clone())));
    merged
}

/// The files while they are read.
struct Reading<'a> {
    env: &'a Vars,
    /// What values can refer to.
    resolved: Vars,
    /// The same, on its way to dotenvy.
    lines: rewrite::Lines,
    /// The first text that is not UTF-8. Any other mistake is reported before it, as compose knows
    /// only those.
    not_text: Option<DotenvError>,
    /// How many statements were read.
    statements: usize,
    /// How many bytes references may still bring in.
    budget: usize,
    so_far: Parsed,
}

impl Reading<'_> {
    fn file(&mut self, source: &Source<'_>) -> Result<(), DotenvError> {
        if source.bytes.len() > MAX_FILE {
            return Err(DotenvError {
                file: source.name.to_owned(),
                line: source.bytes[..MAX_FILE]
                    .split(|byte| *byte == b'\n')
                    .count(),
                key: None,
                kind: ErrorKind::TooLarge,
            });
        }
        let bytes = source
            .bytes
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(source.bytes);
        let text = String::from_utf8_lossy(bytes);
        let damaged = matches!(text, Cow::Owned(_));
        for statement in Statements::new(&text) {
            let statement = statement.map_err(|mistake| mistake.in_file(source.name))?;
            if damaged && statement.value.contains(char::REPLACEMENT_CHARACTER) {
                self.not_text
                    .get_or_insert_with(|| statement.error(source.name, ErrorKind::NotText));
            }
            self.statements += 1;
            if self.statements > MAX_STATEMENTS {
                return Err(statement.error(source.name, ErrorKind::TooMany));
            }
            self.statement(statement, source.name)?;
        }
        Ok(())
    }

    fn statement(&mut self, statement: Statement, file: &str) -> Result<(), DotenvError> {
        let value = match &statement.value {
            Value::Inherited => self.env.get(&statement.key).cloned(),
            Value::Literal(text) => Some(text.clone()),
            Value::Template(text) => {
                let lookup = |name: &str| {
                    self.env
                        .get(name)
                        .or_else(|| self.resolved.get(name))
                        .cloned()
                };
                let (value, unset) = interpolate_within(text, &lookup, &mut self.budget)
                    .map_err(|why| statement.error(file, ErrorKind::Interpolate(why)))?;
                let blanks = unset.iter().map(|_| statement.shown_key());
                self.so_far.blanks.extend(blanks);
                self.so_far.unset.extend(unset);
                Some(value)
            }
        };
        if let Some(value) = value {
            self.lines.push(&statement.key, &value);
            self.so_far.origins.insert(
                statement.key.clone(),
                Origin {
                    file: file.to_owned(),
                    line: statement.line,
                },
            );
            self.resolved.insert(statement.key, value);
        }
        Ok(())
    }

    fn finish(self) -> Result<Parsed, DotenvError> {
        match self.not_text {
            Some(error) => Err(error),
            None => Ok(Parsed {
                vars: self.lines.read(),
                ..self.so_far
            }),
        }
    }
}

fn in_value_of(key: Option<&str>) -> String {
    key.map_or_else(String::new, |key| format!("the value of {key}: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_one(text: &[u8]) -> Result<Parsed, DotenvError> {
        parse(
            &[Source {
                name: ".env",
                bytes: text,
            }],
            &Vars::new(),
        )
    }

    #[test]
    fn an_origin_is_the_line_in_the_file_where_the_variable_was_last_set() {
        let files = [
            Source {
                name: ".env",
                bytes: b"# c\nA=1\nUNSET \nB='x\ny'\nA=2 # again\n",
            },
            Source {
                name: "b.env",
                bytes: b"\n\nB=3",
            },
        ];
        let parsed = parse(&files, &Vars::new()).unwrap();
        let origin = |key: &str| {
            parsed
                .origins
                .get(key)
                .map(|origin| (origin.file.as_str(), origin.line))
        };
        assert_eq!(origin("A"), Some((".env", 6)));
        assert_eq!(origin("B"), Some(("b.env", 3)));
        assert_eq!(origin("UNSET"), None);
        assert!(!format!("{parsed:?}").contains("x\\ny"), "{parsed:?}");
    }

    #[test]
    fn errors_name_file_line_and_variable() {
        let message = |text: &[u8]| parse_one(text).err().map(|error| error.to_string());
        assert_eq!(
            message(b"A=1\nB='x\n"),
            Some(".env: line 3: the value of B: the closing quote is missing".to_owned())
        );
        assert_eq!(
            message(b"A=1\nB C=x\n"),
            Some(".env: line 2: a variable name cannot contain a space".to_owned())
        );
        assert_eq!(
            message(b"\nA=x${B:?y}"),
            Some(".env: line 2: the value of A: required variable B is missing a value".to_owned())
        );
        assert_eq!(
            message(b"A=1\nB=\xe9"),
            Some(".env: line 2: the value of B: not UTF-8 text; save the file as UTF-8".to_owned())
        );
    }

    #[test]
    fn a_blank_is_told_with_the_variable_that_has_it() {
        let parsed = parse_one(b"A=x$B\nC=\"y\"d=$E").unwrap();
        assert_eq!(parsed.unset, ["B", "E"]);
        assert_eq!(parsed.blanks, [Some("A".to_owned()), None]);
    }

    #[test]
    fn what_was_made_to_grow_is_refused_with_file_and_line() {
        let mut doubling = "A0=0123456789\n".to_owned();
        for number in 1..40 {
            let before = number - 1;
            doubling.push_str(&format!("A{number}=$A{before}$A{before}\n"));
        }
        let error = parse_one(doubling.as_bytes()).err().unwrap();
        assert_eq!(
            error.kind,
            ErrorKind::Interpolate(InterpolateError::TooLong)
        );
        assert!(error.line > 15 && error.line < 25, "{error}");
        let many = "A=\n".repeat(MAX_STATEMENTS);
        assert!(parse_one(many.as_bytes()).is_ok());
        let error = parse_one(format!("{many}B=").as_bytes()).err().unwrap();
        assert_eq!(
            (error.line, error.kind),
            (MAX_STATEMENTS + 1, ErrorKind::TooMany)
        );
        let long = vec![b'\n'; MAX_FILE + 1];
        assert!(parse_one(&long[1..]).is_ok());
        let error = parse_one(&long).err().unwrap();
        assert_eq!(error.kind, ErrorKind::TooLarge);
    }

    #[test]
    fn what_an_early_quote_cut_off_is_not_shown_as_a_name() {
        let error = parse_one(b"PASSWORD=\"abc\"def=\"ghi").err().unwrap();
        assert_eq!(error.kind, ErrorKind::OpenQuote);
        assert_eq!(error.key, None);
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_only_where_they_count() {
        assert!(parse_one(b"# caf\xe9\nA=1 # caf\xe9\n").is_ok());
        let not_text = |text: &[u8]| parse_one(text).err().map(|error| (error.line, error.kind));
        assert_eq!(not_text(b"A=1\n\xe9=2\n"), Some((2, ErrorKind::NotText)));
        assert_eq!(
            not_text(b"\xff\xfeA\0=\x001\0"),
            Some((1, ErrorKind::NotText))
        );
        assert_eq!(
            not_text(b"A=\xe9\nB!=1"),
            Some((2, ErrorKind::BadName('!')))
        );
        assert!(
            parse_one("A=\u{fffd}".as_bytes()).is_ok(),
            "a replacement character is text like any other"
        );
    }
}
