//! Writes resolved statements down so that dotenvy reads exactly them: every value in double quotes with the four characters
//! escaped that dotenvy would act on, and names outside dotenvy's alphabet under a stand-in that is replaced afterwards.

use std::fmt::Write as _;

use super::Vars;

/// Lines for dotenvy.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    text: String,
    keys: Vec<String>,
}

impl Lines {
    /// Adds a statement.
    pub fn push(&mut self, key: &str, value: &str) {
        let mut quoted = String::with_capacity(value.len() + 2);
        for letter in value.chars() {
            match letter {
                '\\' | '"' | '$' => quoted.extend(['\\', letter]),
                '\n' => quoted.push_str("\\n"),
                other => quoted.push(other),
            }
        }
        let _ = writeln!(self.text, "K{}=\"{quoted}\"", self.keys.len());
        self.keys.push(key.to_owned());
    }

    /// Has dotenvy read them. The last of two wins.
    pub fn read(&self) -> Vars {
        let read = dotenvy::from_read_iter(self.text.as_bytes());
        let pairs = self.keys.iter().zip(read);
        pairs
            .map(|(key, line)| {
                let (_, value) = line.expect("every line was written in dotenvy's own form");
                (key.clone(), value)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn dotenvy_reads_what_was_meant(pairs in prop::collection::btree_map("\\PC{0,8}", any::<String>(), 0..6)) {
            let mut lines = Lines::default();
            for (key, value) in &pairs {
                lines.push(key, value);
            }
            prop_assert_eq!(lines.read(), pairs);
        }
    }
}
