//! What is said over the control socket: one JSON object a line, and beside some of them
//! descriptors. Pure.
//!
//! Whoever connects is greeted with [`Answer::Hello`], asks in [`Ask`] and gets one [`Answer`] for
//! each. A feed is the whole of what is wished, so the same feed twice changes nothing.

use std::net::SocketAddr;

use serde::Deserialize;
use serde::Serialize;

use super::limits::Limits;
use crate::config::network::Network;

/// The form of the messages. A front door of another form is replaced, not fed.
pub const FORM: u32 = 1;
/// The longest message: a certificate chain and 16 nodes are some 20 KiB.
pub const LONGEST: usize = 1024 * 1024;
/// The most descriptors that one message carries; there are three listeners.
pub const MOST_SOCKETS: usize = 64;

/// All that the front door is to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feed {
    /// Where it listens, and what for.
    pub listeners: Vec<Listener>,
    /// The nodes, in their order.
    pub nodes: Vec<Node>,
    /// What the stack does now, one line each, for the page that is shown while no node is ready.
    pub doing: Vec<String>,
    /// The certificate of `https` listeners.
    pub tls: Option<Tls>,
    /// Send plain HTTP to this port of HTTPS.
    pub redirect_to: Option<u16>,
    /// Milliseconds that a request waits for a node.
    pub hold_ms: u64,
    /// Whose word about the client's address counts.
    pub trusted: Vec<Network>,
    /// Whether each request is written to the access log.
    pub writes_requests: bool,
    /// The bounds.
    pub limits: Limits,
}

/// One listening address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// What for.
    pub purpose: Purpose,
}

/// What a listening address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "for")]
pub enum Purpose {
    /// The web address.
    Http,
    /// The web address with TLS.
    Https,
    /// TCP to the gRPC port of a ready node.
    Grpc,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name: what stays the same over its restarts.
    pub name: String,
    /// Whether it takes requests.
    pub state: NodeState,
    /// Which run of the node this is. With another number, what was found out about the run before
    /// is forgotten.
    pub run: u64,
    /// Its web port, where it is reached from the host.
    pub web: Option<SocketAddr>,
    /// Its gRPC port.
    pub grpc: Option<SocketAddr>,
}

/// What a node does, as the supervisor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It takes requests.
    Ready,
    /// It takes no new ones; those that run finish.
    Draining,
    /// It is not there.
    Down,
}

/// A certificate and its key, in PEM. They travel instead of their files' names since the front
/// door runs as somebody who may not be allowed to read the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Never the key.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// What is asked of the front door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// Be as this says; answered with [`Answer::State`]. Listening sockets for these addresses may
    /// come along, from somebody who may open what the front door may not.
    Feed {
        /// What is wished.
        feed: Box<Feed>,
        /// The addresses of the sockets that come along, in their order.
        #[serde(default)]
        sockets: Vec<SocketAddr>,
    },
    /// How are you? Answered with [`Answer::State`].
    State,
    /// Give your sockets to the one who asks, finish what runs and end. Answered with
    /// [`Answer::Handover`].
    HandOver,
    /// The sockets of a handover arrived; only now they are no longer served by the giver.
    Taken,
    /// Finish what runs and end. Answered with [`Answer::State`].
    End,
}

/// What the front door answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// At each connection's begin.
    Hello(Hello),
    /// How it is.
    State(State),
    /// The control socket first, then a socket for each address, come along.
    Handover {
        /// What it last knew; none when it was never fed.
        feed: Option<Box<Feed>>,
        /// The addresses of the sockets, in their order.
        sockets: Vec<SocketAddr>,
    },
    /// What was asked was not understood or cannot be done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The form of the messages.
    pub form: u32,
    /// The program's version.
    pub version: String,
    /// When its file was written, in seconds since 1970: tells two builds of a version apart.
    pub built: u64,
    /// The process.
    pub pid: u32,
}

/// How the front door is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Whether it was ever fed.
    pub fed: bool,
    /// The listeners that are wanted.
    pub listeners: Vec<ListenerState>,
    /// The nodes.
    pub nodes: Vec<NodeReport>,
    /// Open connections of clients.
    pub connections: usize,
    /// Requests that wait for a node.
    pub held: usize,
    /// Why the certificate that it was fed is not used, if it is not.
    pub certificate: Option<String>,
    /// Why there is no access log, if one is wished.
    pub access_log: Option<String>,
}

/// How one listener is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerState {
    /// Where.
    pub address: SocketAddr,
    /// Why it is not open; none when it is.
    pub failure: Option<String>,
    /// Whether more rights would help: the feeder may open it and send it along.
    pub forbidden: bool,
}

/// What the front door knows about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Whether new requests go to it.
    pub serves: bool,
    /// Requests that run on it: what a drain waits for.
    pub requests: usize,
    /// Upgraded and passed-through connections to it.
    pub tunnels: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_meaning_and_forgive_what_is_new() {
        let feed = Feed {
            listeners: vec![Listener {
                address: "127.0.0.1:8443".parse().unwrap(),
                purpose: Purpose::Grpc,
            }],
            ..Feed::default()
        };
        let ask = Ask::Feed {
            feed: Box::new(feed),
            sockets: Vec::new(),
        };
        let text = serde_json::to_string(&ask).unwrap();
        assert_eq!(serde_json::from_str::<Ask>(&text).unwrap(), ask);
        let newer = r#"{"ask":"feed","feed":{"nodes":[],"later":1,"limits":{"idle_ms":5}}}"#;
        let Ask::Feed { feed, .. } = serde_json::from_str(newer).unwrap() else {
            panic!("another question");
        };
        assert_eq!(feed.limits.idle_ms, 5);
        assert_eq!(feed.limits.streams, Limits::default().streams);
    }

    #[test]
    fn the_key_is_in_no_debug_text() {
        let tls = Tls {
            certificate: String::new(),
            key: "SECRETKEY".to_owned(),
        };
        assert!(!format!("{tls:?}").contains("SECRET"));
    }
}
