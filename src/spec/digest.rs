//! The fingerprint of a container definition, kept in a label, so that a later run knows whether a
//! container is still right.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;

use super::ContainerSpec;

/// SHA-256 over the definition, in hexadecimal, shortened to 128 bits.
///
/// A newer octo-local must compute the same for the same definition, or it would recreate healthy
/// containers: a new field of `ContainerSpec` is left out of the serialised form while it has its
/// old meaning. A golden test holds this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub String);

/// How many definitions are remembered: a stack of many nodes, before and after a change.
const REMEMBERED: usize = 64;

thread_local! {
    /// The definitions that were asked for last, and their fingerprints.
    static KNOWN: RefCell<VecDeque<(ContainerSpec, Digest)>> = const { RefCell::new(VecDeque::new()) };
}

impl Digest {
    /// The fingerprint of one definition. Each decision asks for those of all units, which seldom
    /// change, and to compute one costs more than to find it.
    pub fn of(container: &ContainerSpec) -> Self {
        KNOWN.with_borrow_mut(|known| {
            let found = known.iter().position(|(one, _)| one == container);
            let pair = found.and_then(|at| known.remove(at));
            let pair = pair.unwrap_or_else(|| (container.clone(), Self::compute(container)));
            let digest = pair.1.clone();
            known.truncate(REMEMBERED - 1);
            known.push_front(pair);
            digest
        })
    }

    fn compute(container: &ContainerSpec) -> Self {
        let text = serde_json::to_vec(container)
            .expect("a definition has only string keys, so it always serialises");
        let hash = sha2::Sha256::digest(text);
        Self(
            hash.iter()
                .take(16)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Secret;
    use crate::config::limits::Limits;
    use crate::spec::Port;
    use crate::spec::Storage;
    use crate::spec::UnitId;

    #[test]
    fn the_same_definition_has_the_same_digest_in_every_version() {
        let container = ContainerSpec {
            unit: UnitId::Node(2),
            name: "p-octopus-server-2".into(),
            image: "octopusdeploy/octopusdeploy:2026.2.1".into(),
            hostname: "octopus-server-2".into(),
            env: BTreeMap::from([
                ("ACCEPT_EULA".into(), Secret::new("Y")),
                ("TASK_CAP".into(), Secret::new("5")),
            ]),
            mounts: BTreeMap::from([("/cache".into(), Storage::Ours("p_cache-2".into()))]),
            ports: vec![Port {
                container: 8080,
                host_ip: "127.0.0.1".parse().unwrap(),
                host: 8081,
            }],
            aliases: vec!["octopus-server-2".into()],
            privileged: true,
            open_stdin: true,
            stop_timeout_s: 60,
            log_max_size: "10m".into(),
            log_max_files: 3,
            user: None,
            extra_hosts: Vec::new(),
            networks: Vec::new(),
            extra_mounts: Vec::new(),
            limits: Limits::default(),
        };
        assert_eq!(Digest::of(&container).0, "c8077d662d0ba15f3a70ce4c72c88800");
        let other = ContainerSpec {
            privileged: false,
            ..container.clone()
        };
        assert_ne!(Digest::of(&other), Digest::of(&container));
    }
}
