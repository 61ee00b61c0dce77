//! Changes one value in the text of a file and leaves every other byte as it is: comments, quotes,
//! order, line ends.

use super::Source;
use super::Vars;
use super::parse;
use super::quote::quoted;
use super::statement::place_of_value;

/// The text with another value for a name: where its last statement stands, else at the end. None
/// where that would not read as it is meant, or would change what another name is set to.
///
/// The value is one that needs no quotes: see [`is_plain`].
pub fn with_value(text: &str, name: &str, value: &str) -> Option<String> {
    let is_plain = is_plain(value);
    is_plain.then(|| with_values(text, &[(name, value)]))?
}

/// The text with other values for some names, of whatever characters; each where its last statement
/// stands, else at the end. One that already follows from another, as `${NAME}` has it, stays as it is
/// written. None where that would not read as it is meant, or would change what another name is set
/// to.
pub fn with_values(text: &str, values: &[(&str, &str)]) -> Option<String> {
    let mut meant = read(text)?;
    let mut changed = text.to_owned();
    for (name, value) in values {
        meant.insert((*name).to_owned(), (*value).to_owned());
        if read(&changed)?.get(*name).map(String::as_str) != Some(*value) {
            changed = written(&changed, name, value);
        }
    }
    (read(&changed)? == meant).then_some(changed)
}

/// The text with a value written where a name's last statement has its own, in the quotes that stand
/// there if they will do.
fn written(text: &str, name: &str, value: &str) -> String {
    let Some(place) = place_of_value(text, name) else {
        let value = if is_plain(value) {
            value.to_owned()
        } else {
            quoted(value)
        };
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        return format!("{text}{end}{name}={value}\n");
    };
    let mut letters = text[place.clone()].chars();
    let quote = letters.next().filter(|first| matches!(first, '"' | '\''));
    let value = match quote {
        _ if !is_plain(value) => quoted(value),
        Some(quote) => format!("{quote}{value}{quote}"),
        None => value.to_owned(),
    };
    format!("{}{value}{}", &text[..place.start], &text[place.end..])
}

/// Whether a text sets a name.
pub fn sets(text: &str, name: &str) -> bool {
    place_of_value(text, name).is_some()
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

    #[test]
    fn what_follows_from_another_value_stays_as_it_is_written() {
        let wanted = [("P", "n;w"), ("C", "u=sa;p='n;w'")];
        for (before, after) in [
            (
                "P=old # p\nC=\"u=sa;p='${P}'\"\n",
                "P='n;w' # p\nC=\"u=sa;p='${P}'\"\n",
            ),
            (
                "C=u=sa;p='old'\nA=b\n",
                "C=\"u=sa;p='n;w'\"\nA=b\nP='n;w'\n",
            ),
        ] {
            assert_eq!(with_values(before, &wanted).as_deref(), Some(after));
        }
        // Another name is made of it that nobody spoke of.
        assert_eq!(with_values("P=o\nD=${P}\n", &wanted), None);
        for value in ["a b", "$x", "it's", "a\"b\\", "#1", "o'\"$"] {
            let text = with_values("# c\nP=\"o\" # p\nA=b\n", &[("P", value)]).unwrap();
            assert!(
                text.starts_with("# c\nP=") && text.ends_with(" # p\nA=b\n"),
                "{text}"
            );
        }
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
