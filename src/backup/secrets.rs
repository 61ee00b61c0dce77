//! What a set keeps of the configuration: the variables in one part, and those that are secret in
//! another, together with the keys that the data needs. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;

use super::name::SetName;
use super::part::hex;
use crate::config::Config;
use crate::config::Secret;
use crate::config::keys;
use crate::config::values::values;

/// The applied configuration without its secrets: variables as a `.env` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Whether it was a demo's.
    pub demo: bool,
    /// By name; those that are secret are missing.
    pub variables: BTreeMap<String, String>,
}

/// The secrets of a stack. In clear in its part, which is a file for its owner only; encrypted when
/// the set is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The key without which the database cannot be read. `MASTER_KEY` may not name it: octo-local
    /// makes one where none is given.
    pub master_key: Option<Secret>,
    /// Whether octo-local made it.
    pub master_key_is_ours: bool,
    /// Keys that older data of this project needed, newest first.
    #[serde(default)]
    pub earlier_master_keys: Vec<Secret>,
    /// The password of `sa` as the data knows it; a restored database brings no logins, so it is
    /// kept for whoever restores the whole server.
    pub sa_password: Option<Secret>,
    /// The secret variables: licence, passwords, connection string.
    pub variables: BTreeMap<String, Secret>,
}

/// Parts the configuration in what may be seen and what may not.
pub fn split(config: &Config) -> (Configuration, BTreeMap<String, Secret>) {
    let set = values(config)
        .into_iter()
        .filter(|(_, value)| !value.is_empty());
    let (secret, open): (Vec<_>, Vec<_>) =
        set.partition(|(name, value)| keys::shown(name, value.expose()) != value.expose());
    let open = open
        .into_iter()
        .map(|(name, value)| (name, value.expose().to_owned()));
    let configuration = Configuration {
        demo: config.demo,
        variables: open.collect(),
    };
    (configuration, secret.into_iter().collect())
}

/// All variables again, for [`crate::config::read()`].
pub fn joined(configuration: &Configuration, secrets: &Secrets) -> BTreeMap<String, String> {
    let secret = secrets.variables.iter();
    let secret = secret.map(|(name, value)| (name.clone(), value.expose().to_owned()));
    configuration
        .variables
        .clone()
        .into_iter()
        .chain(secret)
        .collect()
}

/// Tells one master key from another without telling it: a hash with the set's name in it. A key
/// has 128 bits of chance, which nobody tries through.
pub fn print_of(master_key: &Secret, set: &SetName) -> String {
    let mut sha = sha2::Sha256::new();
    for part in ["octo-local master key", set.as_str(), master_key.expose()] {
        sha.update(part.len().to_le_bytes());
        sha.update(part);
    }
    hex(&sha.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Input;

    fn config() -> Config {
        let vars = [
            ("SA_PASSWORD", "Str0ng-marker"),
            ("ADMIN_PASSWORD", "Adm1n-marker"),
            ("MASTER_KEY", "bWFya2VyLW1hcmtlci1tYQ=="),
            (
                "OCTOPUS_SERVER_BASE64_LICENSE",
                "PExpY2Vuc2UgU2lnbmF0dXJlPSJtYXJrZXIiPjwvTGljZW5zZT4=",
            ),
            ("HTTP_PROXY", "http://me:marker@proxy:3128"),
            ("ACCEPT_EULA", "Y"),
            ("ACCEPT_OCTOPUS_EULA", "Y"),
            ("OCTOPUS_NODES", "2"),
        ];
        let vars: BTreeMap<String, String> = vars.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let origins = vars
            .keys()
            .map(|key| (key.clone(), ".env:1".to_owned()))
            .collect();
        crate::config::read(&Input {
            vars,
            origins,
            ..Input::default()
        })
        .unwrap()
        .config
    }

    #[test]
    fn no_secret_is_in_the_open_half_and_both_make_the_configuration_again() {
        let (configuration, secret) = split(&config());
        let open = serde_json::to_string(&configuration).unwrap();
        assert!(
            !open.contains("marker")
                && !open.contains("bWFya2Vy")
                && !open.contains("PExpY2Vuc2Ug"),
            "{open}"
        );
        assert!(open.contains("\"OCTOPUS_NODES\":\"2\""), "{open}");
        assert!(secret.contains_key("HTTP_PROXY") && secret.contains_key("MASTER_KEY"));
        let secrets = Secrets {
            variables: secret,
            ..Secrets::default()
        };
        let vars = joined(&configuration, &secrets);
        let origins = vars
            .keys()
            .map(|key| (key.clone(), "set".to_owned()))
            .collect();
        let again = crate::config::read(&Input {
            vars,
            origins,
            ..Input::default()
        })
        .unwrap();
        assert_eq!(again.config, config());
    }

    #[test]
    fn secrets_are_never_shown_and_come_back() {
        let secrets = Secrets {
            master_key: Some(Secret::new("marker")),
            ..Secrets::default()
        };
        assert!(!format!("{secrets:?}").contains("marker"));
        let text = serde_json::to_string(&secrets).unwrap();
        assert_eq!(serde_json::from_str::<Secrets>(&text).unwrap(), secrets);
    }

    #[test]
    fn a_print_tells_keys_apart_and_sets_too() {
        let print = |key: &str, set: &str| print_of(&Secret::new(key), &set.parse().unwrap());
        assert_eq!(print("a", "one"), print("a", "one"));
        assert_ne!(print("a", "one"), print("b", "one"));
        assert_ne!(print("a", "one"), print("a", "two"));
        assert!(!print("marker", "one").contains("marker"));
    }
}
