//! One connection's statements, run one after the other: blocking code, away from the network.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode};

use super::cancel::Cancel;
use super::error::SqlError;
use super::lexer::{self, Token};
use super::parser;
use super::request::Call;
use super::result::{columns, size_of_value};
use super::scope::Scope;
use super::server::{Server, Stop};
use super::statement::{Declared, Statement};
use super::tokens::{Column, Reply};
use super::translate::{self, Translated};
use super::types::SqlType;
use super::views;

/// How long a statement waits for another connection's transaction.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// Largest reply, so that no query can fill the memory.
const MAX_REPLY: usize = 64 << 20;
/// How often WAITFOR looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(10);

/// A result: its columns and rows.
type Found = (Vec<Column>, Vec<Vec<Value>>);

/// A logged-in connection's state. Dropping it gives its locks back and rolls its transaction back.
pub(super) struct Engine {
    pub(super) server: Arc<Server>,
    pub(super) spid: u32,
    pub(super) database: String,
    pub(super) connection: Connection,
    /// How many BEGIN TRAN are open. SQLite's own begins with the first write: until then others'
    /// commits are visible.
    pub(super) transactions: u32,
    pub(super) begun: bool,
    rows: u64,
    pub(super) variables: HashMap<String, (SqlType, Value)>,
    pub(super) cancel: Arc<Cancel>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.server.store.sessions.leave(self.spid);
        self.server.locks.release_all(self.spid, true);
    }
}

impl Engine {
    /// Opens a session in a database, with its name as `Store::usable` gave it.
    pub(super) fn new(
        server: Arc<Server>,
        spid: u32,
        database: &str,
        cancel: Arc<Cancel>,
    ) -> Result<Self, SqlError> {
        let connection = server.store.connect(spid, database, &cancel)?;
        cancel.watch(&connection);
        let database = database.to_owned();
        Ok(Self {
            server,
            spid,
            database,
            connection,
            transactions: 0,
            begun: false,
            rows: 0,
            variables: HashMap::new(),
            cancel,
        })
    }

    /// Runs a SQL batch and returns the whole reply.
    pub(super) fn batch(&mut self, text: &str) -> Vec<u8> {
        let mut reply = Reply::default();
        self.variables.clear();
        let failed = self
            .script(text, &mut reply)
            .map_err(|error| self.failure(&error, &mut reply))
            .is_err();
        reply.finish(failed)
    }

    /// Runs a procedure call and returns the whole reply.
    pub(super) fn call(&mut self, call: Call) -> Vec<u8> {
        let mut reply = Reply::of_proc();
        self.variables.clear();
        let outputs: Vec<(String, SqlType)> = call
            .parameters
            .iter()
            .filter(|parameter| parameter.output)
            .map(|parameter| (parameter.name.clone(), parameter.sql_type))
            .collect();
        match self.procedure(call, &mut reply) {
            Ok(status) => {
                reply.return_status(status);
                for (name, sql_type) in outputs {
                    let value = self
                        .variables
                        .get(&name)
                        .map_or(Value::Null, |(_, value)| value.clone());
                    if let Err(error) = reply.output(&name, sql_type, &value) {
                        self.failure(&error, &mut reply);
                    }
                }
                reply.finish(false)
            }
            Err(error) => {
                self.failure(&error, &mut reply);
                reply.finish(true)
            }
        }
    }

    /// A transaction manager request, as some drivers send instead of BEGIN TRAN.
    pub(super) fn transaction(&mut self, kind: u16) -> Vec<u8> {
        let mut reply = Reply::default();
        let result = match kind {
            5 => self.execute(&Statement::Begin, &mut reply),
            7 => self.execute(&Statement::Commit, &mut reply),
            8 => self.execute(&Statement::Rollback, &mut reply),
            _ => Err(SqlError::malformed()),
        };
        let failed = result
            .map_err(|error| self.failure(&error, &mut reply))
            .is_err();
        reply.finish(failed)
    }

    /// Writes an error, and the rollback when SQLite has done one by itself.
    fn failure(&mut self, error: &SqlError, reply: &mut Reply) {
        reply.error(error);
        if self.begun && self.connection.is_autocommit() {
            self.finish_transaction(10, reply);
        }
        reply.done(None, true);
    }

    pub(super) fn script(&mut self, text: &str, reply: &mut Reply) -> Result<(), SqlError> {
        for statement in parser::statements(lexer::tokens(text)?)? {
            self.execute(&statement, reply)?;
        }
        Ok(())
    }

    fn execute(&mut self, statement: &Statement, reply: &mut Reply) -> Result<(), SqlError> {
        if self.cancel.asked() {
            return Err(SqlError::cancelled());
        }
        match statement {
            Statement::Query(words) => return self.query(words, reply),
            Statement::If {
                condition,
                then,
                otherwise,
            } => {
                return self.branch(condition, then, otherwise.as_deref(), reply);
            }
            Statement::Block(inside) => {
                return inside
                    .iter()
                    .try_for_each(|statement| self.execute(statement, reply));
            }
            Statement::Execute {
                result,
                procedure,
                arguments,
            } => {
                return self.run_procedure(result.as_ref(), procedure, arguments, reply);
            }
            Statement::Begin => self.begin(reply),
            Statement::Commit => self.commit(reply)?,
            Statement::Rollback => self.rollback(reply)?,
            Statement::CreateDatabase(name) => self.server.store.create(name)?,
            Statement::DropDatabase { name, if_exists } => self.drop_database(name, *if_exists)?,
            Statement::Use(name) => self.enter(name, reply)?,
            Statement::Declare(declared) => self.declare(declared)?,
            Statement::Assign { variable, value } => self.assign(variable, value)?,
            Statement::Option => {}
            Statement::AlterLogin {
                login,
                password,
                old,
            } => self.alter_login(login, password, old.as_deref())?,
            Statement::Backup { database, medium } => self.backup(database, medium, reply)?,
            Statement::Restore { what, medium } => return self.restore(what, medium, reply),
            Statement::AlterDatabase {
                database,
                change,
                termination,
            } => self.alter_database(database.as_ref(), change, *termination)?,
            Statement::CheckDatabase(database) => self.check_database(database.as_ref(), reply)?,
            Statement::Kill(spid) => self.kill(*spid)?,
            Statement::Shutdown { .. } if self.server.faults.not_sysadmin => {
                return Err(SqlError::new(
                    6004,
                    14,
                    "User does not have permission to perform this action.",
                ));
            }
            Statement::Shutdown { nowait } => {
                reply.notice(6006, "Server shut down by request from login sa.");
                self.server
                    .stop(if *nowait { Stop::NoWait } else { Stop::Orderly });
            }
            Statement::Wait(time) => self.wait(*time)?,
            Statement::Print(words) => self.print(words, reply)?,
        }
        reply.done(None, false);
        Ok(())
    }

    fn print(&mut self, words: &[Token], reply: &mut Reply) -> Result<(), SqlError> {
        let (_, value) = self.value(words)?;
        let text = match value {
            Value::Text(text) => text,
            Value::Integer(number) => number.to_string(),
            Value::Null | Value::Real(_) | Value::Blob(_) => String::new(),
        };
        reply.notice(0, &text);
        Ok(())
    }

    fn scope(&self, words: &[Token]) -> Scope {
        let store = &self.server.store;
        let databases = store.databases();
        let asks = words.iter().any(|word| {
            word.name().is_some_and(|name| {
                ["sys", "msdb"]
                    .iter()
                    .any(|known| name.eq_ignore_ascii_case(known))
            })
        });
        let views = if asks || self.database == "msdb" {
            views::all(&databases, &store.sessions, &store.instance())
        } else {
            HashMap::new()
        };
        Scope {
            views,
            edition: self.server.edition.name,
            engine_edition: self.server.edition.engine,
            sysadmin: !self.server.faults.not_sysadmin,
            database: self.database.clone(),
            databases,
            variables: self
                .variables
                .iter()
                .map(|(name, (sql_type, _))| (name.clone(), *sql_type))
                .collect(),
            spid: self.spid,
            transactions: self.transactions,
            rows: self.rows,
        }
    }

    fn branch(
        &mut self,
        condition: &[Token],
        then: &Statement,
        otherwise: Option<&Statement>,
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let translated = translate::condition(condition, &self.scope(condition))?;
        let (_, rows) = self.rows(&translated)?;
        let holds = matches!(
            rows.first().and_then(|row| row.first()),
            Some(Value::Integer(1))
        );
        match (holds, otherwise) {
            (true, _) => self.execute(then, reply),
            (false, Some(otherwise)) => self.execute(otherwise, reply),
            (false, None) => Ok(()),
        }
    }

    fn query(&mut self, words: &[Token], reply: &mut Reply) -> Result<(), SqlError> {
        let translated = translate::query(words, &self.scope(words))?;
        let (columns, rows) = self.rows(&translated)?;
        if !translated.assigned.is_empty() {
            let last = rows.into_iter().next_back().unwrap_or_default();
            for (name, value) in translated.assigned.iter().zip(last) {
                self.variables
                    .entry(name.clone())
                    .and_modify(|variable| variable.1 = value);
            }
            reply.done(None, false);
            return Ok(());
        }
        if columns.is_empty() {
            let counted = words.first().is_some_and(|word| {
                ["INSERT", "UPDATE", "DELETE", "WITH"]
                    .iter()
                    .any(|keyword| word.is(keyword))
            });
            reply.done(counted.then_some(self.rows), false);
            return Ok(());
        }
        self.rows = rows.len() as u64;
        let start = reply.len();
        reply.columns(&columns);
        for row in &rows {
            reply
                .row(&columns, row)
                .inspect_err(|_| reply.truncate(start))?;
        }
        reply.done(Some(self.rows), false);
        Ok(())
    }

    /// Runs one translated statement to its end, waiting for other connections' transactions.
    fn rows(&mut self, translated: &Translated) -> Result<Found, SqlError> {
        if self.transactions > 0 && translated.writes && !self.begun {
            self.patiently(|engine| engine.connection.execute_batch("BEGIN IMMEDIATE"))?;
            self.begun = true;
        }
        let found = self.patiently(|engine| engine.once(translated))?;
        found.ok_or_else(|| {
            SqlError::new(
                701,
                17,
                "There is insufficient system memory to run this query.",
            )
        })
    }

    pub(super) fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, SqlError> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match attempt(self) {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && Instant::now() < deadline =>
                {
                    if self.cancel.asked() {
                        return Err(SqlError::cancelled());
                    }
                }
                other => return other.map_err(|error| SqlError::of_sqlite(&error)),
            }
        }
    }

    /// One attempt at a statement. `None` when its result is too large.
    fn once(&mut self, translated: &Translated) -> rusqlite::Result<Option<Found>> {
        let mut prepared = self.connection.prepare(&translated.sql)?;
        for (name, (_, value)) in &self.variables {
            if let Some(index) = prepared.parameter_index(name)? {
                prepared.raw_bind_parameter(index, value)?;
            }
        }
        let width = prepared.column_count();
        let mut found = Vec::new();
        let mut size = 0;
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next()? {
            let row = (0..width)
                .map(|at| row.get(at))
                .collect::<rusqlite::Result<Vec<Value>>>()?;
            size += row.iter().map(size_of_value).sum::<usize>();
            if size > MAX_REPLY {
                return Ok(None);
            }
            found.push(row);
        }
        drop(rows);
        let columns = columns(&prepared, translated, &found);
        drop(prepared);
        self.rows = self.connection.changes();
        Ok(Some((columns, found)))
    }

    /// The value of an expression and its type.
    pub(super) fn value(&mut self, words: &[Token]) -> Result<(SqlType, Value), SqlError> {
        let translated = translate::scalar(words, &self.scope(words))?;
        let kept = self.rows;
        let (columns, mut rows) = self.rows(&translated)?;
        self.rows = kept;
        let sql_type = columns
            .first()
            .map_or(SqlType::Int, |column| column.sql_type);
        let value = rows
            .first_mut()
            .and_then(|row| row.first_mut())
            .map_or(Value::Null, |value| std::mem::replace(value, Value::Null));
        Ok((sql_type, value))
    }

    fn declare(&mut self, declared: &[Declared]) -> Result<(), SqlError> {
        for one in declared {
            self.variables
                .insert(one.variable.clone(), (one.sql_type, Value::Null));
            if let Some(words) = &one.value {
                self.assign(&one.variable, words)?;
            }
        }
        Ok(())
    }

    fn assign(&mut self, variable: &str, words: &[Token]) -> Result<(), SqlError> {
        let (_, value) = self.value(words)?;
        let known = self
            .variables
            .get_mut(variable)
            .ok_or_else(|| SqlError::undeclared(variable))?;
        known.1 = value;
        Ok(())
    }

    fn enter(&mut self, name: &str, reply: &mut Reply) -> Result<(), SqlError> {
        let name = self.server.store.usable(name)?;
        if self.begun && name != self.database {
            return Err(SqlError::new(
                226,
                16,
                "USE statement not allowed within multi-statement transaction that has written (stand-in).",
            ));
        }
        self.connection = self.server.store.connect(self.spid, &name, &self.cancel)?;
        self.cancel.watch(&self.connection);
        reply.changed(1, &name, &self.database);
        reply.notice(5701, &format!("Changed database context to '{name}'."));
        self.database = name;
        Ok(())
    }

    fn alter_login(&self, login: &str, password: &str, old: Option<&str>) -> Result<(), SqlError> {
        let known = if self.server.faults.not_sysadmin {
            ""
        } else {
            login
        };
        self.server.store.set_password(known, password, old)
    }

    fn drop_database(&mut self, name: &str, if_exists: bool) -> Result<(), SqlError> {
        match self.server.store.drop(name) {
            Err(error) if error.number == 3701 && if_exists => Ok(()),
            other => other,
        }
    }

    fn wait(&self, time: Duration) -> Result<(), SqlError> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if self.cancel.asked() {
                return Err(SqlError::cancelled());
            }
            std::thread::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}
