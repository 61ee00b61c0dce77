//! The statements of T-SQL that the stand-in knows.

use std::time::Duration;

use super::error::SqlError;
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
    },
    Shutdown {
        nowait: bool,
    },
    Wait(Duration),
    Print(Vec<Token>),
    /// SELECT, INSERT, UPDATE, DELETE, and CREATE, ALTER, DROP of tables and indexes.
    Query(Vec<Token>),
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
