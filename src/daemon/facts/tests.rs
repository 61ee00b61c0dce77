//! Whose a port is, what gives way, and what the things of an engine say of a stack.

use super::held_ports::Bound;
use super::held_ports::Held;
use super::held_ports::bind;
use super::held_ports::held_by;
use super::*;
use crate::config::ports::HostPort;
use crate::config::ports::Whose;
use crate::engine::inventory::HeldPort;
use crate::engine::inventory::Thing;

fn port(ip: &str, port: u16) -> HostPort {
    HostPort {
        whose: Whose::Sql,
        key: "SQL_PORT",
        address_key: "SQL_BIND_ADDRESS",
        ip: ip.parse().unwrap(),
        port,
    }
}

#[test]
fn a_port_is_taken_where_its_address_is_and_not_by_our_own_container() {
    let holder = |project: &str, ip: &str, runs| AnyContainer {
        thing: Thing {
            name: "other".to_owned(),
            labels: [(labels::PROJECT.to_owned(), project.to_owned())].into(),
        },
        runs,
        ports: vec![HeldPort {
            ip: ip.parse().unwrap(),
            port: 8080,
        }],
        ..AnyContainer::default()
    };
    let by_with = |container, strangers: BTreeSet<Stranger>| {
        let all = Inventory {
            containers: vec![container],
            ..Inventory::default()
        };
        held_by("p", &port("127.0.0.1", 8080), &all, &strangers)
    };
    let by = |container| by_with(container, BTreeSet::new());
    let other = Held::By("container other".to_owned());
    assert_eq!(by(holder("q", "127.0.0.1", true)), other);
    assert_eq!(by(holder("q", "0.0.0.0", true)), other);
    assert_eq!(by(holder("q", "127.0.0.2", true)), Held::ByNoContainer);
    assert_eq!(by(holder("q", "127.0.0.1", false)), Held::ByNoContainer);
    assert_eq!(by(holder("p", "127.0.0.1", true)), Held::ByUs(None));
    // A copy of ours carries our label too.
    let strangers = [Stranger::Container("other".to_owned())].into();
    assert_eq!(by_with(holder("p", "127.0.0.1", true), strangers), other);
}

#[test]
fn an_address_of_no_interface_and_a_port_of_a_process_are_found() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = held.local_addr().unwrap().port();
    assert!(matches!(bind(&port("127.0.0.1", number)), Bound::Taken));
    assert!(matches!(bind(&port("127.0.0.2", number)), Bound::Fine));
    // 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
    assert!(matches!(
        bind(&port("192.0.2.7", number)),
        Bound::NoSuchAddress
    ));
}

/// A configuration with a front door on these ports, with these files for HTTPS.
fn door(http: u16, https: Option<(u16, &std::path::Path)>) -> Config {
    let mut config = Config::default();
    config.octopus.port = http;
    config.front_door.on = true;
    if let Some((port, dir)) = https {
        let file = |name: &str| Some(dir.join(name).display().to_string());
        config.front_door.https_port = Some(port);
        config.front_door.certificate = file("cert.pem");
        config.front_door.key = file("key.pem");
    }
    config
}

fn observed() -> crate::reconcile::observed::Container {
    crate::reconcile::observed::Container {
        id: "2".to_owned(),
        name: "p-octopus-server-2".to_owned(),
        unit: UnitId::Node(2),
        digest: crate::spec::Digest(String::new()),
        image: String::new(),
        image_id: String::new(),
        run: crate::reconcile::observed::Run::Created,
        networks: BTreeSet::new(),
        network_mode: String::new(),
        engine_restarts: false,
    }
}

fn built(config: &Config) -> StackSpec {
    let around = crate::spec::build::BuildInput {
        project: &ProjectName::given("p").unwrap(),
        working_dir: "/",
        master_key: &Secret::default(),
        may_be_privileged: false,
    };
    crate::spec::build::build(config, &around)
}

#[test]
fn a_port_of_the_front_door_is_taken_save_by_our_own() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let taken = |own: &[SocketAddr]| {
        let (config, project) = (door(address.port(), None), ProjectName::given("p").unwrap());
        let (all, seen) = (Inventory::default(), Observed::default());
        let found = held_ports(&config, &project, &all, &seen, own).taken;
        let of_it = found.into_iter().filter(|one| one.port == address.port());
        of_it.map(|one| one.key).collect::<Vec<_>>()
    };
    assert_eq!(taken(&[]), ["OCTOPUS_PORT"]);
    assert_eq!(taken(&[address]), Vec::<String>::new());
}

#[test]
fn a_node_does_not_wait_for_a_port_that_a_later_one_has() {
    let mut config = Config::default();
    config.octopus.nodes = 2;
    config.octopus.port = 9081;
    let held = |unit: &str, port: u16| AnyContainer {
        thing: Thing {
            name: unit.to_owned(),
            labels: [(labels::PROJECT, "p"), (labels::UNIT, unit)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        },
        runs: true,
        ports: vec![HeldPort {
            ip: "127.0.0.1".parse().unwrap(),
            port,
        }],
        ..AnyContainer::default()
    };
    let refused = |config: &Config, image: &str, ports: [u16; 2]| {
        let containers = [
            ("octopus-server-1", ports[0]),
            ("octopus-server-2", ports[1]),
        ];
        let all = Inventory {
            containers: containers.map(|(unit, port)| held(unit, port)).into(),
            ..Inventory::default()
        };
        let mut seen = Observed::default();
        seen.containers.push(crate::reconcile::observed::Container {
            unit: UnitId::Node(2),
            image: image.to_owned(),
            ..observed()
        });
        let project = ProjectName::given("p").unwrap();
        let taken = held_ports(config, &project, &all, &seen, &[]).taken;
        taken.into_iter().map(|one| one.port).collect::<Vec<_>>()
    };
    let image = config.octopus.reference();
    assert_eq!(refused(&config, &image, [9080, 9081]), [9081]);
    assert_eq!(
        refused(&config, &image, [9082, 9083]),
        [0; 0],
        "it is done before"
    );
    assert_eq!(
        refused(&config, "another:1", [9080, 9081]),
        [0; 0],
        "all end"
    );
    config.octopus.nodes = 1;
    assert_eq!(refused(&config, &image, [9080, 9081]), [0; 0], "it goes");
}

#[test]
fn a_certificate_that_cannot_be_served_is_told_with_its_variable() {
    let dir = tempfile::tempdir().unwrap();
    let spec = built(&door(8080, Some((8443, dir.path()))));
    let key_of = || bad_certificate(&spec).map(|(key, _)| key);
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, other) = (made(), made());
    assert_eq!(key_of().as_deref(), Some("TLS_CERT"), "there is none");
    write("cert.pem", &one.cert.pem());
    assert_eq!(key_of().as_deref(), Some("TLS_KEY"), "there is none");
    write("key.pem", &other.signing_key.serialize_pem());
    assert_eq!(key_of().as_deref(), Some("TLS_KEY"), "it is another's");
    write("key.pem", &one.signing_key.serialize_pem());
    assert_eq!(key_of(), None);
    write("cert.pem", "no certificate");
    assert_eq!(key_of().as_deref(), Some("TLS_CERT"));
    assert_eq!(bad_certificate(&built(&door(8080, None))), None);
}
