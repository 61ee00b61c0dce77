//! What a result's columns are called and which types they have.

use rusqlite::Statement as Prepared;
use rusqlite::types::Value;

use super::tokens::{Column, inferred, widened};
use super::translate::Translated;
use super::types::SqlType;

/// The memory a value takes, near enough.
pub(super) fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() * 2,
        Value::Blob(bytes) => bytes.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => 8,
    }
}

/// The types of a result: what the select list says, else what the table declares, else what the
/// values are.
pub(super) fn columns(
    prepared: &Prepared<'_>,
    translated: &Translated,
    rows: &[Vec<Value>],
) -> Vec<Column> {
    let described = prepared.columns();
    let columns = described.enumerate().map(|(at, column)| {
        let hint = translated.hints.get(at).cloned().unwrap_or_default();
        let values = || rows.iter().map(|row| &row[at]);
        let declared = column.decl_type().and_then(SqlType::declared);
        let sql_type = hint
            .sql_type
            .or(declared)
            .unwrap_or_else(|| inferred(values()));
        let name = if hint.unnamed {
            String::new()
        } else {
            column.name().to_owned()
        };
        Column {
            name,
            sql_type: widened(sql_type, values()),
        }
    });
    columns.collect()
}
