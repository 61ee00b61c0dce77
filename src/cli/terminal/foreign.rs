//! Text that is not ours: log lines, the engine's words, names of images and containers. On a
//! terminal its control characters are shown, not obeyed: they could retitle the window, clear it,
//! or write over what was printed before. Pure.

use std::fmt::Write as _;

/// Ends a colour that foreign text left on.
const RESET: &str = "\x1b[0m";

/// The text for a terminal: tabs, line feeds and colours stay, every other control character is
/// made visible.
pub fn visible(text: &str) -> String {
    if !text.chars().any(is_control) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + RESET.len());
    let mut rest = text;
    let mut has_colour = false;
    while let Some(letter) = rest.chars().next() {
        if let Some(colour) = colour(rest) {
            shown.push_str(colour);
            has_colour = !matches!(colour, "\x1b[0m" | "\x1b[m");
            rest = &rest[colour.len()..];
            continue;
        }
        match letter {
            '\n' | '\t' => shown.push(letter),
            letter => push_visible(&mut shown, letter),
        }
        rest = &rest[letter.len_utf8()..];
    }
    if has_colour {
        shown.push_str(RESET);
    }
    shown
}

/// The text for one row of a table: colours go, line ends and tabs are blanks, every other control
/// character is made visible.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let Some(colour) = colour(rest) {
            rest = &rest[colour.len()..];
            continue;
        }
        match letter {
            '\r' if rest.starts_with("\r\n") => {}
            '\n' | '\t' => shown.push(' '),
            letter => push_visible(&mut shown, letter),
        }
        rest = &rest[letter.len_utf8()..];
    }
    shown
}

/// Control characters, and those of Unicode that turn the direction of what follows.
fn is_control(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_visible(shown: &mut String, letter: char) {
    match u32::from(letter) {
        // Unicode has a picture of each of the old control characters.
        code @ 0..=0x1f => shown.extend(char::from_u32(0x2400 + code)),
        0x7f => shown.push('\u{2421}'),
        code if is_control(letter) => {
            let _ = write!(shown, "<U+{code:04X}>");
        }
        _ => shown.push(letter),
    }
}

/// The colour sequence (SGR, ECMA-48 8.3.117) that the text begins with.
fn colour(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|letter: char| !letter.is_ascii_digit() && !matches!(letter, ';' | ':'))?;
    body[end..]
        .starts_with('m')
        .then(|| &text[..=(text.len() - body.len() + end)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_move_or_change_the_terminal_is_shown_and_colours_stay() {
        for (text, shown) in [
            ("as it is\tand\nmore", "as it is\tand\nmore"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            ("\x1b[1;38:5:9mleft on", "\x1b[1;38:5:9mleft on\x1b[0m"),
            ("\x1b]0;title\x07", "␛]0;title␇"),
            ("\x1b[2J\x1b[H", "␛[2J␛[H"),
            ("99 %\r100 %", "99 %␍100 %"),
            ("\u{9b}2J", "<U+009B>2J"),
            ("\u{202e}txt", "<U+202E>txt"),
            ("\x1b[31", "␛[31"),
            ("a\x08b\x7f\0", "a␈b␡␀"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_row_is_one_row() {
        assert_eq!(plain("a\x1b[2Jb\tc\r\nd\re"), "a␛[2Jb c d␍e");
        assert_eq!(plain("\x1b[31mred\x1b[0m"), "red");
    }

    proptest! {
        #[test]
        fn nothing_but_colour_reaches_the_terminal(text in "[\\x00-\\x7f\u{80}-\u{9f}é]{0,40}") {
            prop_assert!(!plain(&text).chars().any(char::is_control));
            let mut rest = visible(&text);
            while let Some(at) = rest.find('\x1b') {
                let colour = colour(&rest[at..]).expect("only a colour").len();
                rest = rest[at + colour..].to_owned();
            }
            let allowed = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
            prop_assert!(rest.chars().all(allowed));
        }
    }
}
