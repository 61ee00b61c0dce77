//! YAML that every reader takes for the same: texts that YAML 1.1 reads as something else (`Y`, `on`,
//! `1_000`, `12:30`) are quoted, and none is folded.

use serde::Serialize;

/// One document.
pub fn document(value: &impl Serialize) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options)
        .expect("objects have only texts for keys, so they always serialise")
}

/// Several documents of one file.
pub fn documents(all: &[String]) -> String {
    all.join("---\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_look_like_something_else_stay_texts() {
        for text in [
            "Y",
            "n",
            "on",
            "No",
            "true",
            "~",
            "null",
            "",
            " ",
            "1",
            "1_000",
            "0o7",
            "0x1F",
            "1e3",
            ".5",
            ".inf",
            "12:30",
            "2026-01-31",
            "<<",
            "=",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a",
            "[a",
            "|",
            ">",
            "'",
            "\"",
            "a\nb",
            "\n",
            "a\n\n",
            "\t",
            "---",
            "...",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "\u{7f}",
            "\u{0}",
            "\u{fffe}",
            "😀",
            "a\r\nb",
        ] {
            let yaml = document(&[text]);
            let read: Vec<String> = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(read, [text], "{yaml}");
            let plain = yaml.trim().strip_prefix("- ").unwrap();
            let is_quoted = plain.starts_with(['"', '\'']);
            let is_harmless = text == "😀";
            assert!(is_quoted || is_harmless, "{text:?} as {plain}");
            let raw = |letter: char| letter.is_control() && letter != '\n';
            assert!(!yaml.contains(raw), "{yaml:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was_written(text in any::<String>(), key in "[ -~]{1,20}") {
            let map = std::collections::BTreeMap::from([(key, text)]);
            let read: std::collections::BTreeMap<String, String> =
                serde_saphyr::from_str(&document(&map)).unwrap();
            prop_assert_eq!(read, map);
        }
    }
}
