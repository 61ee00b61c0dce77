//! The database as the stand-in's client sees it: one connection, opened again after any failure,
//! and its application locks.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use tiberius::Client;
use tiberius::Row;
use tiberius::ToSql;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::compat::Compat;

use super::fatal::Fatal;
use super::log;
use crate::spec::DatabaseTarget;
use crate::sql;
use crate::sql::SqlError;

/// Bounds each of connecting, logging in and one statement: the server is on the same host, and a
/// node must not hang on it.
const LIMIT: Duration = Duration::from_secs(2);
/// Between two attempts to reach the server.
const RETRY: Duration = Duration::from_millis(500);
/// How often a lock is tried before its holder counts as alive: another node may be trying it in
/// this very moment.
const LOCK_TRIES: u32 = 3;
/// Between two such tries.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// What glibc says of a host name that does not exist.
const NO_SUCH_HOST: &str = "Name or service not known";

/// A connection to the node's database.
pub(super) struct Database {
    target: DatabaseTarget,
    client: Option<Client<Compat<TcpStream>>>,
    /// The lock that every connection of this process takes, by which others see that it lives.
    life: Option<String>,
}

impl Database {
    /// Connects at its first statement.
    pub(super) fn new(target: &DatabaseTarget) -> Self {
        Self {
            target: target.clone(),
            client: None,
            life: None,
        }
    }

    /// The database's name.
    pub(super) fn name(&self) -> &str {
        &self.target.database
    }

    /// Another database of the same server.
    pub(super) fn beside(&self, name: &str) -> Self {
        let mut target = self.target.clone();
        name.clone_into(&mut target.database);
        Self::new(&target)
    }

    /// The rows of a query.
    pub(super) async fn rows(
        &mut self,
        text: &str,
        values: &[&dyn ToSql],
    ) -> Result<Vec<Row>, SqlError> {
        self.open().await?;
        self.query(text, values).await
    }

    /// Runs a statement; gives how many rows it changed.
    pub(super) async fn execute(
        &mut self,
        text: &str,
        values: &[&dyn ToSql],
    ) -> Result<u64, SqlError> {
        self.open().await?;
        let mut client = self.client.take().expect("open() left one");
        let done = tokio::time::timeout(LIMIT, Box::pin(client.execute(text, values))).await;
        let changed = answer(done)?.total();
        self.client = Some(client);
        Ok(changed)
    }

    /// Holds the lock of this boot from now on.
    pub(super) async fn live(&mut self, boot: &str) -> Result<(), SqlError> {
        self.life = Some(life(boot));
        self.client = None;
        self.open().await
    }

    /// Whether the process of another boot lives: whether its lock is held.
    pub(super) async fn is_alive(&mut self, boot: &str) -> Result<bool, SqlError> {
        for _ in 0..LOCK_TRIES {
            if self.lock(&life(boot)).await? {
                self.unlock(&life(boot)).await?;
                return Ok(false);
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Ok(true)
    }

    /// Takes a lock if it is free; it is held until it is given back or the connection ends.
    pub(super) async fn lock(&mut self, name: &str) -> Result<bool, SqlError> {
        self.open().await?;
        self.take(name).await
    }

    /// Gives a lock back.
    pub(super) async fn unlock(&mut self, name: &str) -> Result<(), SqlError> {
        self.execute(
            "EXEC sp_releaseapplock @Resource = @P1, @LockOwner = 'Session'",
            &[&name],
        )
        .await
        .map(|_| ())
    }

    async fn take(&mut self, name: &str) -> Result<bool, SqlError> {
        const TAKE: &str = "DECLARE @taken INT; EXEC @taken = sp_getapplock @Resource = @P1, @LockMode = 'Exclusive', \
                            @LockOwner = 'Session', @LockTimeout = 0; SELECT CAST(@taken AS INT) AS Taken";
        let rows = self.query(TAKE, &[&name]).await?;
        Ok(rows
            .first()
            .and_then(|row| row.try_get::<i32, _>(0).ok().flatten())
            .is_some_and(|taken| taken >= 0))
    }

    async fn open(&mut self) -> Result<(), SqlError> {
        if self.client.is_none() {
            self.client = Some(sql::login(&self.target, &self.target.database, LIMIT).await?);
            if let Some(life) = self.life.clone() {
                self.take(&life).await?;
            }
        }
        Ok(())
    }

    /// A connection that failed or did not answer in time is unusable afterwards, so it is not put
    /// back.
    async fn query(&mut self, text: &str, values: &[&dyn ToSql]) -> Result<Vec<Row>, SqlError> {
        let mut client = self.client.take().expect("open() left one");
        // Boxed: tiberius' futures are tens of kilobytes.
        let reading = Box::pin(async {
            client
                .query(text, values)
                .await?
                .into_row_stream()
                .try_collect()
                .await
        });
        let rows = answer(tokio::time::timeout(LIMIT, reading).await)?;
        self.client = Some(client);
        Ok(rows)
    }
}

fn life(boot: &str) -> String {
    format!("octopus-boot-{boot}")
}

fn answer<T>(
    done: Result<tiberius::Result<T>, tokio::time::error::Elapsed>,
) -> Result<T, SqlError> {
    match done {
        Err(_) => Err(SqlError::TimedOut {
            phase: "query",
            limit: LIMIT,
        }),
        Ok(answer) => answer.map_err(|error| sql::error_of("query", &error)),
    }
}

/// Reaches the server, creates the database where there is none, and opens it; tries for
/// `patience`. Gives also whether it had to wait.
pub(super) async fn reach(
    target: &DatabaseTarget,
    patience: Duration,
) -> Result<(Database, bool), Fatal> {
    let give_up_at = Instant::now() + patience;
    let (mut said, mut never_found) = (String::new(), true);
    loop {
        let why = match tokio::time::timeout_at(give_up_at, create_and_open(target)).await {
            Ok(Ok(database)) => return Ok((database, !said.is_empty())),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        never_found &= why.contains(NO_SUCH_HOST);
        if why != said {
            log::line(format_args!("Cannot connect to \"master\" yet: {why}"));
            said = why;
        }
        if Instant::now() + RETRY > give_up_at {
            // Only a name that was unknown throughout is wrong; one that vanished for a moment
            // belongs to a stopped container.
            let why = if never_found {
                format!(": {NO_SUCH_HOST}")
            } else {
                String::new()
            };
            return Err(Fatal::Unreachable {
                seconds: patience.as_secs(),
                why,
            });
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn create_and_open(target: &DatabaseTarget) -> Result<Database, SqlError> {
    let (text, name) = (
        target.database.replace('\'', "''"),
        target.database.replace(']', "]]"),
    );
    let mut client = sql::login(target, "master", LIMIT).await?;
    sql::rows(
        &mut client,
        &format!("IF DB_ID(N'{text}') IS NULL CREATE DATABASE [{name}]"),
        LIMIT,
    )
    .await?;
    let _ = tokio::time::timeout(LIMIT, Box::pin(client.close())).await;
    let mut database = Database::new(target);
    database.open().await?;
    Ok(database)
}
