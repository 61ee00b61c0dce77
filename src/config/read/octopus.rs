//! Reads what is said about the Octopus Server nodes.

use std::collections::BTreeMap;

use super::Reader;
use crate::config::AfterFailedUpgrade;
use crate::config::MAX_NODES;
use crate::config::OctopusConfig;
use crate::config::Problem;
use crate::config::image;
use crate::config::keys;
use crate::config::vendor;
use crate::config::versioned;

impl Reader<'_> {
    pub(super) fn octopus(&mut self) -> OctopusConfig {
        let (image, tag) = self.octopus_image();
        let disable_dind = self.switch("DISABLE_DIND");
        let extra = self.extra(vendor::OCTOPUS, keys::STANDIN_OCTOPUS);
        self.redis(&extra);
        OctopusConfig {
            image,
            tag,
            nodes: self.nodes(),
            node_name: self.node_name(),
            port: self.port("OCTOPUS_PORT"),
            bind: self.address("BIND_ADDRESS"),
            admin_username: self.text("ADMIN_USERNAME"),
            admin_password: self.admin_password(),
            admin_email: self.text("ADMIN_EMAIL"),
            admin_api_key: self.api_key(),
            licence: self.licence(),
            master_key: self.master_key(),
            disable_dind,
            user: self.user(disable_dind),
            networks: self.networks(),
            extra_mounts: self.extra_mounts(disable_dind),
            extra_hosts: self.extra_hosts(),
            limits: self.limits("OCTOPUS_MEMORY", "OCTOPUS_CPUS"),
            after_failed_upgrade: self.after_failed_upgrade(),
            task_cap: self.task_cap("TASK_CAP"),
            node_task_caps: self.node_task_caps(),
            extra,
        }
    }

    /// The image's name and its version, which people write into either of two variables.
    fn octopus_image(&mut self) -> (String, String) {
        if let Some(demo) = &self.input.demo {
            return (demo.octopus_image.clone(), demo.octopus_tag.clone());
        }
        let image = self.text("OCTOPUS_IMAGE");
        let version = self.version("OCTOPUS_SERVER_TAG");
        let Some(image) = self.image("OCTOPUS_IMAGE", &image) else {
            return (image, self.text("OCTOPUS_SERVER_TAG"));
        };
        let Some((tag, digest)) = version else {
            return (image.name, self.text("OCTOPUS_SERVER_TAG"));
        };
        let differ = |one: &Option<String>, other: &Option<String>| {
            one.is_some() && other.is_some() && one != other
        };
        if differ(&image.tag, &tag) || differ(&image.digest, &digest) {
            self.problem(
                "OCTOPUS_IMAGE",
                "it names another version than OCTOPUS_SERVER_TAG",
                "leave the version out of it, or out of OCTOPUS_SERVER_TAG",
            );
        }
        let digest = digest.or(image.digest).map(|digest| format!("@{digest}"));
        let tag = tag.or(image.tag);
        let version = match (tag, digest) {
            (None, None) => keys::default_of("OCTOPUS_SERVER_TAG")
                .unwrap_or_default()
                .to_owned(),
            (tag, digest) => tag.unwrap_or_default() + &digest.unwrap_or_default(),
        };
        (image.name, version)
    }

    /// The image of Tentacles.
    pub(super) fn tentacle_image(&mut self) -> String {
        if let Some(demo) = &self.input.demo {
            return demo.tentacle_image.clone();
        }
        let version = match self.version("TENTACLE_TAG") {
            Some((None, None)) | None => self.text("TENTACLE_TAG"),
            Some((tag, digest)) => {
                let digest = digest.map(|digest| format!("@{digest}"));
                tag.unwrap_or_default() + &digest.unwrap_or_default()
            }
        };
        versioned(keys::TENTACLE_IMAGE, &version)
    }

    /// What a key of a version says, as tag and digest; none where it is wrong.
    fn version(&mut self, key: &str) -> Option<(Option<String>, Option<String>)> {
        let Some(text) = self.given(key).map(str::to_owned) else {
            return Some((None, None));
        };
        let (tag, digest) = match text.split_once('@') {
            Some((tag, digest)) => (tag, Some(digest)),
            None if text.starts_with("sha256:") => ("", Some(text.as_str())),
            None => (text.as_str(), None),
        };
        let has_good_tag = image::is_tag(tag) || (tag.is_empty() && digest.is_some());
        if has_good_tag && digest.is_none_or(image::is_digest) {
            let tag = Some(tag.to_owned()).filter(|tag| !tag.is_empty());
            return Some((tag, digest.map(str::to_owned)));
        }
        self.problem(
            key,
            "it is neither a tag nor a digest of an image",
            "use a version such as 2026.2, `@sha256:…`, or latest",
        );
        None
    }

    /// The user that the nodes run as. Root is what they run as anyway.
    fn user(&mut self, disable_dind: bool) -> Option<String> {
        let user = self.given("CONTAINER_USER")?.trim().to_owned();
        let is_name = |part: &str| {
            let inner = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
            !part.is_empty() && !part.starts_with('-') && part.chars().all(inner)
        };
        if user.split(':').count() > 2 || !user.split(':').all(is_name) {
            self.problem(
                "CONTAINER_USER",
                "it is no user, nor a user and a group",
                "write a name or a number, such as octopus or 999:0, or leave it out",
            );
            return None;
        }
        let is_root = matches!(user.as_str(), "root" | "0" | "root:root" | "0:0");
        if is_root {
            return None;
        }
        if !disable_dind {
            self.problem(
                "CONTAINER_USER",
                "Docker-in-Docker, which is on, needs root",
                "set DISABLE_DIND=Y, or leave CONTAINER_USER out",
            );
        }
        Some(user)
    }

    /// Networks of others that the nodes join.
    fn networks(&mut self) -> Vec<String> {
        let text = self.text("EXTRA_NETWORKS");
        let names = text.split([',', ' ', '\t', '\n']);
        let mut names: Vec<String> = names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        let inner = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        let is_good = |name: &String| {
            name.starts_with(|first: char| first.is_ascii_alphanumeric())
                && name.chars().all(inner)
                && !matches!(name.as_str(), "host" | "none" | "default")
        };
        if !names.iter().all(is_good) {
            self.problem(
                "EXTRA_NETWORKS",
                "it is no list of names of networks that a container can join beside its own",
                "write the names as `docker network ls` shows them, separated by commas",
            );
        }
        names
    }

    fn after_failed_upgrade(&mut self) -> AfterFailedUpgrade {
        match self.text("UPGRADE_ROLLBACK").as_str() {
            "ask" => AfterFailedUpgrade::Ask,
            "auto" => AfterFailedUpgrade::RollBack,
            _ => {
                let fix = "set it to one of them";
                self.problem("UPGRADE_ROLLBACK", "it is none of ask, auto", fix);
                AfterFailedUpgrade::Ask
            }
        }
    }

    /// Zero too: a node that takes no tasks serves the portal only (octopus.com/docs, high
    /// availability, task cap).
    fn task_cap(&mut self, key: &str) -> Option<u32> {
        let cap = self.given(key)?.trim().parse().ok();
        if cap.is_none() {
            self.problem(
                key,
                "it is not a number",
                "set it to a number, or leave it out",
            );
        }
        cap
    }

    /// The caps of single nodes, of those too that may come later.
    fn node_task_caps(&mut self) -> BTreeMap<u8, u32> {
        let names = self.input.vars.keys();
        let numbered = names.filter_map(|name| Some((name, keys::node_of_task_cap(name)?)));
        let numbered: Vec<(String, u32)> = numbered
            .map(|(name, number)| (name.clone(), number))
            .collect();
        let mut caps = BTreeMap::new();
        for (name, number) in numbered {
            let number = u8::try_from(number).ok();
            let number = number.filter(|number| (1..=MAX_NODES).contains(number));
            let Some(number) = number.filter(|number| keys::task_cap_of_node(*number) == name)
            else {
                let why = format!("there is no such node: they are numbered from 1 to {MAX_NODES}");
                self.problem(&name, why, "write OCTOPUS_NODE_1_TASK_CAP, or leave it out");
                continue;
            };
            caps.extend(self.task_cap(&name).map(|cap| (number, cap)));
        }
        caps
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
