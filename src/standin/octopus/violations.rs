//! What must never happen and did, kept where a restore of the node's database does not reach.
//!
//! A violation is written to the node's database and to `msdb`, where it survives a restore of the
//! former; a note, which is no fault by itself, to `msdb` only. A server whose `msdb` is closed to
//! the login keeps the first alone.

use std::collections::BTreeSet;

use tiberius::Row;

use super::database::Database;
use super::schema;
use super::schema::now;
use crate::sql::SqlError;

/// The table in `msdb`; one for all databases of the server.
const CREATE: &str = "IF OBJECT_ID(N'StandinFindings') IS NULL CREATE TABLE StandinFindings \
                      (Stack NVARCHAR(128) NOT NULL, IsNote BIT NOT NULL, Kind NVARCHAR(64) NOT NULL, \
                      Node NVARCHAR(200) NOT NULL, Detail NVARCHAR(400) NOT NULL, At BIGINT NOT NULL)";

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Finding {
    /// Milliseconds since 1970.
    at: i64,
    /// `concurrent-migration`, `mixed-versions`, `downgrade`, `task-cut-off`,
    /// `database-replaced`; as notes `task-abandoned`, `started-without-database`.
    kind: String,
    /// The node that saw it.
    node: String,
    /// What it saw.
    detail: String,
}

impl Finding {
    fn read(row: &Row) -> Self {
        Self {
            kind: schema::text(row, 0),
            node: schema::text(row, 1),
            detail: schema::text(row, 2),
            at: schema::number(row, 3),
        }
    }
}

/// Notes a violation for good.
pub(super) async fn record(
    database: &mut Database,
    kind: &str,
    node: &str,
    detail: &str,
) -> Result<(), SqlError> {
    const INSERT: &str =
        "INSERT INTO Violations (Kind, Node, Detail, At) VALUES (@P1, @P2, @P3, @P4)";
    let at = now();
    let _ = keep(database, false, (kind, node, detail, at)).await;
    database
        .execute(INSERT, &[&kind, &node, &detail, &at])
        .await
        .map(|_| ())
}

/// Notes what is worth knowing and no fault by itself.
pub(super) async fn note(database: &Database, kind: &str, node: &str, detail: &str) {
    // A closed `msdb` loses a note, and nothing else.
    let _ = keep(database, true, (kind, node, detail, now())).await;
}

async fn keep(
    database: &Database,
    is_note: bool,
    (kind, node, detail, at): (&str, &str, &str, i64),
) -> Result<(), SqlError> {
    const INSERT: &str = "INSERT INTO StandinFindings (Stack, IsNote, Kind, Node, Detail, At) \
                          VALUES (@P1, @P2, @P3, @P4, @P5, @P6)";
    let mut outside = database.beside("msdb");
    outside.execute(CREATE, &[]).await?;
    let stack = database.name();
    outside
        .execute(INSERT, &[&stack, &is_note, &kind, &node, &detail, &at])
        .await
        .map(|_| ())
}

/// All violations, the oldest first.
pub(super) async fn all(database: &mut Database) -> Result<Vec<Finding>, SqlError> {
    let inside = "SELECT Kind, Node, Detail, At FROM Violations";
    let rows = database.rows(inside, &[]).await?;
    let mut found: BTreeSet<Finding> = rows.iter().map(Finding::read).collect();
    found.extend(kept(database, false).await);
    Ok(found.into_iter().collect())
}

/// All notes, the oldest first.
pub(super) async fn notes(database: &Database) -> Vec<Finding> {
    let found: BTreeSet<Finding> = kept(database, true).await.into_iter().collect();
    found.into_iter().collect()
}

async fn kept(database: &Database, is_note: bool) -> Vec<Finding> {
    const SELECT: &str = "SELECT Kind, Node, Detail, At FROM StandinFindings \
                          WHERE Stack = @P1 AND IsNote = @P2";
    let mut outside = database.beside("msdb");
    let stack = database.name();
    if outside.execute(CREATE, &[]).await.is_err() {
        return Vec::new();
    }
    let rows = outside.rows(SELECT, &[&stack, &is_note]).await;
    rows.unwrap_or_default().iter().map(Finding::read).collect()
}
