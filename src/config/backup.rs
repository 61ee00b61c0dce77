//! How the stack is backed up: where to, how many sets are kept, when, and for whom they are
//! encrypted.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// What the `BACKUP_…` variables say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupConfig {
    /// The directory that holds the sets, as written: relative to the project directory. None: one
    /// in the project's state.
    pub dir: Option<String>,
    /// Which sets are kept.
    pub keep: Keep,
    /// When a set is made by itself: five fields of cron, in the host's time zone.
    pub schedule: Option<String>,
    /// The age recipients (`age1…`) that sets are encrypted for; none: they are not encrypted.
    pub recipients: Vec<String>,
}

/// Which sets are kept: those that any rule keeps. Without a rule, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keep(pub Vec<Rule>);

/// One rule of [`Keep`]. The number is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `7`: the newest seven.
    Newest(u16),
    /// `14d`: all that are younger than fourteen days.
    Days(u16),
    /// `4w`: the newest of each of the last four weeks that have one.
    Weeks(u16),
    /// `6m`: the newest of each of the last six months that have one.
    Months(u16),
}

/// Text that is no [`Keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no rule of what is kept")]
pub struct NoKeep;

impl FromStr for Keep {
    type Err = NoKeep;

    fn from_str(text: &str) -> Result<Self, NoKeep> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|part| rule(part.trim())).collect()
    }
}

impl FromIterator<Rule> for Keep {
    fn from_iter<Rules: IntoIterator<Item = Rule>>(rules: Rules) -> Self {
        Self(rules.into_iter().collect())
    }
}

fn rule(text: &str) -> Result<Rule, NoKeep> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number = digits.parse().ok().filter(|number: &u16| *number > 0);
    let number = number.ok_or(NoKeep)?;
    match &text[digits.len()..] {
        "" => Ok(Rule::Newest(number)),
        "d" => Ok(Rule::Days(number)),
        "w" => Ok(Rule::Weeks(number)),
        "m" => Ok(Rule::Months(number)),
        _ => Err(NoKeep),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(number) => write!(out, "{number}"),
            Self::Days(number) => write!(out, "{number}d"),
            Self::Weeks(number) => write!(out, "{number}w"),
            Self::Months(number) => write!(out, "{number}m"),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        out.write_str(&rules.join(","))
    }
}

impl TryFrom<String> for Keep {
    type Error = NoKeep;

    fn try_from(text: String) -> Result<Self, NoKeep> {
        text.parse()
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}

/// Whether text is a cron pattern of five fields, or a nickname such as `@daily`. One of six
/// fields would run by the second.
pub fn is_schedule(text: &str) -> bool {
    let fields = text.split_whitespace().count();
    (fields == 5 || (fields == 1 && text.starts_with('@')))
        && croner::Cron::new(text).parse().is_ok()
}

/// The recipients that a value of `BACKUP_RECIPIENT` names, whether they are any or not.
pub fn recipients(value: &str) -> Vec<String> {
    let parts = value.split([',', ' ']).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

/// Whether text is an age recipient, the public half of a key that `age-keygen` makes.
pub fn is_recipient(text: &str) -> bool {
    text.parse::<age::x25519::Recipient>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_written_as_numbers_days_weeks_and_months() {
        let good = [
            ("7", vec![Rule::Newest(7)]),
            ("14d", vec![Rule::Days(14)]),
            (
                "7, 4w,6m",
                vec![Rule::Newest(7), Rule::Weeks(4), Rule::Months(6)],
            ),
            ("", vec![]),
        ];
        for (text, rules) in good {
            let keep: Keep = text.parse().unwrap();
            assert_eq!(keep.0, rules, "{text}");
            assert_eq!(keep.to_string().parse(), Ok(keep));
        }
        for bad in [
            "0", "0d", "d", "7x", "-1", "7,,4w", "7 4w", "70000", "4wd", "1.5d",
        ] {
            assert_eq!(bad.parse::<Keep>(), Err(NoKeep), "{bad}");
        }
    }

    #[test]
    fn a_schedule_is_crons_five_fields() {
        for good in ["0 3 * * *", "*/15 * * * 1-5", "@daily", "0 3 L * *"] {
            assert!(is_schedule(good), "{good}");
        }
        for bad in [
            "",
            "0 3 * *",
            "0 0 3 * * *",
            "61 3 * * *",
            "daily",
            "@often",
            "0 25 * * *",
        ] {
            assert!(!is_schedule(bad), "{bad}");
        }
    }

    #[test]
    fn a_recipient_is_a_public_key_and_never_a_secret_one() {
        let identity = age::x25519::Identity::generate();
        assert!(is_recipient(&identity.to_public().to_string()));
        let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
        assert!(!is_recipient(&secret) && !is_recipient("") && !is_recipient("age1x"));
    }
}
