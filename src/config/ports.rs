//! Every port of the host that a stack has: whose it is, which variables chose it, and where two of
//! them meet. What is published, what is looked for on the host and what is refused come from this
//! one list.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use serde::Deserialize;
use serde::Serialize;

use super::Config;
use super::DatabaseConfig;
use super::OctopusConfig;
use super::SqlConfig;
use super::front_door::FrontDoorConfig;
use super::vendor;

/// What `.env` says about ports beside those of SQL Server and the web address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortsConfig {
    /// `OCTOPUS_NODE_PORT_BASE`: node 1's own web port behind a front door; node 2 has the next.
    pub node_base: Option<u16>,
    /// `OCTOPUS_NODE_BIND_ADDRESS`: the address of those.
    pub node_bind: Option<IpAddr>,
    /// `OCTOPUS_POLLING_PORT_BASE`: node 1's port for Tentacles that poll; node 2 has the next.
    pub polling_base: Option<u16>,
    /// `OCTOPUS_POLLING_BIND_ADDRESS`: the address of those.
    pub polling_bind: Option<IpAddr>,
    /// `OCTOPUS_GRPC_PORT`: the front door's port for gRPC, else the first node's.
    pub grpc: Option<u16>,
}

/// What answers on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// SQL Server.
    Sql,
    /// The front door.
    Door(Service),
    /// The node of this number, from 1.
    Node(u8, Service),
}

/// What is served on a port of the front door or of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The portal and the API over plain HTTP.
    Web,
    /// The same over TLS.
    Https,
    /// gRPC, whose TLS is the node's.
    Grpc,
    /// Tentacles that poll.
    Polling,
}

/// A port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Whose it is.
    pub whose: Whose,
    /// The variable that chooses it.
    pub key: &'static str,
    /// The variable that chooses its address.
    pub address_key: &'static str,
    /// The address.
    pub ip: IpAddr,
    /// The number.
    pub port: u16,
}

/// Two things on one port, or one that no port is left for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clash {
    /// The second is on a port of the first.
    Shared {
        /// The one that keeps it.
        first: HostPort,
        /// The one that is to be elsewhere.
        second: HostPort,
    },
    /// There are not enough ports after the one that this variable names.
    NoneLeft {
        /// The variable.
        key: &'static str,
    },
}

/// Ports that one variable chooses.
#[derive(Clone, Debug)]
struct Span {
    key: &'static str,
    address_key: &'static str,
    ip: IpAddr,
    /// In the order of whose they are. One beyond the last port there is has no room.
    numbers: Vec<u32>,
    /// Whether they follow a named port without being named: what is named is not in their way.
    gives_way: bool,
    whose: fn(u8) -> Whose,
}

/// The last port there is.
const LAST: u32 = u16::MAX as u32;

impl Span {
    fn has_room(&self) -> bool {
        self.numbers.iter().all(|number| *number <= LAST)
    }

    fn ports(self) -> impl Iterator<Item = HostPort> {
        (1..).zip(self.numbers).map(move |(number, port)| HostPort {
            whose: (self.whose)(number),
            key: self.key,
            address_key: self.address_key,
            ip: self.ip,
            port: u16::try_from(port).unwrap_or(u16::MAX),
        })
    }

    /// Moves those that are on a port of another to the next one that is nobody's, each for itself:
    /// one more node moves none of those before it.
    fn give_way(&mut self, named: &BTreeSet<u32>) {
        let mut next = 0;
        for number in &mut self.numbers {
            next = next.max(*number);
            while named.contains(&next) {
                next += 1;
            }
            *number = next;
            next += 1;
        }
    }
}

/// What the ports follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen<'a> {
    pub(super) sql: Option<&'a SqlConfig>,
    pub(super) database: &'a DatabaseConfig,
    pub(super) octopus: &'a OctopusConfig,
    pub(super) door: &'a FrontDoorConfig,
    pub(super) ports: &'a PortsConfig,
}

impl Chosen<'_> {
    /// All of them. Of two that meet the later one gives way, so what is there by default is first.
    fn spans(&self) -> Vec<Span> {
        let mut spans = self.door_web();
        let (by_default, by_choice): (Vec<Span>, Vec<Span>) = self
            .services()
            .into_iter()
            .partition(|span| span.key == "OCTOPUS_PORT");
        spans.extend(by_default);
        spans.extend(self.sql.map(|sql| Span {
            key: "SQL_PORT",
            address_key: "SQL_BIND_ADDRESS",
            ip: sql.bind,
            numbers: vec![u32::from(sql.port)],
            gives_way: false,
            whose: |_| Whose::Sql,
        }));
        spans.extend(by_choice);
        let is_named = |span: &&Span| !span.gives_way;
        let named = spans.iter().filter(is_named);
        let mut named: BTreeSet<u32> = named.flat_map(|span| span.numbers.clone()).collect();
        // A database of somebody else is often one of this host.
        let theirs = self.sql.is_none().then_some(self.database.port);
        named.extend(theirs.map(u32::from));
        for span in spans.iter_mut().filter(|span| span.gives_way) {
            span.give_way(&named);
            named.extend(&span.numbers);
        }
        spans
    }

    fn door_web(&self) -> Vec<Span> {
        let door =
            |port: u16| self.at_the_door("OCTOPUS_PORT", port, |_| Whose::Door(Service::Web));
        let door = self.door.on.then(|| door(self.octopus.port));
        door.into_iter().collect()
    }

    fn at_the_door(&self, key: &'static str, port: u16, whose: fn(u8) -> Whose) -> Span {
        Span {
            key,
            address_key: "BIND_ADDRESS",
            ip: self.octopus.bind,
            numbers: vec![u32::from(port)],
            gives_way: false,
            whose,
        }
    }

    /// Ports of the nodes, and those of the front door beside its web address.
    fn services(&self) -> Vec<Span> {
        // Whoever is told of a node's own port behind a front door is told what moves it.
        let key = if self.door.on {
            "OCTOPUS_NODE_PORT_BASE"
        } else {
            "OCTOPUS_PORT"
        };
        let web = |number| Whose::Node(number, Service::Web);
        let mut spans = vec![self.of_nodes(key, self.octopus.port, self.ports.node_base, web)];
        let https = self.door.https_port.filter(|_| self.door.on);
        let on_https = |port| self.at_the_door("HTTPS_PORT", port, |_| Whose::Door(Service::Https));
        spans.extend(https.map(on_https));
        if let Some(port) = self.ports.grpc {
            let door = self.at_the_door("OCTOPUS_GRPC_PORT", port, |_| Whose::Door(Service::Grpc));
            spans.extend(self.door.on.then_some(door));
            spans.push(self.of_nodes("OCTOPUS_GRPC_PORT", port, None, |number| {
                Whose::Node(number, Service::Grpc)
            }));
        }
        spans.extend(self.ports.polling_base.map(|first| Span {
            key: "OCTOPUS_POLLING_PORT_BASE",
            address_key: address_key(
                "OCTOPUS_POLLING_BIND_ADDRESS",
                self.ports.polling_bind.is_some(),
            ),
            ip: self.ports.polling_bind.unwrap_or(self.octopus.bind),
            numbers: self.one_a_node(u32::from(first)),
            gives_way: false,
            whose: |number| Whose::Node(number, Service::Polling),
        }));
        spans
    }

    /// Neighbouring ports, one a node.
    fn one_a_node(&self, first: u32) -> Vec<u32> {
        (first..).take(usize::from(self.octopus.nodes)).collect()
    }

    /// One port a node: without a front door the named one and those after it; behind one, which has
    /// the named one, those after it that nothing else is named to have, or from a base of their
    /// own; and for this host only.
    fn of_nodes(
        &self,
        key: &'static str,
        port: u16,
        base: Option<u16>,
        whose: fn(u8) -> Whose,
    ) -> Span {
        let span = |key, address_key, ip, first| Span {
            key,
            address_key,
            ip,
            numbers: self.one_a_node(first),
            gives_way: false,
            whose,
        };
        let port = u32::from(port);
        if !self.door.on {
            return span(key, "BIND_ADDRESS", self.octopus.bind, port);
        }
        let ip = self.ports.node_bind;
        let address_key = address_key("OCTOPUS_NODE_BIND_ADDRESS", ip.is_some());
        let ip = ip.unwrap_or_else(|| loopback(self.octopus.bind));
        match base {
            Some(base) => span(key, address_key, ip, u32::from(base)),
            None => Span {
                gives_way: true,
                ..span(key, address_key, ip, port + 1)
            },
        }
    }

    /// What cannot be, once for each pair of variables. A port is one thing's on every address: who
    /// opens it need not know which one it was.
    pub(super) fn clashes(&self) -> Vec<Clash> {
        let spans = self.spans();
        let mut clashes = Vec::new();
        for (place, span) in spans.iter().enumerate() {
            let key = match (span.key, self.ports.node_base) {
                ("OCTOPUS_NODE_PORT_BASE", None) => "OCTOPUS_PORT",
                (key, _) => key,
            };
            let told =
                |clash: &Clash| matches!(clash, Clash::NoneLeft { key: told } if *told == key);
            if !span.has_room() && !clashes.iter().any(told) {
                clashes.push(Clash::NoneLeft { key });
            }
            let others = spans[..place].iter().filter(|other| other.key != span.key);
            let meeting = others.filter_map(|other| {
                let is_both = |port: &&u32| other.numbers.contains(port);
                let port = *span.numbers.iter().find(is_both)?;
                let at = |span: &Span| {
                    let mut ports = span.clone().ports();
                    ports.find(|one| u32::from(one.port) == port)
                };
                Some((at(other)?, at(span)?))
            });
            let meeting = meeting.min_by_key(|(first, _)| first.port);
            clashes.extend(meeting.map(|(first, second)| Clash::Shared { first, second }));
        }
        clashes
    }
}

fn address_key(own: &'static str, is_given: bool) -> &'static str {
    if is_given { own } else { "BIND_ADDRESS" }
}

/// The address of this host's own that is of the same kind: where nodes behind a front door are
/// published, so that nobody goes past it unasked.
pub fn loopback(ip: IpAddr) -> IpAddr {
    match ip {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

impl Config {
    /// Every port of the host that the stack has.
    pub fn host_ports(&self) -> Vec<HostPort> {
        let chosen = Chosen {
            sql: self.sql.as_ref(),
            database: &self.database,
            octopus: &self.octopus,
            door: &self.front_door,
            ports: &self.ports,
        };
        chosen.spans().into_iter().flat_map(Span::ports).collect()
    }

    /// Where nodes serve something in their containers.
    pub fn port_inside(&self, service: Service) -> u16 {
        match service {
            Service::Web | Service::Https => vendor::WEB_PORT,
            Service::Grpc => vendor::grpc_port(&self.octopus.extra),
            Service::Polling => vendor::POLLING_PORT,
        }
    }
}

impl Whose {
    /// Who it is, as far as the front door and the nodes are told apart: `node 2`.
    fn owner(self) -> String {
        match self {
            Self::Sql => "SQL Server".to_owned(),
            Self::Door(_) => "the front door".to_owned(),
            Self::Node(number, _) => format!("node {number}"),
        }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Sql => return out.write_str("SQL Server"),
            Self::Door(Service::Web) | Self::Node(_, Service::Web) => "web",
            Self::Door(Service::Https) | Self::Node(_, Service::Https) => "HTTPS",
            Self::Door(Service::Grpc) | Self::Node(_, Service::Grpc) => "gRPC",
            Self::Door(Service::Polling) | Self::Node(_, Service::Polling) => "polling Tentacles",
        };
        write!(out, "{} ({what})", self.owner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration of three nodes.
    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config {
            sql: Some(SqlConfig::default()),
            ..Config::default()
        };
        config.octopus.nodes = 3;
        change(&mut config);
        config
    }

    /// The ports of one service of the nodes, with their addresses.
    fn of(config: &Config, service: Service) -> Vec<String> {
        let mut ports = config.host_ports();
        ports.retain(|one| matches!(one.whose, Whose::Node(_, served) if served == service));
        ports
            .iter()
            .map(|one| std::net::SocketAddr::new(one.ip, one.port).to_string())
            .collect()
    }

    fn clashes(config: &Config) -> Vec<Clash> {
        let chosen = Chosen {
            sql: config.sql.as_ref(),
            database: &config.database,
            octopus: &config.octopus,
            door: &config.front_door,
            ports: &config.ports,
        };
        chosen.clashes()
    }

    #[test]
    fn without_a_front_door_the_named_port_is_the_first_nodes() {
        let config = config(|config| {
            config.octopus.bind = "0.0.0.0".parse().unwrap();
            config.ports.grpc = Some(8443);
            // Of use only behind a front door.
            config.ports.node_base = Some(9000);
        });
        let web = ["0.0.0.0:8080", "0.0.0.0:8081", "0.0.0.0:8082"];
        assert_eq!(of(&config, Service::Web), web);
        let grpc = ["0.0.0.0:8443", "0.0.0.0:8444", "0.0.0.0:8445"];
        assert_eq!(of(&config, Service::Grpc), grpc);
        assert_eq!(of(&config, Service::Polling), [""; 0]);
        assert_eq!(clashes(&config), []);
    }

    #[test]
    fn behind_a_front_door_nodes_are_on_loopback_unless_asked_otherwise() {
        let mut config = config(|config| {
            config.octopus.bind = "0.0.0.0".parse().unwrap();
            config.front_door.on = true;
            config.ports.grpc = Some(8443);
            config.ports.polling_base = Some(10943);
        });
        let web = ["127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"];
        assert_eq!(of(&config, Service::Web), web);
        let grpc = ["127.0.0.1:8444", "127.0.0.1:8445", "127.0.0.1:8446"];
        assert_eq!(of(&config, Service::Grpc), grpc);
        let polling = ["0.0.0.0:10943", "0.0.0.0:10944", "0.0.0.0:10945"];
        assert_eq!(of(&config, Service::Polling), polling);
        config.ports.node_base = Some(9001);
        config.ports.node_bind = Some("10.0.0.7".parse().unwrap());
        config.ports.polling_bind = Some("10.0.0.8".parse().unwrap());
        assert_eq!(of(&config, Service::Web)[2], "10.0.0.7:9003");
        assert_eq!(of(&config, Service::Polling)[2], "10.0.0.8:10945");
        assert_eq!(clashes(&config), []);
        let keys: Vec<&str> = config
            .host_ports()
            .iter()
            .map(|one| one.address_key)
            .collect();
        assert!(keys.contains(&"OCTOPUS_NODE_BIND_ADDRESS"), "{keys:?}");
    }

    /// A `.env` that was written before there was a front door names no ports of its nodes.
    #[test]
    fn nodes_that_nobody_placed_are_on_ports_that_nothing_else_has() {
        let placed = |change: fn(&mut Config)| {
            let config = config(|config| {
                config.front_door.on = true;
                change(config);
            });
            assert_eq!(clashes(&config), []);
            let ports = config.host_ports().into_iter();
            let of_nodes = ports.filter(|one| matches!(one.whose, Whose::Node(_, Service::Web)));
            of_nodes.map(|one| one.port).collect::<Vec<u16>>()
        };
        assert_eq!(placed(|_| ()), [8081, 8082, 8083]);
        let sql_after_it = |config: &mut Config| config.octopus.port = 1400;
        assert_eq!(placed(sql_after_it), [1402, 1403, 1404]);
        let sql_between = |config: &mut Config| config.octopus.port = 1399;
        assert_eq!(placed(sql_between), [1400, 1402, 1403]);
        let theirs = |config: &mut Config| {
            config.sql = None;
            config.database.port = 8081;
            config.front_door.https_port = Some(8083);
        };
        assert_eq!(placed(theirs), [8082, 8084, 8085]);
        // The nodes' ports for gRPC are not named either.
        let grpc = |config: &mut Config| config.ports.grpc = Some(8079);
        assert_eq!(placed(grpc), [8081, 8082, 8083]);
    }

    #[test]
    fn the_later_of_two_on_one_port_is_named_with_the_other() {
        let told = |change: fn(&mut Config)| -> Vec<String> {
            let found = clashes(&config(change)).into_iter();
            let words = |clash| match clash {
                Clash::Shared { first, second } => {
                    format!("{} {} {}", second.key, second.port, first.whose)
                }
                Clash::NoneLeft { key } => format!("{key} none left"),
            };
            found.map(words).collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(told(|_| ()), none);
        assert_eq!(
            told(|config| config.octopus.port = 1400),
            ["SQL_PORT 1401 node 2 (web)"]
        );
        // The one that the vendor's compose file publishes is as good as any other.
        assert_eq!(told(|config| config.ports.polling_base = Some(11111)), none);
        let grpc_on_it = |config: &mut Config| {
            config.ports.polling_base = Some(11110);
            config.ports.grpc = Some(11111);
        };
        assert_eq!(
            told(grpc_on_it),
            ["OCTOPUS_POLLING_PORT_BASE 11111 node 1 (gRPC)"]
        );
        let on_all = |config: &mut Config| {
            config.front_door.on = true;
            config.front_door.https_port = Some(8080);
            config.ports.node_base = Some(1400);
            config.ports.grpc = Some(8079);
            config.ports.polling_base = Some(65534);
        };
        assert_eq!(
            told(on_all),
            [
                "OCTOPUS_NODE_PORT_BASE 1401 SQL Server",
                "HTTPS_PORT 8080 the front door (web)",
                "OCTOPUS_POLLING_PORT_BASE none left",
            ]
        );
        // The front door itself counts where its nodes have a base of their own.
        let base_on_the_door = |config: &mut Config| {
            config.front_door.on = true;
            config.ports.node_base = Some(8078);
        };
        assert_eq!(
            told(base_on_the_door),
            ["OCTOPUS_NODE_PORT_BASE 8080 the front door (web)"]
        );
    }
}
