//! The server's answers: the tokens of a TDS reply, encoded.

use rusqlite::types::Value;

use super::error::SqlError;
use super::types::{SqlType, ticks_of};

/// SQL_Latin1_General_CP1_CI_AS, the default of a new instance.
const COLLATION: [u8; 5] = [0x09, 0x04, 0xD0, 0x00, 0x34];
/// The version that clients are told: SQL Server 2022's, major, minor and build.
pub(super) const VERSION: [u8; 4] = [16, 0, 0x10, 0x27];
/// The same as text.
pub(super) const PRODUCT_VERSION: &str = "16.0.4135.0";
/// TDS 7.4 as LOGINACK spells it.
const TDS_7_4: [u8; 4] = [0x74, 0, 0, 4];
/// Longest NVARCHAR that is sent with its length up front, in bytes; beyond it the value goes in
/// chunks.
const INLINE_BYTES: usize = 8000;

const DONE: u8 = 0xFD;
const DONE_PROC: u8 = 0xFE;
const DONE_IN_PROC: u8 = 0xFF;
const STATUS_MORE: u16 = 0x01;
const STATUS_ERROR: u16 = 0x02;
const STATUS_COUNT: u16 = 0x10;
const STATUS_ATTENTION: u16 = 0x20;

/// One column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) sql_type: SqlType,
}

/// A reply under construction.
#[derive(Default)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    /// Where the last DONE's status stands, so that the last one can be told from those with more
    /// to come.
    last_done: Option<usize>,
    in_proc: bool,
}

impl Reply {
    /// A reply to an RPC: its statements end with DONEINPROC.
    pub(super) fn of_proc() -> Self {
        Self {
            in_proc: true,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn error(&mut self, error: &SqlError) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.message(0xAA, error);
            next = error.next.as_deref();
        }
    }

    /// An INFO token: the same fields with a class of at most 10.
    pub(super) fn notice(&mut self, number: i32, text: &str) {
        self.message(
            0xAB,
            &SqlError {
                number,
                state: 1,
                class: 0,
                message: text.to_owned(),
                next: None,
            },
        );
    }

    fn message(&mut self, token: u8, error: &SqlError) {
        let mut body = Vec::new();
        body.extend(error.number.to_le_bytes());
        body.extend([error.state, error.class]);
        put_us_text(&mut body, &error.message);
        put_b_text(&mut body, "octo-local-standin");
        put_b_text(&mut body, "");
        body.extend(1_i32.to_le_bytes());
        self.sized(token, &body);
    }

    fn sized(&mut self, token: u8, body: &[u8]) {
        self.bytes.push(token);
        self.bytes.extend((body.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(body);
    }

    /// Database (1), language (2), packet size (4): old and new value as text.
    pub(super) fn changed(&mut self, what: u8, new: &str, old: &str) {
        let mut body = vec![what];
        put_b_text(&mut body, new);
        put_b_text(&mut body, old);
        self.sized(0xE3, &body);
    }

    pub(super) fn collation(&mut self) {
        let mut body = vec![7, COLLATION.len() as u8];
        body.extend(COLLATION);
        body.push(0);
        self.sized(0xE3, &body);
    }

    /// A transaction began (8), was committed (9) or rolled back (10).
    pub(super) fn transaction(&mut self, what: u8, descriptor: u64) {
        let mut body = vec![what];
        let id = descriptor.to_le_bytes();
        if what == 8 {
            body.push(8);
            body.extend(id);
            body.push(0);
        } else {
            body.extend([0, 8]);
            body.extend(id);
        }
        self.sized(0xE3, &body);
    }

    pub(super) fn login_ack(&mut self) {
        let mut body = vec![1];
        body.extend(TDS_7_4);
        put_b_text(&mut body, "Microsoft SQL Server");
        body.extend(VERSION);
        self.sized(0xAD, &body);
    }

    pub(super) fn columns(&mut self, columns: &[Column]) {
        self.bytes.push(0x81);
        self.bytes.extend((columns.len() as u16).to_le_bytes());
        for column in columns {
            self.bytes.extend([0, 0, 0, 0, 0x09, 0]);
            put_type(&mut self.bytes, column.sql_type);
            put_b_text(&mut self.bytes, &column.name);
        }
    }

    pub(super) fn row(&mut self, columns: &[Column], values: &[Value]) -> Result<(), SqlError> {
        self.bytes.push(0xD1);
        for (column, value) in columns.iter().zip(values) {
            put_value(&mut self.bytes, column.sql_type, value)?;
        }
        Ok(())
    }

    /// Removes what was written after `length`: the rows of a result that turned out to be an
    /// error.
    pub(super) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// The end of one statement; `rows` where the statement counts some.
    pub(super) fn done(&mut self, rows: Option<u64>, failed: bool) {
        let token = if self.in_proc { DONE_IN_PROC } else { DONE };
        self.end(token, rows, if failed { STATUS_ERROR } else { 0 });
    }

    fn end(&mut self, token: u8, rows: Option<u64>, status: u16) {
        self.bytes.push(token);
        self.last_done = Some(self.bytes.len());
        let status = status | STATUS_MORE | if rows.is_some() { STATUS_COUNT } else { 0 };
        self.bytes.extend(status.to_le_bytes());
        self.bytes
            .extend([if rows.is_some() { 0xC1 } else { 0 }, 0]);
        self.bytes.extend(rows.unwrap_or_default().to_le_bytes());
    }

    /// The value of an output parameter.
    pub(super) fn output(
        &mut self,
        name: &str,
        sql_type: SqlType,
        value: &Value,
    ) -> Result<(), SqlError> {
        self.bytes.extend([0xAC, 0, 0]);
        put_b_text(&mut self.bytes, name);
        self.bytes.extend([1, 0, 0, 0, 0, 0, 0]);
        put_type(&mut self.bytes, sql_type);
        put_value(&mut self.bytes, sql_type, value)
    }

    pub(super) fn return_status(&mut self, status: i32) {
        self.bytes.push(0x79);
        self.bytes.extend(status.to_le_bytes());
    }

    /// The whole reply. A procedure ends with its own token; a reply always ends with one that says
    /// "no more".
    pub(super) fn finish(mut self, failed: bool) -> Vec<u8> {
        let status = if failed { STATUS_ERROR } else { 0 };
        if self.in_proc {
            self.end(DONE_PROC, None, status);
        } else if self.last_done.is_none_or(|at| at + 12 != self.bytes.len()) {
            self.end(DONE, None, status);
        }
        if let Some(at) = self.last_done {
            self.bytes[at] &= !(STATUS_MORE as u8);
        }
        self.bytes
    }

    /// The answer to an attention: the statement's reply is dropped, this stands in its place.
    pub(super) fn attention() -> Vec<u8> {
        let mut reply = Self::default();
        reply.end(DONE, None, STATUS_ATTENTION);
        reply.finish(false)
    }
}

/// The shortest type that holds every value of a column that nothing declares: an expression's.
pub(super) fn inferred<'a>(values: impl Iterator<Item = &'a Value>) -> SqlType {
    let mut found = None;
    for value in values {
        let next = match value {
            Value::Null => continue,
            Value::Integer(number) if i32::try_from(*number).is_ok() => SqlType::Int,
            Value::Integer(_) => SqlType::BigInt,
            Value::Real(_) => SqlType::Float,
            Value::Text(_) => SqlType::Text { max: false },
            Value::Blob(_) => SqlType::Binary,
        };
        found = match (found, next) {
            (Some(SqlType::BigInt), SqlType::Int) => Some(SqlType::BigInt),
            (Some(SqlType::Float), SqlType::Int | SqlType::BigInt) => Some(SqlType::Float),
            (Some(SqlType::Text { .. }), _) => found,
            _ => Some(next),
        };
    }
    found.unwrap_or(SqlType::Int)
}

/// Makes a text column `(MAX)` when one of its values is too long for the short form.
pub(super) fn widened<'a>(
    sql_type: SqlType,
    mut values: impl Iterator<Item = &'a Value>,
) -> SqlType {
    let long = |value: &Value| matches!(value, Value::Text(text) if text.encode_utf16().count() * 2 > INLINE_BYTES);
    match sql_type {
        SqlType::Text { max } => SqlType::Text {
            max: max || values.any(long),
        },
        other => other,
    }
}

fn put_type(out: &mut Vec<u8>, sql_type: SqlType) {
    match sql_type {
        SqlType::Bit => out.extend([0x68, 1]),
        SqlType::TinyInt => out.extend([0x26, 1]),
        SqlType::SmallInt => out.extend([0x26, 2]),
        SqlType::Int => out.extend([0x26, 4]),
        SqlType::BigInt => out.extend([0x26, 8]),
        SqlType::Float => out.extend([0x6D, 8]),
        SqlType::Real => out.extend([0x6D, 4]),
        SqlType::Numeric => out.extend([0x6C, 13, 20, 0]),
        SqlType::Text { max } => {
            out.push(0xE7);
            out.extend(if max {
                [0xFF, 0xFF]
            } else {
                (INLINE_BYTES as u16).to_le_bytes()
            });
            out.extend(COLLATION);
        }
        SqlType::Binary => out.extend([0xA5, 0xFF, 0xFF]),
        SqlType::DateTime2 => out.extend([0x2A, 7]),
        SqlType::Guid => out.extend([0x24, 16]),
    }
}

fn put_value(out: &mut Vec<u8>, sql_type: SqlType, value: &Value) -> Result<(), SqlError> {
    match (sql_type, value) {
        (SqlType::Text { max: true } | SqlType::Binary, Value::Null) => out.extend([0xFF; 8]),
        (SqlType::Text { max: false }, Value::Null) => out.extend([0xFF; 2]),
        (_, Value::Null) => out.push(0),
        (SqlType::Text { max }, value) => put_text(out, &text_of(value), max),
        (SqlType::Binary, Value::Blob(bytes)) => put_chunks(out, bytes),
        (SqlType::Binary, value) => put_chunks(out, text_of(value).as_bytes()),
        (SqlType::Float, Value::Real(number)) => put_float(out, *number),
        (SqlType::Float, Value::Integer(number)) => put_float(out, *number as f64),
        (SqlType::Real, Value::Real(number)) => put_real(out, *number as f32),
        (SqlType::Real, Value::Integer(number)) => put_real(out, *number as f32),
        (SqlType::Numeric, Value::Integer(number)) => put_numeric(out, *number),
        (SqlType::DateTime2, Value::Text(text)) => put_date(out, text)?,
        (SqlType::Guid, Value::Text(text)) => put_guid(out, text)?,
        (_, Value::Integer(number)) => return put_int(out, sql_type, *number),
        (_, Value::Text(text)) => match text.trim().parse() {
            Ok(number) => return put_int(out, sql_type, number),
            Err(_) => return Err(SqlError::conversion(text, "int")),
        },
        (_, Value::Real(number)) => return put_int(out, sql_type, number.trunc() as i64),
        (_, Value::Blob(_)) => return Err(SqlError::conversion("binary", "int")),
    }
    Ok(())
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn put_int(out: &mut Vec<u8>, sql_type: SqlType, number: i64) -> Result<(), SqlError> {
    let size: usize = match sql_type {
        SqlType::Bit => {
            out.extend([1, u8::from(number != 0)]);
            return Ok(());
        }
        SqlType::TinyInt => 1,
        SqlType::SmallInt => 2,
        SqlType::Int => 4,
        SqlType::BigInt => 8,
        SqlType::Float
        | SqlType::Real
        | SqlType::Numeric
        | SqlType::Text { .. }
        | SqlType::Binary
        | SqlType::DateTime2
        | SqlType::Guid => {
            return Err(SqlError::conversion(
                &number.to_string(),
                "datetime2 or uniqueidentifier",
            ));
        }
    };
    let fits = match sql_type {
        SqlType::TinyInt => u8::try_from(number).is_ok(),
        _ => size == 8 || (number >> (size * 8 - 1) == 0) || (number >> (size * 8 - 1) == -1),
    };
    if !fits {
        return Err(SqlError::new(
            8115,
            16,
            "Arithmetic overflow error converting expression to data type int.",
        ));
    }
    out.push(size as u8);
    out.extend_from_slice(&number.to_le_bytes()[..size]);
    Ok(())
}

fn put_float(out: &mut Vec<u8>, number: f64) {
    out.push(8);
    out.extend(number.to_le_bytes());
}

fn put_real(out: &mut Vec<u8>, number: f32) {
    out.push(4);
    out.extend(number.to_le_bytes());
}

/// `numeric(20, 0)`: the sign, then twelve bytes.
fn put_numeric(out: &mut Vec<u8>, number: i64) {
    out.extend([13, u8::from(number >= 0)]);
    out.extend(number.unsigned_abs().to_le_bytes());
    out.extend([0; 4]);
}

fn put_date(out: &mut Vec<u8>, text: &str) -> Result<(), SqlError> {
    let (days, ticks) = ticks_of(text)?;
    out.push(8);
    out.extend_from_slice(&ticks.to_le_bytes()[..5]);
    out.extend_from_slice(&days.to_le_bytes()[..3]);
    Ok(())
}

fn put_guid(out: &mut Vec<u8>, text: &str) -> Result<(), SqlError> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 32);
    let mut bytes = number
        .ok_or_else(|| SqlError::conversion(text, "uniqueidentifier"))?
        .to_be_bytes();
    swap_guid(&mut bytes);
    out.push(16);
    out.extend(bytes);
    Ok(())
}

/// The first three fields of a GUID travel little-endian.
pub(super) fn swap_guid(bytes: &mut [u8; 16]) {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
}

fn put_text(out: &mut Vec<u8>, text: &str, max: bool) {
    let bytes = utf16(text);
    if max {
        return put_chunks(out, &bytes);
    }
    out.extend((bytes.len() as u16).to_le_bytes());
    out.extend(bytes);
}

/// A `(MAX)` value: its length, one chunk, the end.
fn put_chunks(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    if !bytes.is_empty() {
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out.extend([0; 4]);
}

fn put_b_text(out: &mut Vec<u8>, text: &str) {
    let units: Vec<u16> = text.encode_utf16().take(255).collect();
    out.push(units.len() as u8);
    out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
}

fn put_us_text(out: &mut Vec<u8>, text: &str) {
    let units: Vec<u16> = text.encode_utf16().take(2000).collect();
    out.extend((units.len() as u16).to_le_bytes());
    out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_done_says_no_more() {
        let mut reply = Reply::default();
        reply.done(Some(3), false);
        reply.done(None, false);
        let bytes = reply.finish(false);
        assert_eq!((bytes.len(), bytes[1], bytes[14]), (26, 0x11, 0));
    }

    #[test]
    fn a_number_too_large_for_its_column_is_an_error() {
        let mut out = Vec::new();
        assert_eq!(
            put_value(&mut out, SqlType::Int, &Value::Integer(1 << 31))
                .unwrap_err()
                .number,
            8115
        );
        assert!(put_value(&mut out, SqlType::Int, &Value::Integer(-(1 << 31))).is_ok());
        assert_eq!(
            put_value(&mut out, SqlType::Int, &Value::Text("x".into()))
                .unwrap_err()
                .number,
            245
        );
    }

    #[test]
    fn undeclared_columns_get_the_type_of_their_values() {
        let values = [
            Value::Null,
            Value::Integer(1),
            Value::Integer(1 << 40),
            Value::Integer(2),
        ];
        assert_eq!(inferred(values.iter()), SqlType::BigInt);
        assert_eq!(inferred([].iter()), SqlType::Int);
    }
}
