//! `$NAME`, `${NAME}`, `${NAME:-default}` and its kin, as compose resolves them: what is not used is not evaluated.

/// Why a template cannot be resolved. Shows names, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpolateError {
    /// `${` that is none of the forms.
    #[error("`${{` is not followed by a name and `}}`; a literal dollar sign is written `$$`")]
    Invalid,
    /// `${NAME:?message}` with NAME not set.
    #[error("required variable {0} is missing a value")]
    Required(String),
}

/// Resolves a template. Also gives the names that are not set, once for each use.
pub fn interpolate(
    template: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, Vec<String>), InterpolateError> {
    let mut unset = Vec::new();
    let value = substitute(template, lookup, &mut unset)?;
    Ok((value, unset))
}

fn substitute(
    template: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, InterpolateError> {
    let mut resolved = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        resolved.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let name = name_length(after);
        rest = if let Some(literal) = after.strip_prefix('$') {
            resolved.push('$');
            literal
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = braces(inner)?;
            resolved.push_str(&expression(&inner[..end], lookup, unset)?);
            &inner[end + 1..]
        } else if name > 0 {
            resolved.push_str(&plain(&after[..name], lookup, unset));
            &after[name..]
        } else {
            resolved.push('$');
            after
        };
    }
    Ok(resolved + rest)
}

/// The length of the name that a text begins with.
fn name_length(text: &str) -> usize {
    let end = text.char_indices().find(|(at, letter)| {
        let first = letter.is_ascii_alphabetic() || matches!(letter, '_' | '\u{17f}' | '\u{212a}');
        !(first || (*at > 0 && letter.is_ascii_digit()))
    });
    end.map_or(text.len(), |(at, _)| at)
}

/// Where the brace that closes the expression is. It must be on the same line, after a name and maybe an operator.
fn braces(inner: &str) -> Result<usize, InterpolateError> {
    let name = name_length(inner);
    if name == 0 {
        return Err(InterpolateError::Invalid);
    }
    let operator = inner[name..].strip_prefix(':').unwrap_or(&inner[name..]);
    if inner[name..].starts_with('}') {
        return Ok(name);
    }
    if !operator.starts_with(['-', '+', '?']) {
        return Err(InterpolateError::Invalid);
    }
    let line = inner.split('\n').next().unwrap_or(inner);
    let last = line.rfind('}').filter(|last| *last > name).ok_or(InterpolateError::Invalid)?;
    Ok(matching(&line[..=last]).unwrap_or(last))
}

/// Where the braces balance. Compose skips the letter after each opening one.
fn matching(text: &str) -> Option<usize> {
    let mut open = 1;
    let mut letters = text.char_indices();
    letters.next();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            '{' => {
                open += 1;
                letters.next();
            }
            _ => {}
        }
    }
    None
}

fn plain(name: &str, lookup: &dyn Fn(&str) -> Option<String>, unset: &mut Vec<String>) -> String {
    lookup(name).unwrap_or_else(|| {
        unset.push(name.to_owned());
        String::new()
    })
}

/// What stands between the braces: a name, and maybe the first of the six operators with its text.
fn expression(
    inner: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, InterpolateError> {
    let name_end = name_length(inner);
    let (name, rest) = inner.split_at(name_end);
    if rest.is_empty() {
        return Ok(plain(name, lookup, unset));
    }
    let (empty_counts_as_unset, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let (operator, text) = rest.split_at(1);
    let value = lookup(name);
    let usable = value.as_ref().is_some_and(|value| !(empty_counts_as_unset && value.is_empty()));
    match (operator, usable) {
        ("-", false) | ("+", true) => substitute(text, lookup, unset),
        ("?", false) => Err(InterpolateError::Required(name.to_owned())),
        _ => Ok(value.filter(|_| operator != "+").unwrap_or_default()),
    }
}
