//! What a statement can see of its session and its server.

use std::collections::HashMap;

use super::types::SqlType;

/// One row of `sys.databases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) state: i64,
    pub(super) state_desc: &'static str,
}

/// What a statement can see of its session.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) database: String,
    pub(super) databases: Vec<Listed>,
    pub(super) variables: HashMap<String, SqlType>,
    pub(super) spid: u32,
    pub(super) transactions: u32,
    pub(super) rows: u64,
}
