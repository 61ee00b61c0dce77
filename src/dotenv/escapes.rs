//! The escapes of a double-quoted value: `\a \b \f \n \r \t \v \" \\`, octal `\0ddd`, and `\$`, which interpolation knows as
//! `$$`. Others keep their backslash.

/// Replaces escapes.
pub fn expand(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        expanded.push_str(&rest[..at]);
        let (replacement, length) = escape(&rest[at..]);
        expanded.push_str(&replacement);
        rest = &rest[at + length..];
    }
    expanded + rest
}

/// What the escape at the start of `text` stands for, and its length in bytes.
fn escape(text: &str) -> (String, usize) {
    let simple = match text.as_bytes().get(1) {
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
        Some(b'0') => return octal(text),
        Some(_) | None => return ("\\".to_owned(), 1),
    };
    (simple.to_owned(), 2)
}

/// `\0ddd`: the character of that number. With fewer digits, or beyond 0377, only the zero is lost.
fn octal(text: &str) -> (String, usize) {
    let digits: &str = {
        let count = text[2..].bytes().take(3).take_while(u8::is_ascii_digit).count();
        &text[2..2 + count]
    };
    let number = if digits.len() == 3 { u8::from_str_radix(digits, 8).ok() } else { None };
    let replacement = number.map_or_else(|| format!("\\{digits}"), |number| char::from(number).to_string());
    (replacement, 2 + digits.len())
}
