//! What an export is made from: the resolved configuration, and what is known of its data.

use crate::config::Config;
use crate::config::Secret;
use crate::config::image::is_same;
use crate::config::project::ProjectName;
use crate::spec::StackSpec;
use crate::spec::build::BuildInput;
use crate::spec::build::build;

/// What an export is made from.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The project.
    pub project: &'a ProjectName,
    /// The directory that the configuration came from.
    pub working_dir: &'a str,
    /// The master key of the data.
    pub master_key: &'a Secret,
    /// What last ran on the data, if anything did.
    pub ran: Option<Ran<'a>>,
    /// The stack has been up here, so its volumes exist.
    pub has_data: bool,
}

/// What last ran.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'a> {
    /// The image's reference.
    pub image: &'a str,
    /// The version that it reported; empty where nobody could ask.
    pub version: &'a str,
}

impl Source<'_> {
    /// The stack as it runs on this host, without the front door.
    pub fn stack(&self) -> StackSpec {
        self.built(self.config.clone())
    }

    /// The same with nodes that are alike: where one definition makes all of them.
    pub fn stack_of_equals(&self) -> StackSpec {
        let mut config = self.config.clone();
        config.octopus.node_task_caps.clear();
        self.built(config)
    }

    fn built(&self, mut config: Config) -> StackSpec {
        let around = BuildInput {
            project: self.project,
            working_dir: self.working_dir,
            master_key: self.master_key,
            may_be_privileged: true,
        };
        // It is octo-local's own, and nothing that an export could take along.
        config.front_door.on = false;
        build(&config, &around)
    }

    /// The nodes' tag or digest, as `OCTOPUS_SERVER_TAG` has it. One that moves gives way to the
    /// version that runs here: a cluster would fetch another one, and a database cannot go back.
    pub fn tag(&self) -> &str {
        let tag = &self.config.octopus.tag;
        let of_this_image = |ran: &Ran<'_>| {
            is_same(ran.image, &self.config.octopus.reference()) && !ran.version.is_empty()
        };
        match self.ran.filter(of_this_image) {
            Some(ran) if moves(tag) => ran.version,
            Some(_) | None => tag,
        }
    }
}

/// Whether a tag stands for another image tomorrow: it is no digest, and no version of three
/// numbers or more (the vendor publishes `2026.2` beside `2026.2.7` and `latest`).
pub fn moves(tag: &str) -> bool {
    let version = tag.split('-').next().unwrap_or_default();
    let numbers = version
        .split('.')
        .filter(|part| part.parse::<u32>().is_ok());
    !tag.contains('@') && numbers.count() < 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_moves_gives_way_to_what_runs() {
        let mut config = Config::default();
        let (project, key) = (ProjectName::given("p").unwrap(), Secret::new("k"));
        let tag = |config: &Config, image: &str, version: &str| {
            let source = Source {
                config,
                project: &project,
                working_dir: "/",
                master_key: &key,
                ran: Some(Ran { image, version }),
                has_data: true,
            };
            source.tag().to_owned()
        };
        let latest = "octopusdeploy/octopusdeploy:latest";
        assert_eq!(tag(&config, latest, "2026.2.7"), "2026.2.7");
        assert_eq!(tag(&config, latest, ""), "latest");
        assert_eq!(tag(&config, "another:latest", "2026.2.7"), "latest");
        config.octopus.tag = "2026.2.5".to_owned();
        assert_eq!(tag(&config, latest, "2026.2.7"), "2026.2.5");
    }

    #[test]
    fn where_one_definition_makes_all_nodes_none_has_a_cap_of_its_own() {
        let mut config = Config::default();
        config.octopus.nodes = 2;
        config.octopus.node_task_caps = [(1, 0)].into();
        let source = Source {
            config: &config,
            project: &ProjectName::given("p").unwrap(),
            working_dir: "/",
            master_key: &Secret::new("k"),
            ran: None,
            has_data: true,
        };
        let has_cap = |stack: StackSpec| stack.nodes[0].env.contains_key("TASK_CAP");
        assert!(has_cap(source.stack()) && !has_cap(source.stack_of_equals()));
    }

    #[test]
    fn versions_and_digests_do_not_move() {
        for (tag, expected) in [
            ("latest", true),
            ("2026.2", true),
            ("2022-latest", true),
            ("2026.2.7", false),
            ("2026.2.7-hardened", false),
            ("@sha256:00", false),
            ("latest@sha256:00", false),
        ] {
            assert_eq!(moves(tag), expected, "{tag}");
        }
    }
}
