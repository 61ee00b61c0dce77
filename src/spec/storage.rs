//! Where something that a container mounts is kept, and so whose it is.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// Where something that a container mounts is kept.
///
/// What is not ours is mounted as it is found: never made, labelled, emptied or removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub enum Storage {
    /// A volume of the project's own, by name.
    Ours(String),
    /// A volume that a person named, whosever it is.
    Theirs(String),
    /// A directory of the host, absolute.
    Directory(String),
}

/// The same as it is kept, and as a definition's digest has it: a volume of ours is its name alone,
/// as before there was anything else.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Ours(String),
    Theirs { volume: String },
    Directory { directory: String },
}

impl From<Form> for Storage {
    fn from(form: Form) -> Self {
        match form {
            Form::Ours(name) => Self::Ours(name),
            Form::Theirs { volume } => Self::Theirs(volume),
            Form::Directory { directory } => Self::Directory(directory),
        }
    }
}

impl From<Storage> for Form {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::Ours(name) => Self::Ours(name),
            Storage::Theirs(volume) => Self::Theirs { volume },
            Storage::Directory(directory) => Self::Directory { directory },
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::Ours(String::new())
    }
}

impl Storage {
    /// The name of a volume of ours: only such a one is ever made or removed.
    pub fn ours(&self) -> Option<&str> {
        match self {
            Self::Ours(name) => Some(name),
            Self::Theirs(_) | Self::Directory(_) => None,
        }
    }

    /// The name of a volume, whosever it is.
    pub fn volume(&self) -> Option<&str> {
        match self {
            Self::Ours(name) | Self::Theirs(name) => Some(name),
            Self::Directory(_) => None,
        }
    }

    /// What an engine calls it: a volume's name or a directory's path.
    pub fn source(&self) -> &str {
        match self {
            Self::Ours(source) | Self::Theirs(source) | Self::Directory(source) => source,
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(name) | Self::Theirs(name) => write!(out, "volume {name}"),
            Self::Directory(path) => write!(out, "directory {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_of_ours_is_kept_as_its_name_and_the_others_say_what_they_are() {
        for (storage, kept) in [
            (Storage::Ours("p_cache-1".into()), r#""p_cache-1""#),
            (Storage::Theirs("theirs".into()), r#"{"volume":"theirs"}"#),
            (
                Storage::Directory("/srv/sql".into()),
                r#"{"directory":"/srv/sql"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&storage).unwrap(), kept);
            assert_eq!(serde_json::from_str::<Storage>(kept).unwrap(), storage);
        }
    }
}
