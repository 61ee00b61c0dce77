//! The escapes of a double-quoted value: `\a \b \f \n \r \t \v \" \\`, octal `\0ddd`, and `\$`,
//! which interpolation knows as `$$`. Any other backslash is text.

/// Replaces them.
pub(super) fn expand(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        expanded.push_str(before);
        rest = escape(after, &mut expanded);
    }
    expanded + rest
}

/// Appends what a backslash and the beginning of `after` stand for, and gives what follows.
fn escape<'a>(after: &'a str, expanded: &mut String) -> &'a str {
    let replacement = match after.as_bytes().first() {
        Some(b'a') => "\u{7}",
        Some(b'b') => "\u{8}",
        Some(b'f') => "\u{c}",
        Some(b'n') => "\n",
        Some(b'r') => "\r",
        Some(b't') => "\t",
        Some(b'v') => "\u{b}",
        Some(b'"') => "\"",
        Some(b'\\') => "\\",
        Some(b'$') => "$$",
        Some(b'0') => return octal(&after[1..], expanded),
        Some(_) | None => {
            expanded.push('\\');
            return after;
        }
    };
    expanded.push_str(replacement);
    &after[1..]
}

/// The character of a number of three octal digits. With fewer, or beyond 0377, all that is lost is
/// the zero before it.
fn octal<'a>(after: &'a str, expanded: &mut String) -> &'a str {
    let length = after.bytes().take(3).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = after.split_at(length);
    match u8::from_str_radix(digits, 8) {
        Ok(number) if length == 3 => expanded.push(char::from(number)),
        _ => expanded.extend(["\\", digits]),
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn the_known_ones_are_replaced_and_others_left() {
        assert_eq!(
            expand(r#"\a\b\f\n\r\t\v\"\\\$"#),
            "\u{7}\u{8}\u{c}\n\r\t\u{b}\"\\$$"
        );
        assert_eq!(expand(r"\q \c \é \"), r"\q \c \é \");
        assert_eq!(expand(r"\\n"), r"\n");
    }

    #[test]
    fn octal_takes_three_digits_up_to_377() {
        assert_eq!(expand(r"\0123\0377\00001"), "S\u{ff}\u{0}1");
        assert_eq!(expand(r"\0 \07 \0888 \0400"), r"\ \7 \888 \400");
    }
}
