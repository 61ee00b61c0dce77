//! `$NAME`, `${NAME}` and `${NAME:-default}` with its kin, as compose resolves them. A default or
//! message is looked at only where it is used, and its result is not looked at again.

use super::limits::MAX_DEPTH;
use super::limits::MAX_EXPANDED;

/// Why a template cannot be resolved. Shows names, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpolateError {
    /// `${` begins none of the forms.
    #[error(
        "a ${{ is not followed by a name and a }}; write $$ for a dollar sign, or put the value in single quotes"
    )]
    Invalid,
    /// `${NAME:?message}` or `${NAME?message}`, and the variable is not set.
    #[error("required variable {0} is missing a value")]
    Required(String),
    /// References nested beyond [`MAX_DEPTH`].
    #[error("references are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// References that bring in more than [`MAX_EXPANDED`].
    #[error("references to other variables make more than {} MiB of text", MAX_EXPANDED >> 20)]
    TooLong,
}

/// Resolves a template. Also gives the names of variables that are not set, once for each use that
/// leaves a blank.
///
/// # Errors
/// For a `${` that does not begin a reference, for a required variable that is not set, and for what
/// exceeds the limits.
pub fn interpolate(
    template: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, Vec<String>), InterpolateError> {
    interpolate_within(template, lookup, &mut { MAX_EXPANDED })
}

/// The same with what is left of [`MAX_EXPANDED`]. Every value that is looked up counts, also one
/// that is not used: this bounds the time as well.
pub(super) fn interpolate_within(
    template: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    budget: &mut usize,
) -> Result<(String, Vec<String>), InterpolateError> {
    let mut resolved = String::new();
    let mut unset = Vec::new();
    let mut find = |name: &str| {
        let value = lookup(name);
        let length = value.as_ref().map_or(0, String::len);
        *budget = budget
            .checked_sub(length)
            .ok_or(InterpolateError::TooLong)?;
        Ok(value)
    };
    // A stack, not recursion: depth must not cost a thread's stack.
    let mut pending = vec![(Pending::Text(template), 0)];
    while let Some((next, depth)) = pending.pop() {
        let text = match next {
            Pending::Text(text) => text,
            Pending::Refusal(name) => return Err(InterpolateError::Required(name.to_owned())),
        };
        if depth > MAX_DEPTH {
            return Err(InterpolateError::TooDeep);
        }
        let Some((before, after)) = text.split_once('$') else {
            resolved.push_str(text);
            continue;
        };
        resolved.push_str(before);
        let (part, rest) = part(after)?;
        pending.push((Pending::Text(rest), depth));
        match part {
            Part::Dollar => resolved.push('$'),
            Part::Plain(name) => match find(name)? {
                Some(value) => resolved.push_str(&value),
                None => unset.push(name.to_owned()),
            },
            Part::Choice(choice) => {
                let next = choice.resolve(find(choice.name)?, &mut resolved);
                pending.extend(next.into_iter().flatten().map(|next| (next, depth + 1)));
            }
        }
    }
    Ok((resolved, unset))
}

/// What is still to be done, the next thing last.
enum Pending<'a> {
    Text(&'a str),
    /// The message about this required variable has been resolved, which is only done for the
    /// mistakes it may have.
    Refusal(&'a str),
}

/// What a dollar sign stands for.
enum Part<'a> {
    Dollar,
    /// `$NAME` or `${NAME}`.
    Plain(&'a str),
    Choice(Choice<'a>),
}

/// `${NAME:-text}`.
struct Choice<'a> {
    name: &'a str,
    /// With the colon, an empty variable counts as not set.
    colon: bool,
    operator: Operator,
    text: &'a str,
}

#[derive(Clone, Copy)]
enum Operator {
    /// `-`: the text if not set.
    Default,
    /// `+`: the text if set, else nothing.
    Alternative,
    /// `?`: refused if not set.
    Required,
}

impl<'a> Choice<'a> {
    /// Writes the value where it is used, and gives what else is to be done, the next thing last.
    fn resolve(&self, value: Option<String>, resolved: &mut String) -> [Option<Pending<'a>>; 2] {
        let value = value.filter(|value| !(self.colon && value.is_empty()));
        match (self.operator, value) {
            (Operator::Default | Operator::Required, Some(value)) => {
                resolved.push_str(&value);
                [None, None]
            }
            (Operator::Default, None) | (Operator::Alternative, Some(_)) => {
                [None, Some(Pending::Text(self.text))]
            }
            (Operator::Alternative, None) => [None, None],
            (Operator::Required, None) => [
                Some(Pending::Refusal(self.name)),
                Some(Pending::Text(self.text)),
            ],
        }
    }
}

/// Reads what follows a dollar sign, and gives the rest.
fn part(after: &str) -> Result<(Part<'_>, &str), InterpolateError> {
    if let Some(rest) = after.strip_prefix('$') {
        return Ok((Part::Dollar, rest));
    }
    if let Some(inner) = after.strip_prefix('{') {
        return braced(inner).ok_or(InterpolateError::Invalid);
    }
    Ok(match split_name(after) {
        ("", rest) => (Part::Dollar, rest),
        (name, rest) => (Part::Plain(name), rest),
    })
}

/// Reads what follows `${`.
fn braced(inner: &str) -> Option<(Part<'_>, &str)> {
    let (name, after) = split_name(inner);
    if name.is_empty() {
        return None;
    }
    if let Some(rest) = after.strip_prefix('}') {
        return Some((Part::Plain(name), rest));
    }
    let (colon, after) = after
        .strip_prefix(':')
        .map_or((false, after), |after| (true, after));
    let operator = match after.as_bytes().first()? {
        b'-' => Operator::Default,
        b'+' => Operator::Alternative,
        b'?' => Operator::Required,
        _ => return None,
    };
    let text = &after[1..];
    let end = closing_brace(text)?;
    Some((
        Part::Choice(Choice {
            name,
            colon,
            operator,
            text: &text[..end],
        }),
        &text[end + 1..],
    ))
}

/// Where the text of a choice ends: at the brace that balances, else at the last one of the line.
/// Compose's count passes over the character after every opening brace, so that `${A:-{}` is `{`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    let mut last = None;
    let mut passed_over = false;
    for (at, byte) in text
        .bytes()
        .enumerate()
        .take_while(|(_, byte)| *byte != b'\n')
    {
        if byte == b'}' {
            last = Some(at);
        }
        match (std::mem::take(&mut passed_over), byte) {
            (false, b'{') => {
                open += 1;
                passed_over = true;
            }
            (false, b'}') => open -= 1,
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    last
}

/// Splits off the name that a text begins with; an empty one if it begins with none.
fn split_name(text: &str) -> (&str, &str) {
    // Compose compares without regard to case, which makes letters of the long s and the Kelvin
    // sign.
    let letter = |letter: char| {
        letter.is_ascii_alphabetic() || matches!(letter, '_' | '\u{17f}' | '\u{212a}')
    };
    let end = text
        .char_indices()
        .find(|(at, next)| !(letter(*next) || *at > 0 && next.is_ascii_digit()));
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(template: &str) -> Result<(String, Vec<String>), InterpolateError> {
        interpolate(template, &|name| match name {
            "SET" => Some("set".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("$SET".to_owned()),
            _ => None,
        })
    }

    fn value(template: &str) -> String {
        resolve(template).unwrap().0
    }

    #[test]
    fn what_is_not_used_is_not_looked_at() {
        assert_eq!(value("${SET:-${}}"), "set");
        assert_eq!(value("${UNSET+${UNSET?}}"), "");
        assert_eq!(resolve("${UNSET-${}}"), Err(InterpolateError::Invalid));
        assert_eq!(value("${UNSET-$DOLLAR}"), "$SET");
    }

    #[test]
    fn a_message_is_resolved_before_its_variable_is_blamed() {
        assert_eq!(
            resolve("${UNSET?${OTHER?}}"),
            Err(InterpolateError::Required("OTHER".to_owned()))
        );
        assert_eq!(
            resolve("${EMPTY:?$SET} ${"),
            Err(InterpolateError::Required("EMPTY".to_owned()))
        );
    }

    #[test]
    fn unset_names_are_given_once_for_each_use_that_leaves_a_blank() {
        assert_eq!(
            resolve("$A ${B} ${C:-$A} ${D+x}").unwrap().1,
            ["A", "B", "A"]
        );
    }

    #[test]
    fn a_text_ends_on_its_line() {
        assert_eq!(resolve("${A:-x\n}"), Err(InterpolateError::Invalid));
        assert_eq!(value("${A:-{}\n}"), "{\n}");
    }

    #[test]
    fn nesting_ends_at_a_depth_that_nobody_writes() {
        let nested = |depth: usize| "${A:-".repeat(depth) + "x" + &"}".repeat(depth);
        assert_eq!(value(&nested(MAX_DEPTH)), "x");
        for depth in [MAX_DEPTH + 1, 100_000] {
            assert_eq!(resolve(&nested(depth)), Err(InterpolateError::TooDeep));
        }
        let beside = "${A:-x}".repeat(10_000);
        assert_eq!(value(&beside).len(), 10_000);
    }

    #[test]
    fn what_is_looked_up_counts_also_where_it_is_not_used() {
        let lookup = |_: &str| Some("x".repeat(1_000));
        let within = |template: &str, mut budget: usize| {
            interpolate_within(template, &lookup, &mut budget).map(|(value, _)| value.len())
        };
        assert_eq!(within("$A$A", 2_000), Ok(2_000));
        assert_eq!(within("$A$A", 1_999), Err(InterpolateError::TooLong));
        assert_eq!(
            within("${A+y}${A+y}", 1_999),
            Err(InterpolateError::TooLong)
        );
    }
}
