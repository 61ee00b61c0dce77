//! Names in a backup directory: of whole sets, and of what a run has under its hands. Pure.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::config::project::ProjectName;

/// The name of a set, which is one directory: letters, digits, `.`, `_` and `-`, not beginning with
/// a dot or a dash. So it is no path, no hidden file and no option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetName(String);

/// Long enough for people, and short enough for every file system.
const LONGEST: usize = 100;

/// Text that names no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a backup: write letters, digits, '.', '_' and '-', at most {LONGEST}, beginning with a letter or a digit"
)]
pub struct BadName(String);

impl SetName {
    /// The name of a set that nobody named: the project and the time in UTC, to the second.
    pub fn of(project: &ProjectName, began: OffsetDateTime) -> Self {
        let form = format_description!("[year]-[month]-[day]T[hour][minute][second]Z");
        let time = began.to_offset(time::UtcOffset::UTC).format(form);
        // The form has no part that a time could lack.
        let mut name = project.as_str().trim_start_matches(['_', '-']).to_owned();
        name.truncate(LONGEST - 20);
        Self(format!("{name}-{}", time.unwrap_or_default()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SetName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let letters = text.bytes();
        let is_good = (1..=LONGEST).contains(&text.len())
            && letters
                .clone()
                .all(|letter| letter.is_ascii_alphanumeric() || b"._-".contains(&letter))
            && text.starts_with(|first: char| first.is_ascii_alphanumeric());
        is_good
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| BadName(text.to_owned()))
    }
}

impl TryFrom<String> for SetName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<SetName> for String {
    fn from(name: SetName) -> Self {
        name.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

/// What a directory in a backup directory is, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A set, if it has a manifest.
    Set(SetName),
    /// What a run of this project is writing, or left when it was killed: `.PROJECT.NAME.partial`.
    Partial(String),
    /// A set of this project that is being removed: `.PROJECT.NAME.removed`.
    Removed(String),
    /// Something else.
    Foreign,
}

/// The suffix of what is being written.
const PARTIAL: &str = ".partial";
/// The suffix of what is being removed.
const REMOVED: &str = ".removed";

impl Place {
    /// Reads a directory's name.
    pub fn of(file_name: &str) -> Self {
        if let Ok(name) = file_name.parse() {
            return Self::Set(name);
        }
        // A project's name has no dot.
        let inner = file_name
            .strip_prefix('.')
            .and_then(|rest| rest.split_once('.'));
        let Some((project, rest)) = inner.filter(|(project, _)| !project.is_empty()) else {
            return Self::Foreign;
        };
        let is_set = |name: &str| name.parse::<SetName>().is_ok();
        match (rest.strip_suffix(PARTIAL), rest.strip_suffix(REMOVED)) {
            (Some(name), _) if is_set(name) => Self::Partial(project.to_owned()),
            (_, Some(name)) if is_set(name) => Self::Removed(project.to_owned()),
            _ => Self::Foreign,
        }
    }

    /// Whether a run of this project may sweep it, once it has the lock.
    pub fn is_leftover_of(&self, project: &ProjectName) -> bool {
        matches!(self, Self::Partial(owner) | Self::Removed(owner) if owner == project.as_str())
    }
}

/// Where a set is written before it is whole.
pub fn partial(project: &ProjectName, name: &SetName) -> String {
    format!(".{project}.{name}{PARTIAL}")
}

/// Where a set is put to be removed.
pub fn removed(project: &ProjectName, name: &SetName) -> String {
    format!(".{project}.{name}{REMOVED}")
}

/// The file whose lock lets one run at a time write sets of a project.
pub fn lock(project: &ProjectName) -> String {
    format!(".{project}.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectName {
        crate::config::project::resolve(Some(name), None, "x")
            .unwrap()
            .0
    }

    #[test]
    fn a_name_is_never_a_path_an_option_or_hidden() {
        for good in ["octo-2026-01-31T030000Z", "before-upgrade", "1", "a.b_c"] {
            assert_eq!(good.parse::<SetName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(101);
        for bad in [
            "", ".", "..", "a/b", "../a", "-rf", ".x", "a b", "ä", "a\n", "a\0", &long,
        ] {
            assert!(bad.parse::<SetName>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<SetName>("\"../x\"").is_err());
    }

    #[test]
    fn a_set_that_nobody_named_has_project_and_time() {
        let time = OffsetDateTime::from_unix_timestamp(1_769_828_405).unwrap();
        let name = SetName::of(&project("octo"), time);
        assert_eq!(name.as_str(), "octo-2026-01-31T030005Z");
        let odd = SetName::of(&project(&format!("0_{}", "x".repeat(150))), time);
        assert_eq!(odd.as_str().parse::<SetName>().unwrap(), odd);
    }

    #[test]
    fn what_a_run_has_under_its_hands_is_never_taken_for_a_set() {
        let (octo, name) = (project("octo"), "one".parse().unwrap());
        for hidden in [partial(&octo, &name), removed(&octo, &name)] {
            let place = Place::of(&hidden);
            assert!(place.is_leftover_of(&octo), "{hidden}");
            assert!(!place.is_leftover_of(&project("octo-2")), "{hidden}");
        }
        assert_eq!(Place::of(&lock(&octo)), Place::Foreign);
        for foreign in [
            ".git",
            "lost+found",
            ".octo.x",
            "..partial",
            ".octo..partial",
            ".",
        ] {
            assert_eq!(Place::of(foreign), Place::Foreign, "{foreign}");
        }
        assert_eq!(Place::of("one"), Place::Set("one".parse().unwrap()));
    }
}
