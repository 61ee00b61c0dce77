//! The column types the stand-in knows, their names in T-SQL and in the database files, and dates
//! as text.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Month, PrimitiveDateTime};

use super::error::SqlError;

/// A type as clients see it. Values are SQLite's; dates and GUIDs are stored as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SqlType {
    Bit,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Real,
    /// `numeric(20, 0)`, as the catalogue has sizes; no column of a table.
    Numeric,
    /// NVARCHAR and its kin; whether it is `(MAX)`.
    Text {
        max: bool,
    },
    Binary,
    DateTime2,
    Guid,
}

const STORED: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:7]");
const WITH_FRACTION: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:1+]");
const WHOLE: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

impl SqlType {
    /// The type that a declaration names, such as `nvarchar(200)`, `NVARCHAR(-1)` or `datetime2`.
    ///
    /// `INTEGER` is how an identity column is stored: only this name makes SQLite number rows.
    pub(super) fn declared(text: &str) -> Option<Self> {
        let name = text.split('(').next().unwrap_or_default().trim();
        let max = text.contains("-1") || text.to_ascii_uppercase().contains("MAX");
        Some(match name.to_ascii_uppercase().as_str() {
            "BIT" => Self::Bit,
            "TINYINT" => Self::TinyInt,
            "SMALLINT" => Self::SmallInt,
            "INT" | "INTEGER" => Self::Int,
            "BIGINT" => Self::BigInt,
            "FLOAT" | "REAL" => Self::Float,
            "NVARCHAR" | "VARCHAR" | "NCHAR" | "CHAR" | "SYSNAME" => Self::Text { max },
            "NTEXT" | "TEXT" => Self::Text { max: true },
            "VARBINARY" | "BINARY" => Self::Binary,
            "DATETIME2" | "DATETIME" | "SMALLDATETIME" | "DATETIMEOFFSET" | "DATE" => {
                Self::DateTime2
            }
            "UNIQUEIDENTIFIER" => Self::Guid,
            _ => return None,
        })
    }

    /// What SQLite casts to, `None` where the stored text is already right.
    pub(super) fn affinity(self) -> Option<&'static str> {
        match self {
            Self::Bit | Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt => {
                Some("INTEGER")
            }
            Self::Float | Self::Real => Some("REAL"),
            Self::Numeric => Some("INTEGER"),
            Self::Text { .. } => Some("TEXT"),
            Self::Binary => Some("BLOB"),
            Self::DateTime2 | Self::Guid => None,
        }
    }
}

/// A point in time as it is stored, seven digits of a second.
pub(super) fn stored(at: PrimitiveDateTime) -> String {
    at.format(STORED).expect("every date has these fields")
}

/// This moment, as it is stored.
pub(super) fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    stored(PrimitiveDateTime::new(now.date(), now.time()))
}

/// The date that days since 0001-01-01 and ticks of 100 ns since midnight make.
pub(super) fn date_of(days: i64, ticks: i64) -> Option<PrimitiveDateTime> {
    let start = Date::from_calendar_date(1, Month::January, 1)
        .ok()?
        .midnight();
    start
        .checked_add(time::Duration::days(days))?
        .checked_add(time::Duration::nanoseconds(ticks.checked_mul(100)?))
}

/// Days since 0001-01-01 and ticks of 100 ns since midnight.
pub(super) fn ticks_of(text: &str) -> Result<(u32, u64), SqlError> {
    let text = text.trim().replace('T', " ");
    let text = text.trim_end_matches('Z');
    let at = PrimitiveDateTime::parse(text, WITH_FRACTION)
        .or_else(|_| PrimitiveDateTime::parse(text, WHOLE))
        .or_else(|_| Date::parse(text, DAY).map(Date::midnight))
        .map_err(|_| {
            SqlError::new(
                241,
                16,
                "Conversion failed when converting date and/or time from character string.",
            )
        })?;
    let start = Date::from_calendar_date(1, Month::January, 1).expect("the calendar's first day");
    let days = u32::try_from((at.date() - start).whole_days())
        .map_err(|_| SqlError::conversion(text, "datetime2"))?;
    let (hour, minute, second, nano) = at.time().as_hms_nano();
    let seconds = u64::from(hour) * 3600 + u64::from(minute) * 60 + u64::from(second);
    Ok((days, seconds * 10_000_000 + u64::from(nano) / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_survive_the_way_to_the_wire_and_back() {
        for text in [
            "2026-11-24 14:32:54.1234567",
            "0001-01-01 00:00:00.0000000",
            "9999-12-31 23:59:59.9999999",
        ] {
            let (days, ticks) = ticks_of(text).unwrap();
            assert_eq!(
                stored(date_of(days.into(), ticks.cast_signed()).unwrap()),
                text
            );
        }
        assert_eq!(ticks_of("1900-01-01").unwrap(), (693_595, 0));
        assert_eq!(ticks_of("nonsense").unwrap_err().number, 241);
    }

    #[test]
    fn declarations_name_types() {
        assert_eq!(
            SqlType::declared("nvarchar(max)"),
            Some(SqlType::Text { max: true })
        );
        assert_eq!(SqlType::declared("INTEGER"), Some(SqlType::Int));
        assert_eq!(SqlType::declared("geography"), None);
    }
}
