//! Reads what is said about the Octopus Server nodes.

use super::Reader;
use crate::config::MAX_NODES;
use crate::config::OctopusConfig;
use crate::config::Problem;
use crate::config::Secret;
use crate::config::keys;

impl Reader<'_> {
    pub(super) fn octopus(&mut self) -> OctopusConfig {
        let (image, tag) = match &self.input.demo {
            Some(demo) => (demo.octopus_image.clone(), demo.octopus_tag.clone()),
            None => (self.text("OCTOPUS_IMAGE"), self.text("OCTOPUS_SERVER_TAG")),
        };
        self.image("OCTOPUS_IMAGE", &image);
        if self.input.demo.is_none() && !is_tag(&tag) {
            self.problem(
                "OCTOPUS_SERVER_TAG",
                "it is no image tag",
                "use a version such as 2026.2, or latest",
            );
        }
        let admin_password = self.admin_password();
        OctopusConfig {
            image,
            tag,
            nodes: self.nodes(),
            node_name: self.node_name(),
            port: self.port("OCTOPUS_PORT"),
            bind: self.address("BIND_ADDRESS"),
            admin_username: self.text("ADMIN_USERNAME"),
            admin_password,
            admin_email: self.text("ADMIN_EMAIL"),
            admin_api_key: self.given("ADMIN_API_KEY").map(Secret::new),
            licence: self
                .given("OCTOPUS_SERVER_BASE64_LICENSE")
                .filter(|_| self.input.demo.is_none())
                .map(Secret::new),
            master_key: self.given("MASTER_KEY").map(Secret::new),
            disable_dind: self.switch("DISABLE_DIND"),
            task_cap: self.task_cap(),
            extra: self.extra(keys::OCTOPUS_VARIABLES, keys::STANDIN_OCTOPUS),
        }
    }

    fn admin_password(&mut self) -> Secret {
        if let Some(password) = self.given("ADMIN_PASSWORD") {
            return Secret::new(password);
        }
        if let Some(demo) = &self.input.demo {
            return demo.admin_password.clone();
        }
        self.problem(
            "ADMIN_PASSWORD",
            "Octopus needs a password for its first user",
            "set it; `octo-local init` makes a strong one",
        );
        Secret::default()
    }

    /// Zero too: a node that takes no tasks serves the portal only (octopus.com/docs, high
    /// availability, task cap).
    fn task_cap(&mut self) -> Option<u32> {
        let cap = self.given("TASK_CAP")?.trim().parse().ok();
        if cap.is_none() {
            self.problem(
                "TASK_CAP",
                "it is not a number",
                "set it to a number, or leave it out",
            );
        }
        cap
    }

    fn nodes(&mut self) -> u8 {
        let fits = |nodes: &u8| (1..=MAX_NODES).contains(nodes);
        match self.input.nodes {
            Some(nodes) if fits(&nodes) => nodes,
            Some(_) => {
                let why = format!("it is not a number from 1 to {MAX_NODES}");
                self.problems.push(Problem {
                    key: "--nodes".into(),
                    value: None,
                    why,
                    fix: "give such a number".into(),
                    origin: None,
                });
                1
            }
            None => {
                let what = format!("a number from 1 to {MAX_NODES}");
                self.parsed("OCTOPUS_NODES", &what, fits)
            }
        }
    }

    fn node_name(&mut self) -> String {
        let name = self.text("OCTOPUS_SERVER_NODE_NAME");
        if !name
            .chars()
            .all(|letter| letter.is_alphanumeric() || "-_.".contains(letter))
        {
            self.problem(
                "OCTOPUS_SERVER_NODE_NAME",
                "it has other characters than letters, digits, `-`, `_` and `.`",
                "choose a plain name",
            );
        }
        name
    }
}

fn is_tag(tag: &str) -> bool {
    let first = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    tag.len() <= 128
        && tag.chars().next().is_some_and(first)
        && tag
            .chars()
            .all(|letter| first(letter) || letter == '.' || letter == '-')
}
