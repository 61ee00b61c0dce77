//! The stand-in's tables, what is asked of them, and the master key they remember.

use std::fmt::Write as _;
use std::time::SystemTime;

use sha2::Digest as _;
use tiberius::Row;

use super::database::Database;
use crate::config::Secret;
use crate::sql::SqlError;

/// An object of that name exists: another node created it at the same moment.
const EXISTS: u32 = 2714;

const TABLES: &[(&str, &str)] = &[
    (
        "SchemaVersions",
        "Version NVARCHAR(64) NOT NULL, AppliedAt BIGINT NOT NULL, Node NVARCHAR(200) NOT NULL",
    ),
    // As the vendor's own database has it.
    (
        "OctopusServerInstallationHistory",
        "Id NVARCHAR(50) NOT NULL PRIMARY KEY, Node NVARCHAR(200) NULL, Version NVARCHAR(200) NULL, \
         Installed DATETIMEOFFSET NOT NULL",
    ),
    (
        "MigrationJournal",
        "Script NVARCHAR(200) NOT NULL, AppliedAt BIGINT NOT NULL, Node NVARCHAR(200) NOT NULL",
    ),
    (
        "MigrationAttempts",
        "Boot NVARCHAR(64) NOT NULL PRIMARY KEY, Node NVARCHAR(200) NOT NULL, Version NVARCHAR(64) NOT NULL, \
         StartedAt BIGINT NOT NULL, FinishedAt BIGINT NULL, Heartbeat BIGINT NOT NULL",
    ),
    (
        "OctopusServerNode",
        "Name NVARCHAR(200) NOT NULL PRIMARY KEY, Boot NVARCHAR(64) NOT NULL, Version NVARCHAR(64) NOT NULL, \
         LastSeen BIGINT NOT NULL, StartedAt BIGINT NOT NULL, Stopped BIT NOT NULL, Draining BIT NOT NULL",
    ),
    (
        "Violations",
        "Kind NVARCHAR(64) NOT NULL, Node NVARCHAR(200) NOT NULL, Detail NVARCHAR(400) NOT NULL, At BIGINT NOT NULL",
    ),
    (
        "ServerTask",
        "Id INT IDENTITY NOT NULL PRIMARY KEY, Name NVARCHAR(200) NOT NULL, Description NVARCHAR(400) NOT NULL, \
         State NVARCHAR(20) NOT NULL, Node NVARCHAR(200) NULL, Boot NVARCHAR(64) NULL, LengthMs BIGINT NOT NULL, \
         QueuedAt BIGINT NOT NULL, StartedAt BIGINT NULL, CompletedAt BIGINT NULL, LastSeen BIGINT NULL, \
         Error NVARCHAR(400) NULL",
    ),
    (
        "NodeTaskCap",
        "Name NVARCHAR(200) NOT NULL PRIMARY KEY, Cap BIGINT NOT NULL",
    ),
    // Deployment targets and workers.
    (
        "Machine",
        "Id INT IDENTITY NOT NULL PRIMARY KEY, Kind NVARCHAR(20) NOT NULL, Name NVARCHAR(200) NOT NULL, \
         Body NVARCHAR(4000) NOT NULL",
    ),
    (
        "Settings",
        "Name NVARCHAR(64) NOT NULL PRIMARY KEY, Setting NVARCHAR(400) NOT NULL",
    ),
];

/// Milliseconds since 1970. All nodes are on one host, so they share a clock.
pub(super) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Random bytes as hexadecimal digits.
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

/// A column as text; empty when it is NULL.
pub(super) fn text(row: &Row, column: usize) -> String {
    row.try_get::<&str, _>(column)
        .ok()
        .flatten()
        .unwrap_or_default()
        .to_owned()
}

/// A column as a number.
pub(super) fn number(row: &Row, column: usize) -> i64 {
    row.try_get::<i64, _>(column)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// A column as a flag.
pub(super) fn flag(row: &Row, column: usize) -> bool {
    row.try_get::<bool, _>(column)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Creates the tables that are not there.
pub(super) async fn create(database: &mut Database) -> Result<(), SqlError> {
    for (name, columns) in TABLES {
        let created = database
            .execute(
                &format!("IF OBJECT_ID(N'{name}') IS NULL CREATE TABLE {name} ({columns})"),
                &[],
            )
            .await;
        match created {
            Ok(_) | Err(SqlError::Server { code: EXISTS, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The newest version that the schema was upgraded to, if any.
pub(super) async fn version(database: &mut Database) -> Result<Option<String>, SqlError> {
    let rows = database
        .rows("SELECT Version FROM SchemaVersions", &[])
        .await?;
    let versions = rows.iter().map(|row| text(row, 0));
    Ok(versions.max_by(|one, other| parts(one).cmp(&parts(other))))
}

/// Whether the first version is newer than the second.
pub(super) fn is_newer(one: &str, other: &str) -> bool {
    parts(one) > parts(other)
}

/// A version's numbers; what is not a number, such as `hardened`, counts as none.
fn parts(version: &str) -> Vec<u64> {
    version
        .split(['.', '-', '+'])
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// A setting of the whole installation.
pub(super) async fn setting(
    database: &mut Database,
    name: &str,
) -> Result<Option<String>, SqlError> {
    let rows = database
        .rows("SELECT Setting FROM Settings WHERE Name = @P1", &[&name])
        .await?;
    Ok(rows.first().map(|row| text(row, 0)))
}

/// Writes a setting, whether it is there or not.
pub(super) async fn put(database: &mut Database, name: &str, value: &str) -> Result<(), SqlError> {
    let update = "UPDATE Settings SET Setting = @P2 WHERE Name = @P1";
    if database.execute(update, &[&name, &value]).await? == 0 {
        set(database, name, value).await?;
    }
    Ok(())
}

/// Takes a setting away.
pub(super) async fn forget(database: &mut Database, name: &str) -> Result<(), SqlError> {
    let delete = "DELETE FROM Settings WHERE Name = @P1";
    database.execute(delete, &[&name]).await.map(|_| ())
}

/// How many tasks a node may run at a time, where that was set.
pub(super) async fn task_cap(database: &mut Database, node: &str) -> Result<Option<u32>, SqlError> {
    let query = "SELECT Cap FROM NodeTaskCap WHERE Name = @P1";
    let rows = database.rows(query, &[&node]).await?;
    Ok(rows.first().and_then(|row| number(row, 0).try_into().ok()))
}

/// Sets it.
pub(super) async fn set_task_cap(
    database: &mut Database,
    node: &str,
    cap: u32,
) -> Result<(), SqlError> {
    let update = "UPDATE NodeTaskCap SET Cap = @P2 WHERE Name = @P1";
    let insert = "INSERT INTO NodeTaskCap (Name, Cap) VALUES (@P1, @P2)";
    let cap = i64::from(cap);
    if database.execute(update, &[&node, &cap]).await? == 0 {
        database.execute(insert, &[&node, &cap]).await?;
    }
    Ok(())
}

/// Writes a setting that is not there yet.
pub(super) async fn set(database: &mut Database, name: &str, value: &str) -> Result<(), SqlError> {
    database
        .execute(
            "INSERT INTO Settings (Name, Setting) VALUES (@P1, @P2)",
            &[&name, &value],
        )
        .await
        .map(|_| ())
}

/// What the database remembers of a master key: a random salt, and the digest of both.
pub(super) fn fingerprint(key: &Secret, salt: &str) -> String {
    format!(
        "{salt}:{}",
        hex(&sha2::Sha256::digest(format!("{salt}:{}", key.expose())))
    )
}

/// Whether a remembered fingerprint is this key's.
pub(super) fn is_of(fingerprint_kept: &str, key: &Secret) -> bool {
    fingerprint_kept
        .split_once(':')
        .is_some_and(|(salt, _)| fingerprint(key, salt) == fingerprint_kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_newer("2026.10.1", "2026.9.12"));
        assert!(is_newer("2026.2.1", "2026.2"));
        assert!(!is_newer("2026.2.0-hardened", "2026.2.0"));
        assert!(!is_newer("2025.4.9", "2026.1"));
    }

    #[test]
    fn a_fingerprint_knows_its_key_and_does_not_show_it() {
        let (key, other) = (
            Secret::new("6EdU6IWsCtMEwk0kPKflQQ=="),
            Secret::new("5qJcW9E6B99teMmrOzaYNA=="),
        );
        let kept = fingerprint(&key, &random_hex());
        assert!(is_of(&kept, &key) && !is_of(&kept, &other) && !is_of("", &key));
        assert!(!kept.contains(key.expose()));
        assert_ne!(kept, fingerprint(&key, &random_hex()));
    }
}
