//! Whole databases: backup, restore, their states, and what the vendor says when one cannot be.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tiberius::EncryptionLevel;
use tokio::time::Instant;

use super::{PASSWORD, PATIENCE, Server, Sql, code, int, number, root, run};

const DISK: &str = "TO DISK = N'/var/opt/mssql/backup/d.bak'";
const FROM: &str = "FROM DISK = N'/var/opt/mssql/backup/d.bak'";

/// A server with a database `D` of one table and a directory for backups.
async fn stocked(root: &TempDir, extra: &[(&str, &str)]) -> (Server, Sql) {
    std::fs::create_dir_all(root.path().join("backup")).unwrap();
    let server = Server::start(root, extra);
    let mut sql = server.sa().await;
    let stock = "CREATE DATABASE D; USE D; CREATE TABLE T (a INT, b NVARCHAR(400)); \
                 INSERT T VALUES (1, N'kept'); USE master";
    run(&mut sql, stock).await;
    let long = "x".repeat(300);
    let rows: Vec<String> = (0..900).map(|row| format!("({row}, N'{long}')")).collect();
    run(
        &mut sql,
        &format!("USE D; INSERT T VALUES {}; USE master", rows.join(",")),
    )
    .await;
    (server, sql)
}

fn medium(root: &TempDir) -> PathBuf {
    root.path().join("backup/d.bak")
}

async fn text(sql: &mut Sql, query: &str) -> String {
    let row = sql.simple_query(query).await.unwrap().into_row().await;
    let row = row.unwrap_or_else(|error| panic!("{query}: {error}"));
    row.unwrap_or_else(|| panic!("{query}: no row"))
        .get::<&str, _>(0)
        .unwrap_or("NULL")
        .to_owned()
}

#[tokio::test]
async fn a_backup_brings_back_what_was_there_and_tells_its_progress() {
    let root = root();
    let (server, mut sql) = stocked(&root, &[("STANDIN_SQL_BACKUP_MS", "600")]).await;
    let mut other = server.sa().await;
    let watch = async {
        let query =
            "SELECT percent_complete FROM sys.dm_exec_requests WHERE command = 'BACKUP DATABASE'";
        let mut seen = Vec::new();
        let give_up_at = Instant::now() + PATIENCE;
        while seen.len() < 2 && Instant::now() < give_up_at {
            let row = other.simple_query(query).await.unwrap().into_row().await;
            let percent = row.unwrap().and_then(|row| row.get::<f32, _>(0));
            seen.extend(percent.filter(|percent| seen.last().is_none_or(|last| percent > last)));
        }
        seen
    };
    let backup = format!(
        "BACKUP DATABASE [D] {DISK} WITH COPY_ONLY, CHECKSUM, COMPRESSION, INIT, STATS = 25"
    );
    let (seen, ()) = tokio::join!(watch, run(&mut sql, &backup));
    assert!(
        seen.len() == 2 && seen.iter().all(|percent| *percent <= 100.0),
        "{seen:?}"
    );
    run(
        &mut sql,
        &format!("RESTORE VERIFYONLY {FROM} WITH CHECKSUM"),
    )
    .await;
    let row = sql
        .simple_query(format!("RESTORE HEADERONLY {FROM}"))
        .await
        .unwrap()
        .into_row()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.get::<&str, _>("DatabaseName"), Some("D"));
    assert_eq!(row.get::<bool, _>("HasBackupChecksums"), Some(true));
    assert_eq!(row.get::<bool, _>("IsCopyOnly"), Some(true));
    let listed = format!("RESTORE FILELISTONLY {FROM}");
    assert_eq!(text(&mut sql, &listed).await, "D");
    assert_eq!(
        text(
            &mut sql,
            "SELECT TOP 1 physical_device_name FROM msdb.dbo.backupmediafamily"
        )
        .await,
        "/var/opt/mssql/backup/d.bak"
    );
    let found =
        "SELECT COUNT(*) FROM msdb.dbo.backupset WHERE database_name = N'D' AND is_copy_only = 1";
    assert_eq!(int(&mut sql, found).await, 1);
    run(&mut sql, "USE D; DELETE T; USE master").await;
    run(
        &mut sql,
        &format!("RESTORE DATABASE [D] {FROM} WITH REPLACE, RECOVERY"),
    )
    .await;
    assert_eq!(int(&mut sql, "USE D; SELECT COUNT(*) FROM T").await, 901);
}

#[tokio::test]
async fn a_second_database_needs_other_files_and_may_not_overwrite() {
    let root = root();
    let (server, mut sql) = stocked(&root, &[]).await;
    run(&mut sql, &format!("BACKUP DATABASE D {DISK}")).await;
    let restore = format!("RESTORE DATABASE D2 {FROM}");
    assert_eq!(code(&mut sql, &restore).await, 1834);
    let wrong = format!("{restore} WITH MOVE N'X' TO N'/var/opt/mssql/data/d2.mdf'");
    assert_eq!(code(&mut sql, &wrong).await, 3234);
    let nowhere = format!("{restore} WITH MOVE N'D' TO N'/var/opt/mssql/none/d2.mdf'");
    assert_eq!(code(&mut sql, &nowhere).await, 5133);
    let moved = format!(
        "{restore} WITH MOVE N'D' TO N'/var/opt/mssql/data/d2.mdf', MOVE N'D_log' TO N'/var/opt/mssql/data/d2.ldf'"
    );
    run(&mut sql, &moved).await;
    assert_eq!(int(&mut sql, "USE D2; SELECT COUNT(*) FROM T").await, 901);
    run(&mut sql, "USE master; CREATE DATABASE E").await;
    assert_eq!(
        code(&mut sql, &format!("RESTORE DATABASE E {FROM}")).await,
        3154
    );
    assert_eq!(
        code(&mut sql, &format!("RESTORE DATABASE D {FROM}")).await,
        3159
    );
    let mut busy = server.sa().await;
    run(&mut busy, "USE D").await;
    let replace = format!("RESTORE DATABASE D {FROM} WITH REPLACE");
    assert_eq!(code(&mut sql, &replace).await, 3101);
    assert_eq!(code(&mut busy, &replace).await, 3102);
    assert_eq!(
        code(&mut sql, "ALTER DATABASE D SET SINGLE_USER WITH NO_WAIT").await,
        5070
    );
    run(
        &mut sql,
        "ALTER DATABASE D SET SINGLE_USER WITH ROLLBACK IMMEDIATE",
    )
    .await;
    busy.simple_query("SELECT 1").await.map(|_| ()).unwrap_err();
    run(&mut sql, "USE D").await;
    let refused = server.connect(EncryptionLevel::On, PASSWORD, "D").await;
    assert_eq!(number(&refused.map(|_| ()).unwrap_err()), 924);
    run(&mut sql, "USE master").await;
    run(&mut sql, &replace).await;
    let access = "SELECT user_access_desc FROM sys.databases WHERE name = N'D'";
    assert_eq!(text(&mut sql, access).await, "MULTI_USER");
    run(
        &mut sql,
        "ALTER DATABASE D2 MODIFY NAME = Kept; DROP DATABASE Kept",
    )
    .await;
}

#[tokio::test]
async fn damage_is_found_and_a_failed_restore_leaves_no_database() {
    let root = root();
    let (_server, mut sql) = stocked(&root, &[]).await;
    run(&mut sql, &format!("BACKUP DATABASE D {DISK} WITH CHECKSUM")).await;
    let mut file = std::fs::File::options()
        .write(true)
        .open(medium(&root))
        .unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(length / 2)).unwrap();
    file.write_all(b"?!?!").unwrap();
    assert_eq!(
        code(&mut sql, &format!("RESTORE VERIFYONLY {FROM}")).await,
        3189
    );
    let replace = format!("RESTORE DATABASE D {FROM} WITH REPLACE");
    assert_eq!(code(&mut sql, &replace).await, 3183);
    assert_eq!(code(&mut sql, "USE D").await, 927);
    let state = "SELECT state_desc FROM sys.databases WHERE name = N'D'";
    assert_eq!(text(&mut sql, state).await, "RESTORING");
    file.set_len(length / 2).unwrap();
    assert_eq!(
        code(&mut sql, &format!("RESTORE VERIFYONLY {FROM}")).await,
        3256
    );
    let header = format!("RESTORE HEADERONLY {FROM}");
    assert_eq!(text(&mut sql, &header).await, "*** INCOMPLETE ***");
    file.set_len(0).unwrap();
    file.write_all(&[7; 40]).unwrap();
    assert_eq!(
        code(&mut sql, &format!("RESTORE VERIFYONLY {FROM}")).await,
        3241
    );
    let missing = "RESTORE VERIFYONLY FROM DISK = N'/var/opt/mssql/backup/none.bak'";
    assert_eq!(code(&mut sql, missing).await, 3201);
    run(&mut sql, "DROP DATABASE D").await;
}

#[tokio::test]
async fn a_backup_that_cannot_be_is_refused_in_the_vendors_numbers() {
    let root = root();
    let settings = [
        ("MSSQL_PID", "Express"),
        ("STANDIN_SQL_FAULT", "backup-disk-full=60000,corrupt=Bad"),
    ];
    let (_server, mut sql) = stocked(&root, &settings).await;
    run(&mut sql, "CREATE DATABASE Bad").await;
    for (backup, expected) in [
        (
            "BACKUP DATABASE nowhere TO DISK = N'/var/opt/mssql/backup/x.bak'",
            911,
        ),
        (
            "BACKUP DATABASE tempdb TO DISK = N'/var/opt/mssql/backup/x.bak'",
            3147,
        ),
        (
            "BACKUP DATABASE D TO DISK = N'/var/opt/mssql/none/x.bak'",
            3201,
        ),
        (
            "BACKUP DATABASE D TO DISK = N'/var/opt/mssql/backup/x.bak' WITH COMPRESSION",
            1844,
        ),
        (
            "BACKUP DATABASE D TO DISK = N'/var/opt/mssql/backup/x.bak' WITH CHECKSUM",
            3202,
        ),
        (
            "BACKUP DATABASE Bad TO DISK = N'/var/opt/mssql/backup/y.bak' WITH CHECKSUM",
            3043,
        ),
        ("DBCC CHECKDB (N'Bad') WITH NO_INFOMSGS", 8939),
        ("BACKUP DATABASE D TO DISK = N'/x' WITH FROB", 155),
    ] {
        assert_eq!(code(&mut sql, backup).await, expected, "{backup}");
    }
    assert!(
        root.path().join("backup/x.bak").exists(),
        "what was written stays"
    );
    run(&mut sql, "DBCC CHECKDB (N'D') WITH NO_INFOMSGS").await;
    let edition = "SELECT CAST(SERVERPROPERTY('Edition') AS NVARCHAR(128))";
    assert_eq!(text(&mut sql, edition).await, "Express Edition (64-bit)");
    assert_eq!(
        int(
            &mut sql,
            "SELECT CAST(SERVERPROPERTY('EngineEdition') AS INT)"
        )
        .await,
        4
    );
    assert_eq!(
        int(&mut sql, "SELECT IS_SRVROLEMEMBER('sysadmin')").await,
        1
    );
    let permitted = "SELECT HAS_PERMS_BY_NAME(N'D', 'DATABASE', 'BACKUP DATABASE')";
    assert_eq!(int(&mut sql, permitted).await, 1);
}

#[tokio::test]
async fn newer_data_is_not_restored_and_rights_are_checked() {
    let root = root();
    let (mut server, mut sql) = stocked(&root, &[("STANDIN_SQL_VERSION", "998")]).await;
    run(&mut sql, &format!("BACKUP DATABASE D {DISK}")).await;
    server.signal("-TERM");
    server.wait_exit();
    let older = super::root();
    std::fs::create_dir_all(older.path().join("backup")).unwrap();
    std::fs::copy(medium(&root), medium(&older)).unwrap();
    let server = Server::start(&older, &[]);
    let restore = format!("RESTORE DATABASE D {FROM}");
    assert_eq!(code(&mut server.sa().await, &restore).await, 3169);
    drop(server);
    let server = Server::start(&older, &[("STANDIN_SQL_FAULT", "not-sysadmin")]);
    let mut sql = server.sa().await;
    assert_eq!(
        int(&mut sql, "SELECT IS_SRVROLEMEMBER('sysadmin')").await,
        0
    );
    for (statement, expected) in [
        (restore.as_str(), 262),
        ("BACKUP DATABASE master TO DISK = N'/x'", 262),
        ("ALTER LOGIN sa WITH PASSWORD = N'N3w-Passw0rd'", 15151),
        ("SHUTDOWN", 6004),
    ] {
        assert_eq!(code(&mut sql, statement).await, expected, "{statement}");
    }
}

#[tokio::test]
async fn a_kill_while_restoring_leaves_it_restoring_and_the_end_is_recorded() {
    let root = root();
    let (mut server, mut sql) = stocked(&root, &[]).await;
    run(&mut sql, &format!("BACKUP DATABASE D {DISK} WITH CHECKSUM")).await;
    server.signal("-TERM");
    server.wait_exit();
    let slow = [("STANDIN_SQL_BACKUP_MS", "60000")];
    let mut server = Server::start(&root, &slow);
    let mut sql = server.sa().await;
    let mut other = server.sa().await;
    let restoring = tokio::spawn(async move {
        let restore = format!("RESTORE DATABASE D {FROM} WITH REPLACE");
        let _ = sql.simple_query(restore).await;
    });
    let state = "SELECT state_desc FROM sys.databases WHERE name = N'D'";
    let give_up_at = Instant::now() + PATIENCE;
    while text(&mut other, state).await != "RESTORING" {
        assert!(Instant::now() < give_up_at);
    }
    server.child.kill().unwrap();
    server.wait_exit();
    restoring.abort();
    let server = Server::start(&root, &[("STANDIN_SQL_RECOVERY_MS", "0")]);
    let mut sql = server.sa().await;
    assert_eq!(text(&mut sql, state).await, "RESTORING");
    run(&mut sql, &format!("RESTORE DATABASE D {FROM} WITH REPLACE")).await;
    assert_eq!(int(&mut sql, "USE D; SELECT COUNT(*) FROM T").await, 901);
    let ends = "SELECT COUNT(*) FROM sys.standin_runs WHERE ended = 'unclean'";
    assert_eq!(int(&mut sql, ends).await, 1);
    assert_eq!(
        text(&mut sql, "SELECT TOP 1 ended_by FROM sys.standin_runs").await,
        "SIGNAL"
    );
}

#[tokio::test]
async fn an_unclean_end_is_recovered_for_a_while() {
    let root = root();
    let (mut server, _sql) = stocked(&root, &[]).await;
    server.child.kill().unwrap();
    server.wait_exit();
    let mut server = Server::spawn(&root, &[("STANDIN_SQL_RECOVERY_MS", "6000")]);
    server.wait_listening();
    server.wait_line("Recovery of database 'D' (5) is 0% complete");
    let mut sql = server.sa().await;
    assert_eq!(code(&mut sql, "USE D").await, 922);
    server.wait_line("Recovery is complete.");
    assert!(server.logged("(5) is 100% complete"));
    run(&mut sql, "USE D").await;
}

#[tokio::test]
async fn states_and_the_password_are_changed() {
    let root = root();
    let (server, mut sql) = stocked(&root, &[]).await;
    run(
        &mut sql,
        "ALTER DATABASE D SET OFFLINE WITH ROLLBACK IMMEDIATE",
    )
    .await;
    assert_eq!(code(&mut sql, "USE D").await, 942);
    run(
        &mut sql,
        "ALTER DATABASE D SET ONLINE; ALTER DATABASE D SET RECOVERY SIMPLE",
    )
    .await;
    let model = "SELECT recovery_model_desc FROM sys.databases WHERE name = N'D'";
    assert_eq!(text(&mut sql, model).await, "SIMPLE");
    for (statement, expected) in [
        ("ALTER DATABASE nowhere SET ONLINE", 5011),
        ("ALTER DATABASE master SET OFFLINE", 5058),
        ("ALTER LOGIN sa WITH PASSWORD = N'Ab1!'", 15116),
        (
            "ALTER LOGIN sa WITH PASSWORD = N'N3w-Passw0rd' OLD_PASSWORD = N'wrong'",
            15151,
        ),
        ("KILL 9999", 6106),
    ] {
        assert_eq!(code(&mut sql, statement).await, expected, "{statement}");
    }
    let change =
        format!("ALTER LOGIN [sa] WITH PASSWORD = N'N3w-Passw0rd' OLD_PASSWORD = N'{PASSWORD}'");
    run(&mut sql, &change).await;
    let old = server.connect(EncryptionLevel::On, PASSWORD, "").await;
    assert_eq!(number(&old.map(|_| ()).unwrap_err()), 18456);
    let connecting = server.connect(EncryptionLevel::On, "N3w-Passw0rd", "");
    tokio::time::timeout(Duration::from_secs(20), connecting)
        .await
        .unwrap()
        .unwrap();
}
