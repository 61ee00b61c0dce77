//! What is wished of the front door, and the feed that follows from it. Pure.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::limits::Limits;
use super::message::Feed;
use super::message::Listener;
use super::message::Node;
use super::message::Purpose;
use super::message::Tls;
use crate::config::network::Network;

/// The front door as the configuration wishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address that the web address and the gRPC port listen on.
    pub bind: IpAddr,
    /// The web address' port, `OCTOPUS_PORT`.
    pub http_port: u16,
    /// `HTTPS_PORT`; needs a certificate.
    pub https_port: Option<u16>,
    /// Whether plain HTTP is sent to `HTTPS_PORT` (308) instead of being served.
    pub redirect_to_https: bool,
    /// The PEM files of `TLS_CERT` and `TLS_KEY`. Whoever feeds the front door reads them: it may
    /// run as somebody who cannot.
    pub certificate: Option<CertificateFiles>,
    /// Where gRPC is passed through, 8443 as a rule.
    pub grpc_port: Option<u16>,
    /// `HOLD_TIMEOUT`: how long a request waits for a node before it is told that there is none.
    pub hold: Duration,
    /// `FRONT_DOOR_TRUSTED_PROXIES`: whose word about the client's address counts.
    pub trusted: Vec<Network>,
    /// `FRONT_DOOR_ACCESS_LOG`: whether each request is written down.
    pub access_log: bool,
    /// The bounds.
    pub limits: Limits,
}

/// The PEM files of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key: PKCS 8, PKCS 1 or SEC 1.
    pub key: PathBuf,
}

impl Settings {
    /// The feed of these settings, these nodes in their order, and this text of what happens now.
    pub fn feed(&self, nodes: &[Node], doing: &[String], tls: Option<Tls>) -> Feed {
        let at = |ip, port, purpose| Listener {
            address: SocketAddr::new(ip, port),
            purpose,
        };
        let mut listeners = vec![at(self.bind, self.http_port, Purpose::Http)];
        listeners.extend(
            self.https_port
                .map(|port| at(self.bind, port, Purpose::Https)),
        );
        listeners.extend(
            self.grpc_port
                .map(|port| at(self.bind, port, Purpose::Grpc)),
        );
        Feed {
            listeners,
            nodes: nodes.to_vec(),
            doing: doing.to_vec(),
            tls,
            redirect_to: self.https_port.filter(|_| self.redirect_to_https),
            hold_ms: u64::try_from(self.hold.as_millis()).unwrap_or(u64::MAX),
            trusted: self.trusted.clone(),
            writes_requests: self.access_log,
            limits: self.limits.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::NodeState;
    use super::*;

    #[test]
    fn it_listens_where_it_is_wished_to() {
        let settings = Settings {
            bind: "0.0.0.0".parse().unwrap(),
            http_port: 8080,
            https_port: None,
            redirect_to_https: true,
            certificate: None,
            grpc_port: Some(8443),
            hold: Duration::from_secs(3),
            trusted: Vec::new(),
            access_log: false,
            limits: Limits::default(),
        };
        let node = |name: &str| Node {
            name: name.to_owned(),
            state: NodeState::Ready,
            run: 0,
            web: None,
            grpc: None,
        };
        let feed = settings.feed(&[node("a"), node("b")], &[], None);
        let ports: Vec<u16> = feed
            .listeners
            .iter()
            .map(|listener| listener.address.port())
            .collect();
        assert_eq!(ports, [8080, 8443]);
        assert_eq!((feed.hold_ms, feed.redirect_to), (3000, None));
    }
}
