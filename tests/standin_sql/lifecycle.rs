//! Start, restart, stop, and the faults of the stand-in.

use std::time::Duration;

use tiberius::EncryptionLevel;
use tokio::time::Instant;

use super::{PASSWORD, Server, code, int, number, root, run};

#[tokio::test]
async fn data_survives_a_restart_and_a_kill() {
    let root = root();
    let mut server = Server::start(&root, &[]);
    run(
        &mut server.sa().await,
        "CREATE DATABASE D; USE D; CREATE TABLE T (a NVARCHAR(10)); INSERT T VALUES (N'kept')",
    )
    .await;
    server.signal("-TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    let other = [("MSSQL_SA_PASSWORD", "An0therPass!")];
    let mut server = Server::start(&root, &other);
    assert!(!server.logged("clean_shutdown=false"), "{:#?}", server.seen);
    assert_eq!(
        number(
            &server
                .connect(EncryptionLevel::Off, "An0therPass!", "")
                .await
                .unwrap_err()
        ),
        18456
    );
    run(
        &mut server.sa().await,
        "USE D; INSERT T VALUES (N'also'); ALTER LOGIN [sa] WITH PASSWORD = 'Chang3d-it'",
    )
    .await;
    server.child.kill().unwrap();
    server.wait_exit();
    let server = Server::start(&root, &other);
    assert!(
        server.logged("clean_shutdown=false") && server.logged("Recovery of database 'D'"),
        "{:#?}",
        server.seen
    );
    let mut sql = server
        .connect(EncryptionLevel::Off, "Chang3d-it", "D")
        .await
        .unwrap();
    assert_eq!(int(&mut sql, "SELECT COUNT(*) FROM T").await, 2);
}

#[tokio::test]
async fn shutdown_waits_for_running_statements() {
    let root = root();
    let mut server = Server::start(&root, &[("STANDIN_SQL_IGNORE_SIGTERM", "Y")]);
    let mut busy = server.sa().await;
    let mut sql = server.sa().await;
    run(&mut sql, "CREATE DATABASE D; USE D; CREATE TABLE T (a INT)").await;
    server.signal("-TERM");
    let slow = async {
        run(
            &mut busy,
            "USE D; INSERT T VALUES (1); WAITFOR DELAY '00:00:00.6'; INSERT T VALUES (2)",
        )
        .await;
    };
    let stop = async {
        let mut first = server.sa().await;
        while int(&mut first, "USE D; SELECT COUNT(*) FROM T").await == 0 {}
        let _ = sql
            .simple_query("SHUTDOWN")
            .await
            .unwrap()
            .into_results()
            .await;
    };
    tokio::join!(slow, stop);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(server.logged("terminating because of a system shutdown"));
    let server = Server::start(&root, &[]);
    assert!(!server.logged("clean_shutdown=false"));
    assert_eq!(
        int(&mut server.sa().await, "USE D; SELECT COUNT(*) FROM T").await,
        2
    );
}

#[tokio::test]
async fn shutdown_with_nowait_abandons_what_runs() {
    let root = root();
    let mut server = Server::start(&root, &[]);
    let mut busy = server.sa().await;
    let mut sql = server.sa().await;
    let started = Instant::now();
    let slow =
        tokio::spawn(async move { busy.simple_query("WAITFOR DELAY '00:00:30'").await.is_err() });
    // Its reply may be cut off: that is what it asks for.
    let _ = sql.simple_query("SHUTDOWN WITH NOWAIT").await;
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(slow.await.unwrap_or(true) && started.elapsed() < Duration::from_secs(15));
    assert!(Server::start(&root, &[]).logged("clean_shutdown=false"));
}

#[tokio::test]
async fn logins_fail_until_recovery_although_the_log_says_ready() {
    let root = root();
    let mut server = Server::spawn(
        &root,
        &[
            ("STANDIN_SQL_LOGIN_DELAY_MS", "3000"),
            ("STANDIN_SQL_START_DELAY_MS", "100"),
        ],
    );
    server.wait_listening();
    server.wait_line("SQL Server is now ready for client connections.");
    assert_eq!(
        number(
            &server
                .connect(EncryptionLevel::Required, PASSWORD, "")
                .await
                .unwrap_err()
        ),
        18456
    );
    server.wait_line("Recovery is complete.");
    server.sa().await;
}

#[tokio::test]
async fn faults_of_single_databases_and_of_logins() {
    let root = root();
    let mut server = Server::start(&root, &[]);
    run(
        &mut server.sa().await,
        "CREATE DATABASE Bad; CREATE DATABASE Slow",
    )
    .await;
    server.signal("-TERM");
    server.wait_exit();
    let server = Server::start(
        &root,
        &[("STANDIN_SQL_FAULT", "suspect=Bad,recovering=Slow:1")],
    );
    let mut sql = server.sa().await;
    let states =
        "SELECT COUNT(*) FROM sys.databases WHERE state_desc = N'SUSPECT' AND name = N'bad'";
    assert_eq!(int(&mut sql, states).await, 1);
    assert_eq!(code(&mut sql, "USE Bad").await, 926);
    assert_eq!(
        number(
            &server
                .connect(EncryptionLevel::On, PASSWORD, "Bad")
                .await
                .unwrap_err()
        ),
        926
    );
    let recovering = "SELECT COUNT(*) FROM sys.databases WHERE state = 2";
    while int(&mut sql, recovering).await == 1 {}
    run(&mut sql, "USE Slow").await;
    drop(server);
    let server = Server::start(
        &root,
        &[
            ("STANDIN_SQL_FAULT", "upgrade-mode=600"),
            ("STANDIN_SQL_VERSION", "998"),
        ],
    );
    assert!(server.logged("Converting database 'master' from version 957"));
    assert_eq!(
        number(
            &server
                .connect(EncryptionLevel::On, PASSWORD, "")
                .await
                .unwrap_err()
        ),
        18401
    );
    drop(server);
    for fault in ["hang-prelogin", "hang-login"] {
        let server = Server::start(
            &root,
            &[("STANDIN_SQL_FAULT", fault), ("STANDIN_SQL_VERSION", "998")],
        );
        let connecting = server.connect(EncryptionLevel::On, PASSWORD, "");
        assert!(
            tokio::time::timeout(Duration::from_millis(300), connecting)
                .await
                .is_err(),
            "{fault}"
        );
    }
}

/// Settings, exit code, and words in the log.
type Failure = (
    &'static [(&'static str, &'static str)],
    Option<i32>,
    &'static str,
);

#[test]
fn start_up_failures_say_the_vendors_words() {
    let failures: [Failure; 12] = [
        (
            &[("ACCEPT_EULA", "")],
            Some(1),
            "End-User License Agreement (EULA) must be accepted",
        ),
        (&[("STANDIN_SQL_FAULT", "eula")], Some(1), "ACCEPT_EULA"),
        (
            &[("MSSQL_SA_PASSWORD", "weak")],
            Some(255),
            "Password validation failed. The password does not meet SQL Server password policy",
        ),
        (
            &[("STANDIN_SQL_FAULT", "password-policy")],
            Some(255),
            "An error occurred during server setup. See previous errors",
        ),
        (
            &[("STANDIN_SQL_FAULT", "memory")],
            Some(1),
            "at least 2000 megabytes of memory",
        ),
        (
            &[("STANDIN_SQL_FAULT", "permission")],
            Some(1),
            "instance_id: Permission denied errno = 0xD(13)",
        ),
        (
            &[("STANDIN_SQL_FAULT", "disk-full")],
            Some(1),
            "There is not enough space on the disk",
        ),
        (
            &[("STANDIN_SQL_FAULT", "newer-data")],
            Some(1),
            "This server supports version 957 and earlier.",
        ),
        (&[("STANDIN_SQL_FAULT", "sigabrt")], None, "SIGABRT"),
        (
            &[("STANDIN_SQL_FAULT", "crash-after=0.2")],
            Some(1),
            "crash-after",
        ),
        (
            &[("STANDIN_SQL_FAULT", "memory,typo")],
            Some(1),
            "unknown fault 'typo'",
        ),
        (
            &[("STANDIN_MSSQL_ROOT", "/proc/nowhere")],
            Some(1),
            "sqlservr: Unable to open",
        ),
    ];
    for (settings, exit, words) in failures {
        let root = root();
        let mut server = Server::spawn(&root, settings);
        assert_eq!(server.wait_exit().code(), exit, "{settings:?}");
        assert!(server.logged(words), "{settings:?}: {:#?}", server.seen);
        assert!(!server.logged("weak"), "a password in the log");
    }
}

#[tokio::test]
async fn one_server_per_volume_and_no_downgrade() {
    let root = root();
    let mut first = Server::start(&root, &[("STANDIN_SQL_VERSION", "998")]);
    let mut second = Server::spawn(&root, &[("STANDIN_SQL_VERSION", "998")]);
    assert_eq!(second.wait_exit().code(), Some(1));
    assert!(second.logged("two servers on one volume"));
    first.sa().await;
    first.signal("-INT");
    assert_eq!(first.wait_exit().code(), Some(0));
    let mut older = Server::spawn(&root, &[]);
    assert_eq!(older.wait_exit().code(), Some(1));
    assert!(
        older
            .logged("is version 998. This server supports version 957 and earlier. A downgrade path is not supported.")
    );
}

#[tokio::test]
async fn an_empty_password_runs_but_lets_nobody_in() {
    let root = root();
    let server = Server::start(&root, &[("MSSQL_SA_PASSWORD", "")]);
    for password in ["", PASSWORD] {
        assert_eq!(
            number(
                &server
                    .connect(EncryptionLevel::On, password, "")
                    .await
                    .unwrap_err()
            ),
            18456
        );
    }
}
