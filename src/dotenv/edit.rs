//! Changes one value in the text of a file and leaves every other byte as it is: comments, quotes,
//! order, line ends.

use super::Source;
use super::Vars;
use super::parse;
use super::statement::place_of_value;

/// The text with another value for a name: where its last statement stands, else at the end. None
/// where that would not read as it is meant, or would change what another name is set to.
///
/// The value is one that needs no quotes: see [`is_plain`].
pub fn with_value(text: &str, name: &str, value: &str) -> Option<String> {
    if !is_plain(value) {
        return None;
    }
    let changed = match place_of_value(text, name) {
        Some(place) => {
            let written = &text[place.clone()];
            let quote = written
                .chars()
                .next()
                .filter(|first| matches!(first, '"' | '\''));
            let quote = quote.map(String::from).unwrap_or_default();
            format!(
                "{}{quote}{value}{quote}{}",
                &text[..place.start],
                &text[place.end..]
            )
        }
        None if text.is_empty() || text.ends_with('\n') => format!("{text}{name}={value}\n"),
        None => format!("{text}\n{name}={value}\n"),
    };
    let mut meant = read(text)?;
    meant.insert(name.to_owned(), value.to_owned());
    (read(&changed)? == meant).then_some(changed)
}

/// Whether a value reads as it is, quoted or not: what tags of images are made of.
pub fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte);
    !value.is_empty() && value.bytes().all(plain)
}

/// What a text says by itself. Of values that refer to others only that they read the same counts.
fn read(text: &str) -> Option<Vars> {
    let source = Source {
        name: "",
        bytes: text.as_bytes(),
    };
    parse(&[source], &Vars::default())
        .ok()
        .map(|parsed| parsed.vars)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_value_changes_whatever_form_it_has() {
        for (before, after) in [
            ("T=1\n", "T=2.3\n"),
            (
                "# T=0\nT=1 # the tag\nA=b\n",
                "# T=0\nT=2.3 # the tag\nA=b\n",
            ),
            ("export T = 1\r\nA=b\r\n", "export T = 2.3\r\nA=b\r\n"),
            ("T=\"1\" # quoted\n", "T=\"2.3\" # quoted\n"),
            ("T='1' A=b\n", "T='2.3' A=b\n"),
            ("T: 1", "T: 2.3"),
            ("T=1\nA=b\nT=9\n", "T=1\nA=b\nT=2.3\n"),
            ("T=\nA=b\n", "T=2.3\nA=b\n"),
            ("A=b", "A=b\nT=2.3\n"),
            ("", "T=2.3\n"),
            ("P='x\nT=1\ny'\n", "P='x\nT=1\ny'\nT=2.3\n"),
        ] {
            assert_eq!(
                with_value(before, "T", "2.3").as_deref(),
                Some(after),
                "{before:?}"
            );
        }
    }

    #[test]
    fn what_would_not_read_as_it_is_meant_is_not_written() {
        assert_eq!(with_value("A=b\n", "T", "a b"), None);
        assert_eq!(with_value("A='open\n", "T", "1"), None);
        // Another name is made of it.
        assert_eq!(with_value("T=1\nA=x${T}\n", "T", "2"), None);
    }

    proptest! {
        #[test]
        fn every_other_byte_stays(text in "([A-CT]{1,2}[=:] ?['\"]?[a-z0-9 #$']{0,6}['\"]?[\\r]?\\n){0,6}", value in "[a-z0-9.]{1,8}") {
            if let Some(changed) = with_value(&text, "T", &value) {
                prop_assert_eq!(read(&changed).unwrap()["T"].clone(), value.clone());
                match place_of_value(&text, "T") {
                    Some(place) => {
                        prop_assert!(changed.starts_with(&text[..place.start]));
                        prop_assert!(changed.ends_with(&text[place.end..]));
                    }
                    None => prop_assert!(changed.starts_with(&text)),
                }
            }
        }
    }
}
