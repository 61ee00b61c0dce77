//! What an instance knows of itself between its runs: what real ones keep in `master` and `msdb`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::types;

/// Runs and backups that are remembered, so that the record stays small.
const MAX_REMEMBERED: usize = 500;

/// The record; written as a whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Instance {
    pub(super) data_version: u32,
    pub(super) salt: String,
    pub(super) password: String,
    pub(super) databases: Vec<(i64, String)>,
    /// By the database's id; an older record has none.
    #[serde(default)]
    pub(super) details: BTreeMap<i64, Details>,
    #[serde(default)]
    pub(super) runs: Vec<Run>,
    #[serde(default)]
    pub(super) backups: Vec<Backup>,
    #[serde(default)]
    pub(super) restores: Vec<Restore>,
}

/// What is kept of one database.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    pub(super) created: String,
    pub(super) recovery: Recovery,
    pub(super) access: Access,
    pub(super) offline: bool,
    pub(super) restoring: Restoring,
    /// The file's path as clients say it, where it is not the one that the name makes.
    pub(super) file: Option<String>,
    /// The logical name, where it is not the database's.
    pub(super) logical: Option<String>,
    /// Survives backup and restore.
    pub(super) family: String,
    /// Its files are those of a restore: what was broken went with those before.
    pub(super) is_restored: bool,
}

/// `recovery_model`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Recovery {
    #[default]
    Full,
    BulkLogged,
    Simple,
}

/// `user_access`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Access {
    #[default]
    Multi,
    Single,
    Restricted,
}

/// Whether a restore is under way, or was when the server died.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Restoring {
    #[default]
    No,
    /// Its file is not whole.
    Partial,
    /// Restored `WITH NORECOVERY`.
    Whole,
}

/// One run of the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) started: String,
    /// `clean`, `nowait`, `unclean`; none while it runs.
    pub(super) ended: Option<String>,
    /// What ended it: `SHUTDOWN`, `SIGNAL`; none where nothing told it to.
    pub(super) by: Option<String>,
}

/// A row of `msdb.dbo.backupset`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Backup {
    pub(super) database: String,
    pub(super) name: Option<String>,
    pub(super) set_id: String,
    pub(super) started: String,
    pub(super) finished: String,
    pub(super) size: u64,
    pub(super) stored: u64,
    pub(super) copy_only: bool,
    pub(super) checksum: bool,
    pub(super) position: usize,
    pub(super) device: String,
}

/// A row of `msdb.dbo.restorehistory`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Restore {
    pub(super) database: String,
    pub(super) at: String,
    pub(super) replaced: bool,
}

impl Recovery {
    /// `recovery_model` and its description.
    pub(super) fn shown(self) -> (i64, &'static str) {
        match self {
            Self::Full => (1, "FULL"),
            Self::BulkLogged => (2, "BULK_LOGGED"),
            Self::Simple => (3, "SIMPLE"),
        }
    }
}

impl Access {
    /// `user_access` and its description.
    pub(super) fn shown(self) -> (i64, &'static str) {
        match self {
            Self::Multi => (0, "MULTI_USER"),
            Self::Single => (1, "SINGLE_USER"),
            Self::Restricted => (2, "RESTRICTED_USER"),
        }
    }
}

impl Instance {
    /// The record of a new instance.
    pub(super) fn new(password: &str, data_version: u32) -> Self {
        let salt = random_hex();
        let password = if password.is_empty() {
            String::new()
        } else {
            hashed(&salt, password)
        };
        Self {
            data_version,
            salt,
            password,
            databases: Vec::new(),
            details: BTreeMap::new(),
            runs: Vec::new(),
            backups: Vec::new(),
            restores: Vec::new(),
        }
    }

    /// Reads it; none where the directory is new.
    pub(super) fn load(system: &Path) -> io::Result<Option<Self>> {
        match fs::read(system.join("instance.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file in one step, safe against a kill at any moment.
    pub(super) fn save(&self, system: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(system)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.as_file().sync_all()?;
        file.persist(system.join("instance.json"))?;
        File::open(system)?.sync_all()
    }

    /// A run begins; one before it that has no end was cut off.
    pub(super) fn begin_run(&mut self) {
        if let Some(last) = self.runs.last_mut().filter(|run| run.ended.is_none()) {
            last.ended = Some("unclean".to_owned());
        }
        remember(
            &mut self.runs,
            Run {
                started: types::now(),
                ended: None,
                by: None,
            },
        );
    }

    /// Takes a backup into the history.
    pub(super) fn backed_up(&mut self, backup: Backup) {
        remember(&mut self.backups, backup);
    }

    /// Takes a restore into the history.
    pub(super) fn restored(&mut self, restore: Restore) {
        remember(&mut self.restores, restore);
    }

    pub(super) fn takes_password(&self, password: &str) -> bool {
        !self.password.is_empty() && self.password == hashed(&self.salt, password)
    }

    pub(super) fn set_password(&mut self, password: &str) {
        self.password = hashed(&self.salt, password);
    }
}

fn remember<T>(list: &mut Vec<T>, item: T) {
    list.push(item);
    let excess = list.len().saturating_sub(MAX_REMEMBERED);
    list.drain(..excess);
}

/// Why SQL Server's policy refuses a password: 8 to 128 characters of three classes. The account's
/// name is looked for only where it has three letters (learn.microsoft.com, `password-policy`), and
/// `sa` has two. The error's number is the vendor's.
pub(super) fn weakness(password: &str) -> Option<(i32, &'static str)> {
    let classes: [fn(char) -> bool; 4] = [
        |c| c.is_uppercase(),
        |c| c.is_lowercase(),
        |c| c.is_numeric(),
        |c| !c.is_alphanumeric(),
    ];
    let length = password.chars().count();
    let found = classes
        .iter()
        .filter(|class| password.chars().any(**class))
        .count();
    if length < 8 {
        Some((15116, "it is too short"))
    } else if length > 128 {
        Some((15117, "it is too long"))
    } else if found < 3 {
        Some((15118, "it is not complex enough"))
    } else {
        None
    }
}

fn hashed(salt: &str, password: &str) -> String {
    hex(&sha2::Sha256::digest(format!("{salt}:{password}")))
}

/// Random bytes as 32 hexadecimal digits.
pub(super) fn random_hex() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers are always there on Linux");
    hex(&bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_policy() {
        for (weak, number) in [
            ("", 15116),
            ("Short1!", 15116),
            ("alllowercase1", 15118),
            ("NoDigitsHere", 15118),
            (&"aB3!".repeat(33), 15117),
        ] {
            let found = weakness(weak).map(|(number, _)| number);
            assert_eq!(found, Some(number), "{weak}");
        }
        for good in ["N0tS3cr3t!", "Abcdefg1", "Versailles-1789"] {
            assert_eq!(weakness(good), None, "{good}");
        }
    }

    #[test]
    fn an_older_record_is_read_and_a_run_without_end_was_cut_off() {
        let old = r#"{"data_version":957,"salt":"s","password":"p","databases":[[5,"D"]]}"#;
        let mut instance: Instance = serde_json::from_str(old).unwrap();
        instance.begin_run();
        instance.begin_run();
        assert_eq!(instance.runs[0].ended.as_deref(), Some("unclean"));
        assert_eq!(instance.runs[1].ended, None);
        for _ in 0..MAX_REMEMBERED + 3 {
            instance.begin_run();
        }
        assert_eq!(instance.runs.len(), MAX_REMEMBERED);
    }
}
