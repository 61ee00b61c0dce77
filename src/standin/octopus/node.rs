//! One node: what it is, how it is now, and its row in the database.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::database::Database;
use super::log;
use super::schema;
use super::schema::now;
use super::settings::Settings;
use super::violations;
use crate::spec::DatabaseTarget;
use crate::sql::SqlError;

/// Between two looks at the drain flag, which the `node` command and other nodes set in the
/// database.
const LOOK: Duration = Duration::from_millis(250);
/// Between two heartbeats.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between two attempts to reach a database that went away.
const RETRY: Duration = Duration::from_secs(1);

/// A node.
pub(super) struct Node {
    /// What it was asked to be.
    pub(super) settings: Settings,
    /// Its database.
    pub(super) target: DatabaseTarget,
    /// Distinguishes this run of the process from every other.
    pub(super) boot: String,
    /// How it is now.
    pub(super) state: watch::Sender<State>,
    /// Whether it has said that its database was replaced.
    told: AtomicBool,
}

/// How a node is now.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// How far it is.
    pub(super) phase: Phase,
    /// Whether its last word with the database went well.
    pub(super) database: bool,
    /// Whether it takes no work.
    pub(super) draining: bool,
    /// How many tasks it runs.
    pub(super) running: usize,
    /// Whether it answers nothing any more.
    pub(super) hung: bool,
    /// The installation's id.
    pub(super) installation: String,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// From its process' start until it serves.
    Starting,
    /// It serves.
    Ready,
    /// It was told to stop.
    Stopping,
}

impl Node {
    /// A node that has not begun to start.
    pub(super) fn new(settings: Settings, target: DatabaseTarget) -> Self {
        let (phase, installation) = (Phase::Starting, String::new());
        let state = State {
            phase,
            database: false,
            draining: false,
            running: 0,
            hung: false,
            installation,
        };
        Self {
            settings,
            target,
            boot: schema::random_hex(),
            state: watch::Sender::new(state),
            told: AtomicBool::new(false),
        }
    }

    /// Enters the node as running; its drain flag stays what it was.
    pub(super) async fn register(&self, database: &mut Database) -> Result<(), SqlError> {
        const UPDATE: &str = "UPDATE OctopusServerNode SET Boot = @P2, Version = @P3, LastSeen = @P4, StartedAt = @P4, \
                              Stopped = 0 WHERE Name = @P1";
        const INSERT: &str = "INSERT INTO OctopusServerNode (Name, Boot, Version, LastSeen, StartedAt, Stopped, Draining) \
                              VALUES (@P1, @P2, @P3, @P4, @P4, 0, 0)";
        let (name, boot, version) = (
            self.settings.node.as_str(),
            self.boot.as_str(),
            self.settings.version.as_str(),
        );
        if database
            .execute(UPDATE, &[&name, &boot, &version, &now()])
            .await?
            == 0
        {
            database
                .execute(INSERT, &[&name, &boot, &version, &now()])
                .await?;
        }
        schema::set_task_cap(database, name, self.settings.task_cap).await?;
        let draining = is_draining(database, name).await?;
        self.state
            .send_modify(|state| (state.draining, state.database) = (draining, true));
        Ok(())
    }

    /// Keeps the row fresh and the drain flag known, for as long as the process lives; outlives any
    /// loss of the database.
    pub(super) async fn beat(&self, database: &mut Database) -> std::convert::Infallible {
        let mut beat_at = Instant::now();
        loop {
            let due = beat_at <= Instant::now();
            let outcome = self.pulse(database, due).await;
            if due {
                beat_at = Instant::now() + HEARTBEAT;
            }
            self.note(&outcome);
            tokio::time::sleep(if outcome.is_ok() { LOOK } else { RETRY }).await;
        }
    }

    async fn pulse(&self, database: &mut Database, due: bool) -> Result<bool, SqlError> {
        const BEAT: &str =
            "UPDATE OctopusServerNode SET LastSeen = @P2 WHERE Name = @P1 AND Boot = @P3";
        if due {
            let seen = database
                .execute(
                    BEAT,
                    &[&self.settings.node.as_str(), &now(), &self.boot.as_str()],
                )
                .await?;
            if seen == 0 {
                self.vanished(database).await?;
            }
        }
        is_draining(database, &self.settings.node).await
    }

    /// The node's row is gone: somebody removed it, and it enters itself again; or the database is
    /// another one than the node started with, which must not happen under a node that runs.
    async fn vanished(&self, database: &mut Database) -> Result<(), SqlError> {
        const ATTEMPT: &str = "SELECT Boot FROM MigrationAttempts WHERE Boot = @P1";
        let known = database.rows(ATTEMPT, &[&self.boot.as_str()]).await?;
        if known.is_empty() && !self.told.swap(true, Ordering::SeqCst) {
            let detail = "the database was replaced while this node ran";
            let name = &self.settings.node;
            violations::record(database, "database-replaced", name, detail).await?;
        }
        self.register(database).await
    }

    fn note(&self, outcome: &Result<bool, SqlError>) {
        let (was, is) = (self.state.borrow().database, outcome.is_ok());
        match outcome {
            Err(error) if was => log::line(format_args!(
                "The connection to the database is lost: {error}"
            )),
            Ok(_) if !was => log::line("The connection to the database is back"),
            Ok(_) | Err(_) => {}
        }
        let before = self.state.borrow().draining;
        let draining = *outcome.as_ref().unwrap_or(&before);
        if draining != before {
            log::line(if draining {
                "The node drains"
            } else {
                "The node takes work again"
            });
        }
        self.state
            .send_modify(|state| (state.database, state.draining) = (is, draining));
    }

    /// Notes in the database that the process ends by intention.
    pub(super) async fn leave(&self) -> Result<(), SqlError> {
        let mut database = Database::new(&self.target);
        let (boot, now) = (self.boot.as_str(), now());
        database
            .execute(
                "UPDATE OctopusServerNode SET Stopped = 1 WHERE Boot = @P1",
                &[&boot],
            )
            .await?;
        database
            .execute(
                "UPDATE MigrationAttempts SET FinishedAt = @P2 WHERE Boot = @P1 AND FinishedAt IS NULL",
                &[&boot, &now],
            )
            .await?;
        Ok(())
    }

    /// A directory of the vendor's image, such as `/repository`.
    pub(super) fn dir(&self, name: &str) -> PathBuf {
        self.settings.root.join(name)
    }
}

async fn is_draining(database: &mut Database, name: &str) -> Result<bool, SqlError> {
    let rows = database
        .rows(
            "SELECT Draining FROM OctopusServerNode WHERE Name = @P1",
            &[&name],
        )
        .await?;
    Ok(rows
        .first()
        .and_then(|row| row.try_get::<bool, _>(0).ok().flatten())
        .unwrap_or_default())
}

/// Sets a node's drain flag; gives whether there is such a node.
pub(super) async fn drain(
    database: &mut Database,
    name: &str,
    draining: bool,
) -> Result<bool, SqlError> {
    let changed = database
        .execute(
            "UPDATE OctopusServerNode SET Draining = @P2 WHERE Name = @P1",
            &[&name, &draining],
        )
        .await?;
    Ok(changed > 0)
}
