//! The name of a Tentacle.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// How many characters a name may have: it is a part of a host name, beside `tentacle-`.
pub const NAME_LENGTH: usize = 32;

/// The name of a Tentacle: small letters, digits and single hyphens between them. It is a value of
/// a few bytes, as every name of a unit is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TentacleName {
    /// The letters, and zeros after them: so the order of arrays is the order of names.
    letters: [u8; NAME_LENGTH],
}

/// Why a text is no name of a Tentacle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a Tentacle: write small letters, digits and hyphens between \
     them, at most {NAME_LENGTH}"
)]
pub struct NotAName(pub String);

impl TentacleName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        let end = self.letters.iter().position(|letter| *letter == 0);
        let letters = &self.letters[..end.unwrap_or(NAME_LENGTH)];
        std::str::from_utf8(letters).unwrap_or_default()
    }

    /// A number made of the letters, by which waits of Tentacles that fail together differ.
    pub fn spread(&self) -> u64 {
        let letters = self.as_str().bytes();
        letters.fold(0, |sum, letter| {
            (sum * 31 + u64::from(letter)) & 0xffff_ffff
        })
    }
}

impl FromStr for TentacleName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let is_letter = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_letter);
        if text.len() > NAME_LENGTH || !text.split('-').all(is_part) {
            return Err(NotAName(text.to_owned()));
        }
        let mut letters = [0; NAME_LENGTH];
        letters[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { letters })
    }
}

impl fmt::Display for TentacleName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl fmt::Debug for TentacleName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(out)
    }
}

impl Serialize for TentacleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TentacleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> TentacleName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_a_part_of_a_host_name_and_sorts_as_text() {
        let longest = "a".repeat(NAME_LENGTH);
        for good in ["a", "web-1", "0", &longest] {
            assert_eq!(named(good).to_string(), good);
        }
        let too_long = "a".repeat(NAME_LENGTH + 1);
        for bad in [
            "", "-a", "a-", "a--b", "A", "a_b", "a.b", "ä", "a b", &too_long,
        ] {
            assert_eq!(bad.parse::<TentacleName>(), Err(NotAName(bad.to_owned())));
        }
        assert!(named("a") < named("a-b") && named("a-b") < named("b"));
    }
}
