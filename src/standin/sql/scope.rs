//! What a statement can see of its session and its server.

use std::collections::HashMap;

use super::types::SqlType;

/// One row of `sys.databases`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) state: i64,
    pub(super) state_desc: &'static str,
    pub(super) created: String,
    /// `recovery_model` and its description.
    pub(super) recovery: (i64, &'static str),
    /// `user_access` and its description.
    pub(super) access: (i64, &'static str),
    /// The data file's logical name, its path as clients say it, and its bytes.
    pub(super) logical: String,
    pub(super) file: String,
    pub(super) size: u64,
    /// The same for all copies of one database.
    pub(super) family: String,
}

/// What a statement can see of its session.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) database: String,
    pub(super) databases: Vec<Listed>,
    /// The catalogue views, where the statement asks for one.
    pub(super) views: HashMap<String, String>,
    pub(super) edition: &'static str,
    pub(super) engine_edition: i64,
    pub(super) sysadmin: bool,
    pub(super) variables: HashMap<String, SqlType>,
    pub(super) spid: u32,
    pub(super) transactions: u32,
    pub(super) rows: u64,
}
