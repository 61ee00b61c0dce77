//! The statements of T-SQL that the stand-in knows.

use std::time::Duration;

use super::error::SqlError;
use super::instance::{Access, Recovery};
use super::lexer::Token;
use super::types::SqlType;

/// One statement; expressions and queries stay words until they are run.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Statement {
    CreateDatabase(String),
    DropDatabase {
        name: String,
        if_exists: bool,
    },
    Use(String),
    If {
        condition: Vec<Token>,
        then: Box<Statement>,
        otherwise: Option<Box<Statement>>,
    },
    Block(Vec<Statement>),
    Begin,
    Commit,
    Rollback,
    Declare(Vec<Declared>),
    Assign {
        variable: String,
        value: Vec<Token>,
    },
    /// A SET option that changes nothing here.
    Option,
    Execute {
        result: Option<String>,
        procedure: String,
        arguments: Vec<(String, Vec<Token>)>,
    },
    AlterLogin {
        login: String,
        password: String,
        old: Option<String>,
    },
    Backup {
        database: Token,
        medium: Medium,
    },
    Restore {
        what: RestoreWhat,
        medium: Medium,
    },
    AlterDatabase {
        /// The connection's own where none is named.
        database: Option<String>,
        change: Change,
        termination: Termination,
    },
    CheckDatabase(Option<Token>),
    Kill(u32),
    Shutdown {
        nowait: bool,
    },
    Wait(Duration),
    Print(Vec<Token>),
    /// SELECT, INSERT, UPDATE, DELETE, and CREATE, ALTER, DROP of tables and indexes.
    Query(Vec<Token>),
}

/// Where a backup is, and the options behind WITH.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Medium {
    pub(super) disk: Option<Token>,
    pub(super) options: Vec<Opt>,
}

/// One option; `to` for MOVE.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    pub(super) value: Option<Token>,
    pub(super) to: Option<Token>,
}

/// What RESTORE is to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RestoreWhat {
    Verify,
    Header,
    FileList,
    Database(Token),
}

/// What ALTER DATABASE changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Access(Access),
    Offline(bool),
    Recovery(Recovery),
    Name(String),
    /// An option that no client can see here.
    Nothing,
}

/// What happens to the other connections in the database.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Termination {
    Wait,
    NoWait,
    /// Ends them, after this long.
    Rollback(Duration),
}

/// `DECLARE @name type [= value]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared {
    pub(super) variable: String,
    pub(super) sql_type: SqlType,
    pub(super) value: Option<Vec<Token>>,
}

/// Vendor's words for a type that does not exist, here also for those the stand-in lacks.
pub(super) fn no_type(name: &str) -> SqlError {
    SqlError::new(
        243,
        16,
        format!("Type {name} is not a defined system type."),
    )
}
