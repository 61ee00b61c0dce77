//! What a set says of itself: `manifest.json`. Pure.
//!
//! It comes from a disk that others can write to, so nothing in it is believed before
//! [`Manifest::parse`] judged it: names of files are made from kinds and never read as paths, and
//! sizes have bounds.

use serde::Deserialize;
use serde::Serialize;

use super::name::SetName;
use crate::config::project::ProjectName;

/// The form of sets that this program writes. It reads every form up to it.
pub const FORM: u32 = 1;
/// The file's name in its set.
pub const FILE: &str = "manifest.json";
/// A manifest has a dozen parts at most; what is larger is none.
pub const LIMIT: u64 = 1024 * 1024;
/// Larger than any disk that one host has: a bound against sums that overflow.
const LARGEST: u64 = 1 << 50;

/// A set of backups, as its manifest tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORM`].
    pub form: u32,
    /// The name that it was made under; the directory may have been renamed since.
    pub name: SetName,
    /// The project that it is of.
    pub project: ProjectName,
    /// The version of octo-local that wrote it.
    pub octo_local: String,
    /// Whether the stack was a demo of stand-ins, whose data only stand-ins read.
    pub demo: bool,
    /// Whether a person named it, so that only a person removes it.
    pub pinned: bool,
    /// When the run began, in milliseconds since 1970.
    pub began_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// The Octopus Server that ran on the data.
    pub octopus: Ran,
    /// The SQL Server that ran; none where it is somebody else's.
    pub sql_server: Option<Ran>,
    /// What is there of the database.
    pub database: Database,
    /// Whether all nodes were drained or stopped while it was made: then all of it is of one
    /// moment.
    pub quiesced: bool,
    /// What is consistent with what, for people.
    pub consistency: String,
    /// How the parts are encrypted.
    pub encryption: Encryption,
    /// Whether the secrets are part of it.
    pub has_secrets: bool,
    /// Tells whether a master key is the one that the data needs, without telling the key.
    pub master_key_print: Option<String>,
    /// The parts.
    pub parts: Vec<Part>,
}

/// An image that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Its reference, `repository:tag`.
    pub image: String,
    /// Its ID, where the engine told it.
    pub image_id: Option<String>,
    /// The version that the program itself tells, where it was asked.
    pub version: Option<String>,
}

/// The database of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Database {
    /// It is a part of the set.
    Included {
        /// Its name on the server.
        name: String,
    },
    /// It is not.
    Missing {
        /// Why, and how it is backed up instead.
        why: String,
    },
}

/// How parts are encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Encryption {
    /// Not at all.
    None,
    /// For these age recipients.
    Recipients {
        /// `age1…`.
        recipients: Vec<String>,
    },
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SQL Server's own backup file.
    Database,
    /// The package feed.
    Repository,
    /// Artifacts.
    Artifacts,
    /// Task logs.
    TaskLogs,
    /// Archived audit logs.
    EventExports,
    /// The applied configuration without its secrets.
    Configuration,
    /// Master key, licence, passwords.
    Secrets,
}

impl Kind {
    /// All of them, in the order in which they are made: the database first, so that every row's
    /// file is there.
    pub const ALL: [Self; 7] = [
        Self::Database,
        Self::Repository,
        Self::Artifacts,
        Self::TaskLogs,
        Self::EventExports,
        Self::Configuration,
        Self::Secrets,
    ];

    /// The key of the volume that it is the content of.
    pub fn volume(self) -> Option<&'static str> {
        match self {
            Self::Repository => Some("repository"),
            Self::Artifacts => Some("artifacts"),
            Self::TaskLogs => Some("task-logs"),
            Self::EventExports => Some("event-exports"),
            Self::Database | Self::Configuration | Self::Secrets => None,
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Configuration => "configuration",
            Self::Secrets => "secrets",
            volume => volume.volume().unwrap_or_default(),
        }
    }

    /// Its file's name in the set.
    pub fn file(self, encryption: &Encryption) -> String {
        let form = match self {
            Self::Database => "bak.zst",
            Self::Configuration | Self::Secrets => "json.zst",
            _ => "tar.zst",
        };
        let sealed = if *encryption == Encryption::None {
            ""
        } else {
            ".age"
        };
        format!("{}.{form}{sealed}", self.name())
    }
}

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Bytes before compression.
    pub plain_size: u64,
    /// SHA-256 of them, in lower-case hexadecimal.
    pub plain_sha256: String,
    /// Bytes of the file.
    pub stored_size: u64,
    /// SHA-256 of them.
    pub stored_sha256: String,
    /// Entries of the archive, where it is one.
    pub entries: Option<u64>,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// It is of a newer program.
    #[error(
        "it was written by a newer octo-local (form {0}, this one reads up to {FORM}); update octo-local"
    )]
    Newer(u64),
    /// It is none.
    #[error("its manifest is damaged: {0}")]
    Damaged(String),
}

/// What is read before the rest, whose form may be another.
#[derive(Deserialize)]
struct Form {
    form: u64,
}

impl Manifest {
    /// Reads and judges a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadManifest> {
        let damaged = |error: serde_json::Error| BadManifest::Damaged(error.to_string());
        let Form { form } = serde_json::from_slice(bytes).map_err(damaged)?;
        if form > u64::from(FORM) {
            return Err(BadManifest::Newer(form));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        match manifest.fault() {
            Some(fault) => Err(BadManifest::Damaged(fault)),
            None => Ok(manifest),
        }
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("a manifest has only text for keys") + "\n"
    }

    fn fault(&self) -> Option<String> {
        if self.form == 0 {
            return Some("its form is 0".to_owned());
        }
        if ProjectName::given(self.project.as_str()).is_none() {
            return Some("its project cannot be the name of one".to_owned());
        }
        if self.ended_ms < self.began_ms {
            return Some("it ended before it began".to_owned());
        }
        let mut kinds = std::collections::BTreeSet::new();
        for part in &self.parts {
            let name = part.kind.name();
            if !kinds.insert(part.kind) {
                return Some(format!("{name} is there twice"));
            }
            if part.plain_size > LARGEST || part.stored_size > LARGEST {
                return Some(format!("the size of {name} cannot be"));
            }
            if !is_sha256(&part.plain_sha256) || !is_sha256(&part.stored_sha256) {
                return Some(format!("the SHA-256 of {name} is none"));
            }
        }
        let has = |kind: Kind| kinds.contains(&kind);
        if matches!(self.database, Database::Included { .. }) != has(Kind::Database) {
            return Some("it does not agree with itself about the database".to_owned());
        }
        if self.has_secrets != has(Kind::Secrets) {
            return Some("it does not agree with itself about the secrets".to_owned());
        }
        let needed = Kind::ALL
            .into_iter()
            .filter(|kind| kind.volume().is_some() || *kind == Kind::Configuration);
        let missing: Vec<&str> = needed.filter(|kind| !has(*kind)).map(Kind::name).collect();
        if !missing.is_empty() {
            return Some(format!("it lacks {}", missing.join(", ")));
        }
        None
    }

    /// A part, if it is there.
    pub fn part(&self, kind: Kind) -> Option<&Part> {
        self.parts.iter().find(|part| part.kind == kind)
    }

    /// Bytes of all files together.
    pub fn stored_size(&self) -> u64 {
        self.parts.iter().map(|part| part.stored_size).sum()
    }

    /// Bytes of all parts before compression.
    pub fn plain_size(&self) -> u64 {
        self.parts.iter().map(|part| part.plain_size).sum()
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
pub(crate) mod tests;
