//! A database into a file of its server, and back. The server writes and reads the file itself, so
//! paths are those that it sees.
//!
//! Nothing bounds the whole, since databases are of any size; a statement whose progress stands
//! still is given up. Statements: learn.microsoft.com, `BACKUP`, `RESTORE`, `RESTORE VERIFYONLY`.

use std::time::Duration;

use super::SqlError;
use super::login;
use super::rows;
use crate::spec::DatabaseTarget;

/// Logging in, and a question that is answered from memory.
const QUICK: Duration = Duration::from_secs(15);
/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A statement that gets no further for this long is given up: the server's disk does not answer.
/// It begins and ends with minutes in which the percentage stands still on a slow one.
pub const STANDSTILL: Duration = Duration::from_secs(10 * 60);
/// Editions that cannot write compressed backups (`SERVERPROPERTY('EngineEdition')`): Express.
const EXPRESS: &str = "4";
/// `BACKUP DATABASE WITH COMPRESSION is not supported` on this edition.
const NO_COMPRESSION: u32 = 1844;

/// A name in brackets.
pub fn quoted(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}

/// A text literal.
pub fn literal(text: &str) -> String {
    format!("N'{}'", text.replace('\'', "''"))
}

/// What the server says of itself, as far as a backup needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// `16.0.4135.4`.
    pub version: Option<String>,
    /// Whether it can write compressed backups.
    pub can_compress: bool,
    /// The directory that it writes backups to by itself.
    pub backup_directory: Option<String>,
}

/// Asks the server what it is.
pub async fn server(target: &DatabaseTarget) -> Result<Server, SqlError> {
    let property = |name: &str| format!("CAST(SERVERPROPERTY('{name}') AS NVARCHAR(512))");
    let names = [
        "EngineEdition",
        "ProductVersion",
        "InstanceDefaultBackupPath",
    ];
    let question = format!("SELECT {}", names.map(property).join(", "));
    let found = ask(target, &question).await?;
    let value = |at: usize| {
        let column = found.first().and_then(|row| row.get(at)).cloned();
        column.filter(|text| !text.is_empty())
    };
    Ok(Server {
        can_compress: value(0).is_some_and(|edition| edition != EXPRESS),
        version: value(1),
        backup_directory: value(2).map(|path| path.trim_end_matches('/').to_owned()),
    })
}

/// Bytes of a database's files. `None` where the server does not tell.
pub async fn size(target: &DatabaseTarget) -> Option<u64> {
    let question = format!(
        "SELECT CAST(SUM(CAST(size AS BIGINT)) * 8192 AS NVARCHAR(20)) FROM sys.master_files WHERE database_id = DB_ID({})",
        literal(&target.database)
    );
    number(&ask(target, &question).await.ok()?)
}

/// Bytes that are free where the server keeps its data. `None` where it does not tell.
pub async fn free(target: &DatabaseTarget) -> Option<u64> {
    let question = "SELECT CAST(available_bytes AS NVARCHAR(20)) FROM sys.dm_os_volume_stats(1, 1)";
    number(&ask(target, question).await.ok()?)
}

fn number(rows: &[Vec<String>]) -> Option<u64> {
    rows.first()?.first()?.parse().ok()
}

async fn ask(target: &DatabaseTarget, question: &str) -> Result<Vec<Vec<String>>, SqlError> {
    let mut client = login(target, "master", QUICK).await?;
    let answer = rows(&mut client, question, QUICK).await;
    let _ = tokio::time::timeout(QUICK, Box::pin(client.close())).await;
    answer
}

/// `BACKUP DATABASE` into a new file. It takes no part in the server's own sequence of backups, and
/// checks pages as it reads them.
pub fn backup_statement(database: &str, file: &str, compressed: bool) -> String {
    let compression = if compressed {
        "COMPRESSION"
    } else {
        "NO_COMPRESSION"
    };
    format!(
        "BACKUP DATABASE {} TO DISK = {} WITH COPY_ONLY, CHECKSUM, FORMAT, INIT, {compression}, STATS = 5",
        quoted(database),
        literal(file)
    )
}

/// Writes the database into a file of the server, and lets the server read it again. `told` is
/// given percent from 0 to 100 as they grow.
pub async fn backup(
    target: &DatabaseTarget,
    file: &str,
    compressed: bool,
    mut told: impl FnMut(f64),
) -> Result<(), SqlError> {
    let statement = backup_statement(&target.database, file, compressed);
    match run(target, &statement, &mut told).await {
        // Which editions can changed with the version; the server knows.
        Err(SqlError::Server {
            code: NO_COMPRESSION,
            ..
        }) if compressed => {
            let statement = backup_statement(&target.database, file, false);
            run(target, &statement, &mut told).await?;
        }
        other => other?,
    }
    verify(target, file).await
}

/// Lets the server read a backup file: whether it is whole, and its checksums hold.
pub async fn verify(target: &DatabaseTarget, file: &str) -> Result<(), SqlError> {
    run(target, &verify_statement(file), &mut |_| {}).await
}

/// `RESTORE VERIFYONLY` of a file.
pub fn verify_statement(file: &str) -> String {
    format!(
        "RESTORE VERIFYONLY FROM DISK = {} WITH CHECKSUM",
        literal(file)
    )
}

/// `RESTORE DATABASE` over what is there, once nobody else uses it.
pub fn restore_statement(database: &str, file: &str) -> String {
    format!(
        "RESTORE DATABASE {} FROM DISK = {} WITH REPLACE, CHECKSUM, RECOVERY, STATS = 5",
        quoted(database),
        literal(file)
    )
}

/// Replaces the database by what is in a file of the server. Connections to the database are cut.
pub async fn restore(
    target: &DatabaseTarget,
    file: &str,
    mut told: impl FnMut(f64),
) -> Result<(), SqlError> {
    run(
        target,
        &restore_statement(&target.database, file),
        &mut told,
    )
    .await
}

/// A file of the database in a backup, by the name that the database has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFile {
    /// Its logical name.
    pub name: String,
    /// Where it was.
    pub path: String,
}

/// The files that the database in a backup file is made of.
pub async fn files_in(target: &DatabaseTarget, file: &str) -> Result<Vec<DatabaseFile>, SqlError> {
    let statement = format!("RESTORE FILELISTONLY FROM DISK = {}", literal(file));
    let listed = ask(target, &statement).await?.into_iter();
    let file = |mut row: Vec<String>| {
        let path = row.get(1).cloned()?;
        Some(DatabaseFile {
            name: row.swap_remove(0),
            path,
        })
    };
    Ok(listed.filter_map(file).collect())
}

/// `RESTORE DATABASE` under another name, with files of its own in a directory of the server's.
fn restore_beside_statement(
    name: &str,
    file: &str,
    files: &[DatabaseFile],
    directory: &str,
) -> String {
    let moves = files.iter().enumerate().map(|(number, one)| {
        let ending = one.path.rsplit(['.', '/']).next().unwrap_or_default();
        let to = format!("{directory}/{name}-{number}.{ending}");
        format!(", MOVE {} TO {}", literal(&one.name), literal(&to))
    });
    format!(
        "RESTORE DATABASE {} FROM DISK = {} WITH CHECKSUM, RECOVERY, STATS = 5{}",
        quoted(name),
        literal(file),
        moves.collect::<String>()
    )
}

/// Makes another database, with files of its own, of what is in a file of the server.
pub async fn restore_beside(
    target: &DatabaseTarget,
    name: &str,
    file: &str,
    directory: &str,
    mut told: impl FnMut(f64),
) -> Result<(), SqlError> {
    let files = files_in(target, file).await?;
    let statement = restore_beside_statement(name, file, &files, directory);
    run(target, &statement, &mut told).await
}

/// Has the server check every page and every row of a database. An error is what it found.
pub async fn check(
    target: &DatabaseTarget,
    name: &str,
    mut told: impl FnMut(f64),
) -> Result<(), SqlError> {
    let statement = format!("DBCC CHECKDB ({}) WITH NO_INFOMSGS", quoted(name));
    run(target, &statement, &mut told).await
}

/// Removes a database with its files, if it is there; also one whose restore broke off.
pub async fn drop_database(target: &DatabaseTarget, name: &str) -> Result<(), SqlError> {
    let statement = format!("DROP DATABASE IF EXISTS {}", quoted(name));
    ask(target, &statement).await.map(|_| ())
}

/// Removes a file that this server wrote, by its own procedure (since SQL Server 2019).
pub async fn delete(target: &DatabaseTarget, file: &str) -> Result<(), SqlError> {
    let statement = format!("EXECUTE master.sys.xp_delete_files {}", literal(file));
    ask(target, &statement).await.map(|_| ())
}

/// Runs a statement that takes its time. Its own connection is busy, so a second one asks how far
/// it is.
async fn run(
    target: &DatabaseTarget,
    statement: &str,
    told: &mut impl FnMut(f64),
) -> Result<(), SqlError> {
    let mut client = login(target, "master", QUICK).await?;
    let session = rows(&mut client, "SELECT CAST(@@SPID AS NVARCHAR(10))", QUICK).await?;
    let session = number(&session).unwrap_or_default();
    // The watch below is what bounds it.
    let work = rows(&mut client, statement, Duration::MAX);
    tokio::pin!(work);
    let mut best = -1.0;
    let mut still = Duration::ZERO;
    loop {
        // Cancel-safe: the statement is pinned.
        tokio::select! {
            done = &mut work => return done.map(|_| ()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // While the question is asked the statement waits to be polled, not to be worked on.
        match percent(target, session).await {
            Some(percent) if percent > best => {
                (best, still) = (percent, Duration::ZERO);
                told(percent);
            }
            _ => still += LOOK_EVERY,
        }
        if still >= STANDSTILL {
            return Err(SqlError::TimedOut {
                phase: "back up or restore",
                limit: STANDSTILL,
            });
        }
    }
}

async fn percent(target: &DatabaseTarget, session: u64) -> Option<f64> {
    let question = format!(
        "SELECT CAST(percent_complete AS NVARCHAR(20)) FROM sys.dm_exec_requests WHERE session_id = {session}"
    );
    ask(target, &question)
        .await
        .ok()?
        .first()?
        .first()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_cannot_leave_their_quotes() {
        assert_eq!(quoted("Octopus]; DROP"), "[Octopus]]; DROP]");
        assert_eq!(literal("a'; SHUTDOWN --"), "N'a''; SHUTDOWN --'");
        assert_eq!(
            backup_statement("O]x", "/d/it's.bak", false),
            "BACKUP DATABASE [O]]x] TO DISK = N'/d/it''s.bak' WITH COPY_ONLY, CHECKSUM, FORMAT, INIT, NO_COMPRESSION, STATS = 5"
        );
        assert!(backup_statement("O", "/d/x", true).contains(", COMPRESSION,"));
        assert!(
            restore_statement("O]x", "/d/x")
                .starts_with("RESTORE DATABASE [O]]x] FROM DISK = N'/d/x' WITH REPLACE")
        );
        let files = [("it's", "/was/Octopus.mdf"), ("log", "/was/log")];
        let files = files.map(|(name, path)| DatabaseFile {
            name: name.to_owned(),
            path: path.to_owned(),
        });
        assert_eq!(
            restore_beside_statement("t", "/d/x", &files, "/data"),
            "RESTORE DATABASE [t] FROM DISK = N'/d/x' WITH CHECKSUM, RECOVERY, STATS = 5, \
             MOVE N'it''s' TO N'/data/t-0.mdf', MOVE N'log' TO N'/data/t-1.log'"
        );
    }
}
