//! The front door of a stack: where it listens and what it serves with, with no choice left.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::config::Config;
use crate::config::network::Network;
use crate::config::ports::Service;
use crate::config::ports::loopback;

/// The front door that is to be there. Changing it recreates no container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FrontDoorSpec {
    /// The address that it listens on.
    pub bind: IpAddr,
    /// Its port of plain HTTP.
    pub http_port: u16,
    /// HTTPS, if it serves that.
    pub https: Option<Https>,
    /// gRPC, if it passes that through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
    /// Milliseconds that a request waits for a node.
    pub hold_ms: u64,
    /// Whose word about a client counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<Network>,
    /// Whether each request is written down.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub access_log: bool,
}

/// What HTTPS needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Https {
    /// The port.
    pub port: u16,
    /// The PEM file of the certificate and its chain.
    pub certificate: PathBuf,
    /// The PEM file of the key.
    pub key: PathBuf,
}

/// gRPC, passed through to a node as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grpc {
    /// The port.
    pub port: u16,
    /// The port of each node's container.
    pub inside: u16,
}

impl Default for FrontDoorSpec {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            http_port: 0,
            https: None,
            grpc: None,
            hold_ms: 0,
            trusted: Vec::new(),
            access_log: false,
        }
    }
}

impl FrontDoorSpec {
    /// What a configuration wishes, if it wishes one. Files are relative to the stack's directory.
    pub(super) fn of(config: &Config, working_dir: &str) -> Option<Self> {
        let door = Some(&config.front_door).filter(|door| door.on)?;
        let file = |path: &String| Path::new(working_dir).join(path);
        let https = match (&door.certificate, &door.key, door.https_port) {
            (Some(certificate), Some(key), Some(port)) => Some(Https {
                port,
                certificate: file(certificate),
                key: file(key),
            }),
            _ => None,
        };
        Some(Self {
            bind: config.octopus.bind,
            http_port: config.octopus.port,
            https,
            grpc: config.ports.grpc.map(|port| Grpc {
                port,
                inside: config.port_inside(Service::Grpc),
            }),
            hold_ms: u64::try_from(door.hold.as_millis()).unwrap_or(u64::MAX),
            trusted: door.trusted_proxies.clone(),
            access_log: door.access_log,
        })
    }

    /// Where it listens.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let https = self.https.as_ref().map(|https| https.port);
        let grpc = self.grpc.map(|grpc| grpc.port);
        let ports = [Some(self.http_port), https, grpc].into_iter().flatten();
        ports.map(|port| SocketAddr::new(self.bind, port)).collect()
    }

    /// The web address. A wildcard is reached over loopback.
    pub fn url(&self) -> String {
        let ip = match self.bind {
            ip if ip.is_unspecified() => loopback(ip),
            ip => ip,
        };
        match &self.https {
            Some(https) => format!("https://{}", SocketAddr::new(ip, https.port)),
            None => format!("http://{}", SocketAddr::new(ip, self.http_port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(bind: &str, https: Option<u16>) -> FrontDoorSpec {
        let mut config = Config::default();
        config.octopus.bind = bind.parse().unwrap();
        config.front_door.on = true;
        config.front_door.https_port = https;
        config.front_door.certificate = Some("tls/cert.pem".to_owned());
        config.front_door.key = Some("/etc/key.pem".to_owned());
        FrontDoorSpec::of(&config, "/srv/octo").unwrap()
    }

    #[test]
    fn the_web_address_can_be_opened_on_this_host() {
        assert_eq!(door("127.0.0.1", None).url(), "http://127.0.0.1:8080");
        assert_eq!(door("0.0.0.0", None).url(), "http://127.0.0.1:8080");
        assert_eq!(door("::", None).url(), "http://[::1]:8080");
        let with_tls = door("10.1.2.3", Some(443));
        assert_eq!(with_tls.url(), "https://10.1.2.3:443");
        assert_eq!(with_tls.listeners().len(), 2);
        let grpc = Some(Grpc {
            port: 8443,
            inside: 8443,
        });
        let with_grpc = FrontDoorSpec { grpc, ..with_tls };
        assert_eq!(with_grpc.listeners()[2], "10.1.2.3:8443".parse().unwrap());
    }

    #[test]
    fn files_are_relative_to_the_stacks_directory() {
        let https = door("127.0.0.1", Some(443)).https.unwrap();
        assert_eq!(https.certificate, Path::new("/srv/octo/tls/cert.pem"));
        assert_eq!(https.key, Path::new("/etc/key.pem"));
        assert_eq!(FrontDoorSpec::of(&Config::default(), "/"), None);
    }
}
