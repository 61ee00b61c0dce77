//! docker compose's `.env` dialect on top of dotenvy.
//!
//! dotenvy reads the files, but half of what compose takes it would read differently. So `statement` takes a file apart by
//! compose's grammar, values are resolved here (`escapes`, `interpolate`), and `rewrite` writes each statement down as a line
//! that dotenvy cannot misread. `tests/conformance.rs` holds this against docker compose's own answers.

pub mod escapes;
pub mod interpolate;
pub mod rewrite;
pub mod statement;

use std::collections::BTreeMap;

/// Name to value.
pub type Vars = BTreeMap<String, String>;

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// What is in it.
    pub bytes: &'a [u8],
}

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The variables of all files.
    pub vars: Vars,
    /// Where each was last set.
    pub origins: BTreeMap<String, Origin>,
    /// Names that were used and are not set, in order, once for each use.
    pub unset: Vec<String>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// Why a file cannot be read. Shows names of variables, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: line {line}: {kind}")]
pub struct DotenvError {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The file is not text.
    #[error("the file is not UTF-8 text")]
    NotUtf8,
    /// A character that a name cannot have.
    #[error("unexpected character {0:?} in a variable's name; a value with several lines goes into quotes")]
    BadName(char),
    /// A space in a name.
    #[error("a variable's name cannot contain a space")]
    SpaceInName,
    /// A quote is not closed.
    #[error("the quoted value of {0} is not closed")]
    OpenQuote(String),
    /// The value's `${…}` cannot be resolved.
    #[error("the value of {0}: {1}")]
    Interpolation(String, interpolate::InterpolateError),
}

/// Parses files in order into one map: later wins, and later files see earlier variables. `env`, the process environment, is
/// looked up first wherever a value names a variable.
pub fn parse(sources: &[Source<'_>], env: &Vars) -> Result<Parsed, DotenvError> {
    let mut parsed = Parsed::default();
    for source in sources {
        parse_file(source, env, &mut parsed)?;
    }
    Ok(parsed)
}

fn parse_file(source: &Source<'_>, env: &Vars, parsed: &mut Parsed) -> Result<(), DotenvError> {
    let error = |line, kind| DotenvError { file: source.name.to_owned(), line, kind };
    let bytes = source.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source.bytes);
    let text = std::str::from_utf8(bytes).map_err(|why| {
        let before = &bytes[..why.valid_up_to()];
        error(1 + before.iter().filter(|byte| **byte == b'\n').count(), ErrorKind::NotUtf8)
    })?;
    let mut resolved = parsed.vars.clone();
    let mut lines = rewrite::Lines::default();
    let statements = statement::Statements::new(text);
    for statement in statements {
        let statement = statement.map_err(|(line, kind)| error(line, kind))?;
        let value = match &statement.value {
            statement::Value::Inherited => env.get(&statement.key).cloned(),
            statement::Value::Literal(text) => Some(text.clone()),
            statement::Value::Template(text) => {
                let lookup = |name: &str| env.get(name).or_else(|| resolved.get(name)).cloned();
                let (value, unset) = interpolate::interpolate(text, &lookup)
                    .map_err(|why| error(statement.line, ErrorKind::Interpolation(statement.key.clone(), why)))?;
                parsed.unset.extend(unset);
                Some(value)
            }
        };
        let Some(value) = value else { continue };
        lines.push(&statement.key, &value);
        resolved.insert(statement.key.clone(), value);
        let origin = Origin { file: source.name.to_owned(), line: statement.line };
        parsed.origins.insert(statement.key, origin);
    }
    parsed.vars.extend(lines.read());
    Ok(())
}

/// The process environment over the files, even where it is empty.
pub fn merge(files: &Vars, env: &Vars) -> Vars {
    let mut merged = files.clone();
    merged.extend(env.iter().map(|(key, value)| (key.clone(), value.clone())));
    merged
}
