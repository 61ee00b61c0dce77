//! What clients send: the login, SQL batches, and procedure calls with their parameters, decoded.

use rusqlite::types::Value;

use super::error::SqlError;
use super::tokens::swap_guid;
use super::types::{SqlType, date_of, stored};

/// What of a LOGIN7 message counts here.
pub(super) struct Login {
    pub(super) packet: usize,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) database: String,
}

/// A parameter of a call. Its name is lower case, empty when it is given by position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) sql_type: SqlType,
    pub(super) value: Value,
    pub(super) output: bool,
}

/// A procedure call.
#[derive(Debug, PartialEq)]
pub(super) struct Call {
    pub(super) procedure: String,
    pub(super) parameters: Vec<Parameter>,
}

/// Days between 0001-01-01 and 1900-01-01, where DATETIME counts from.
const DAYS_TO_1900: i64 = 693_595;

/// The encryption level that a PRELOGIN message asks for: 0 login only, 1 on, 2 not supported, 3
/// required.
pub(super) fn encryption(body: &[u8]) -> Option<u8> {
    let mut at = 0;
    while *body.get(at)? != 0xFF {
        let offset = usize::from(u16::from_be_bytes([*body.get(at + 1)?, *body.get(at + 2)?]));
        if body[at] == 1 {
            return body.get(offset).copied();
        }
        at += 5;
    }
    None
}

/// The answer to PRELOGIN.
pub(super) fn prelogin_reply(encryption: u8, version: [u8; 4]) -> Vec<u8> {
    let mut out = vec![
        0, 0, 21, 0, 6, 1, 0, 27, 0, 1, 2, 0, 28, 0, 1, 4, 0, 29, 0, 1, 0xFF,
    ];
    out.extend(version);
    out.extend([0, 0, encryption, 0, 0]);
    out
}

pub(super) fn login(body: &[u8]) -> Option<Login> {
    let text = |at: usize| -> Option<Vec<u8>> {
        let word = |at: usize| {
            Some(usize::from(u16::from_le_bytes([
                *body.get(at)?,
                *body.get(at + 1)?,
            ])))
        };
        let (start, units) = (word(at)?, word(at + 2)?);
        Some(body.get(start..start + units * 2)?.to_vec())
    };
    let packet = u32::from_le_bytes(body.get(8..12)?.try_into().ok()?) as usize;
    let scrambled = text(44)?;
    let password: Vec<u8> = scrambled
        .iter()
        .map(|byte| (byte ^ 0xA5).rotate_left(4))
        .collect();
    Some(Login {
        packet,
        user: from_utf16(&text(40)?),
        password: from_utf16(&password),
        database: from_utf16(&text(68)?),
    })
}

/// The text of a SQL batch, behind its headers.
pub(super) fn batch(body: &[u8]) -> Result<String, SqlError> {
    Ok(from_utf16(after_headers(body)?))
}

/// The kind of a transaction manager request: 5 begin, 7 commit, 8 roll back.
pub(super) fn transaction(body: &[u8]) -> Result<u16, SqlError> {
    Reader {
        rest: after_headers(body)?,
    }
    .u16()
}

pub(super) fn call(body: &[u8]) -> Result<Call, SqlError> {
    let mut reader = Reader {
        rest: after_headers(body)?,
    };
    let procedure = match reader.u16()? {
        0xFFFF => match reader.u16()? {
            10 => "sp_executesql".to_owned(),
            other => format!("#{other}"),
        },
        units => from_utf16(reader.take(usize::from(units) * 2)?).to_ascii_lowercase(),
    };
    reader.u16()?;
    let mut parameters = Vec::new();
    while !reader.rest.is_empty() {
        let units = usize::from(reader.u8()?);
        let name = from_utf16(reader.take(units * 2)?).to_ascii_lowercase();
        let output = reader.u8()? & 1 != 0;
        let (sql_type, value) = reader.typed()?;
        parameters.push(Parameter {
            name,
            sql_type,
            value,
            output,
        });
    }
    let procedure = procedure.replace(['[', ']'], "");
    let procedure = procedure.rsplit('.').next().unwrap_or_default().to_owned();
    Ok(Call {
        procedure,
        parameters,
    })
}

fn after_headers(body: &[u8]) -> Result<&[u8], SqlError> {
    let length = body
        .get(..4)
        .and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize));
    length
        .filter(|length| *length >= 4)
        .and_then(|length| body.get(length..))
        .ok_or_else(SqlError::malformed)
}

fn from_utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.len() > 1 && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xFF } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

/// Reads values front to back; every short read is the same protocol error.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], SqlError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(SqlError::malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, SqlError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, SqlError> {
        Ok(signed(self.take(2)?) as u16)
    }

    fn u32(&mut self) -> Result<usize, SqlError> {
        Ok(signed(self.take(4)?) as u32 as usize)
    }

    /// One value behind its type.
    fn typed(&mut self) -> Result<(SqlType, Value), SqlError> {
        match self.u8()? {
            0x1F => Ok((SqlType::Int, Value::Null)),
            0x30 => self.fixed(SqlType::TinyInt, 1),
            0x32 => self.fixed(SqlType::Bit, 1),
            0x34 => self.fixed(SqlType::SmallInt, 2),
            0x38 => self.fixed(SqlType::Int, 4),
            0x7F => self.fixed(SqlType::BigInt, 8),
            0x3B => self.fixed(SqlType::Float, 4),
            0x3E => self.fixed(SqlType::Float, 8),
            0x26 => self.nullable(|size| match size {
                1 => SqlType::TinyInt,
                2 => SqlType::SmallInt,
                4 => SqlType::Int,
                _ => SqlType::BigInt,
            }),
            0x68 => self.nullable(|_| SqlType::Bit),
            0x6D => self.nullable(|_| SqlType::Float),
            0x24 => self.guid(),
            0x6A | 0x6C => self.decimal(),
            0x6F => self.datetime(),
            kind @ 0x28..=0x2B => self.date(kind),
            kind @ (0xE7 | 0xEF) => self.characters(kind, true),
            kind @ (0xA7 | 0xAF) => self.characters(kind, false),
            0xA5 | 0xAD => {
                let max = self.u16()?;
                Ok((
                    SqlType::Binary,
                    self.long(max)?.map_or(Value::Null, Value::Blob),
                ))
            }
            kind @ (0x63 | 0x23) => self.old_text(kind == 0x63),
            _ => Err(SqlError::new(
                8007,
                16,
                "The parameter's data type is not known to the stand-in.",
            )),
        }
    }

    fn fixed(&mut self, sql_type: SqlType, size: usize) -> Result<(SqlType, Value), SqlError> {
        let bytes = self.take(size)?;
        Ok((sql_type, number(sql_type, bytes)?))
    }

    fn nullable(&mut self, of_size: impl Fn(u8) -> SqlType) -> Result<(SqlType, Value), SqlError> {
        let sql_type = of_size(self.u8()?);
        let size = usize::from(self.u8()?);
        if size > 8 {
            return Err(SqlError::malformed());
        }
        let bytes = self.take(size)?;
        Ok((
            sql_type,
            if bytes.is_empty() {
                Value::Null
            } else {
                number(sql_type, bytes)?
            },
        ))
    }

    fn guid(&mut self) -> Result<(SqlType, Value), SqlError> {
        self.u8()?;
        let size = usize::from(self.u8()?);
        let Ok(mut bytes) = <[u8; 16]>::try_from(self.take(size)?) else {
            return Ok((SqlType::Guid, Value::Null));
        };
        swap_guid(&mut bytes);
        let hex = format!("{:032X}", u128::from_be_bytes(bytes));
        let text = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ]
        .join("-");
        Ok((SqlType::Guid, Value::Text(text)))
    }

    /// Decimals become floats: near enough for a stand-in, and never stored as something else than
    /// a number.
    fn decimal(&mut self) -> Result<(SqlType, Value), SqlError> {
        let scale = i32::from(self.take(3)?[2]);
        let size = usize::from(self.u8()?);
        let bytes = self.take(size)?;
        let Some((sign, digits)) = bytes.split_first() else {
            return Ok((SqlType::Float, Value::Null));
        };
        let whole = digits
            .iter()
            .rev()
            .fold(0.0, |sum: f64, byte| sum * 256.0 + f64::from(*byte));
        let value = whole / 10_f64.powi(scale);
        Ok((
            SqlType::Float,
            Value::Real(if *sign == 0 { -value } else { value }),
        ))
    }

    /// DATETIME: days since 1900 and 1/300 s; SMALLDATETIME: days and minutes.
    fn datetime(&mut self) -> Result<(SqlType, Value), SqlError> {
        self.u8()?;
        let size = usize::from(self.u8()?);
        let bytes = self.take(size)?;
        let (days, ticks) = match size {
            8 => (
                signed(&bytes[..4]),
                (signed(&bytes[4..]) * 10_000_000 + 150) / 300,
            ),
            4 => (
                i64::from(signed(&bytes[..2]) as u16),
                signed(&bytes[2..]) * 600_000_000,
            ),
            _ => return Ok((SqlType::DateTime2, Value::Null)),
        };
        moment(days + DAYS_TO_1900, ticks)
    }

    /// DATE (28), TIME (29), DATETIME2 (2A) and DATETIMEOFFSET (2B); the latter as its UTC time.
    fn date(&mut self, kind: u8) -> Result<(SqlType, Value), SqlError> {
        let scale = if kind == 0x28 {
            0
        } else {
            u32::from(self.u8()?)
        };
        let size = usize::from(self.u8()?);
        let bytes = self.take(size)?;
        if bytes.is_empty() {
            return Ok((SqlType::DateTime2, Value::Null));
        }
        let tail = match kind {
            0x28 | 0x2A => 3,
            0x29 => 0,
            _ => 5,
        };
        let Some(split) = size
            .checked_sub(tail)
            .filter(|split| *split <= 5 && scale <= 7)
        else {
            return Err(SqlError::malformed());
        };
        let mut time = [0; 8];
        time[..split].copy_from_slice(&bytes[..split]);
        let mut days = [0; 8];
        days[..tail.min(3)].copy_from_slice(&bytes[split..split + tail.min(3)]);
        moment(
            i64::from_le_bytes(days),
            i64::from_le_bytes(time) * 10_i64.pow(7 - scale),
        )
    }

    fn characters(&mut self, kind: u8, wide: bool) -> Result<(SqlType, Value), SqlError> {
        let max = self.u16()?;
        self.take(5)?;
        let sql_type = SqlType::Text {
            max: max == 0xFFFF && kind & 0x08 == 0,
        };
        Ok((
            sql_type,
            self.long(max)?
                .map_or(Value::Null, |bytes| Value::Text(text_of(&bytes, wide))),
        ))
    }

    fn old_text(&mut self, wide: bool) -> Result<(SqlType, Value), SqlError> {
        self.take(9)?;
        let size = self.u32()?;
        let value = match size {
            0xFFFF_FFFF => Value::Null,
            size => Value::Text(text_of(self.take(size)?, wide)),
        };
        Ok((SqlType::Text { max: true }, value))
    }

    /// A value with its length in front, or in chunks when the type is `(MAX)`.
    fn long(&mut self, max: u16) -> Result<Option<Vec<u8>>, SqlError> {
        if max != 0xFFFF {
            return match self.u16()? {
                0xFFFF => Ok(None),
                size => Ok(Some(self.take(usize::from(size))?.to_vec())),
            };
        }
        if self.take(8)? == [0xFF; 8] {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        loop {
            match self.u32()? {
                0 => return Ok(Some(bytes)),
                size => bytes.extend_from_slice(self.take(size)?),
            }
        }
    }
}

fn text_of(bytes: &[u8], wide: bool) -> String {
    if wide {
        from_utf16(bytes)
    } else {
        bytes.iter().map(|byte| char::from(*byte)).collect()
    }
}

fn moment(days: i64, ticks: i64) -> Result<(SqlType, Value), SqlError> {
    let at = date_of(days, ticks).ok_or_else(SqlError::malformed)?;
    Ok((SqlType::DateTime2, Value::Text(stored(at))))
}

fn number(sql_type: SqlType, bytes: &[u8]) -> Result<Value, SqlError> {
    if sql_type != SqlType::Float {
        return Ok(Value::Integer(signed(bytes)));
    }
    match bytes {
        [a, b, c, d] => Ok(Value::Real(f64::from(f32::from_le_bytes([*a, *b, *c, *d])))),
        _ => Ok(Value::Real(f64::from_le_bytes(
            bytes.try_into().map_err(|_| SqlError::malformed())?,
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prelogin_reply_says_its_own_encryption() {
        assert_eq!(encryption(&prelogin_reply(3, [16, 0, 0, 0])), Some(3));
        assert_eq!(encryption(&[0, 0]), None);
    }

    #[test]
    fn cut_off_calls_are_errors_not_panics() {
        let mut body = vec![4, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 0];
        body.extend([0, 0, 0x26, 4, 4, 7, 0, 0, 0]);
        body.extend([
            0, 0, 0xE7, 0xFF, 0xFF, 9, 4, 0xD0, 0, 0x34, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'x',
            0, 0, 0, 0, 0,
        ]);
        let whole = call(&body).unwrap();
        assert_eq!(whole.procedure, "sp_executesql");
        assert_eq!(whole.parameters[0].value, Value::Integer(7));
        assert_eq!(whole.parameters[1].value, Value::Text("x".into()));
        for length in 0..body.len() {
            let _ = call(&body[..length]);
        }
    }

    #[test]
    fn old_and_new_dates_mean_the_same_moment() {
        let mut old = Reader {
            rest: &[0x6F, 8, 8, 0, 0, 0, 0, 44, 1, 0, 0],
        };
        assert_eq!(
            old.typed().unwrap().1,
            Value::Text("1900-01-01 00:00:01.0000000".into())
        );
        let mut new = Reader {
            rest: &[0x2A, 0, 6, 1, 0, 0, 91, 149, 10],
        };
        assert_eq!(
            new.typed().unwrap().1,
            Value::Text("1900-01-01 00:00:01.0000000".into())
        );
    }
}
