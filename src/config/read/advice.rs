//! Warnings: what is not wrong, but will hurt.

use std::collections::BTreeSet;

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
            let is_published = |value: &str| PUBLISHED.contains(&value);
            if self.given(key).is_some_and(is_published) {
                let why = "this value is published in the vendor's samples, so everybody knows it";
                let warning = self.problem_of(key, why, "choose your own");
                // Data is bound to these; the first user's password can be changed any time.
                if key == "ADMIN_PASSWORD" {
                    self.warnings.push(warning);
                } else {
                    self.warnings_if_new.push(warning);
                }
            }
        }
        self.placeholders();
        self.nodes_and_licence(config);
        self.nobody_takes_tasks(config);
        self.advise_on_containers(config);
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

    /// A node without tasks serves the portal alone; without any other nothing is deployed.
    fn nobody_takes_tasks(&mut self, config: &Config) {
        let octopus = &config.octopus;
        let cap = |number: u8| octopus.node_task_caps.get(&number).copied();
        let all = (1..=octopus.nodes).map(|number| cap(number).or(octopus.task_cap));
        if all.into_iter().all(|cap| cap == Some(0)) {
            let key = match octopus.task_cap {
                Some(0) => "TASK_CAP".to_owned(),
                Some(_) | None => keys::task_cap_of_node(1),
            };
            let why = "no node takes tasks, so nothing is deployed";
            self.warn(&key, why, "let one node take some");
        }
    }

    fn nodes_and_licence(&mut self, config: &Config) {
        if config.demo {
            return;
        }
        let licence = config.octopus.licence.as_ref();
        let limit = match licence.map(|licence| licence::read(licence.expose())) {
            Some(Ok(licence)) => licence.node_limit,
            // One that cannot be read is a problem of its own.
            Some(Err(_)) => None,
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
