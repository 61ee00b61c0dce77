//! One connection's statements, run one after the other: blocking code, away from the network.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, InterruptHandle, Statement as Prepared};

use super::error::SqlError;
use super::lexer::{self, Token};
use super::request::{Call, Parameter};
use super::server::Server;
use super::statement::{self, Declared, Statement};
use super::tokens::{Column, Reply, inferred, widened};
use super::translate::{self, Scope, Translated};
use super::types::SqlType;

/// How long a statement waits for another connection's transaction.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// Largest reply, so that no query can fill the memory.
const MAX_REPLY: usize = 64 << 20;
/// How often WAITFOR looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(10);

/// A result: its columns and rows.
type Found = (Vec<Column>, Vec<Vec<Value>>);

/// Stops what a connection is running, from outside.
#[derive(Default)]
pub(super) struct Cancel {
    asked: AtomicBool,
    running: Mutex<Option<InterruptHandle>>,
}

impl Cancel {
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if let Some(handle) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            handle.interrupt();
        }
    }

    pub(super) fn forget(&self) {
        self.asked.store(false, Ordering::SeqCst);
    }

    fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    fn watch(&self, connection: &Connection) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
    }
}

/// A logged-in connection's state. Dropping it gives its locks back and rolls its transaction back.
pub(super) struct Engine {
    server: Arc<Server>,
    spid: u16,
    database: String,
    connection: Connection,
    /// How many BEGIN TRAN are open. SQLite's own begins with the first write: until then others' commits are visible.
    transactions: u32,
    begun: bool,
    rows: u64,
    variables: HashMap<String, (SqlType, Value)>,
    cancel: Arc<Cancel>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.server.store.leave(self.spid);
        self.server.locks.release_all(self.spid, true);
    }
}

impl Engine {
    /// Opens a session in a database, with its name as `Store::usable` gave it.
    pub(super) fn new(server: Arc<Server>, spid: u16, database: &str, cancel: Arc<Cancel>) -> Result<Self, SqlError> {
        let connection = server.store.connect(spid, database)?;
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
        let failed = self.script(text, &mut reply).map_err(|error| self.failure(&error, &mut reply)).is_err();
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
                    let value = self.variables.get(&name).map_or(Value::Null, |(_, value)| value.clone());
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
        let failed = result.map_err(|error| self.failure(&error, &mut reply)).is_err();
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

    fn script(&mut self, text: &str, reply: &mut Reply) -> Result<(), SqlError> {
        for statement in statement::statements(lexer::tokens(text)?)? {
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
            Statement::If { condition, then, otherwise } => {
                return self.branch(condition, then, otherwise.as_deref(), reply);
            }
            Statement::Block(inside) => return inside.iter().try_for_each(|statement| self.execute(statement, reply)),
            Statement::Execute { result, procedure, arguments } => {
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
            Statement::AlterLogin { login, password } => self.server.store.set_password(login, password)?,
            Statement::Shutdown { nowait } => {
                reply.notice(6006, "Server shut down by request from login sa.");
                self.server.stop(*nowait);
            }
            Statement::Wait(time) => self.wait(*time)?,
            Statement::Print(words) => {
                let (_, value) = self.value(words)?;
                let text = match value {
                    Value::Text(text) => text,
                    Value::Integer(number) => number.to_string(),
                    Value::Null | Value::Real(_) | Value::Blob(_) => String::new(),
                };
                reply.notice(0, &text);
            }
        }
        reply.done(None, false);
        Ok(())
    }

    fn scope(&self) -> Scope {
        Scope {
            database: self.database.clone(),
            databases: self.server.store.databases(),
            variables: self.variables.iter().map(|(name, (sql_type, _))| (name.clone(), *sql_type)).collect(),
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
        let translated = translate::condition(condition, &self.scope())?;
        let (_, rows) = self.rows(&translated)?;
        let holds = matches!(rows.first().and_then(|row| row.first()), Some(Value::Integer(1)));
        match (holds, otherwise) {
            (true, _) => self.execute(then, reply),
            (false, Some(otherwise)) => self.execute(otherwise, reply),
            (false, None) => Ok(()),
        }
    }

    fn query(&mut self, words: &[Token], reply: &mut Reply) -> Result<(), SqlError> {
        let translated = translate::query(words, &self.scope())?;
        let (columns, rows) = self.rows(&translated)?;
        if !translated.assigned.is_empty() {
            let last = rows.into_iter().next_back().unwrap_or_default();
            for (name, value) in translated.assigned.iter().zip(last) {
                self.variables.entry(name.clone()).and_modify(|variable| variable.1 = value);
            }
            reply.done(None, false);
            return Ok(());
        }
        if columns.is_empty() {
            let counted = words
                .first()
                .is_some_and(|word| ["INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|keyword| word.is(keyword)));
            reply.done(counted.then_some(self.rows), false);
            return Ok(());
        }
        self.rows = rows.len() as u64;
        let start = reply.len();
        reply.columns(&columns);
        for row in &rows {
            reply.row(&columns, row).inspect_err(|_| reply.truncate(start))?;
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
        found.ok_or_else(|| SqlError::new(701, 17, "There is insufficient system memory to run this query."))
    }

    fn patiently<T>(&mut self, mut attempt: impl FnMut(&mut Self) -> rusqlite::Result<T>) -> Result<T, SqlError> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match attempt(self) {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline =>
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
            let row = (0..width).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>()?;
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
    fn value(&mut self, words: &[Token]) -> Result<(SqlType, Value), SqlError> {
        let translated = translate::scalar(words, &self.scope())?;
        let kept = self.rows;
        let (columns, mut rows) = self.rows(&translated)?;
        self.rows = kept;
        let sql_type = columns.first().map_or(SqlType::Int, |column| column.sql_type);
        let value = rows
            .first_mut()
            .and_then(|row| row.first_mut())
            .map_or(Value::Null, |value| std::mem::replace(value, Value::Null));
        Ok((sql_type, value))
    }

    fn declare(&mut self, declared: &[Declared]) -> Result<(), SqlError> {
        for one in declared {
            self.variables.insert(one.variable.clone(), (one.sql_type, Value::Null));
            if let Some(words) = &one.value {
                self.assign(&one.variable, words)?;
            }
        }
        Ok(())
    }

    fn assign(&mut self, variable: &str, words: &[Token]) -> Result<(), SqlError> {
        let (_, value) = self.value(words)?;
        let known = self.variables.get_mut(variable).ok_or_else(|| SqlError::undeclared(variable))?;
        known.1 = value;
        Ok(())
    }

    fn begin(&mut self, reply: &mut Reply) {
        self.transactions += 1;
        if self.transactions == 1 {
            reply.transaction(8, u64::from(self.spid));
        }
    }

    fn commit(&mut self, reply: &mut Reply) -> Result<(), SqlError> {
        match self.transactions {
            0 => {
                return Err(SqlError::new(
                    3902,
                    16,
                    "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.",
                ));
            }
            1 => {
                if self.begun {
                    self.patiently(|engine| engine.connection.execute_batch("COMMIT"))?;
                }
                self.finish_transaction(9, reply);
            }
            _ => self.transactions -= 1,
        }
        Ok(())
    }

    fn rollback(&mut self, reply: &mut Reply) -> Result<(), SqlError> {
        if self.transactions == 0 {
            return Err(SqlError::new(
                3903,
                16,
                "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.",
            ));
        }
        if self.begun {
            self.patiently(|engine| engine.connection.execute_batch("ROLLBACK"))?;
        }
        self.finish_transaction(10, reply);
        Ok(())
    }

    fn finish_transaction(&mut self, what: u8, reply: &mut Reply) {
        self.transactions = 0;
        self.begun = false;
        self.server.locks.release_all(self.spid, false);
        reply.transaction(what, u64::from(self.spid));
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
        self.connection = self.server.store.connect(self.spid, &name)?;
        self.cancel.watch(&self.connection);
        reply.changed(1, &name, &self.database);
        reply.notice(5701, &format!("Changed database context to '{name}'."));
        self.database = name;
        Ok(())
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

    fn run_procedure(
        &mut self,
        result: Option<&String>,
        procedure: &str,
        arguments: &[(String, Vec<Token>)],
        reply: &mut Reply,
    ) -> Result<(), SqlError> {
        let mut parameters = Vec::new();
        for (name, words) in arguments {
            // A bare word is a string here: `@LockMode = Exclusive`.
            let (sql_type, value) = match words.as_slice() {
                [Token::Word(word)] if !word.eq_ignore_ascii_case("NULL") => {
                    (SqlType::Text { max: false }, Value::Text(word.clone()))
                }
                _ => self.value(words)?,
            };
            parameters.push(Parameter { name: name.clone(), sql_type, value, output: false });
        }
        let outer = self.variables.clone();
        let status = self.procedure(Call { procedure: procedure.to_owned(), parameters }, reply)?;
        self.variables = outer;
        if let Some(variable) = result {
            let known = self.variables.get_mut(variable).ok_or_else(|| SqlError::undeclared(variable))?;
            known.1 = Value::Integer(status.into());
        }
        reply.done(None, false);
        Ok(())
    }

    fn procedure(&mut self, call: Call, reply: &mut Reply) -> Result<i32, SqlError> {
        match call.procedure.as_str() {
            "sp_executesql" => self.execute_sql(call.parameters, reply),
            "sp_getapplock" => Ok(self.get_lock(&call.parameters)),
            "sp_releaseapplock" => self.release_lock(&call.parameters),
            other => Err(SqlError::new(2812, 16, format!("Could not find stored procedure '{other}'."))),
        }
    }

    /// The statement, the declaration of its parameters, and the parameters by name or in the declaration's order.
    fn execute_sql(&mut self, parameters: Vec<Parameter>, reply: &mut Reply) -> Result<i32, SqlError> {
        let mut parameters = parameters.into_iter();
        let Some(Value::Text(text)) = parameters.next().map(|parameter| parameter.value) else {
            return Err(SqlError::new(
                214,
                16,
                "Procedure expects parameter '@statement' of type 'ntext/nchar/nvarchar'.",
            ));
        };
        let declared = match parameters.next().map(|parameter| parameter.value) {
            Some(Value::Text(declaration)) => declared_names(&declaration)?,
            _ => Vec::new(),
        };
        self.variables = HashMap::new();
        for (at, parameter) in parameters.enumerate() {
            let by_place = declared.get(at).cloned();
            let name = if parameter.name.is_empty() { by_place.unwrap_or_default() } else { parameter.name };
            if !declared.contains(&name) {
                return Err(SqlError::new(8145, 16, format!("{name} is not a parameter for procedure sp_executesql.")));
            }
            self.variables.insert(name, (parameter.sql_type, parameter.value));
        }
        if let Some(missing) = declared.iter().find(|name| !self.variables.contains_key(*name)) {
            let text = format!("The parameterized query expects the parameter '{missing}', which was not supplied.");
            return Err(SqlError::new(8178, 16, text));
        }
        self.script(&text, reply)?;
        Ok(0)
    }

    fn resource(&self, parameters: &[Parameter], place: usize) -> Option<super::applock::Resource> {
        let resource = argument(parameters, place, "@resource")?;
        Some((self.database.to_lowercase(), resource.to_lowercase()))
    }

    /// The code that `sp_getapplock` returns; -999 for what it, or the stand-in, does not take.
    fn get_lock(&self, parameters: &[Parameter]) -> i32 {
        let mode = argument(parameters, 1, "@lockmode").unwrap_or_default();
        let owner = argument(parameters, 2, "@lockowner").unwrap_or_else(|| "transaction".to_owned());
        let transaction = owner.eq_ignore_ascii_case("transaction");
        let timeout = argument(parameters, 3, "@locktimeout").and_then(|text| text.parse::<i64>().ok()).unwrap_or(-1);
        let known = mode.eq_ignore_ascii_case("exclusive")
            && (owner.eq_ignore_ascii_case("session") || (transaction && self.transactions > 0));
        let Some(resource) = self.resource(parameters, 0).filter(|_| known) else { return -999 };
        let wait = u64::try_from(timeout).ok().map(Duration::from_millis);
        self.server.locks.acquire(self.spid, &resource, transaction, wait, || self.cancel.asked())
    }

    fn release_lock(&self, parameters: &[Parameter]) -> Result<i32, SqlError> {
        let resource = self.resource(parameters, 0).filter(|resource| self.server.locks.release(self.spid, resource));
        let text = "Cannot release the application lock because it is not currently held.";
        resource.map(|_| 0).ok_or_else(|| SqlError::new(1223, 16, text))
    }
}

/// A procedure's argument as text, by name or by place.
fn argument(parameters: &[Parameter], place: usize, name: &str) -> Option<String> {
    let by_name = parameters.iter().find(|parameter| parameter.name == name);
    let by_place = parameters.get(place).filter(|parameter| parameter.name.is_empty());
    match &by_name.or(by_place)?.value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Null | Value::Real(_) | Value::Blob(_) => None,
    }
}

/// The names in `@a int, @b nvarchar(10)`.
fn declared_names(declaration: &str) -> Result<Vec<String>, SqlError> {
    let words = lexer::tokens(declaration)?.into_iter();
    Ok(words.filter_map(|word| if let Token::Variable(name) = word { Some(name) } else { None }).collect())
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() * 2,
        Value::Blob(bytes) => bytes.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => 8,
    }
}

/// The types of a result: what the select list says, else what the table declares, else what the values are.
fn columns(prepared: &Prepared<'_>, translated: &Translated, rows: &[Vec<Value>]) -> Vec<Column> {
    let described = prepared.columns();
    let columns = described.enumerate().map(|(at, column)| {
        let hint = translated.hints.get(at).cloned().unwrap_or_default();
        let values = || rows.iter().map(|row| &row[at]);
        let declared = column.decl_type().and_then(SqlType::declared);
        let sql_type = hint.sql_type.or(declared).unwrap_or_else(|| inferred(values()));
        let name = if hint.unnamed { String::new() } else { column.name().to_owned() };
        Column { name, sql_type: widened(sql_type, values()) }
    });
    columns.collect()
}
