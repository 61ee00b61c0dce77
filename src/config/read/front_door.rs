//! The variables of the front door.

use super::Reader;
use crate::config::front_door::FrontDoorConfig;
use crate::config::network::Network;

impl Reader<'_> {
    pub(super) fn front_door(&mut self) -> FrontDoorConfig {
        let path = |reader: &Self, key: &str| reader.given(key).map(|text| text.trim().to_owned());
        let door = FrontDoorConfig {
            on: self.on_or_off("FRONT_DOOR"),
            certificate: path(self, "TLS_CERT"),
            key: path(self, "TLS_KEY"),
            https_port: self.port_if_given("HTTPS_PORT"),
            hold: self.duration("HOLD_TIMEOUT"),
            trusted_proxies: self.trusted_proxies(),
            access_log: self.on_or_off("FRONT_DOOR_ACCESS_LOG"),
        };
        if door.on {
            self.has_all_of_tls(&door);
        } else {
            self.says_what_is_unused();
        }
        door
    }

    fn on_or_off(&mut self, key: &str) -> bool {
        match self.text(key).to_lowercase().as_str() {
            "on" => true,
            "off" => false,
            _ => {
                self.problem(key, "it is neither on nor off", "set it to one");
                false
            }
        }
    }

    /// Ranges of addresses, separated by commas; what is no range is told each by itself.
    fn trusted_proxies(&mut self) -> Vec<Network> {
        let key = "FRONT_DOOR_TRUSTED_PROXIES";
        let text = self.text(key);
        let parts = text.split([',', ' ', '\t', '\n']);
        let mut networks = Vec::new();
        for part in parts.filter(|part| !part.is_empty()) {
            match part.parse::<Network>() {
                Ok(network) => networks.push(network),
                Err(error) => {
                    let fix = "write addresses and ranges such as 192.0.2.7,10.0.0.0/8";
                    self.problem(key, error.why(), fix);
                }
            }
        }
        if networks.iter().any(Network::is_everybody) {
            let why = "it is everybody: any client can claim to be another";
            self.warn(key, why, "name the addresses of your proxies");
        }
        networks
    }

    /// A certificate, its key and a port: each is of no use without the others.
    fn has_all_of_tls(&mut self, door: &FrontDoorConfig) {
        let parts = [
            ("TLS_CERT", door.certificate.is_some()),
            ("TLS_KEY", door.key.is_some()),
            // One that cannot be read is a problem of its own.
            ("HTTPS_PORT", self.given("HTTPS_PORT").is_some()),
        ];
        if !parts.iter().any(|(_, given)| *given) {
            return;
        }
        for (key, _) in parts.iter().filter(|(_, given)| !given) {
            self.problem(
                key,
                "HTTPS needs a certificate, its key and a port, and this one is missing",
                "set all of TLS_CERT, TLS_KEY and HTTPS_PORT, or none",
            );
        }
    }

    fn says_what_is_unused(&mut self) {
        for key in [
            "TLS_CERT",
            "TLS_KEY",
            "HTTPS_PORT",
            "HOLD_TIMEOUT",
            "FRONT_DOOR_TRUSTED_PROXIES",
            "FRONT_DOOR_ACCESS_LOG",
            "OCTOPUS_NODE_PORT_BASE",
            "OCTOPUS_NODE_BIND_ADDRESS",
        ] {
            if self.given(key).is_some() {
                let why = "it is of use only to the front door, which is off";
                self.warn(key, why, "leave out FRONT_DOOR=off, or this");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::tests::keys_of;
    use super::super::tests::with;

    /// The keys of the problems of a front door, which is there unasked, with this beside it.
    fn problems_of_a_door(more: &[(&str, &str)]) -> Vec<String> {
        keys_of(read(&with(more)))
    }

    #[test]
    fn https_needs_a_certificate_its_key_and_a_port_of_its_own() {
        let none: [&str; 0] = [];
        let (cert, key) = (("TLS_CERT", "c.pem"), ("TLS_KEY", "k.pem"));
        assert_eq!(problems_of_a_door(&[]), none);
        assert_eq!(
            problems_of_a_door(&[cert, key, ("HTTPS_PORT", "8443")]),
            none
        );
        assert_eq!(problems_of_a_door(&[cert]), ["TLS_KEY", "HTTPS_PORT"]);
        assert_eq!(
            problems_of_a_door(&[("HTTPS_PORT", "8443")]),
            ["TLS_CERT", "TLS_KEY"]
        );
        for taken in ["8080", "1401"] {
            let found = problems_of_a_door(&[cert, key, ("HTTPS_PORT", taken)]);
            assert_eq!(found, ["HTTPS_PORT"], "{taken}");
        }
        // The nodes are on the ports after the front door's, save for those that are named.
        let named = [cert, key, ("HTTPS_PORT", "8081")];
        assert_eq!(problems_of_a_door(&named), none);
        let (port, base) = (("OCTOPUS_PORT", "1400"), ("OCTOPUS_NODE_PORT_BASE", "1401"));
        assert_eq!(problems_of_a_door(&[port]), none);
        assert_eq!(
            problems_of_a_door(&[port, base]),
            ["OCTOPUS_NODE_PORT_BASE"]
        );
        let off = ("FRONT_DOOR", "off");
        let nodes = ("OCTOPUS_NODES", "1");
        assert_eq!(keys_of(read(&with(&[off, port, nodes]))), none);
        assert_eq!(
            problems_of_a_door(&[("OCTOPUS_PORT", "65535")]),
            ["OCTOPUS_PORT"]
        );
    }

    #[test]
    fn proxies_are_addresses_and_ranges_and_everybody_is_warned_about() {
        let key = "FRONT_DOOR_TRUSTED_PROXIES";
        let good = [(key, "10.0.0.0/8, ::1"), ("FRONT_DOOR_ACCESS_LOG", "ON")];
        assert_eq!(problems_of_a_door(&good), [""; 0]);
        let bad = [(key, "10.0.0.0/33,proxy"), ("FRONT_DOOR_ACCESS_LOG", "1")];
        assert_eq!(
            problems_of_a_door(&bad),
            [key, key, "FRONT_DOOR_ACCESS_LOG"]
        );
        let read = read(&with(&[(key, "0.0.0.0/0")])).unwrap();
        assert!(read.warnings.iter().any(|warning| warning.key == key));
    }

    #[test]
    fn what_only_a_front_door_uses_is_named_where_there_is_none() {
        let (off, cert) = (("FRONT_DOOR", "off"), ("TLS_CERT", "c.pem"));
        let read = read(&with(&[off, cert, ("HOLD_TIMEOUT", "5s")])).unwrap();
        let named = read.warnings.iter().map(|warning| warning.key.as_str());
        let named: Vec<&str> = named.filter(|key| *key != "OCTOPUS_SERVER_TAG").collect();
        assert_eq!(named, ["TLS_CERT", "HOLD_TIMEOUT"]);
    }
}
