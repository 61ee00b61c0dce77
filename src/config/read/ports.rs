//! The variables of ports that need not be there, and ports that meet.

use std::net::IpAddr;

use super::Reader;
use crate::config::ports::Chosen;
use crate::config::ports::Clash;
use crate::config::ports::PortsConfig;

const A_PORT: &str = "a port from 1 to 65535";
const AN_ADDRESS: &str = "an IP address such as 127.0.0.1 or 0.0.0.0";

impl Reader<'_> {
    pub(super) fn ports(&mut self) -> PortsConfig {
        let ports = PortsConfig {
            node_base: self.port_if_given("OCTOPUS_NODE_PORT_BASE"),
            node_bind: self.address_if_given("OCTOPUS_NODE_BIND_ADDRESS"),
            polling_base: self.port_if_given("OCTOPUS_POLLING_PORT_BASE"),
            polling_bind: self.address_if_given("OCTOPUS_POLLING_BIND_ADDRESS"),
            grpc: self.port_if_given("OCTOPUS_GRPC_PORT"),
        };
        let has_base = self.given("OCTOPUS_POLLING_PORT_BASE").is_some();
        if ports.polling_bind.is_some() && !has_base {
            self.warn(
                "OCTOPUS_POLLING_BIND_ADDRESS",
                "no port for polling Tentacles is published",
                "set OCTOPUS_POLLING_PORT_BASE too, or leave it out",
            );
        }
        ports
    }

    pub(super) fn port_if_given(&mut self, key: &str) -> Option<u16> {
        let text = self.given(key)?.trim().to_owned();
        let port = text.parse().ok().filter(|port: &u16| *port > 0);
        self.has_or_says(key, A_PORT, port)
    }

    fn address_if_given(&mut self, key: &str) -> Option<IpAddr> {
        let text = self.given(key)?.trim().to_owned();
        self.has_or_says(key, AN_ADDRESS, text.parse().ok())
    }

    fn has_or_says<T>(&mut self, key: &str, what: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            let (why, fix) = (format!("it is not {what}"), format!("set it to {what}"));
            self.problem(key, why, fix);
        }
        value
    }

    /// Two of the stack on one port. A default that stands in for a wrong value meets nothing.
    pub(super) fn clashes(&mut self, chosen: &Chosen<'_>) {
        let told: Vec<String> = self.problems.iter().map(|one| one.key.clone()).collect();
        let is_told = |key: &str| told.iter().any(|known| known == key);
        if is_told("OCTOPUS_NODES") || is_told("FRONT_DOOR") {
            return;
        }
        for clash in chosen.clashes() {
            match clash {
                Clash::NoneLeft { key } if !is_told(key) => self.problem(
                    key,
                    "there are not enough ports after it for all nodes",
                    "choose a lower one",
                ),
                Clash::Shared { first, second } if !is_told(first.key) && !is_told(second.key) => {
                    self.problem(
                        second.key,
                        format!(
                            "{} would be on port {}, which is that of {} ({})",
                            second.whose, second.port, first.whose, first.key
                        ),
                        "choose one for it so that no two things of this stack share a port",
                    );
                }
                Clash::NoneLeft { .. } | Clash::Shared { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::tests::keys_of;
    use super::super::tests::with;

    #[test]
    fn every_port_that_cannot_be_is_told_at_once() {
        let bad = [
            ("OCTOPUS_NODE_PORT_BASE", "0"),
            ("OCTOPUS_NODE_BIND_ADDRESS", "here"),
            ("OCTOPUS_POLLING_PORT_BASE", "70000"),
            ("OCTOPUS_POLLING_BIND_ADDRESS", "10.0.0"),
            ("OCTOPUS_GRPC_PORT", "grpc"),
            ("FRONT_DOOR", "on"),
        ];
        let keys = keys_of(read(&with(&bad)));
        assert_eq!(
            keys,
            bad[..5].iter().map(|(key, _)| *key).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_port_that_two_things_would_have_is_told_with_both() {
        let taken = |more: &[(&str, &str)]| {
            let problems = read(&with(more)).err().unwrap_or_default();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let polling = ("OCTOPUS_POLLING_PORT_BASE", "1400");
        let told = taken(&[polling, ("OCTOPUS_NODES", "2")]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("OCTOPUS_POLLING_PORT_BASE=1400 (.env:5): node 2 (polling Tentacles) would be on port 1401, which is that of SQL Server (SQL_PORT)"),
            "{told:?}"
        );
        assert_eq!(taken(&[polling]), [""; 0]);
        // One that is wrong by itself is not told of twice.
        let told = keys_of(read(&with(&[
            ("SQL_PORT", "x"),
            polling,
            ("OCTOPUS_NODES", "2"),
        ])));
        assert_eq!(told, ["SQL_PORT"]);
    }

    #[test]
    fn an_address_without_its_port_is_warned_about() {
        let read = read(&with(&[("OCTOPUS_POLLING_BIND_ADDRESS", "0.0.0.0")])).unwrap();
        let mut warned = read.warnings.iter().map(|warning| warning.key.as_str());
        assert!(warned.any(|key| key == "OCTOPUS_POLLING_BIND_ADDRESS"));
    }
}
