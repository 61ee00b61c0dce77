//! Logins, statements, parameters, results and locks, through tiberius.

use std::time::Duration;

use tiberius::{EncryptionLevel, Query};

use super::{PASSWORD, Server, code, int, number, root, run};

#[tokio::test]
async fn login_at_every_encryption_level() {
    let root = root();
    let server = Server::start(&root, &[]);
    for level in [
        EncryptionLevel::Required,
        EncryptionLevel::On,
        EncryptionLevel::Off,
        EncryptionLevel::NotSupported,
    ] {
        let mut sql = server.connect(level, PASSWORD, "").await.unwrap();
        assert_eq!(int(&mut sql, "SELECT 1").await, 1, "{level:?}");
        let wrong = server.connect(level, "N0tS3cr3t?", "").await.unwrap_err();
        assert_eq!(number(&wrong), 18456, "{level:?}");
        let nowhere = server
            .connect(level, PASSWORD, "nowhere")
            .await
            .unwrap_err();
        assert_eq!(number(&nowhere), 4060, "{level:?}");
    }
}

#[tokio::test]
async fn databases_are_listed_as_the_vendor_does() {
    let root = root();
    let server = Server::start(&root, &[]);
    let mut sql = server.sa().await;
    let listed = "SELECT CAST(name AS NVARCHAR(60)), state, CAST(state_desc AS NVARCHAR(60)) FROM sys.databases ORDER BY database_id";
    run(
        &mut sql,
        "IF DB_ID(N'Octo-Deploy') IS NULL CREATE DATABASE [Octo-Deploy]",
    )
    .await;
    run(
        &mut sql,
        "IF DB_ID(N'octo-deploy') IS NULL CREATE DATABASE [Octo-Deploy]",
    )
    .await;
    let rows = sql
        .simple_query(listed)
        .await
        .unwrap()
        .into_first_result()
        .await
        .unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(names, ["master", "tempdb", "model", "msdb", "Octo-Deploy"]);
    assert!(
        rows.iter()
            .all(|row| row.get::<&str, _>(2) == Some("ONLINE"))
    );
    assert!(
        rows.iter()
            .all(|row| !matches!(row.try_get::<i32, _>(1), Ok(Some(state)) if state != 0))
    );
    run(&mut sql, "DROP DATABASE [Octo-Deploy]").await;
    assert_eq!(int(&mut sql, "SELECT COUNT(*) FROM sys.databases").await, 4);
}

#[tokio::test]
async fn errors_have_the_vendors_numbers() {
    let root = root();
    let server = Server::start(&root, &[]);
    let mut sql = server.sa().await;
    run(&mut sql, "CREATE DATABASE [Octo-Deploy]").await;
    for (text, expected) in [
        ("CREATE DATABASE [OCTO-DEPLOY]", 1801),
        ("USE nowhere", 911),
        ("DROP DATABASE nowhere", 3701),
        ("SELECT * FROM Missing", 208),
        ("SELECT Missing FROM sys.databases", 207),
        ("SELECT @missing", 137),
        ("SELECT \"text\"", 207),
        ("FROBNICATE", 102),
        ("SELECT 1 LIMIT 1", 102),
        ("PRAGMA user_version", 102),
        ("EXEC sp_frobnicate", 2812),
        ("SELECT FROBNICATE(1)", 195),
        ("CREATE TABLE t (a GEOGRAPHY)", 243),
        ("CREATE TABLE t (a BIGINT IDENTITY)", 2749),
        ("COMMIT", 3902),
        ("ALTER LOGIN [sa] WITH PASSWORD = 'weak'", 15116),
        ("ALTER LOGIN [sa] WITH PASSWORD = 'long-and-weak'", 15118),
    ] {
        assert_eq!(code(&mut sql, text).await, expected, "{text}");
    }
    run(
        &mut sql,
        "USE [Octo-Deploy]; CREATE TABLE dbo.T (Id INT NOT NULL PRIMARY KEY, Name NVARCHAR(20) NOT NULL UNIQUE)",
    )
    .await;
    run(&mut sql, "INSERT INTO T VALUES (1, N'a')").await;
    for (text, expected) in [
        ("CREATE TABLE T (a INT)", 2714),
        ("INSERT T VALUES (1, N'b')", 2627),
        ("INSERT T VALUES (2, N'A')", 2627),
        ("INSERT T VALUES (3, NULL)", 515),
        ("INSERT OR REPLACE INTO T VALUES (1, N'a')", 102),
        (
            "INSERT T SELECT database_id, name FROM sys.databases WHERE 1 = 0; SELECT CAST(Name AS INT) FROM T; SELECT Nme FROM T",
            207,
        ),
        ("DROP DATABASE [Octo-Deploy]", 3702),
    ] {
        assert_eq!(code(&mut sql, text).await, expected, "{text}");
    }
}

/// Binds a text, or nothing everywhere, to the five parameters.
fn bound<'a>(insert: &'a str, text: Option<&'a str>) -> Query<'a> {
    let mut query = Query::new(insert);
    query.bind(text);
    query.bind(text.map(|_| i32::MIN));
    query.bind(text.map(|_| i64::MAX));
    query.bind(text.map(|_| true));
    query.bind(text.map(|text| text.as_bytes().to_vec()));
    query
}

#[tokio::test]
async fn parameters_come_back_as_they_went() {
    let root = root();
    let server = Server::start(&root, &[]);
    let long = "Prüfung ☃ 𝄞 '".repeat(3000);
    for level in [EncryptionLevel::Required, EncryptionLevel::Off] {
        let mut sql = server.connect(level, PASSWORD, "tempdb").await.unwrap();
        run(&mut sql, "IF OBJECT_ID(N'dbo.P') IS NOT NULL DROP TABLE P").await;
        let columns = "Id INT IDENTITY(1,1) NOT NULL, Txt NVARCHAR(MAX), Num INT, Big BIGINT, Ok BIT, Bin VARBINARY(MAX), At DATETIME2, CONSTRAINT PK_P PRIMARY KEY (Id)";
        run(
            &mut sql,
            &format!("IF OBJECT_ID('P', 'U') IS NULL CREATE TABLE P ({columns})"),
        )
        .await;
        let insert = "INSERT INTO [dbo].[P] (Txt, Num, Big, Ok, Bin, At) OUTPUT INSERTED.Id VALUES (@P1, @P2, @P3, @P4, @P5, GETUTCDATE())";
        let values = [Some(long.as_str()), Some(""), None];
        for (at, text) in values.iter().enumerate() {
            let row = bound(insert, *text)
                .query(&mut sql)
                .await
                .unwrap()
                .into_row()
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                row.get::<i32, _>(0),
                i32::try_from(at + 1).ok(),
                "the identity"
            );
        }
        let rows = sql
            .query(
                "SELECT Id, Txt, Num, Big, Ok, Bin FROM P WHERE Id < @P1 ORDER BY Id",
                &[&4_i64],
            )
            .await
            .unwrap();
        let rows = rows.into_first_result().await.unwrap();
        for (row, text) in rows.iter().zip(values) {
            assert_eq!(row.get::<&str, _>("Txt"), text);
            assert_eq!(row.get::<i32, _>("Num"), text.map(|_| i32::MIN));
            assert_eq!(row.get::<i64, _>("Big"), text.map(|_| i64::MAX));
            assert_eq!(row.get::<bool, _>("Ok"), text.map(|_| true));
            assert_eq!(row.get::<&[u8], _>("Bin"), text.map(str::as_bytes));
            assert!(row.get::<i32, _>("Id").is_some());
        }
        assert_eq!(rows.len(), 3);
        let row = sql
            .query("SELECT @P1, @P2, @P3", &[&7_i64, &"x", &None::<i32>])
            .await
            .unwrap()
            .into_row()
            .await
            .unwrap()
            .unwrap();
        let (number, text) = (row.get::<i64, _>(0), row.get::<&str, _>(1));
        assert_eq!((number, text), (Some(7), Some("x")));
        assert_eq!(row.get::<i32, _>(2), None);
        let changed = sql
            .execute(
                "UPDATE P SET Num = @P1 WHERE Txt IS NULL OR Txt = N''",
                &[&5_i32],
            )
            .await
            .unwrap();
        assert_eq!(changed.total(), 2);
    }
}

#[tokio::test]
async fn large_results_and_requests() {
    let root = root();
    let server = Server::start(&root, &[]);
    for level in [EncryptionLevel::Required, EncryptionLevel::NotSupported] {
        let mut sql = server.connect(level, PASSWORD, "tempdb").await.unwrap();
        run(
            &mut sql,
            "CREATE TABLE L (Id INT NOT NULL PRIMARY KEY, Txt NVARCHAR(400))",
        )
        .await;
        for block in 0..10 {
            let rows: Vec<String> = (0..1000)
                .map(|row| format!("({}, N'{}')", block * 1000 + row, "x".repeat(200)))
                .collect();
            run(
                &mut sql,
                &format!("INSERT INTO L VALUES {}", rows.join(",")),
            )
            .await;
        }
        let rows = sql
            .simple_query("SELECT Id, Txt FROM L ORDER BY Id")
            .await
            .unwrap()
            .into_first_result()
            .await
            .unwrap();
        assert_eq!(rows.len(), 10_000);
        assert!(
            rows.iter()
                .enumerate()
                .all(|(at, row)| row.get::<i32, _>(0) == i32::try_from(at).ok())
        );
        let rows = sql
            .simple_query("SELECT TOP 3 Id FROM L ORDER BY Id DESC")
            .await
            .unwrap()
            .into_first_result()
            .await
            .unwrap();
        assert_eq!(rows.len(), 3);
        run(&mut sql, "DROP TABLE L").await;
    }
}

#[tokio::test]
async fn transactions_commit_and_roll_back() {
    let root = root();
    let server = Server::start(&root, &[]);
    let mut one = server.sa().await;
    let mut two = server.sa().await;
    run(&mut one, "CREATE DATABASE D; USE D; CREATE TABLE T (a INT)").await;
    run(&mut two, "USE D").await;
    run(&mut one, "BEGIN TRAN; INSERT T VALUES (1)").await;
    assert_eq!(int(&mut two, "SELECT COUNT(*) FROM T").await, 0);
    run(&mut one, "ROLLBACK TRANSACTION").await;
    run(&mut one, "BEGIN TRANSACTION; INSERT T VALUES (2); COMMIT").await;
    assert_eq!(int(&mut two, "SELECT COUNT(*) FROM T").await, 1);
    run(&mut one, "BEGIN TRAN; INSERT T VALUES (3)").await;
    drop(one);
    run(&mut two, "INSERT T VALUES (4)").await;
    assert_eq!(
        int(
            &mut two,
            "DECLARE @n INT; SELECT @n = COUNT(*) FROM T; SELECT @n"
        )
        .await,
        2
    );
}

const LOCK: &str = "DECLARE @r INT; EXEC @r = sp_getapplock @Resource = N'migrate', @LockMode = 'Exclusive', @LockOwner = 'Session'";

#[tokio::test]
async fn application_locks_exclude_each_other() {
    let root = root();
    let server = Server::start(&root, &[]);
    let mut one = server.sa().await;
    let mut two = server.sa().await;
    assert_eq!(
        int(&mut one, &format!("{LOCK}, @LockTimeout = 0; SELECT @r")).await,
        0
    );
    assert_eq!(
        int(&mut two, &format!("{LOCK}, @LockTimeout = 50; SELECT @r")).await,
        -1
    );
    run(
        &mut one,
        "EXEC sp_releaseapplock @Resource = N'migrate', @LockOwner = 'Session'",
    )
    .await;
    assert_eq!(
        int(&mut two, &format!("{LOCK}, @LockTimeout = 0; SELECT @r")).await,
        0
    );
    assert_eq!(
        code(
            &mut one,
            "EXEC sp_releaseapplock @Resource = N'migrate', @LockOwner = 'Session'"
        )
        .await,
        1223
    );
    let query = format!("{LOCK}, @LockTimeout = 15000; SELECT @r");
    let waiting = int(&mut one, &query);
    let (granted, ()) = tokio::join!(waiting, async { drop(two) });
    assert!((0..=1).contains(&granted), "{granted}");
}

#[tokio::test]
async fn a_client_that_dies_while_waiting_gives_its_locks_back() {
    let root = root();
    let server = Server::start(&root, &[]);
    let mut one = server.sa().await;
    assert_eq!(int(&mut one, &format!("{LOCK}; SELECT @r")).await, 0);
    let cut = tokio::time::timeout(
        Duration::from_millis(100),
        run(&mut one, "WAITFOR DELAY '01:00'"),
    )
    .await;
    assert!(cut.is_err());
    drop(one);
    let mut two = server.sa().await;
    assert!(
        int(
            &mut two,
            &format!("{LOCK}, @LockTimeout = 15000; SELECT @r")
        )
        .await
            >= 0
    );
}
