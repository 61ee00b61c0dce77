//! Warnings: what is not wrong, but will hurt.

use std::collections::BTreeSet;

use base64::Engine as _;

use super::Reader;
use crate::config::Config;
use crate::config::Problem;
use crate::config::keys;
use crate::config::licence;

/// Secrets that the vendor's pages publish: everybody knows them.
const PUBLISHED: &[&str] = &[
    "N0tS3cr3t!",
    "Passw0rd123",
    "Password01!",
    "6EdU6IWsCtMEwk0kPKflQQ==",
    "5qJcW9E6B99teMmrOzaYNA==",
];

impl Reader<'_> {
    /// What is not wrong, but will hurt.
    pub(super) fn advice(&mut self, config: &Config) {
        self.typing_mistakes();
        for key in [
            "SA_PASSWORD",
            "MSSQL_SA_PASSWORD",
            "ADMIN_PASSWORD",
            "MASTER_KEY",
        ] {
            if self
                .given(key)
                .is_some_and(|value| PUBLISHED.contains(&value))
            {
                self.warn(
                    key,
                    "this value is published in the vendor's samples, so everybody knows it",
                    "choose your own",
                );
            }
        }
        if let Some(key) = &config.octopus.master_key {
            let decoded = base64::engine::general_purpose::STANDARD.decode(key.expose());
            if decoded.map_or(true, |bytes| bytes.len() != 16) {
                self.warn(
                    "MASTER_KEY",
                    "it is not the base64 of 16 bytes",
                    "check it against `openssl rand 16 | base64`",
                );
            }
        }
        self.nodes_and_licence(config);
        if self
            .given("PRIVILEGED")
            .is_some_and(|value| value.eq_ignore_ascii_case("false"))
            && !config.octopus.disable_dind
        {
            self.problem(
                "DISABLE_DIND",
                "PRIVILEGED=false takes away what Docker-in-Docker needs",
                "set DISABLE_DIND=Y, or remove PRIVILEGED",
            );
        }
        if !config.demo && config.octopus.tag == "latest" {
            self.warn(
                "OCTOPUS_SERVER_TAG",
                "latest moves: an upgrade can come with any pull, and the database cannot go back",
                "name a version",
            );
        }
    }

    fn nodes_and_licence(&mut self, config: &Config) {
        if config.demo {
            return;
        }
        let licence = config
            .octopus
            .licence
            .as_ref()
            .map(|licence| licence::read(licence.expose()));
        let limit = match licence {
            Some(None) => {
                self.warn(
                    "OCTOPUS_SERVER_BASE64_LICENSE",
                    "it is not the base64 of an Octopus licence",
                    "copy it again",
                );
                None
            }
            Some(Some(licence)) => licence.node_limit,
            None => Some(1),
        };
        let nodes = u32::from(config.octopus.nodes);
        if limit.is_some_and(|limit| nodes > limit) {
            let why =
                format!("{nodes} nodes need a licence for as many; Octopus would refuse to deploy");
            self.warn(
                "OCTOPUS_NODES",
                why,
                "use one node, or set OCTOPUS_SERVER_BASE64_LICENSE to a licence with a NodeLimit",
            );
        }
    }

    fn typing_mistakes(&mut self) {
        let named: BTreeSet<&String> = self.input.origins.keys().collect();
        for key in named {
            if let Some(meant) = keys::suggestion(key) {
                let warning = Problem {
                    key: key.clone(),
                    value: None,
                    why: "octo-local does not know this variable".to_owned(),
                    fix: format!("did you mean {meant}?"),
                    origin: self.input.origins.get(key).cloned(),
                };
                self.warnings.push(warning);
            }
        }
    }
}
