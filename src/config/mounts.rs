//! What else of the host nodes see, and by which other names they know other machines. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::Serialize;

use super::storage::KINDS;
use super::storage::Place;

/// A reason and a fix.
pub type Refusal = (String, String);

/// Something of the host's that each node sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExtraMount {
    /// Where in a node, absolute.
    pub target: String,
    /// What, as written.
    pub source: Place,
    /// Nodes may not write to it.
    pub read_only: bool,
}

/// Where nodes keep data of their own besides (octopus.com/docs, Linux container).
const OTHERS_OF_OURS: [&str; 3] = ["/cache", "/clusterShared", "/executionsClusterShared"];
/// Directories of the image without which nothing in it runs.
const OF_THE_IMAGE: [&str; 14] = [
    "/bin", "/dev", "/etc", "/lib", "/lib64", "/opt", "/Octopus", "/proc", "/run", "/sbin", "/sys",
    "/usr", "/usr/bin", "/var",
];
/// What the kernel has there for each container.
const OF_THE_KERNEL: [&str; 2] = ["/proc", "/sys"];
/// The socket of the engine, and what nodes with Docker-in-Docker make for themselves.
const SOCKET: &str = "docker.sock";
const OF_THE_INNER_ENGINE: [&str; 3] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/var/lib/docker",
];
/// Whoever may read or write here has the host, or the secrets of all stacks on it.
const HANDS_OVER_THE_HOST: [&str; 14] = [
    "/boot",
    "/dev",
    "/etc",
    "/proc",
    "/root",
    "/run",
    "/run/octo-local",
    "/sys",
    "/usr",
    "/var",
    "/var/lib",
    "/var/lib/docker",
    "/var/lib/octo-local",
    "/var/run",
];

impl ExtraMount {
    /// Reads one: `HOST:CONTAINER`, `HOST:CONTAINER:ro` or `:rw`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let (source, target, mode) = match *parts.as_slice() {
            [source, target] => (source, target, "rw"),
            [source, target, mode] => (source, target, mode),
            _ => {
                return Err((
                    format!("{text} is not what is mounted and where"),
                    "write /srv/tools:/opt/tools, or /srv/tools:/opt/tools:ro".to_owned(),
                ));
            }
        };
        let source = Place::parse(source)
            .map_err(|(why, fix)| (format!("{source}: {why}"), fix.to_owned()))?;
        let read_only = match mode {
            "ro" => true,
            "rw" => false,
            _ => {
                let why = format!("{mode} is neither ro nor rw");
                return Err((why, format!("write {source}:{target}:ro")));
            }
        };
        let target = target_of(target)?;
        Ok(Self {
            target,
            source,
            read_only,
        })
    }

    /// Whether it is where a node's own Docker-in-Docker keeps what is its own.
    pub fn meets_the_inner_engine(&self) -> bool {
        let target = self.target.as_str();
        OF_THE_INNER_ENGINE
            .iter()
            .any(|own| is_within(target, own) || is_within(own, target))
    }

    /// Whether whoever runs a script on a node has the host by it.
    pub fn hands_over_the_host(&self) -> bool {
        let Place::Directory(path) = &self.source else {
            return false;
        };
        let path = path.trim_end_matches('/');
        path.rsplit('/').next() == Some(SOCKET) || HANDS_OVER_THE_HOST.contains(&path)
    }
}

impl fmt::Display for ExtraMount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.read_only { ":ro" } else { "" };
        write!(out, "{}:{}{mode}", self.source, self.target)
    }
}

fn is_within(path: &str, outer: &str) -> bool {
    path == outer
        || path
            .strip_prefix(outer)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// A path in a node, in its one spelling.
fn target_of(text: &str) -> Result<String, Refusal> {
    let parts = || text.split('/').filter(|part| !matches!(*part, "" | "."));
    if !text.starts_with('/') || parts().any(|part| part == "..") {
        return Err((
            format!("{text} is no path in a container"),
            "write it in full, from / on".to_owned(),
        ));
    }
    let target: String = parts().map(|part| format!("/{part}")).collect();
    let is_hidden = |own: &&str| is_within(&target, own) || is_within(own, &target);
    let kinds = KINDS.iter().filter(|kind| !kind.of_sql);
    if let Some(kind) = kinds.into_iter().find(|kind| is_hidden(&kind.path)) {
        return Err((
            format!(
                "{target} would hide {} or a part of it, where Octopus Server's data is",
                kind.path
            ),
            format!(
                "choose another path in the container; {} says where that data is",
                kind.variable
            ),
        ));
    }
    let hidden = OTHERS_OF_OURS.iter().find(|own| is_hidden(own));
    let hidden = hidden
        .or_else(|| OF_THE_IMAGE.iter().find(|own| target == **own))
        .or_else(|| OF_THE_KERNEL.iter().find(|own| is_within(&target, own)));
    match hidden {
        Some(hidden) => Err((
            format!("{target} would hide {hidden} of the container, or a part of it"),
            "choose another path in the container".to_owned(),
        )),
        None if target.is_empty() => Err((
            "it would hide everything in the container".to_owned(),
            "choose a path in the container".to_owned(),
        )),
        None => Ok(target),
    }
}

/// A name by which nodes know a machine that no name server knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Where it is.
    pub address: HostAddress,
}

/// Where a machine is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostAddress {
    /// At this address.
    Ip(IpAddr),
    /// It is the Docker host.
    HostGateway,
}

/// What an engine puts the Docker host's address in the place of.
pub const HOST_GATEWAY: &str = "host-gateway";
/// The longest name (RFC 1035).
const LONGEST_NAME: usize = 253;

impl ExtraHost {
    /// Reads one as docker compose does: `name:address` or `name=address`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let Some((name, address)) = text.split_once([':', '=']) else {
            return Err((
                format!("{text} is not a name and an address"),
                "write git.example.internal:10.0.0.5".to_owned(),
            ));
        };
        let (name, address) = (name.trim(), address.trim());
        let inner = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        let is_name = name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.len() <= LONGEST_NAME
            && name.chars().all(inner);
        if !is_name {
            return Err((
                format!("{name:?} is no host name"),
                "write it with letters, digits, dots and hyphens".to_owned(),
            ));
        }
        let bare = address
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let address = match bare.unwrap_or(address) {
            HOST_GATEWAY => HostAddress::HostGateway,
            text => HostAddress::Ip(text.parse().map_err(|_| {
                (
                    format!("{text:?} is no IP address"),
                    format!(
                        "write an address such as 10.0.0.5, or {HOST_GATEWAY} for the Docker host"
                    ),
                )
            })?),
        };
        let name = name.to_ascii_lowercase();
        Ok(Self { name, address })
    }
}

impl fmt::Display for ExtraHost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            HostAddress::Ip(ip) => write!(out, "{}:{ip}", self.name),
            HostAddress::HostGateway => write!(out, "{}:{HOST_GATEWAY}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_as_compose_reads_it() {
        for (text, shown) in [
            ("/srv/tools:/opt/tools", "/srv/tools:/opt/tools"),
            (" ./certs : /certs/ : ro", "./certs:/certs:ro"),
            ("tools:/a//b/./c:rw", "tools:/a/b/c"),
            (
                "/var/run/docker.sock:/var/run/docker.sock",
                "/var/run/docker.sock:/var/run/docker.sock",
            ),
            (
                "/etc/ssl/ca.crt:/etc/ssl/certs/ca.crt:ro",
                "/etc/ssl/ca.crt:/etc/ssl/certs/ca.crt:ro",
            ),
        ] {
            assert_eq!(ExtraMount::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_would_hide_data_or_the_image_or_means_nothing_is_refused_with_the_reason() {
        for (text, says) in [
            ("/srv/tools", "what is mounted and where"),
            ("/a:/b:ro:z", "what is mounted and where"),
            (
                "srv/tools:/opt/tools",
                "neither a directory nor the name of a volume",
            ),
            ("~/tools:/opt/tools", "whose home directory"),
            ("/:/host:ro", "the root directory"),
            ("/a:/b:z", "neither ro nor rw"),
            ("/a:b", "no path in a container"),
            ("/a:/b/../artifacts", "no path in a container"),
            ("/a:/artifacts/", "ARTIFACTS"),
            ("/a:/repository/packages", "REPOSITORY"),
            ("/a:/import", "IMPORT"),
            ("/a:/cache/x", "hide /cache"),
            ("/a:/", "hide"),
            ("/a:/etc", "hide /etc"),
            ("/a:/proc/x", "hide /proc"),
            ("/a:/Octopus", "hide /Octopus"),
        ] {
            let (why, fix) = ExtraMount::parse(text).unwrap_err();
            assert!(
                format!("{why}; {fix}").contains(says),
                "{text}: {why}; {fix}"
            );
            assert!(!fix.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_hands_over_the_host_is_known() {
        let of = |text: &str| ExtraMount::parse(text).unwrap();
        for risky in [
            "/var/run/docker.sock:/d",
            "/x/docker.sock:/d",
            "/etc/:/d",
            "/var/lib/octo-local:/d",
        ] {
            assert!(of(risky).hands_over_the_host(), "{risky}");
        }
        for fine in ["/etc/ssl/certs:/d", "etc:/d", "/srv:/d"] {
            assert!(!of(fine).hands_over_the_host(), "{fine}");
        }
        assert!(of("/a:/run/docker.sock").meets_the_inner_engine());
        assert!(of("/a:/var/lib").meets_the_inner_engine());
        assert!(!of("/a:/d").meets_the_inner_engine());
    }

    #[test]
    fn a_host_is_a_name_and_an_address() {
        for (text, shown) in [
            ("Git.example:10.0.0.5", "git.example:10.0.0.5"),
            ("six=[fd00::1]", "six:fd00::1"),
            ("six:fd00::1", "six:fd00::1"),
            ("me:host-gateway", "me:host-gateway"),
        ] {
            let host = ExtraHost::parse(text).unwrap();
            assert_eq!(host.to_string(), shown);
            assert_eq!(ExtraHost::parse(shown), Ok(host));
        }
        for wrong in [
            "git",
            "git:",
            ":10.0.0.1",
            "a b:10.0.0.1",
            "git:example.com",
            "-a:::1",
        ] {
            assert!(ExtraHost::parse(wrong).is_err(), "{wrong}");
        }
    }
}
