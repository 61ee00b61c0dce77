//! The statements of T-SQL that the stand-in knows.

use std::time::Duration;

use super::error::SqlError;
use super::lexer::Token;
use super::parser::Parser;
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

/// The statements of a batch.
pub(super) fn statements(tokens: Vec<Token>) -> Result<Vec<Statement>, SqlError> {
    let mut parser = Parser::new(tokens);
    let mut found = Vec::new();
    while parser.skip_semicolons() {
        found.push(parser.statement()?);
    }
    Ok(found)
}

/// Vendor's words for a type that does not exist, here also for those the stand-in lacks.
pub(super) fn no_type(name: &str) -> SqlError {
    SqlError::new(
        243,
        16,
        format!("Type {name} is not a defined system type."),
    )
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Statement>, SqlError> {
        statements(tokens(text)?)
    }

    #[test]
    fn statements_need_no_semicolons() {
        let found = parsed(
            "BEGIN TRAN UPDATE t SET a = 1 INSERT t SELECT 1 UNION ALL SELECT CASE WHEN 1=1 THEN 2 ELSE 3 END COMMIT",
        )
        .unwrap();
        assert_eq!(found.len(), 4);
        assert!(
            matches!(&found[2], Statement::Query(words) if words.len() == 17),
            "{found:?}"
        );
        assert_eq!(parsed("SET NOCOUNT ON SELECT 1; ;").unwrap().len(), 2);
        assert_eq!(
            parsed("INSERT INTO t (a) VALUES (1) SELECT 1")
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn conditions_take_one_statement_or_a_block() {
        let found = parsed(
            "IF DB_ID(N'x') IS NULL CREATE DATABASE [x] ELSE BEGIN SELECT 1; SELECT 2 END SELECT 3",
        )
        .unwrap();
        let [
            Statement::If {
                then,
                otherwise: Some(otherwise),
                ..
            },
            Statement::Query(_),
        ] = found.as_slice()
        else {
            panic!("{found:?}")
        };
        assert_eq!(**then, Statement::CreateDatabase("x".into()));
        assert!(matches!(&**otherwise, Statement::Block(inside) if inside.len() == 2));
    }

    #[test]
    fn what_is_no_statement_is_an_error() {
        for (text, number) in [
            ("FROBNICATE", 102),
            ("SELCT 1", 102),
            ("BEGIN SELECT 1", 102),
            ("USE", 102),
            ("GO", 156),
            ("SET FOO ON", 102),
        ] {
            assert_eq!(parsed(text).unwrap_err().number, number, "{text}");
        }
        let deep = "IF 1=1 ".repeat(100) + "SELECT 1";
        assert_eq!(parsed(&deep).unwrap_err().number, 191);
    }

    #[test]
    fn procedures_take_named_and_positional_arguments() {
        let found =
            parsed("DECLARE @r INT; EXEC @r = sp_getapplock @Resource = N'x', @LockTimeout = -1; SELECT @r").unwrap();
        assert_eq!(found.len(), 3);
        let Statement::Execute {
            result, arguments, ..
        } = &found[1]
        else {
            panic!("{found:?}")
        };
        assert_eq!((result.as_deref(), arguments.len()), (Some("@r"), 2));
        assert_eq!(arguments[1].0, "@locktimeout");
    }
}
