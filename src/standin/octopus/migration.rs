//! The start of a node, from a reachable database to a served one: under a lock, and watching for
//! company.
//!
//! ```text
//! hold own lock -> enter attempt -> another attempt alive?  -> concurrent-migration
//!                                -> master key fits?
//!                                -> schema newer than us?    -> downgrade
//!                                -> other version running?   -> mixed-versions
//!                                -> upgrade lock, scripts, register as running, leave attempt
//! ```
//!
//! Everyone enters the attempt before looking for others', so of two that overlap at least one sees
//! the other. A process counts as alive while its heartbeat is fresh *and* it holds its lock, which
//! ends with its connection: one that was killed accuses nobody. What is found is written to
//! `Violations`, which nothing ever empties.

use std::time::Duration;

use tokio::time::Instant;

use super::database::Database;
use super::fatal::Fatal;
use super::faults::Fault;
use super::faults::Step;
use super::log;
use super::node::HEARTBEAT;
use super::node::Node;
use super::schema;
use super::schema::now;
use super::storage;
use super::tasks;
use super::violations;
use crate::config::Secret;
use crate::sql::SqlError;

/// A heartbeat older than this belongs to a dead process.
const FRESH_MS: i64 = 5000;
/// The lock of the upgrade itself.
const UPGRADE_LOCK: &str = "Octopus-upgrade";
/// How long a dead connection's lock is waited for; the server finds such a connection by its
/// keep-alive, 30 s by default.
const LOCK_PATIENCE: Duration = Duration::from_mins(1);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(500);
/// The setting that names the version an upgrade began for, until it is done.
const UPGRADING: &str = "UpgradingTo";
/// The vendor's words for a licence that does not cover an upgrade.
const LICENCE_OVER: &str = "One or more pre-conditions to safely upgrade your database has failed\n\
                            FAIL: Your Octopus Server would not be compliant with your license";
/// The scripts of an upgrade.
const SCRIPTS: usize = 4;

/// Takes a node through its start. When this is done it is registered as running.
pub(super) async fn start(node: &Node, database: &mut Database) -> Result<(), Fatal> {
    let faults = &node.settings.faults;
    database.live(&node.boot).await?;
    schema::create(database).await?;
    enter_attempt(node, database).await?;
    refuse_company(node, database).await?;
    faults.reach(Step::MasterKey)?;
    check_master_key(node, database).await?;
    refuse_newer_schema(node, database).await?;
    refuse_other_versions(node, database).await?;
    refuse_running_nodes(node, database).await?;
    take_upgrade_lock(node, database).await?;
    upgrade(node, database).await?;
    database.unlock(UPGRADE_LOCK).await?;
    node.register(database).await?;
    tasks::reclaim(node, database).await?;
    leave_attempt(node, database).await?;
    Ok(())
}

/// Who holds the lock and lives is in an attempt. A holder without one is a connection whose end
/// did not reach the server: that is waited for.
async fn take_upgrade_lock(node: &Node, database: &mut Database) -> Result<(), Fatal> {
    let give_up_at = Instant::now() + LOCK_PATIENCE;
    while !database.lock(UPGRADE_LOCK).await? {
        refuse_company(node, database).await?;
        if Instant::now() > give_up_at {
            return Err(Fatal::Locked(LOCK_PATIENCE.as_secs()));
        }
        log::line("Waiting for the upgrade lock, which a dead connection holds");
        linger(node, database, PROGRESS, false).await?;
    }
    Ok(())
}

async fn enter_attempt(node: &Node, database: &mut Database) -> Result<(), SqlError> {
    const INSERT: &str = "INSERT INTO MigrationAttempts (Boot, Node, Version, StartedAt, FinishedAt, Heartbeat) \
                          VALUES (@P1, @P2, @P3, @P4, NULL, @P4)";
    let settings = &node.settings;
    let values: [&dyn tiberius::ToSql; 4] = [
        &node.boot.as_str(),
        &settings.node.as_str(),
        &settings.version.as_str(),
        &now(),
    ];
    database.execute(INSERT, &values).await.map(|_| ())
}

async fn leave_attempt(node: &Node, database: &mut Database) -> Result<(), SqlError> {
    let finish = "UPDATE MigrationAttempts SET FinishedAt = @P2 WHERE Boot = @P1";
    database
        .execute(finish, &[&node.boot.as_str(), &now()])
        .await
        .map(|_| ())
}

async fn refuse_company(node: &Node, database: &mut Database) -> Result<(), Fatal> {
    const OTHERS: &str = "SELECT Boot, Node, Version FROM MigrationAttempts \
                          WHERE FinishedAt IS NULL AND Node <> @P1 AND Heartbeat > @P2";
    for other in database
        .rows(OTHERS, &[&node.settings.node.as_str(), &(now() - FRESH_MS)])
        .await?
    {
        if database.is_alive(&schema::text(&other, 0)).await? {
            let detail = format!(
                "{} is starting with {}",
                schema::text(&other, 1),
                schema::text(&other, 2)
            );
            violations::record(
                database,
                "concurrent-migration",
                &node.settings.node,
                &detail,
            )
            .await?;
            return Err(Fatal::TwoMigrating(detail));
        }
    }
    Ok(())
}

async fn refuse_newer_schema(node: &Node, database: &mut Database) -> Result<(), Fatal> {
    let ours = &node.settings.version;
    let begun = schema::setting(database, UPGRADING).await?;
    let known = schema::version(database).await?;
    match begun.or(known) {
        Some(theirs) if schema::is_newer(&theirs, ours) => {
            let detail = format!("the schema is of {theirs}, this is {ours}");
            violations::record(database, "downgrade", &node.settings.node, &detail).await?;
            Err(Fatal::SchemaNewer(detail))
        }
        Some(_) | None => Ok(()),
    }
}

async fn refuse_other_versions(node: &Node, database: &mut Database) -> Result<(), Fatal> {
    const OTHERS: &str = "SELECT Boot, Name, Version FROM OctopusServerNode \
                          WHERE Stopped = 0 AND Name <> @P1 AND Version <> @P2 AND LastSeen > @P3";
    let settings = &node.settings;
    let values: [&dyn tiberius::ToSql; 3] = [
        &settings.node.as_str(),
        &settings.version.as_str(),
        &(now() - FRESH_MS),
    ];
    for other in database.rows(OTHERS, &values).await? {
        if database.is_alive(&schema::text(&other, 0)).await? {
            let detail = format!(
                "{} runs {}, this is {}",
                schema::text(&other, 1),
                schema::text(&other, 2),
                settings.version
            );
            violations::record(database, "mixed-versions", &settings.node, &detail).await?;
            return Err(Fatal::MixedVersions(detail));
        }
    }
    Ok(())
}

/// The vendor's rule since 2023.2: no upgrade while another node looks as if it ran. One that was
/// killed looks so until its last heartbeat is old.
async fn refuse_running_nodes(node: &Node, database: &mut Database) -> Result<(), Fatal> {
    const OTHERS: &str = "SELECT Name, LastSeen FROM OctopusServerNode \
                          WHERE Stopped = 0 AND Name <> @P1 AND LastSeen > @P2 ORDER BY Name";
    let settings = &node.settings;
    let upgrades = schema::version(database)
        .await?
        .is_some_and(|was| schema::is_newer(&settings.version, &was));
    if !upgrades {
        return Ok(());
    }
    let since = now() - i64::try_from(settings.ghost.as_millis()).unwrap_or(i64::MAX);
    let rows = database
        .rows(OTHERS, &[&settings.node.as_str(), &since])
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let others = rows.iter().map(|row| {
        let seconds = (now() - schema::number(row, 1)) / 1000;
        format!("{} (last seen {seconds} seconds ago)", schema::text(row, 0))
    });
    Err(Fatal::NodesRunning(others.collect::<Vec<_>>().join(", ")))
}

/// A new database takes the given key or a generated one; an old one takes only its own.
async fn check_master_key(node: &Node, database: &mut Database) -> Result<(), Fatal> {
    let given = &node.settings.master_key;
    match schema::setting(database, "MasterKey").await? {
        Some(_) if given.is_empty() => Err(Fatal::MasterKeyMissing),
        Some(kept) if schema::is_of(&kept, given) => Ok(()),
        Some(_) => Err(Fatal::MasterKeyWrong),
        None => {
            let key = if given.is_empty() {
                generate_key(node)
            } else {
                given.clone()
            };
            if !storage::is_base64(&key) {
                return Err(Fatal::MasterKeyWrong);
            }
            schema::set(
                database,
                "MasterKey",
                &schema::fingerprint(&key, &schema::random_hex()),
            )
            .await?;
            Ok(())
        }
    }
}

fn generate_key(node: &Node) -> Secret {
    let key = storage::new_master_key();
    log::line("A new master key was generated; `show-master-key` shows it. It must be saved");
    if let Err(error) = storage::keep_master_key(&node.dir("Octopus"), &key) {
        log::line(format_args!("The new master key cannot be kept: {error}"));
    }
    key
}

async fn upgrade(node: &Node, database: &mut Database) -> Result<(), Fatal> {
    let settings = &node.settings;
    let was = schema::version(database).await?;
    let is_new = was
        .as_ref()
        .is_none_or(|was| schema::is_newer(&settings.version, was));
    log::line(format_args!(
        "{} the database schema for {}",
        if is_new { "Upgrading" } else { "Checking" },
        settings.version
    ));
    settings.faults.reach(Step::Upgrade)?;
    let today = time::OffsetDateTime::now_utc().date().to_string();
    let licence = settings.licence.as_ref();
    if is_new && was.is_some() && licence.is_some_and(|licence| licence.is_over(&today)) {
        return Err(Fatal::Injected(LICENCE_OVER.to_owned()));
    }
    if settings.faults.has(Fault::CrashAtStart) {
        return Err(Fatal::Injected(
            "Unhandled exception. The process ends, as it was asked to".to_owned(),
        ));
    }
    let slow = settings.faults.pick(|fault| match fault {
        Fault::StuckStart => Some(None),
        Fault::SlowStart(time) => Some(Some(time)),
        _ => None,
    });
    linger(node, database, settings.migration, false).await?;
    match slow {
        Some(None) => linger(node, database, Duration::MAX, false).await?,
        Some(Some(time)) => linger(node, database, time, true).await?,
        None => {}
    }
    if is_new {
        journal(node, database, was.is_some()).await?;
    }
    if schema::setting(database, "InstallationId").await?.is_none() {
        schema::set(database, "InstallationId", &schema::random_hex()).await?;
    }
    let installation = schema::setting(database, "InstallationId")
        .await?
        .unwrap_or_default();
    node.state
        .send_modify(|state| state.installation = installation);
    Ok(())
}

/// Lets time pass as work would, with heartbeats, and with lines of progress if asked to.
async fn linger(
    node: &Node,
    database: &mut Database,
    time: Duration,
    says: bool,
) -> Result<(), SqlError> {
    let beat = "UPDATE MigrationAttempts SET Heartbeat = @P2 WHERE Boot = @P1";
    let (began, mut beat_at, mut script) = (Instant::now(), Instant::now(), 0);
    loop {
        let left = time.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        if says {
            script += 1;
            log::line(format_args!("Applying script {script}"));
        }
        if beat_at <= Instant::now() {
            database
                .execute(beat, &[&node.boot.as_str(), &now()])
                .await?;
            beat_at = Instant::now() + HEARTBEAT;
        }
        tokio::time::sleep(left.min(PROGRESS)).await;
    }
}

/// Applies the scripts that are not applied yet: an upgrade that was cut off goes on where it was.
async fn journal(node: &Node, database: &mut Database, upgrades: bool) -> Result<(), Fatal> {
    const APPLIED: &str = "SELECT Script FROM MigrationJournal WHERE Script = @P1";
    const INSERT: &str =
        "INSERT INTO MigrationJournal (Script, AppliedAt, Node) VALUES (@P1, @P2, @P3)";
    let settings = &node.settings;
    let (name, version) = (settings.node.as_str(), settings.version.as_str());
    let crash = settings.faults.pick(|fault| match fault {
        Fault::CrashInUpgrade(scripts) => Some(scripts),
        _ => None,
    });
    let share = if upgrades {
        settings.upgrade / SCRIPTS as u32
    } else {
        Duration::ZERO
    };
    schema::put(database, UPGRADING, version).await?;
    for number in 1..=SCRIPTS {
        if upgrades && crash.is_some_and(|scripts| number as u64 > scripts) {
            return Err(Fatal::Injected(format!(
                "The upgrade failed at script {number} of {SCRIPTS}, as it was asked to"
            )));
        }
        let script = format!("Script{number:04} - {version}.sql");
        if !database
            .rows(APPLIED, &[&script.as_str()])
            .await?
            .is_empty()
        {
            continue;
        }
        if upgrades {
            log::line(format_args!(
                "Executing Database Server script '{script}' ({number} of {SCRIPTS})"
            ));
        }
        linger(node, database, share, false).await?;
        database
            .execute(INSERT, &[&script.as_str(), &now(), &name])
            .await?;
    }
    let insert = "INSERT INTO SchemaVersions (Version, AppliedAt, Node) VALUES (@P1, @P2, @P3)";
    database.execute(insert, &[&version, &now(), &name]).await?;
    let insert = "INSERT INTO OctopusServerInstallationHistory (Id, Node, Version, Installed) \
                  VALUES (@P1, @P2, @P3, SYSUTCDATETIME())";
    let id = schema::random_hex();
    database
        .execute(insert, &[&id.as_str(), &name, &version])
        .await?;
    schema::forget(database, UPGRADING).await?;
    Ok(())
}
