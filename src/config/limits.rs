//! What a container may have at most, as docker's `--memory` and `--cpus` have it. Pure.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// What a container may have at most; nothing said is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processors: Option<Processors>,
}

impl Limits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.memory.is_none() && self.processors.is_none()
    }
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory(pub u64);

/// Below this an engine makes no container (moby, `daemon_unix.go`: 6 MB).
const LEAST_MEMORY: u64 = 6 << 20;
/// What an engine counts bytes in.
const MOST_MEMORY: u64 = i64::MAX.unsigned_abs();

impl Memory {
    /// In megabytes of 2^20 bytes, as SQL Server counts them.
    pub fn mebibytes(self) -> u64 {
        self.0 >> 20
    }
}

const MEMORY_UNITS: [(&str, u64); 4] = [
    ("t", 1 << 40),
    ("g", 1 << 30),
    ("m", 1 << 20),
    ("k", 1 << 10),
];

impl FromStr for Memory {
    type Err = ();

    /// As docker reads it: `4g`, `1536m`, `2048MB`; a bare number is bytes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim().to_ascii_lowercase();
        let end = text.find(|letter: char| !letter.is_ascii_digit());
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let number: u64 = number.parse().map_err(|_| ())?;
        let unit = unit.trim();
        let unit = unit
            .strip_suffix("ib")
            .or(unit.strip_suffix('b'))
            .unwrap_or(unit);
        let size = match unit {
            "" => 1,
            unit => {
                MEMORY_UNITS
                    .iter()
                    .find(|(name, _)| *name == unit)
                    .ok_or(())?
                    .1
            }
        };
        let bytes = number.checked_mul(size).ok_or(())?;
        let fits = (LEAST_MEMORY..=MOST_MEMORY).contains(&bytes);
        fits.then_some(Self(bytes)).ok_or(())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = MEMORY_UNITS.iter();
        match units.find(|(_, size)| self.0.is_multiple_of(*size)) {
            Some((name, size)) => write!(out, "{}{name}", self.0 / size),
            None => write!(out, "{}", self.0),
        }
    }
}

/// Processors, in thousand-millionths of one, as an engine takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Processors(pub u64);

const WHOLE: u64 = 1_000_000_000;
/// Below a hundredth an engine makes no container (moby, `daemon_unix.go`).
const LEAST_PROCESSORS: u64 = WHOLE / 100;
/// More than any host has, and no product of it overflows.
const MOST_PROCESSORS: u64 = 4_096 * WHOLE;
/// Digits after the point.
const DIGITS: usize = 9;

impl Processors {
    /// In thousandths of one, as a cluster counts them.
    pub fn thousandths(self) -> u64 {
        self.0.div_ceil(WHOLE / 1_000)
    }

    /// Whether so many whole ones are not enough.
    pub fn is_more_than(self, whole: u64) -> bool {
        self.0 > whole.saturating_mul(WHOLE)
    }
}

impl FromStr for Processors {
    type Err = ();

    /// A decimal number: `2`, `1.5`, `.5`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let is_number = |text: &str| text.bytes().all(|one| one.is_ascii_digit());
        let is_nothing = whole.is_empty() && part.is_empty();
        if !is_number(whole) || !is_number(part) || part.len() > DIGITS || is_nothing {
            return Err(());
        }
        let whole: u64 = format!("0{whole}").parse().map_err(|_| ())?;
        let part: u64 = format!("{part:0<DIGITS$}").parse().map_err(|_| ())?;
        let all = whole
            .checked_mul(WHOLE)
            .and_then(|whole| whole.checked_add(part));
        let all = all.filter(|all| (LEAST_PROCESSORS..=MOST_PROCESSORS).contains(all));
        all.map(Self).ok_or(())
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0 / WHOLE)?;
        let part = format!("{:0DIGITS$}", self.0 % WHOLE);
        match part.trim_end_matches('0') {
            "" => Ok(()),
            part => write!(out, ".{part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_docker_reads_it_and_shown_as_it_is_read() {
        for (text, bytes, shown) in [
            ("4g", 4 << 30, "4g"),
            ("1536M", 1536 << 20, "1536m"),
            (" 2048 MB ", 2 << 30, "2g"),
            ("8GiB", 8 << 30, "8g"),
            ("6291457", 6_291_457, "6291457"),
        ] {
            let read = Memory::from_str(text).unwrap();
            assert_eq!((read, read.to_string().as_str()), (Memory(bytes), shown));
            assert_eq!(Memory::from_str(shown), Ok(read));
        }
        for wrong in [
            "",
            "g",
            "4",
            "5m",
            "-1g",
            "1.5g",
            "4x",
            "99999999t",
            "1 g g",
        ] {
            assert_eq!(Memory::from_str(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn processors_are_read_as_docker_reads_them_and_shown_as_they_are_read() {
        for (text, nano, shown) in [
            ("2", 2_000_000_000, "2"),
            ("1.50", 1_500_000_000, "1.5"),
            (".5", 500_000_000, "0.5"),
            ("0.000000001e", 0, ""),
            ("0.01", 10_000_000, "0.01"),
        ] {
            let read = Processors::from_str(text);
            if shown.is_empty() {
                assert_eq!(read, Err(()), "{text}");
                continue;
            }
            assert_eq!(read, Ok(Processors(nano)));
            assert_eq!(Processors(nano).to_string(), shown);
        }
        for wrong in [
            "",
            ".",
            "0",
            "0.001",
            "-1",
            "1,5",
            "two",
            "5000",
            "1.0000000001",
        ] {
            assert_eq!(Processors::from_str(wrong), Err(()), "{wrong}");
        }
    }
}
