//! A value as a `.env` has it, so that docker compose and octo-local read it as it was.

/// Quotes a value: single quotes take everything literally but themselves and a backslash before
/// one; double quotes take the rest, with escapes (compose-go `dotenv/parser.go`).
pub fn quoted(value: &str) -> String {
    let is_literal = |letter: char| letter != '\'' && letter != '\\' && letter != '\r';
    if value.chars().all(is_literal) {
        return format!("'{value}'");
    }
    let escaped: String = value
        .chars()
        .map(|letter| match letter {
            '\\' => "\\\\".to_owned(),
            '"' => "\\\"".to_owned(),
            '$' => "\\$".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            letter => letter.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dotenv::Source;
    use crate::dotenv::Vars;
    use crate::dotenv::parse;

    fn read(text: &str) -> String {
        let source = Source {
            name: ".env",
            bytes: text.as_bytes(),
        };
        let parsed = parse(&[source], &Vars::new()).unwrap();
        parsed.vars["A"].clone()
    }

    #[test]
    fn what_quotes_and_dollars_mean_is_not_lost() {
        for value in [
            "", " ", "a b", "a#b", "a'b", "a\"b", "a\\", "\\", "a\\'", "$B", "a'$B", "a'${B}",
            "a'$$", "a\nb", "a'\nb", "a\r\nb", "\\n'", "\u{feff}", "'", "\"", "a=b", "\\$'", "\t'",
        ] {
            assert_eq!(
                read(&format!("A={}\nB=b\n", quoted(value))),
                value,
                "{value:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read_as_it_was(value in "(\\PC|[\\\\'\"$\n\r\t{}#=]){0,24}") {
            prop_assert_eq!(read(&format!("A={}\nB=b\n", quoted(&value))), value);
        }
    }
}
