//! Server tasks: queued by the API, run by the nodes of a cluster, and what becomes of those whose
//! node ends.
//!
//! A task does nothing but last. A node takes one when it is ready, not drained, and below its cap;
//! the database decides who gets it. The tasks of a node that ended stay `Executing` until the node
//! is back, which makes them `Canceled`, or until another node finds them silent for an hour, which
//! makes them `TimedOut` (octopus.com/docs, "How high availability works").

use std::fs;
use std::io;
use std::time::Duration;

use serde::Serialize;
use tiberius::Row;
use tokio::time::Instant;

use super::database::Database;
use super::log;
use super::node::Node;
use super::node::Phase;
use super::schema;
use super::schema::now;
use super::violations;
use crate::sql::SqlError;

/// What a task is asked to leave behind in each shared directory.
const KILOBYTE: usize = 1024;
const COLUMNS: &str = "CAST(Id AS BIGINT), Name, Description, State, Node, LengthMs, QueuedAt, StartedAt, \
                       CompletedAt, Error";

/// A task as the database has it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Task {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) state: String,
    /// Empty while it is queued.
    pub(super) node: String,
    pub(super) length_ms: i64,
    /// Milliseconds since 1970; 0 for never.
    pub(super) queued_at: i64,
    pub(super) started_at: i64,
    pub(super) completed_at: i64,
    pub(super) error: String,
}

impl Task {
    fn read(row: &Row) -> Self {
        Self {
            id: schema::number(row, 0),
            name: schema::text(row, 1),
            description: schema::text(row, 2),
            state: schema::text(row, 3),
            node: schema::text(row, 4),
            length_ms: schema::number(row, 5),
            queued_at: schema::number(row, 6),
            started_at: schema::number(row, 7),
            completed_at: schema::number(row, 8),
            error: schema::text(row, 9),
        }
    }

    /// Whether it will not change any more.
    pub(super) fn is_completed(&self) -> bool {
        !["Queued", "Executing", "Cancelling"].contains(&self.state.as_str())
    }
}

/// Queues a task that lasts so long; gives its number.
pub(super) async fn queue(
    database: &mut Database,
    name: &str,
    description: &str,
    length: Duration,
) -> Result<i64, SqlError> {
    const INSERT: &str = "INSERT INTO ServerTask (Name, Description, State, LengthMs, QueuedAt) \
                          OUTPUT INSERTED.Id VALUES (@P1, @P2, N'Queued', @P3, @P4)";
    let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    let rows = database
        .rows(INSERT, &[&name, &description, &length, &now()])
        .await?;
    let id = rows.first().and_then(|row| row.try_get::<i32, _>(0).ok());
    Ok(id.flatten().unwrap_or_default().into())
}

/// All tasks, the newest first.
pub(super) async fn all(database: &mut Database) -> Result<Vec<Task>, SqlError> {
    let query = format!("SELECT {COLUMNS} FROM ServerTask ORDER BY Id DESC");
    let rows = database.rows(&query, &[]).await?;
    Ok(rows.iter().map(Task::read).collect())
}

/// Asks for the end of a task that is not over.
pub(super) async fn cancel(database: &mut Database, id: i64) -> Result<(), SqlError> {
    const QUEUED: &str = "UPDATE ServerTask SET State = N'Canceled', CompletedAt = @P2 \
                          WHERE Id = @P1 AND State = N'Queued'";
    const RUNNING: &str = "UPDATE ServerTask SET State = N'Cancelling' \
                           WHERE Id = @P1 AND State = N'Executing'";
    database.execute(QUEUED, &[&id, &now()]).await?;
    database.execute(RUNNING, &[&id]).await.map(|_| ())
}

/// The numbers of the tasks that run on a node.
pub(super) async fn running_on(database: &mut Database, node: &str) -> Result<Vec<i64>, SqlError> {
    const RUNNING: &str = "SELECT CAST(Id AS BIGINT) FROM ServerTask \
                           WHERE Node = @P1 AND State IN (N'Executing', N'Cancelling') ORDER BY Id";
    let rows = database.rows(RUNNING, &[&node]).await?;
    Ok(rows.iter().map(|row| schema::number(row, 0)).collect())
}

/// Asks for the end of all tasks of a node.
pub(super) async fn cancel_on(database: &mut Database, node: &str) -> Result<(), SqlError> {
    const CANCEL: &str = "UPDATE ServerTask SET State = N'Cancelling' \
                          WHERE Node = @P1 AND State = N'Executing'";
    database.execute(CANCEL, &[&node]).await.map(|_| ())
}

/// The names of tasks, as the API has them.
pub(super) fn names(tasks: &[i64]) -> String {
    let names = tasks.iter().map(|id| format!("ServerTasks-{id}"));
    names.collect::<Vec<_>>().join(", ")
}

/// A node that is back cancels what its last run left.
pub(super) async fn reclaim(node: &Node, database: &mut Database) -> Result<(), SqlError> {
    const UNTOLD: &str = "SELECT CAST(Id AS BIGINT) FROM ServerTask WHERE Node = @P1 AND Boot <> @P2 \
                          AND State IN (N'Executing', N'Cancelling') AND Error IS NULL";
    const CANCEL: &str = "UPDATE ServerTask SET State = N'Canceled', CompletedAt = @P3, \
                          Error = N'The server was restarted while the task ran' \
                          WHERE Node = @P1 AND Boot <> @P2 AND State IN (N'Executing', N'Cancelling')";
    let (name, boot) = (node.settings.node.as_str(), node.boot.as_str());
    let rows = database.rows(UNTOLD, &[&name, &boot]).await?;
    let untold: Vec<i64> = rows.iter().map(|row| schema::number(row, 0)).collect();
    if !untold.is_empty() {
        let detail = format!("{} ran when the node vanished", names(&untold));
        violations::note(database, "task-abandoned", name, &detail).await;
    }
    let canceled = database.execute(CANCEL, &[&name, &boot, &now()]).await?;
    if canceled > 0 {
        log::line(format_args!(
            "{canceled} tasks of this node's last run are canceled"
        ));
    }
    Ok(())
}

/// At a stop by intention: tasks that still run are cut off, which is a violation.
pub(super) async fn cut_off(node: &Node, database: &mut Database) -> Result<(), SqlError> {
    const MARK: &str = "UPDATE ServerTask SET Error = N'cut off by a stop' \
                        WHERE Boot = @P1 AND State IN (N'Executing', N'Cancelling')";
    let name = node.settings.node.as_str();
    let running = running_on(database, name).await?;
    if running.is_empty() {
        return Ok(());
    }
    let detail = format!("{} ran when the node was told to stop", names(&running));
    violations::record(database, "task-cut-off", name, &detail).await?;
    database
        .execute(MARK, &[&node.boot.as_str()])
        .await
        .map(|_| ())
}

/// Runs tasks for as long as the process lives; outlives any loss of the database.
pub(super) async fn work(node: &Node) -> std::convert::Infallible {
    let mut database = Database::new(&node.target);
    let mut running = Vec::new();
    loop {
        // A turn that the database cut short is taken again; nothing is lost but time.
        let _ = turn(node, &mut database, &mut running).await;
        tokio::time::sleep(node.settings.poll).await;
    }
}

/// A task that this process runs, and when it is done.
struct Running {
    task: Task,
    ends_at: Instant,
}

async fn turn(
    node: &Node,
    database: &mut Database,
    running: &mut Vec<Running>,
) -> Result<(), SqlError> {
    const BEAT: &str = "UPDATE ServerTask SET LastSeen = @P2 \
                        WHERE Boot = @P1 AND State IN (N'Executing', N'Cancelling')";
    const CANCELED: &str = "UPDATE ServerTask SET State = N'Canceled', CompletedAt = @P2 \
                            WHERE Boot = @P1 AND State = N'Cancelling'";
    const SILENT: &str = "UPDATE ServerTask SET State = N'TimedOut', CompletedAt = @P2 \
                          WHERE Boot <> @P1 AND State IN (N'Executing', N'Cancelling') AND LastSeen < @P3";
    if node.state.borrow().phase != Phase::Ready {
        return Ok(());
    }
    let boot = node.boot.as_str();
    database.execute(BEAT, &[&boot, &now()]).await?;
    database.execute(CANCELED, &[&boot, &now()]).await?;
    let abandon = i64::try_from(node.settings.abandon.as_millis()).unwrap_or(i64::MAX);
    database
        .execute(SILENT, &[&boot, &now(), &(now() - abandon)])
        .await?;
    finish_due(node, database, running).await?;
    let left = running_on(database, &node.settings.node).await?;
    running.retain(|one| left.contains(&one.task.id));
    if let Some(claimed) = claim(node, database, left.len()).await? {
        running.push(claimed);
    }
    let count = running.len();
    node.state.send_if_modified(|state| {
        let changed = state.running != count;
        state.running = count;
        changed
    });
    Ok(())
}

async fn finish_due(
    node: &Node,
    database: &mut Database,
    running: &[Running],
) -> Result<(), SqlError> {
    const DONE: &str = "UPDATE ServerTask SET State = @P4, Error = @P5, CompletedAt = @P3 \
                        WHERE Id = @P1 AND Boot = @P2 AND State = N'Executing'";
    for one in running {
        if one.ends_at > Instant::now() {
            continue;
        }
        // The files come first: a row that says that a task is done has its files.
        let written = leave_files(node, &one.task);
        let error = written.as_ref().err().map(ToString::to_string);
        let state = if error.is_none() { "Success" } else { "Failed" };
        let values: [&dyn tiberius::ToSql; 5] = [
            &one.task.id,
            &node.boot.as_str(),
            &now(),
            &state,
            &error.as_deref(),
        ];
        database.execute(DONE, &values).await?;
    }
    Ok(())
}

/// Takes the oldest task in the queue, if the node may have one more.
async fn claim(
    node: &Node,
    database: &mut Database,
    running: usize,
) -> Result<Option<Running>, SqlError> {
    // The flag is asked for in the same statement: a node that is being drained takes nothing more.
    const CLAIM: &str = "UPDATE ServerTask SET State = N'Executing', Node = @P2, Boot = @P3, StartedAt = @P4, \
                         LastSeen = @P4 WHERE Id = @P1 AND State = N'Queued' AND NOT EXISTS \
                         (SELECT 1 FROM OctopusServerNode WHERE Name = @P2 AND Draining = 1)";
    let cap = schema::task_cap(database, &node.settings.node).await?;
    if running >= cap.unwrap_or(node.settings.task_cap) as usize {
        return Ok(None);
    }
    let query =
        format!("SELECT TOP 1 {COLUMNS} FROM ServerTask WHERE State = N'Queued' ORDER BY Id");
    let rows = database.rows(&query, &[]).await?;
    let Some(task) = rows.first().map(Task::read) else {
        return Ok(None);
    };
    let (name, boot) = (node.settings.node.as_str(), node.boot.as_str());
    let claimed = database
        .execute(CLAIM, &[&task.id, &name, &boot, &now()])
        .await?;
    let length = Duration::from_millis(u64::try_from(task.length_ms).unwrap_or_default());
    Ok((claimed > 0).then(|| Running {
        task,
        ends_at: Instant::now() + length,
    }))
}

/// What a task leaves in the directories that the nodes share: a log, an artifact, a package, an
/// exported event.
fn leave_files(node: &Node, task: &Task) -> io::Result<()> {
    let id = task.id;
    let lines = format!(
        "ServerTasks-{id} {}\nStarted {} on {}\nThe task completed successfully\n",
        task.name, task.started_at, node.settings.node
    );
    let mut bytes = vec![0; node.settings.file_kilobytes * KILOBYTE];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    for (dir, name, content) in [
        (
            "taskLogs",
            format!("servertasks-{id}.txt"),
            lines.as_bytes(),
        ),
        ("artifacts", format!("Artifacts-{id}.bin"), bytes.as_slice()),
        ("repository", format!("Package.1.0.{id}.zip"), &bytes),
        (
            "eventExports",
            format!("events-{id}.jsonl"),
            lines.as_bytes(),
        ),
    ] {
        let dir = node.dir(dir);
        if dir.is_dir() {
            fs::write(dir.join(name), content)?;
        }
    }
    Ok(())
}
