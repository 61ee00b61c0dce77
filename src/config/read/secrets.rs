//! Reads what has a form of its own: keys, passwords, the licence. No message shows a part of one.

use base64::Engine as _;
use time::Duration;

use super::Reader;
use crate::config::Secret;
use crate::config::keys;
use crate::config::licence;
use crate::config::licence::Licence;
use crate::config::password;

/// How long before its end a licence is warned about.
const LICENCE_NOTICE: Duration = Duration::days(30);

/// What files that nobody filled in have for values, letters and digits only. From the vendor's
/// pages, and what people write.
const PLACEHOLDERS: &[&str] = &[
    "REPLACEME",
    "REPLACETHIS",
    "REPLACEWITHYOUROWN",
    "CHANGEME",
    "CHANGETHIS",
    "CHANGEIT",
    "CONVERTYOURLICENSETOBASE64",
    "LICENSEGOESHERE",
    "LICENSEHERE",
    "PASSWORDHERE",
    "INSERTPASSWORD",
    "INSERTLICENSE",
    "TODO",
    "TBD",
    "FIXME",
    "PLACEHOLDER",
];

/// Whether a value only says that somebody should write one.
pub(super) fn is_placeholder(value: &str) -> bool {
    let value = value.trim();
    let folded: String = value
        .to_uppercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .collect();
    // In one case only: `Changeme!` may be a password that data was made with.
    let is_mixed = value.contains(char::is_lowercase) && value.contains(char::is_uppercase);
    let is_in_brackets = |open, close| {
        value.len() > 2
            && value.starts_with(open)
            && value.ends_with(close)
            && !value.contains("</")
    };
    let is_bracketed = is_in_brackets('<', '>') || is_in_brackets('[', ']');
    let is_yours = value.starts_with("YOUR_") || value.starts_with("your_");
    (PLACEHOLDERS.contains(&folded.as_str()) && !is_mixed) || is_bracketed || is_yours
}

impl Reader<'_> {
    /// Values that nobody filled in, and comments that became values.
    pub(super) fn placeholders(&mut self) {
        for key in keys::KEYS.iter().map(|key| key.name) {
            let Some(value) = self.given(key) else {
                continue;
            };
            let is_comment = value.starts_with('#');
            if is_placeholder(value) && !self.is_told(key) {
                self.problem(
                    key,
                    "it is a placeholder that nobody has replaced",
                    "write the value that it stands for",
                );
            } else if is_comment {
                self.warn(
                    key,
                    "its value begins with `#`, which is no comment there",
                    "write a comment on a line of its own; quote a value that is meant so",
                );
            }
        }
    }

    fn is_told(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// The key of the database: 16 bytes in base64, or 32 as newer versions make it. A key that
    /// Octopus reads otherwise than it was meant is bound to the data for ever, so nothing is bent.
    pub(super) fn master_key(&mut self) -> Option<Secret> {
        let text = self.given("MASTER_KEY")?.to_owned();
        let decoded = base64::engine::general_purpose::STANDARD.decode(&text);
        if text.contains(char::is_whitespace) && !is_placeholder(&text) {
            let is_around = !text.trim().contains(char::is_whitespace);
            let place = if is_around { "around" } else { "inside" };
            self.problem(
                "MASTER_KEY",
                format!("white space or a line break stands {place} the key"),
                "write it on one line without quotes",
            );
        } else if !decoded.is_ok_and(|bytes| matches!(bytes.len(), 16 | 32)) {
            self.problem(
                "MASTER_KEY",
                "it is not the base64 of 16 or 32 bytes",
                "copy the key of the database again; `openssl rand 16 | base64` makes one for a new database",
            );
        }
        Some(Secret::new(text))
    }

    /// The first user's password. None is needed where an API key makes a service account, or an
    /// OIDC identity signs in.
    pub(super) fn admin_password(&mut self) -> Secret {
        if let Some(password) = self.given("ADMIN_PASSWORD").map(str::to_owned) {
            let faults = password::octopus_faults(&password);
            if !faults.is_empty() {
                let fix = "choose one that Octopus Server's rules accept";
                self.problem("ADMIN_PASSWORD", faults.join(" and "), fix);
            }
            return Secret::new(password);
        }
        if let Some(demo) = &self.input.demo {
            return demo.admin_password.clone();
        }
        let in_a_file =
            |key: &&str| self.given(key).is_some() && self.input.origins.contains_key(*key);
        let (given, missing): (Vec<&str>, Vec<&str>) = OIDC.iter().partition(|key| in_a_file(key));
        if self.given("ADMIN_API_KEY").is_some() || missing.is_empty() {
            return Secret::default();
        }
        if given.is_empty() {
            self.problem(
                "ADMIN_PASSWORD",
                "Octopus needs a password for its first user",
                "set it (`octo-local init` makes a strong one); or set ADMIN_API_KEY alone, for a service account",
            );
        } else {
            let missing = missing.join(", ");
            self.problem(
                "ADMIN_PASSWORD",
                format!("without a password the first user needs an OIDC identity, and of that {missing} is missing"),
                "set all five variables of the identity in the .env, or a password",
            );
        }
        Secret::default()
    }

    /// The first user's API key.
    pub(super) fn api_key(&mut self) -> Option<Secret> {
        let text = self.given("ADMIN_API_KEY")?.to_owned();
        let is_inner = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit();
        let is_key = text
            .strip_prefix("API-")
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_inner));
        if !is_key {
            self.problem(
                "ADMIN_API_KEY",
                "it has not the form of an API key",
                "write `API-` and 21 or more capital letters and digits, or leave it out",
            );
        }
        Some(Secret::new(text))
    }

    /// The licence, in base64 on one line whatever it was given as.
    pub(super) fn licence(&mut self) -> Option<Secret> {
        if self.input.demo.is_some() {
            return None;
        }
        let text = self.given(LICENCE)?.to_owned();
        match licence::read(&text) {
            Ok(licence) => {
                self.licence_dates(&licence);
                Some(Secret::new(licence.encoded))
            }
            Err(_) if is_placeholder(&text) => None,
            Err(fault) => {
                self.problem(LICENCE, fault.to_string(), fault.fix());
                None
            }
        }
    }

    fn licence_dates(&mut self, licence: &Licence) {
        let Some(today) = self.input.today else {
            return;
        };
        let fix = "put a current licence there; without one Octopus Server refuses to upgrade or to deploy";
        match (licence.valid_from, licence.valid_to) {
            (_, Some(last)) if last < today => {
                self.warn(LICENCE, format!("the licence ended on {last}"), fix);
            }
            (Some(first), _) if first > today => {
                self.warn(
                    LICENCE,
                    format!("the licence does not hold before {first}"),
                    fix,
                );
            }
            (_, Some(last)) if last - today <= LICENCE_NOTICE => {
                let days = (last - today).whole_days();
                self.warn(
                    LICENCE,
                    format!("the licence ends on {last}, in {days} days"),
                    "ask for the next one in time",
                );
            }
            _ => {}
        }
    }
}

const LICENCE: &str = "OCTOPUS_SERVER_BASE64_LICENSE";

/// What links the first user to an identity of another provider (octopus.com/docs,
/// `hardened-image`): all five or none.
const OIDC: [&str; 5] = [
    "ADMIN_EXTERNAL_ID",
    "ADMIN_OIDCIDENTITY_NAME",
    "ADMIN_OIDCIDENTITY_ISSUER",
    "ADMIN_OIDCIDENTITY_SUBJECT",
    "ADMIN_OIDCIDENTITY_AUDIENCE",
];
