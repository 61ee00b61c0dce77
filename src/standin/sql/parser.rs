//! Words to statements. T-SQL needs no semicolons: a statement ends where the next one can only
//! begin.

use std::time::Duration;

use super::error::SqlError;
use super::lexer::Token;
use super::statement::{Declared, Statement, no_type};
use super::types::SqlType;

/// Reads statements front to back.
pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

const STARTERS: [&str; 27] = [
    "BACKUP", "RESTORE", "DBCC", "KILL", "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP",
    "ALTER", "IF", "ELSE", "BEGIN", "END", "COMMIT", "ROLLBACK", "DECLARE", "SET", "EXEC",
    "EXECUTE", "USE", "SHUTDOWN", "WAITFOR", "PRINT", "TRUNCATE", "GO",
];
/// Options of SET that only change what a client of this server cannot see.
const SET_OPTIONS: [&str; 18] = [
    "NOCOUNT",
    "XACT_ABORT",
    "ANSI_NULLS",
    "ANSI_PADDING",
    "ANSI_WARNINGS",
    "ANSI_DEFAULTS",
    "ANSI_NULL_DFLT_ON",
    "ARITHABORT",
    "CONCAT_NULL_YIELDS_NULL",
    "QUOTED_IDENTIFIER",
    "NUMERIC_ROUNDABORT",
    "CURSOR_CLOSE_ON_COMMIT",
    "IMPLICIT_TRANSACTIONS",
    "TEXTSIZE",
    "LOCK_TIMEOUT",
    "LANGUAGE",
    "DATEFORMAT",
    "TRANSACTION",
];
/// Blocks inside blocks that are taken, so that no batch can exhaust the stack.
const MAX_DEPTH: usize = 32;

/// The statements of a batch.
pub(super) fn statements(tokens: Vec<Token>) -> Result<Vec<Statement>, SqlError> {
    let mut parser = Parser::new(tokens);
    let mut found = Vec::new();
    while parser.skip_semicolons() {
        found.push(parser.statement()?);
    }
    Ok(found)
}

impl Parser {
    fn new(tokens: Vec<Token>) -> Self {
        Self {
            tokens,
            at: 0,
            depth: 0,
        }
    }

    fn peek(&self, keyword: &str) -> bool {
        self.tokens
            .get(self.at)
            .is_some_and(|token| token.is(keyword))
    }

    pub(super) fn eat(&mut self, keyword: &str) -> bool {
        let found = self.peek(keyword);
        self.at += usize::from(found);
        found
    }

    pub(super) fn eat_symbol(&mut self, symbol: &str) -> bool {
        let found = self
            .tokens
            .get(self.at)
            .is_some_and(|token| token.is_symbol(symbol));
        self.at += usize::from(found);
        found
    }

    pub(super) fn wrong<T>(&self) -> Result<T, SqlError> {
        Err(match self.tokens.get(self.at) {
            Some(Token::Word(word)) if STARTERS.contains(&word.to_ascii_uppercase().as_str()) => {
                SqlError::keyword(word)
            }
            Some(token) => SqlError::syntax(token.shown()),
            None => SqlError::syntax(""),
        })
    }

    pub(super) fn expect(&mut self, keyword: &str) -> Result<(), SqlError> {
        if self.eat(keyword) {
            Ok(())
        } else {
            self.wrong()
        }
    }

    pub(super) fn name(&mut self) -> Result<String, SqlError> {
        match self.tokens.get(self.at).and_then(Token::name) {
            Some(name) => {
                let name = name.to_owned();
                self.at += 1;
                Ok(name)
            }
            None => self.wrong(),
        }
    }

    /// The next word, whatever it is.
    pub(super) fn next_token(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += usize::from(token.is_some());
        token
    }

    /// Back to the word that was just read, for an error that names it.
    pub(super) fn step_back(&mut self) {
        self.at = self.at.saturating_sub(1);
    }

    fn text(&mut self) -> Result<String, SqlError> {
        match self.tokens.get(self.at) {
            Some(Token::Text(text)) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => self.wrong(),
        }
    }

    fn variable(&mut self) -> Option<String> {
        match self.tokens.get(self.at) {
            Some(Token::Variable(name)) if !name.starts_with("@@") => {
                self.at += 1;
                Some(name.clone())
            }
            _ => None,
        }
    }

    /// Whether there is anything behind the semicolons.
    pub(super) fn skip_semicolons(&mut self) -> bool {
        while self.eat_symbol(";") {}
        self.at < self.tokens.len()
    }

    pub(super) fn statement(&mut self) -> Result<Statement, SqlError> {
        let Some(Token::Word(word)) = self.tokens.get(self.at) else {
            return self.wrong();
        };
        let start = self.at;
        self.at += 1;
        match word.to_ascii_uppercase().as_str() {
            "CREATE" if self.eat("DATABASE") => Ok(Statement::CreateDatabase(self.name()?)),
            "DROP" if self.eat("DATABASE") => {
                let if_exists = self.eat("IF");
                if if_exists {
                    self.expect("EXISTS")?;
                }
                Ok(Statement::DropDatabase {
                    name: self.name()?,
                    if_exists,
                })
            }
            "ALTER" if self.eat("LOGIN") => self.alter_login(),
            "ALTER" if self.eat("DATABASE") => self.alter_database(),
            "BACKUP" => self.backup(),
            "RESTORE" => self.restore(),
            "DBCC" => self.dbcc(),
            "KILL" => self.kill(),
            "USE" => Ok(Statement::Use(self.name()?)),
            "IF" => self.condition(),
            "BEGIN" => self.begin(),
            "COMMIT" => Ok(self.end_transaction(Statement::Commit)),
            "ROLLBACK" => Ok(self.end_transaction(Statement::Rollback)),
            "DECLARE" => self.declare(),
            "SET" => self.set(),
            "EXEC" | "EXECUTE" => self.execute(),
            "SHUTDOWN" => {
                let with = self.eat("WITH");
                if with {
                    self.expect("NOWAIT")?;
                }
                Ok(Statement::Shutdown { nowait: with })
            }
            "WAITFOR" => self.wait(),
            "PRINT" => Ok(Statement::Print(self.until_next(&[])?)),
            "SELECT" | "WITH" | "INSERT" | "UPDATE" | "DELETE" | "CREATE" | "ALTER" | "DROP"
            | "TRUNCATE" => {
                self.at = start;
                Ok(self.query())
            }
            _ => {
                self.at = start;
                self.wrong()
            }
        }
    }

    fn alter_login(&mut self) -> Result<Statement, SqlError> {
        let login = self.name()?;
        self.expect("WITH")?;
        self.expect("PASSWORD")?;
        if !self.eat_symbol("=") {
            return self.wrong();
        }
        let password = self.text()?;
        let mut old = None;
        while let Some(Token::Word(_)) = self.tokens.get(self.at) {
            if self.eat("OLD_PASSWORD") {
                if !self.eat_symbol("=") {
                    return self.wrong();
                }
                old = Some(self.text()?);
            } else if !self.eat("UNLOCK") && !self.eat("MUST_CHANGE") {
                break;
            }
        }
        Ok(Statement::AlterLogin {
            login,
            password,
            old,
        })
    }

    fn condition(&mut self) -> Result<Statement, SqlError> {
        self.deeper()?;
        let condition = self.until_next(&[])?;
        let then = Box::new(self.statement()?);
        let before = self.at;
        self.skip_semicolons();
        let otherwise = if self.eat("ELSE") {
            Some(Box::new(self.statement()?))
        } else {
            self.at = before;
            None
        };
        self.depth -= 1;
        Ok(Statement::If {
            condition,
            then,
            otherwise,
        })
    }

    fn deeper(&mut self) -> Result<(), SqlError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SqlError::new(
                191,
                15,
                "Some part of your SQL statement is nested too deeply.",
            ));
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Statement, SqlError> {
        if self.peek("TRAN") || self.peek("TRANSACTION") {
            return Ok(self.end_transaction(Statement::Begin));
        }
        self.deeper()?;
        let mut inside = Vec::new();
        loop {
            if !self.skip_semicolons() {
                return self.wrong();
            }
            if self.eat("END") {
                break;
            }
            inside.push(self.statement()?);
        }
        self.depth -= 1;
        Ok(Statement::Block(inside))
    }

    fn end_transaction(&mut self, statement: Statement) -> Statement {
        if !self.eat("TRAN") && !self.eat("TRANSACTION") {
            self.eat("WORK");
        }
        statement
    }

    fn declare(&mut self) -> Result<Statement, SqlError> {
        let mut declared = Vec::new();
        loop {
            let Some(variable) = self.variable() else {
                return self.wrong();
            };
            self.eat("AS");
            let sql_type = self.sql_type()?;
            let value = if self.eat_symbol("=") {
                Some(self.until_next(&[","])?)
            } else {
                None
            };
            declared.push(Declared {
                variable,
                sql_type,
                value,
            });
            if !self.eat_symbol(",") {
                return Ok(Statement::Declare(declared));
            }
        }
    }

    fn sql_type(&mut self) -> Result<SqlType, SqlError> {
        let mut text = self.name()?;
        if self.eat_symbol("(") {
            text.push('(');
            while !self.eat_symbol(")") {
                let Some(token) = self.tokens.get(self.at) else {
                    return self.wrong();
                };
                text.push_str(token.shown());
                self.at += 1;
            }
        }
        SqlType::declared(&text).ok_or_else(|| no_type(&text))
    }

    fn set(&mut self) -> Result<Statement, SqlError> {
        if let Some(variable) = self.variable() {
            if !self.eat_symbol("=") {
                return self.wrong();
            }
            return Ok(Statement::Assign {
                variable,
                value: self.until_next(&[])?,
            });
        }
        if !SET_OPTIONS.iter().any(|option| self.peek(option)) {
            return self.wrong();
        }
        self.until_next(&[])?;
        Ok(Statement::Option)
    }

    fn execute(&mut self) -> Result<Statement, SqlError> {
        let result = self.variable();
        if result.is_some() && !self.eat_symbol("=") {
            return self.wrong();
        }
        let mut procedure = self.name()?;
        while self.eat_symbol(".") {
            procedure = self.name()?;
        }
        let mut arguments = Vec::new();
        while self
            .tokens
            .get(self.at)
            .is_some_and(|token| !matches!(token, Token::Word(_)) && !token.is_symbol(";"))
        {
            let named = self
                .tokens
                .get(self.at + 1)
                .is_some_and(|token| token.is_symbol("="));
            let name = if named {
                self.variable().unwrap_or_default()
            } else {
                String::new()
            };
            self.at += usize::from(named);
            arguments.push((name, self.until_next(&[","])?));
            if !self.eat_symbol(",") {
                break;
            }
        }
        Ok(Statement::Execute {
            result,
            procedure: procedure.to_ascii_lowercase(),
            arguments,
        })
    }

    fn wait(&mut self) -> Result<Statement, SqlError> {
        self.expect("DELAY")?;
        let text = self.text()?;
        let parts: Option<Vec<f64>> = text.split(':').map(|part| part.parse().ok()).collect();
        let seconds = match parts.as_deref() {
            Some([hours, minutes]) => hours * 3600.0 + minutes * 60.0,
            Some([hours, minutes, seconds]) => hours * 3600.0 + minutes * 60.0 + seconds,
            _ => {
                return Err(SqlError::new(
                    148,
                    15,
                    format!("Incorrect time syntax in time string '{text}' used with WAITFOR."),
                ));
            }
        };
        Ok(Statement::Wait(
            Duration::try_from_secs_f64(seconds.min(86_400.0)).unwrap_or_default(),
        ))
    }

    /// The words up to the next statement, or to one of these symbols.
    fn until_next(&mut self, symbols: &[&str]) -> Result<Vec<Token>, SqlError> {
        let start = self.at;
        self.advance(|_, _, _| false, symbols);
        if self.at == start {
            self.wrong()
        } else {
            Ok(self.tokens[start..self.at].to_vec())
        }
    }

    fn query(&mut self) -> Statement {
        let start = self.at;
        let first = self.tokens[start].shown().to_ascii_uppercase();
        self.at += 1;
        let mut bodies = 0;
        self.advance(
            |previous, word, values| {
                let joined = ["UNION", "ALL", "EXCEPT", "INTERSECT"]
                    .iter()
                    .any(|keyword| previous.is(keyword));
                let belongs = match (first.as_str(), word) {
                    (_, "SELECT") if joined => return true,
                    ("INSERT", "SELECT") => bodies == 0 && !values,
                    ("UPDATE", "SET")
                    | ("WITH", "SELECT" | "INSERT" | "UPDATE" | "DELETE")
                    | ("ALTER", "DROP" | "ALTER")
                    | ("DROP", "IF") => bodies == 0,
                    _ => false,
                };
                bodies += usize::from(belongs);
                belongs
            },
            &[],
        );
        Statement::Query(self.tokens[start..self.at].to_vec())
    }

    /// Moves to the end of a statement. `belongs` says whether a word that could start a statement
    /// is part of this one, from the word before it, the word, and whether there was a VALUES.
    fn advance(&mut self, mut belongs: impl FnMut(&Token, &str, bool) -> bool, symbols: &[&str]) {
        let (mut parens, mut cases, mut values) = (0_usize, 0_usize, false);
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Symbol(symbol)
                    if parens == 0 && (symbol == ";" || symbols.contains(&symbol.as_str())) =>
                {
                    return;
                }
                Token::Symbol(symbol) if symbol == "(" => parens += 1,
                Token::Symbol(symbol) if symbol == ")" => parens = parens.saturating_sub(1),
                Token::Word(word) if parens == 0 => {
                    let word = word.to_ascii_uppercase();
                    values |= word == "VALUES";
                    let in_case = cases > 0 && matches!(word.as_str(), "END" | "ELSE");
                    cases += usize::from(word == "CASE");
                    cases -= usize::from(in_case && word == "END");
                    let qualified = self.at > 0 && self.tokens[self.at - 1].is_symbol(".");
                    let starter = !in_case && !qualified && STARTERS.contains(&word.as_str());
                    if starter && !belongs(&self.tokens[self.at.saturating_sub(1)], &word, values) {
                        return;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }
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
