//! Reads what else the engine is to give to containers: mounts, host names, limits.

use std::str::FromStr;

use super::Reader;
use crate::config::Config;
use crate::config::SqlConfig;
use crate::config::limits::Limits;
use crate::config::limits::Memory;
use crate::config::mounts::ExtraHost;
use crate::config::mounts::ExtraMount;
use crate::config::mounts::Refusal;

/// SQL Server ends below this much memory (learn.microsoft.com, "SQL Server on Linux, system
/// requirements").
const LEAST_OF_SQL: Memory = Memory(2_000_000_000);
/// With less, a node is killed sooner or later (octopus.com/docs, requirements, has 4 GB for a small
/// installation; the vendor's chart asks for 2).
const LEAST_OF_A_NODE: Memory = Memory(2 << 30);

impl Reader<'_> {
    /// What else nodes see of the host.
    pub(super) fn extra_mounts(&mut self, disable_dind: bool) -> Vec<ExtraMount> {
        const KEY: &str = "EXTRA_MOUNTS";
        let mut mounts: Vec<ExtraMount> = self.each(KEY, ExtraMount::parse);
        mounts.sort();
        mounts.dedup();
        for pair in mounts.windows(2) {
            if pair[0].target == pair[1].target {
                let why = format!("two things are to be at {}", pair[0].target);
                self.problem(KEY, why, "leave one of them out");
            }
        }
        for mount in &mounts {
            if !disable_dind && mount.meets_the_inner_engine() {
                let why = format!(
                    "each node's Docker-in-Docker, which is on, has {} to itself",
                    mount.target
                );
                self.problem(KEY, why, "set DISABLE_DIND=Y, or leave it out");
            }
            if mount.hands_over_the_host() {
                let why = format!(
                    "{} gives this host to everybody who may run a script on a node",
                    mount.source
                );
                self.warn(
                    KEY,
                    why,
                    "mount no more than the one directory that is needed",
                );
            }
        }
        mounts
    }

    /// Names beyond those that the network knows.
    pub(super) fn extra_hosts(&mut self) -> Vec<ExtraHost> {
        let mut hosts: Vec<ExtraHost> = self.each("EXTRA_HOSTS", ExtraHost::parse);
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Every entry of a list with commas or line breaks that can be read.
    fn each<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Refusal>) -> Vec<T> {
        let text = self.text(key);
        let entries = text.split([',', '\n']).map(str::trim);
        let mut read = Vec::new();
        for entry in entries.filter(|entry| !entry.is_empty()) {
            match parse(entry) {
                Ok(one) => read.push(one),
                Err((why, fix)) => self.problem(key, why, fix),
            }
        }
        read
    }

    /// What a container may have at most.
    pub(super) fn limits(&mut self, memory: &str, processors: &str) -> Limits {
        Limits {
            memory: self.limit(
                memory,
                "it is no size from 6m on, such as an engine takes",
                "write it as 4g or 1536m, or leave it out",
            ),
            processors: self.limit(
                processors,
                "it is no number of processors from 0.01 on",
                "write it as 2 or 1.5, or leave it out",
            ),
        }
    }

    fn limit<T: FromStr>(&mut self, key: &str, why: &str, fix: &str) -> Option<T> {
        let value = self.given(key)?.parse().ok();
        if value.is_none() {
            self.problem(key, why, fix);
        }
        value
    }

    /// SQL Server ends where it has too little, and is killed where it takes more than it may have.
    pub(super) fn judge_memory_of_sql(&mut self, sql: &SqlConfig) {
        let Some(memory) = sql.limits.memory.filter(|_| self.input.demo.is_none()) else {
            return;
        };
        let (own, most) = (u64::from(sql.memory_limit_mb), memory.mebibytes());
        if memory < LEAST_OF_SQL {
            let why = "SQL Server needs 2000 MB, and ends with less";
            self.problem("SQL_MEMORY", why, "give it 2g or more");
        } else if most < own {
            let why = format!(
                "it is less than the {own} MB that SQL Server may take itself (SQL_MEMORY_LIMIT_MB), so it would be killed"
            );
            self.problem("SQL_MEMORY", why, "raise it, or lower SQL_MEMORY_LIMIT_MB");
        } else if most * 4 / 5 < own {
            let why = format!(
                "it leaves little beside the {own} MB that SQL Server may take itself (SQL_MEMORY_LIMIT_MB): it may be killed"
            );
            let fix = format!(
                "raise it to {}m or more, or lower SQL_MEMORY_LIMIT_MB",
                own * 5 / 4
            );
            self.warn("SQL_MEMORY", why, fix);
        }
    }

    /// What is wrong with them only beside the rest.
    pub(super) fn advise_on_containers(&mut self, config: &Config) {
        let octopus = &config.octopus;
        let memory = octopus.limits.memory.filter(|_| !config.demo);
        if memory.is_some_and(|memory| memory < LEAST_OF_A_NODE) {
            let why = "a node needs 2 GB and more, and is killed where it has less";
            self.warn("OCTOPUS_MEMORY", why, "set it to 4g, or leave it out");
        }
        let is_ours = |name: &str| {
            name == "octopus-server"
                || name.starts_with("octopus-server-")
                || config.sql.is_some() && (name == "db" || name == config.database.host)
        };
        for host in &octopus.extra_hosts {
            if is_ours(&host.name) {
                let why = format!("{} is a container of this stack", host.name);
                self.problem(
                    "EXTRA_HOSTS",
                    why,
                    "leave it out: nodes reach it by its name",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::tests::keys_of;
    use super::super::tests::with;
    use crate::config::limits::Memory;
    use crate::config::limits::Processors;

    #[test]
    fn lists_are_taken_as_given_and_every_entry_that_is_wrong_is_named() {
        let given = [
            ("EXTRA_MOUNTS", "/srv/b:/b:ro,\n ./a:/a, /srv/b:/b:ro,"),
            ("EXTRA_HOSTS", "b=10.0.0.2,a:host-gateway, a:host-gateway"),
        ];
        let octopus = read(&with(&given)).unwrap().config.octopus;
        let shown = |list: Vec<String>| list.join(" ");
        let mounts = octopus.extra_mounts.iter().map(ToString::to_string);
        assert_eq!(shown(mounts.collect()), "./a:/a /srv/b:/b:ro");
        let hosts = octopus.extra_hosts.iter().map(ToString::to_string);
        assert_eq!(shown(hosts.collect()), "a:host-gateway b:10.0.0.2");
        for (more, named) in [
            (
                &[("EXTRA_MOUNTS", "a/b:/c,/a:/artifacts,/d:/e")][..],
                vec!["EXTRA_MOUNTS", "EXTRA_MOUNTS"],
            ),
            (&[("EXTRA_MOUNTS", "/a:/c,/b:/c/")], vec!["EXTRA_MOUNTS"]),
            (
                &[("EXTRA_MOUNTS", "/a:/var/run/docker.sock")],
                vec!["EXTRA_MOUNTS"],
            ),
            (
                &[("EXTRA_HOSTS", "a,b:c")],
                vec!["EXTRA_HOSTS", "EXTRA_HOSTS"],
            ),
            (&[("EXTRA_HOSTS", "db:10.0.0.9")], vec!["EXTRA_HOSTS"]),
            (
                &[("EXTRA_HOSTS", "octopus-server-1:10.0.0.9")],
                vec!["EXTRA_HOSTS"],
            ),
            (&[("EXTRA_MOUNTS", ""), ("EXTRA_HOSTS", " ")], vec![]),
        ] {
            assert_eq!(keys_of(read(&with(more))), named, "{more:?}");
        }
    }

    #[test]
    fn a_socket_of_the_engine_is_warned_about_and_needs_a_node_without_an_engine_of_its_own() {
        let socket = ("EXTRA_MOUNTS", "/var/run/docker.sock:/var/run/docker.sock");
        let read = read(&with(&[socket, ("DISABLE_DIND", "Y")])).unwrap();
        let warned: Vec<&str> = read.warnings.iter().map(|one| one.key.as_str()).collect();
        assert!(warned.contains(&"EXTRA_MOUNTS"), "{warned:?}");
    }

    #[test]
    fn limits_are_those_of_the_engine_and_leave_sql_server_its_memory() {
        let given = [
            ("OCTOPUS_MEMORY", "4g"),
            ("OCTOPUS_CPUS", "1.5"),
            ("SQL_MEMORY", "3g"),
            ("SQL_CPUS", "2"),
        ];
        let config = read(&with(&given)).unwrap().config;
        assert_eq!(config.octopus.limits.memory, Some(Memory(4 << 30)));
        assert_eq!(
            config.sql.unwrap().limits.processors,
            Some(Processors(2_000_000_000))
        );
        for (key, value) in [
            ("OCTOPUS_MEMORY", "4"),
            ("OCTOPUS_CPUS", "0"),
            ("SQL_MEMORY", "1g"),
            ("SQL_CPUS", "many"),
        ] {
            assert_eq!(keys_of(read(&with(&[(key, value)]))), [key], "{value}");
        }
        let more = ("SQL_MEMORY_LIMIT_MB", "4096");
        assert_eq!(
            keys_of(read(&with(&[more, ("SQL_MEMORY", "3g")]))),
            ["SQL_MEMORY"]
        );
        let warned = |given: &[(&str, &str)]| {
            let all = read(&with(given)).unwrap().warnings.into_iter();
            let keys = all
                .map(|one| one.key)
                .filter(|key| key.ends_with("_MEMORY"));
            keys.collect::<Vec<_>>()
        };
        assert_eq!(warned(&[("SQL_MEMORY", "2g")]), ["SQL_MEMORY"]);
        assert_eq!(warned(&[("SQL_MEMORY", "2560m")]), [""; 0]);
        assert_eq!(warned(&[("OCTOPUS_MEMORY", "1g")]), ["OCTOPUS_MEMORY"]);
    }
}
