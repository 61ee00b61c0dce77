//! The stored procedures: `sp_executesql`, `sp_getapplock`, `sp_releaseapplock`.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::types::Value;

use super::applock::Resource;
use super::engine::Engine;
use super::error::SqlError;
use super::lexer::{self, Token};
use super::request::{Call, Parameter};
use super::tokens::Reply;
use super::types::SqlType;

impl Engine {
    pub(super) fn run_procedure(
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
            parameters.push(Parameter {
                name: name.clone(),
                sql_type,
                value,
                output: false,
            });
        }
        let outer = self.variables.clone();
        let status = self.procedure(
            Call {
                procedure: procedure.to_owned(),
                parameters,
            },
            reply,
        )?;
        self.variables = outer;
        if let Some(variable) = result {
            let known = self
                .variables
                .get_mut(variable)
                .ok_or_else(|| SqlError::undeclared(variable))?;
            known.1 = Value::Integer(status.into());
        }
        reply.done(None, false);
        Ok(())
    }

    pub(super) fn procedure(&mut self, call: Call, reply: &mut Reply) -> Result<i32, SqlError> {
        match call.procedure.as_str() {
            "sp_executesql" => self.execute_sql(call.parameters, reply),
            "sp_getapplock" => Ok(self.get_lock(&call.parameters)),
            "sp_releaseapplock" => self.release_lock(&call.parameters),
            other => Err(SqlError::new(
                2812,
                16,
                format!("Could not find stored procedure '{other}'."),
            )),
        }
    }

    /// The statement, the declaration of its parameters, and the parameters by name or in the
    /// declaration's order.
    fn execute_sql(
        &mut self,
        parameters: Vec<Parameter>,
        reply: &mut Reply,
    ) -> Result<i32, SqlError> {
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
            let name = if parameter.name.is_empty() {
                by_place.unwrap_or_default()
            } else {
                parameter.name
            };
            if !declared.contains(&name) {
                return Err(SqlError::new(
                    8145,
                    16,
                    format!("{name} is not a parameter for procedure sp_executesql."),
                ));
            }
            self.variables
                .insert(name, (parameter.sql_type, parameter.value));
        }
        if let Some(missing) = declared
            .iter()
            .find(|name| !self.variables.contains_key(*name))
        {
            let text = format!(
                "The parameterized query expects the parameter '{missing}', which was not supplied."
            );
            return Err(SqlError::new(8178, 16, text));
        }
        self.script(&text, reply)?;
        Ok(0)
    }

    fn resource(&self, parameters: &[Parameter], place: usize) -> Option<Resource> {
        let resource = argument(parameters, place, "@resource")?;
        Some((self.database.to_lowercase(), resource.to_lowercase()))
    }

    /// The code that `sp_getapplock` returns; -999 for what it, or the stand-in, does not take.
    fn get_lock(&self, parameters: &[Parameter]) -> i32 {
        let mode = argument(parameters, 1, "@lockmode").unwrap_or_default();
        let owner =
            argument(parameters, 2, "@lockowner").unwrap_or_else(|| "transaction".to_owned());
        let transaction = owner.eq_ignore_ascii_case("transaction");
        let timeout = argument(parameters, 3, "@locktimeout")
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or(-1);
        let known = mode.eq_ignore_ascii_case("exclusive")
            && (owner.eq_ignore_ascii_case("session") || (transaction && self.transactions > 0));
        let Some(resource) = self.resource(parameters, 0).filter(|_| known) else {
            return -999;
        };
        let wait = u64::try_from(timeout).ok().map(Duration::from_millis);
        self.server
            .locks
            .acquire(self.spid, &resource, transaction, wait, || {
                self.cancel.asked()
            })
    }

    fn release_lock(&self, parameters: &[Parameter]) -> Result<i32, SqlError> {
        let resource = self
            .resource(parameters, 0)
            .filter(|resource| self.server.locks.release(self.spid, resource));
        let text = "Cannot release the application lock because it is not currently held.";
        resource
            .map(|_| 0)
            .ok_or_else(|| SqlError::new(1223, 16, text))
    }
}

/// A procedure's argument as text, by name or by place.
fn argument(parameters: &[Parameter], place: usize, name: &str) -> Option<String> {
    let by_name = parameters.iter().find(|parameter| parameter.name == name);
    let by_place = parameters
        .get(place)
        .filter(|parameter| parameter.name.is_empty());
    match &by_name.or(by_place)?.value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Null | Value::Real(_) | Value::Blob(_) => None,
    }
}

/// The names in `@a int, @b nvarchar(10)`.
fn declared_names(declaration: &str) -> Result<Vec<String>, SqlError> {
    let words = lexer::tokens(declaration)?.into_iter();
    Ok(words
        .filter_map(|word| {
            if let Token::Variable(name) = word {
                Some(name)
            } else {
                None
            }
        })
        .collect())
}
