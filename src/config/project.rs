//! The project's name: given, or made from the directory as docker compose does.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use super::Problem;

/// A valid project name: lower-case letters, digits, `_` and `-`, beginning with a letter or digit.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectName(String);

impl ProjectName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a name that a person gave: a bad one is refused, not bent.
    pub fn given(name: &str) -> Option<Self> {
        normalise(name).filter(|project| project.0 == name)
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A directory's name made into a project name (compose-go `loader/loader.go`: lower case, only
/// `[a-z0-9_-]`, no leading `_-`).
pub fn normalise(name: &str) -> Option<ProjectName> {
    let kept: String = name
        .to_lowercase()
        .chars()
        .filter(|letter| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '_' | '-')
        })
        .collect();
    let kept = kept.trim_start_matches(['_', '-']);
    (!kept.is_empty()).then(|| ProjectName(kept.to_owned()))
}

/// The name, and whether a person gave it on purpose: the flag, then `COMPOSE_PROJECT_NAME`, then
/// the directory.
pub fn resolve(
    flag: Option<&str>,
    variable: Option<&str>,
    directory: &str,
) -> Result<(ProjectName, bool), Problem> {
    let given = [("-p", flag), ("COMPOSE_PROJECT_NAME", variable)];
    for (key, name) in given {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let problem = || {
                Problem {
                key: key.to_owned(),
                value: Some(name.to_owned()),
                why:
                    "a project name has only lower-case letters, digits, `_` and `-`, and begins with a letter or digit"
                        .to_owned(),
                fix: "choose such a name".to_owned(),
                origin: None,
            }
            };
            return ProjectName::given(name)
                .map(|project| (project, true))
                .ok_or_else(problem);
        }
    }
    normalise(directory)
        .map(|project| (project, false))
        .ok_or_else(|| Problem {
            key: "project name".to_owned(),
            value: Some(directory.to_owned()).filter(|name| !name.is_empty()),
            why: "the directory's name has no letter or digit to make a project name of".to_owned(),
            fix: "give one with -p NAME".to_owned(),
            origin: None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_normalised_as_compose_does() {
        assert_eq!(
            normalise("Octo Local.App")
                .map(|name| name.to_string())
                .as_deref(),
            Some("octolocalapp")
        );
        assert_eq!(
            normalise("_-9x").map(|name| name.to_string()).as_deref(),
            Some("9x")
        );
        assert_eq!(normalise("___"), None);
    }

    #[test]
    fn a_directory_without_a_name_is_not_shown_as_an_empty_value() {
        let problem = resolve(None, None, "").unwrap_err().to_string();
        assert!(problem.starts_with("project name: "), "{problem}");
    }

    #[test]
    fn a_given_name_is_taken_as_it_is_or_refused() {
        assert!(resolve(Some("Bad Name"), None, "dir").is_err());
        let (name, on_purpose) = resolve(None, Some("from-env"), "dir").expect("a good name");
        assert_eq!((name.as_str(), on_purpose), ("from-env", true));
        let (name, on_purpose) = resolve(None, Some(""), "dir").expect("a good name");
        assert_eq!((name.as_str(), on_purpose), ("dir", false));
    }
}
