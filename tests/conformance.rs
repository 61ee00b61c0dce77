//! The `.env` dialect against docker compose's own answers: values, what is rejected and on which
//! line, the warnings.
//!
//! The vectors in `golden/` are inputs with what compose-go made of them. Where compose 2.40.3
//! differed they carry its answer as `compose_2_40_3`; the newer one is followed. The texts of
//! errors are ours, for compose's show values.

use std::collections::BTreeMap;

use base64::Engine as _;
use octo_local::dotenv::interpolate::{InterpolateError, interpolate};
use octo_local::dotenv::{self, DotenvError, ErrorKind, Parsed, Source, Vars};
use proptest::prelude::*;
use serde::Deserialize;

/// Values that are not UTF-8 text: compose passes the bytes on, octo-local refuses the file.
const NOT_TEXT: [&str; 3] = ["dotenv-463", "dotenv-464", "dotenv-469"];

/// Part of a value that no message may show.
const SECRET: &str = "S3cr3tMarker";

#[derive(Deserialize)]
struct FileVector {
    id: String,
    input: Option<String>,
    inputs: Option<Vec<String>>,
    input_b64: Option<String>,
    env: Vars,
    expect: Option<Vars>,
    expect_b64: Option<Vars>,
    error: Option<String>,
    warnings: Vec<String>,
    merged: Option<Vars>,
}

#[derive(Deserialize)]
struct TemplateVector {
    id: String,
    template: String,
    env: Vars,
    expect: Option<String>,
    error: Option<String>,
    error_type: Option<String>,
    warnings: Vec<String>,
}

impl FileVector {
    fn files(&self) -> Vec<Vec<u8>> {
        match (&self.input, &self.inputs, &self.input_b64) {
            (Some(input), None, None) => vec![input.clone().into_bytes()],
            (None, Some(inputs), None) => inputs
                .iter()
                .map(|input| input.clone().into_bytes())
                .collect(),
            (None, None, Some(input)) => vec![decode(input)],
            _ => panic!("{}: one form of input", self.id),
        }
    }

    fn expected(&self) -> Option<BTreeMap<String, Vec<u8>>> {
        let bytes = |vars: &Vars, of: fn(&str) -> Vec<u8>| {
            vars.iter()
                .map(|(key, value)| (key.clone(), of(value)))
                .collect()
        };
        match &self.expect_b64 {
            Some(vars) => Some(bytes(vars, decode)),
            None => self
                .expect
                .as_ref()
                .map(|vars| bytes(vars, |value| value.as_bytes().to_vec())),
        }
    }

    /// What differs from compose's answer.
    fn difference(&self) -> Option<String> {
        let files = self.files();
        match (parse(&files, &self.env), &self.error) {
            (Err(error), Some(compose)) => (line_of(compose)
                .is_some_and(|line| line != error.line)
                || !error
                    .to_string()
                    .contains(&format!("line {}: ", error.line)))
            .then(|| format!("{error}, but compose: {compose}")),
            (Err(error), None) => (error.kind != ErrorKind::NotText
                || !NOT_TEXT.contains(&self.id.as_str()))
            .then(|| format!("rejected: {error}")),
            (Ok(_), Some(compose)) => Some(format!("taken, but compose: {compose}")),
            (Ok(parsed), None) => self.difference_from(&parsed),
        }
    }

    fn difference_from(&self, parsed: &Parsed) -> Option<String> {
        let found: BTreeMap<_, _> = parsed
            .vars
            .iter()
            .map(|(key, value)| (key.clone(), value.as_bytes().to_vec()))
            .collect();
        if Some(&found) != self.expected().as_ref() {
            return Some(format!("{:?} instead of {:?}", parsed.vars, self.expect));
        }
        if parsed.unset != names(&self.warnings) {
            return Some(format!(
                "warns of {:?} instead of {:?}",
                parsed.unset, self.warnings
            ));
        }
        if parsed.origins.keys().ne(parsed.vars.keys()) {
            return Some(format!(
                "origins of {:?} and values of {:?}",
                parsed.origins, parsed.vars
            ));
        }
        let merged = dotenv::merge(&parsed.vars, &self.env);
        (self
            .merged
            .as_ref()
            .is_some_and(|expected| *expected != merged))
        .then(|| format!("merges to {merged:?}"))
    }
}

impl TemplateVector {
    fn difference(&self) -> Option<String> {
        let answer = interpolate(&self.template, &|name| self.env.get(name).cloned());
        let agrees = match (&answer, self.error_type.as_deref()) {
            (Ok((value, unset)), None) => {
                Some(value) == self.expect.as_ref() && *unset == names(&self.warnings)
            }
            (Err(InterpolateError::Invalid), Some("InvalidTemplateError")) => true,
            (Err(InterpolateError::Required(name)), Some("MissingRequiredError")) => self
                .error
                .as_ref()
                .is_some_and(|error| error.starts_with(&format!("required variable {name} "))),
            _ => false,
        };
        (!agrees).then(|| {
            format!(
                "{}: {answer:?} instead of {:?}, {:?}",
                self.template, self.expect, self.error
            )
        })
    }
}

fn parse(files: &[Vec<u8>], env: &Vars) -> Result<Parsed, DotenvError> {
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|bytes| Source {
            name: ".env",
            bytes,
        })
        .collect();
    dotenv::parse(&sources, env)
}

fn decode(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("vectors are valid base64")
}

/// The variables that compose's warnings name.
fn names(warnings: &[String]) -> Vec<&str> {
    warnings
        .iter()
        .map(|warning| {
            let name = warning.strip_prefix("The \"");
            name.and_then(|name| {
                name.strip_suffix("\" variable is not set. Defaulting to a blank string.")
            })
            .expect("compose has one form of warning here")
        })
        .collect()
}

/// The line that compose names, if it does.
fn line_of(error: &str) -> Option<usize> {
    error.strip_prefix("line ")?.split(':').next()?.parse().ok()
}

fn assert_none(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn env_files_are_read_as_docker_compose_reads_them() {
    let vectors: Vec<FileVector> =
        serde_json::from_str(include_str!("golden/dotenv.json")).unwrap();
    assert_eq!(vectors.len(), 280);
    let difference = |vector: &FileVector| Some(format!("{}: {}", vector.id, vector.difference()?));
    assert_none(&vectors.iter().filter_map(difference).collect::<Vec<_>>());
}

#[test]
fn templates_are_resolved_as_docker_compose_resolves_them() {
    let vectors: Vec<TemplateVector> =
        serde_json::from_str(include_str!("golden/interp.json")).unwrap();
    assert_eq!(vectors.len(), 199);
    let difference =
        |vector: &TemplateVector| Some(format!("{}: {}", vector.id, vector.difference()?));
    assert_none(&vectors.iter().filter_map(difference).collect::<Vec<_>>());
}

#[test]
fn only_values_that_are_not_text_are_refused_where_compose_takes_them() {
    let vectors: Vec<FileVector> =
        serde_json::from_str(include_str!("golden/dotenv.json")).unwrap();
    let refused = |vector: &&FileVector| {
        vector.error.is_none() && parse(&vector.files(), &vector.env).is_err()
    };
    assert_eq!(
        vectors
            .iter()
            .filter(refused)
            .map(|vector| vector.id.as_str())
            .collect::<Vec<_>>(),
        NOT_TEXT
    );
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..3)) {
        let _ = parse(&files, &Vars::new());
    }

    #[test]
    fn no_text_is_too_strange(text in "(\\PC|[A-Ce=:$\\{\\}'\"\\\\ #\\n\\r\\t?+0-9-]){0,80}") {
        let _ = parse(&[text.clone().into_bytes()], &Vars::new());
        let _ = interpolate(&text, &|_| None);
    }

    #[test]
    fn what_is_in_single_quotes_is_taken_as_it_is(value in "[^'\\\\]{0,40}") {
        let parsed = parse(&[format!("A='{value}'").into_bytes()], &Vars::new());
        prop_assert_eq!(parsed.ok().map(|parsed| parsed.vars), Some(Vars::from([("A".to_owned(), value)])));
    }

    #[test]
    fn no_message_shows_a_part_of_a_value(
        before in "[a:='\"\\\\ #$\\}!é-]{0,8}",
        after in "[b=:'\"\\\\ #$\\{\\}!\\n?-]{0,12}",
    ) {
        let env = Vars::from([("a".to_owned(), SECRET.to_owned())]);
        let texts = [
            format!("A={before}{SECRET}{after}"),
            format!("A=${{b:?{before}{SECRET}{after}}}"),
            format!("A=\"${{b?$a{after}"),
        ];
        for text in texts {
            if let Err(error) = parse(&[text.clone().into_bytes()], &env) {
                prop_assert!(!error.to_string().contains(SECRET), "{text:?}: {error}");
                prop_assert!(!format!("{error:?}").contains(SECRET), "{text:?}: {error:?}");
            }
        }
    }
}
