//! Places of data that a person chose: a directory of the host, or a volume by its name.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// One kind of data that a person may choose the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The key of the volume that it is in by default.
    pub key: &'static str,
    /// The variable.
    pub variable: &'static str,
    /// Where it is mounted.
    pub path: &'static str,
    /// The container: SQL Server's, else each node's.
    pub of_sql: bool,
    /// Whether it is mounted only where a place is chosen.
    pub optional: bool,
}

const fn of_nodes(key: &'static str, variable: &'static str, path: &'static str) -> Kind {
    Kind {
        key,
        variable,
        path,
        of_sql: false,
        optional: false,
    }
}

/// All of them: the database, what nodes share (octopus.com/docs, Linux container; `/eventExports`
/// is newer than the article), and what is to be imported.
pub const KINDS: [Kind; 6] = [
    Kind {
        key: "sql-data",
        variable: "SQL_DATA",
        path: "/var/opt/mssql",
        of_sql: true,
        optional: false,
    },
    of_nodes("repository", "REPOSITORY", "/repository"),
    of_nodes("artifacts", "ARTIFACTS", "/artifacts"),
    of_nodes("task-logs", "TASK_LOGS", "/taskLogs"),
    of_nodes("event-exports", "EVENT_EXPORTS", "/eventExports"),
    Kind {
        optional: true,
        ..of_nodes("import", "IMPORT", "/import")
    },
];

/// A place that a person chose, as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The volume of this name, whosever it is.
    Volume(String),
    /// This directory of the host, relative to the project directory.
    Directory(String),
}

/// What is chosen, by the key of the volume that it takes the place of.
pub type Places = BTreeMap<String, Place>;

impl Place {
    /// Reads one as docker compose does: what begins with `/` or `.` is a directory. On failure:
    /// the reason and the fix.
    pub fn parse(text: &str) -> Result<Self, (&'static str, &'static str)> {
        let text = text.trim();
        if text.starts_with('~') {
            return Err((
                "nobody knows whose home directory is meant",
                "write the directory's path in full",
            ));
        }
        if text.starts_with(['/', '.']) {
            if text.contains([':', '\n']) {
                return Err((
                    "an engine takes no path with a colon",
                    "choose another directory",
                ));
            }
            if text.trim_end_matches('/').is_empty() {
                return Err((
                    "the root directory is no place for it",
                    "choose another directory",
                ));
            }
            return Ok(Self::Directory(text.to_owned()));
        }
        let inner = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        let is_name = text.len() > 1
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(inner);
        if is_name {
            return Ok(Self::Volume(text.to_owned()));
        }
        Err((
            "it is neither a directory nor the name of a volume",
            "write a directory as /srv/octopus or ./data, or a volume's name as `docker volume ls` shows it",
        ))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(text) | Self::Directory(text) => out.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_by_how_it_begins_else_a_volume() {
        let volume = |name: &str| Ok(Place::Volume(name.to_owned()));
        let directory = |path: &str| Ok(Place::Directory(path.to_owned()));
        assert_eq!(Place::parse("shop_sqlvolume"), volume("shop_sqlvolume"));
        assert_eq!(Place::parse(" /srv/sql "), directory("/srv/sql"));
        assert_eq!(Place::parse("./sql"), directory("./sql"));
        assert_eq!(Place::parse("../sql"), directory("../sql"));
        for wrong in [
            "~/sql", "/", "//", "/a:b", "a/b", "a b", "-x", "x", "/a\nb", "",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
