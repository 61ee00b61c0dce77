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
use super::network::Network;

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
    /// The address of the ports of single nodes; loopback unless asked otherwise.
    pub node_bind: IpAddr,
    /// `OCTOPUS_NODE_PORT_BASE`: node 1's own web port; node N has the port N - 1 above it.
    pub node_port_base: Option<u16>,
    /// `OCTOPUS_POLLING_PORT_BASE`: the same for polling Tentacles, 10943 as a rule.
    pub polling_port_base: Option<u16>,
    /// `HOLD_TIMEOUT`: how long a request waits for a node before it is told that there is none.
    pub hold: Duration,
    /// `TRUSTED_PROXIES`: whose word about the client's address counts.
    pub trusted: Vec<Network>,
    /// `ACCESS_LOG`: a file, written by the front door's own user.
    pub access_log: Option<PathBuf>,
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
    /// A port base that leaves no room for a node's port gives that node none.
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
        for (place, node) in nodes.iter().enumerate() {
            let port = |base: Option<u16>| base?.checked_add(u16::try_from(place).ok()?);
            let name = node.name.clone();
            if let Some(port) = port(self.node_port_base) {
                let purpose = Purpose::NodeWeb { node: name.clone() };
                listeners.push(at(self.node_bind, port, purpose));
            }
            if let Some(port) = port(self.polling_port_base) {
                listeners.push(at(self.bind, port, Purpose::NodePolling { node: name }));
            }
        }
        Feed {
            listeners,
            nodes: nodes.to_vec(),
            doing: doing.to_vec(),
            tls,
            redirect_to: self.https_port.filter(|_| self.redirect_to_https),
            hold_ms: u64::try_from(self.hold.as_millis()).unwrap_or(u64::MAX),
            trusted: self.trusted.clone(),
            access_log: self.access_log.clone(),
            limits: self.limits.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::NodeState;
    use super::*;

    #[test]
    fn each_node_has_its_ports_and_one_without_room_has_none() {
        let settings = Settings {
            bind: "0.0.0.0".parse().unwrap(),
            http_port: 8080,
            https_port: None,
            redirect_to_https: true,
            certificate: None,
            grpc_port: Some(8443),
            node_bind: "127.0.0.1".parse().unwrap(),
            node_port_base: Some(65535),
            polling_port_base: Some(10943),
            hold: Duration::from_secs(3),
            trusted: Vec::new(),
            access_log: None,
            limits: Limits::default(),
        };
        let node = |name: &str| Node {
            name: name.to_owned(),
            state: NodeState::Ready,
            run: 0,
            web: None,
            polling: None,
            grpc: None,
        };
        let feed = settings.feed(&[node("a"), node("b")], &[], None);
        let ports: Vec<u16> = feed
            .listeners
            .iter()
            .map(|listener| listener.address.port())
            .collect();
        assert_eq!(ports, [8080, 8443, 65535, 10943, 10944]);
        assert_eq!((feed.hold_ms, feed.redirect_to), (3000, None));
    }
}
