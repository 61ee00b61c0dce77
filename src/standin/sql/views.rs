//! The catalogue views as tables of constants, and the types of their columns.

use std::collections::HashMap;

use super::instance::{Backup, Instance};
use super::scope::Listed;
use super::sessions::Sessions;
use super::types::SqlType;

const PAGE: u64 = 8192;

/// A text, as names compare.
fn text(value: &str) -> String {
    format!("'{}' COLLATE NOCASE", value.replace('\'', "''"))
}

fn optional(value: Option<&String>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| text(value))
}

/// Rows of SQLite's words under these names.
fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let named = |cells: &[String]| {
        let cells = cells.iter().zip(columns);
        let cells = cells.map(|(cell, column)| format!("{cell} AS {column}"));
        format!("SELECT {}", cells.collect::<Vec<_>>().join(", "))
    };
    if rows.is_empty() {
        let nothing = vec!["NULL".to_owned(); columns.len()];
        return format!("(SELECT * FROM ({}) WHERE 0)", named(&nothing));
    }
    let rows: Vec<String> = rows.iter().map(|row| named(row)).collect();
    format!("(SELECT * FROM ({}))", rows.join(" UNION ALL "))
}

/// `sys.databases`.
pub(super) fn databases(list: &[Listed]) -> String {
    let columns = [
        "database_id",
        "name",
        "state",
        "state_desc",
        "is_read_only",
        "recovery_model",
        "recovery_model_desc",
        "create_date",
        "user_access",
        "user_access_desc",
        "compatibility_level",
        "collation_name",
    ];
    let row = |one: &Listed| {
        vec![
            one.id.to_string(),
            text(&one.name),
            one.state.to_string(),
            text(one.state_desc),
            "0".to_owned(),
            one.recovery.0.to_string(),
            text(one.recovery.1),
            text(&one.created),
            one.access.0.to_string(),
            text(one.access.1),
            "160".to_owned(),
            text("SQL_Latin1_General_CP1_CI_AS"),
        ]
    };
    table(&columns, &list.iter().map(row).collect::<Vec<_>>())
}

/// All views but `sys.databases`, by their names as a query says them.
pub(super) fn all(
    list: &[Listed],
    sessions: &Sessions,
    instance: &Instance,
) -> HashMap<String, String> {
    let views = [
        ("sys.master_files", master_files(list)),
        ("sys.dm_exec_sessions", exec_sessions(list, sessions)),
        ("sys.dm_exec_requests", exec_requests(list, sessions)),
        ("sys.server_principals", principals()),
        ("sys.sql_logins", principals()),
        ("msdb.backupset", backup_sets(&instance.backups)),
        ("msdb.backupmediafamily", media(&instance.backups)),
        ("msdb.restorehistory", restores(instance)),
        ("sys.standin_runs", runs(instance)),
    ];
    let views = views.into_iter();
    views.map(|(name, view)| (name.to_owned(), view)).collect()
}

/// Two files a database, as the vendor has; the stand-in's log stands beside the data file.
fn master_files(list: &[Listed]) -> String {
    let columns = [
        "database_id",
        "file_id",
        "type",
        "type_desc",
        "name",
        "physical_name",
        "state",
        "state_desc",
        "size",
        "max_size",
    ];
    let file = |one: &Listed, log: bool| {
        let (id, kind, suffix) = if log {
            (2, "LOG", "_log")
        } else {
            (1, "ROWS", "")
        };
        let pages = if log { 1 } else { one.size.div_ceil(PAGE) };
        let path = if log {
            format!("{}_log.ldf", one.file.trim_end_matches(".mdf"))
        } else {
            one.file.clone()
        };
        vec![
            one.id.to_string(),
            id.to_string(),
            (id - 1).to_string(),
            text(kind),
            text(&format!("{}{suffix}", one.logical)),
            text(&path),
            "0".to_owned(),
            text("ONLINE"),
            pages.to_string(),
            "-1".to_owned(),
        ]
    };
    let files = list
        .iter()
        .flat_map(|one| [file(one, false), file(one, true)]);
    table(&columns, &files.collect::<Vec<_>>())
}

fn id_of(list: &[Listed], name: &str) -> String {
    let found = list.iter().find(|one| one.name == name);
    found.map_or(0, |one| one.id).to_string()
}

fn exec_sessions(list: &[Listed], sessions: &Sessions) -> String {
    let columns = [
        "session_id",
        "login_name",
        "database_id",
        "is_user_process",
        "status",
    ];
    let all = sessions.all();
    let rows = all.iter().map(|(spid, session)| {
        let status = if session.request.is_some() {
            "running"
        } else {
            "sleeping"
        };
        vec![
            spid.to_string(),
            text("sa"),
            id_of(list, &session.database),
            "1".to_owned(),
            text(status),
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>())
}

/// Only the statements that tell their progress.
fn exec_requests(list: &[Listed], sessions: &Sessions) -> String {
    let columns = [
        "session_id",
        "command",
        "status",
        "database_id",
        "percent_complete",
        "start_time",
        "total_elapsed_time",
        "estimated_completion_time",
        "blocking_session_id",
    ];
    let all = sessions.all();
    let rows = all.iter().filter_map(|(spid, session)| {
        let request = session.request.as_ref()?;
        let elapsed = request.began.elapsed().as_millis() as f64;
        let left = if request.percent > 0.0 {
            elapsed * (100.0 - request.percent) / request.percent
        } else {
            0.0
        };
        Some(vec![
            spid.to_string(),
            text(request.command),
            text("running"),
            id_of(list, &session.database),
            format!("{:.4}", request.percent),
            text(&request.started),
            (elapsed as i64).to_string(),
            (left as i64).to_string(),
            "0".to_owned(),
        ])
    });
    table(&columns, &rows.collect::<Vec<_>>())
}

fn principals() -> String {
    let columns = ["name", "principal_id", "type", "type_desc", "is_disabled"];
    let sa = [
        text("sa"),
        "1".to_owned(),
        text("S"),
        text("SQL_LOGIN"),
        "0".to_owned(),
    ];
    table(&columns, &[sa.to_vec()])
}

fn backup_sets(backups: &[Backup]) -> String {
    let columns = [
        "backup_set_id",
        "media_set_id",
        "backup_set_uuid",
        "name",
        "database_name",
        "type",
        "position",
        "backup_start_date",
        "backup_finish_date",
        "backup_size",
        "compressed_backup_size",
        "is_copy_only",
        "has_backup_checksums",
        "is_damaged",
    ];
    let row = |(at, one): (usize, &Backup)| {
        vec![
            (at + 1).to_string(),
            (at + 1).to_string(),
            text(&one.set_id),
            optional(one.name.as_ref()),
            text(&one.database),
            text("D"),
            one.position.to_string(),
            text(&one.started),
            text(&one.finished),
            one.size.to_string(),
            one.stored.to_string(),
            i32::from(one.copy_only).to_string(),
            i32::from(one.checksum).to_string(),
            "0".to_owned(),
        ]
    };
    table(
        &columns,
        &backups.iter().enumerate().map(row).collect::<Vec<_>>(),
    )
}

fn media(backups: &[Backup]) -> String {
    let row =
        |(at, one): (usize, &Backup)| vec![(at + 1).to_string(), text(&one.device), "2".to_owned()];
    table(
        &["media_set_id", "physical_device_name", "device_type"],
        &backups.iter().enumerate().map(row).collect::<Vec<_>>(),
    )
}

fn restores(instance: &Instance) -> String {
    let columns = [
        "restore_history_id",
        "restore_date",
        "destination_database_name",
        "restore_type",
        "replace",
    ];
    let rows = instance.restores.iter().enumerate().map(|(at, one)| {
        vec![
            (at + 1).to_string(),
            text(&one.at),
            text(&one.database),
            text("D"),
            i32::from(one.replaced).to_string(),
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>())
}

/// The stand-in's own: its runs, and how each ended.
fn runs(instance: &Instance) -> String {
    let rows = instance.runs.iter().enumerate().map(|(at, run)| {
        vec![
            (at + 1).to_string(),
            text(&run.started),
            optional(run.ended.as_ref()),
            optional(run.by.as_ref()),
        ]
    });
    table(
        &["run_id", "started_at", "ended", "ended_by"],
        &rows.collect::<Vec<_>>(),
    )
}

/// The type of a view's column, where its values alone would tell another.
pub(super) fn column_type(name: &str) -> Option<SqlType> {
    Some(match name.to_ascii_lowercase().as_str() {
        "create_date" | "backup_start_date" | "backup_finish_date" | "restore_date"
        | "start_time" | "started_at" => SqlType::DateTime2,
        "percent_complete" => SqlType::Real,
        "state" | "recovery_model" | "user_access" | "compatibility_level" => SqlType::TinyInt,
        "is_read_only"
        | "is_copy_only"
        | "has_backup_checksums"
        | "is_user_process"
        | "is_disabled" => SqlType::Bit,
        "session_id" | "blocking_session_id" => SqlType::SmallInt,
        "estimated_completion_time" => SqlType::BigInt,
        "backup_size" | "compressed_backup_size" => SqlType::Numeric,
        "backup_set_uuid" => SqlType::Guid,
        "name"
        | "state_desc"
        | "recovery_model_desc"
        | "user_access_desc"
        | "command"
        | "status"
        | "physical_name"
        | "database_name"
        | "ended"
        | "ended_by" => SqlType::Text { max: false },
        _ => return None,
    })
}
