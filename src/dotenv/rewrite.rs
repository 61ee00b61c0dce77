//! Writes resolved statements down so that dotenvy reads exactly them: each value in double quotes
//! with an escape for every character that dotenvy would act on, and each name that dotenvy does
//! not allow under a stand-in, which is replaced afterwards.

use std::fmt::Write as _;

use super::Vars;

/// Stands for a name that dotenvy would not read.
const STAND_IN: &str = "K";

/// Lines for dotenvy.
#[derive(Default)]
pub(super) struct Lines {
    text: String,
    /// The name of each line.
    keys: Vec<String>,
}

impl Lines {
    /// Adds a statement.
    pub(super) fn push(&mut self, key: &str, value: &str) {
        let written = if dotenvy_reads(key) { key } else { STAND_IN };
        writeln!(self.text, "{written}=\"{}\"", quote(value))
            .expect("writing to a string does not fail");
        self.keys.push(key.to_owned());
    }

    /// Has dotenvy read them. Of two with the same name the later wins.
    pub(super) fn read(self) -> Vars {
        let mut read = dotenvy::from_read_iter(self.text.as_bytes());
        let mut value = || read.next()?.ok().map(|(_, value)| value);
        let pairs = self.keys.into_iter();
        pairs
            .map(|key| {
                (
                    key,
                    value().expect("every line was written in dotenvy's own form"),
                )
            })
            .collect()
    }
}

/// Whether dotenvy takes a name as it is.
fn dotenvy_reads(key: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    key.as_bytes().first().is_some_and(letter)
        && key
            .bytes()
            .all(|byte| letter(&byte) || byte.is_ascii_digit() || byte == b'.')
}

/// A value as it stands between double quotes.
fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' | '"' | '$' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(pairs: &[(String, String)]) -> Vars {
        let mut lines = Lines::default();
        for (key, value) in pairs {
            lines.push(key, value);
        }
        lines.read()
    }

    #[test]
    fn names_that_dotenvy_gives_a_meaning_are_read_too() {
        let pairs = ["export", "K", "", "KEY-1", "1A", "é", "A B", "#"]
            .map(|key| (key.to_owned(), format!("${key}")));
        assert_eq!(read_back(&pairs), Vars::from(pairs));
    }

    proptest! {
        #[test]
        fn dotenvy_reads_any_value_as_it_was_meant(
            pairs in prop::collection::vec((any::<String>(), any::<String>()), 0..6),
        ) {
            prop_assert_eq!(read_back(&pairs), pairs.into_iter().collect::<Vars>());
        }

        #[test]
        fn dotenvy_reads_its_own_special_characters_as_they_were_meant(
            pairs in prop::collection::vec(("[A-C.-]{0,2}", "[A-C$'\"\\\\ #={}\\n\\r\\t\u{a0}\u{2028}]{0,12}"), 0..6),
        ) {
            prop_assert_eq!(read_back(&pairs), pairs.into_iter().collect::<Vars>());
        }
    }
}
