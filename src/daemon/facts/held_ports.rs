//! Who holds the ports that a configuration wants: a container, our own front door, a process.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::config::Config;
use crate::config::ports::HostPort;
use crate::config::ports::Whose;
use crate::config::project::ProjectName;
use crate::daemon::admit::Ports;
use crate::daemon::admit::Taken;
use crate::daemon::admit::is_our_container;
use crate::daemon::ports;
use crate::engine::inventory::HeldPort;
use crate::engine::inventory::Inventory;
use crate::reconcile::Observed;
use crate::reconcile::observed::Stranger;
use crate::spec::UnitId;
use crate::spec::labels;

/// Ports that something else holds, and addresses that this host does not have.
pub(super) fn held_ports(
    config: &Config,
    project: &ProjectName,
    all: &Inventory,
    seen: &Observed,
    own: &[SocketAddr],
) -> Ports {
    let mut taken = Vec::new();
    let mut no_such_address = Vec::new();
    for wanted in config.host_ports() {
        let holder = match held_by(project.as_str(), &wanted, all, &seen.strangers) {
            Held::ByUs(unit) => unit
                .filter(|unit| keeps_it_too_long(config, seen, &wanted, *unit))
                .map(|unit| format!("{unit}, whose own turn to be made anew comes only after: `octo-local down` first")),
            Held::By(holder) => Some(holder),
            // Our front door gives it back, or goes on with it.
            Held::ByNoContainer if is_in_the_way(own, &wanted) => None,
            Held::ByNoContainer => match bind(&wanted) {
                Bound::Fine => None,
                Bound::Taken => Some(ports::holder(wanted.ip, wanted.port)),
                Bound::NoSuchAddress => {
                    no_such_address.push((wanted.address_key.to_owned(), wanted.ip));
                    None
                }
            },
        };
        taken.extend(holder.map(|holder| Taken {
            key: wanted.key.to_owned(),
            ip: wanted.ip,
            port: wanted.port,
            holder,
        }));
    }
    no_such_address.dedup();
    Ports {
        taken,
        no_such_address,
        ..Ports::default()
    }
}

/// Whether a port is taken that no container shows: a process has it, or a container that is just
/// starting or ending, which has it a moment before or after the engine's list says so.
pub(super) fn is_held_unseen(
    config: &Config,
    project: &ProjectName,
    all: &Inventory,
    seen: &Observed,
    own: &[SocketAddr],
) -> bool {
    config.host_ports().into_iter().any(|wanted| {
        let held = held_by(project.as_str(), &wanted, all, &seen.strangers);
        held == Held::ByNoContainer
            && !is_in_the_way(own, &wanted)
            && matches!(bind(&wanted), Bound::Taken)
    })
}

/// Whether a node of ours would wait for a port that a later one has: nodes are replaced one after
/// another, the first one first, unless all of them end because the version changes.
fn keeps_it_too_long(config: &Config, seen: &Observed, wanted: &HostPort, unit: UnitId) -> bool {
    let (Whose::Node(own, _), UnitId::Node(holder)) = (wanted.whose, unit) else {
        return false;
    };
    let image = seen.container(unit).map(|container| &container.image);
    let same_version = image.is_some_and(|image| *image == config.octopus.reference());
    own < holder && holder <= config.octopus.nodes && same_version
}

fn is_in_the_way(own: &[SocketAddr], wanted: &HostPort) -> bool {
    own.iter().any(|at| {
        let held = HeldPort {
            ip: at.ip(),
            port: at.port(),
        };
        held.is_in_the_way_of(wanted.ip, wanted.port)
    })
}

/// Which container holds a port.
#[derive(Debug, PartialEq)]
pub(super) enum Held {
    /// One of this project, this unit: as a rule it gives it back in time.
    ByUs(Option<UnitId>),
    By(String),
    ByNoContainer,
}

pub(super) fn held_by(
    project: &str,
    wanted: &HostPort,
    all: &Inventory,
    strangers: &BTreeSet<Stranger>,
) -> Held {
    let in_the_way = all.containers.iter().find(|one| {
        let mut ports = one.ports.iter();
        one.runs && ports.any(|port| port.is_in_the_way_of(wanted.ip, wanted.port))
    });
    match in_the_way {
        None => Held::ByNoContainer,
        Some(one) => {
            if is_our_container(&one.thing, project, strangers) {
                let unit = one.thing.labels.get(labels::UNIT);
                return Held::ByUs(unit.and_then(|unit| unit.parse().ok()));
            }
            Held::By(format!("container {}", one.thing.name))
        }
    }
}

/// Whether this process may bind a port, which is what the engine will try. One that needs more
/// rights counts as free: the engine has them.
pub(super) enum Bound {
    Fine,
    Taken,
    NoSuchAddress,
}

pub(super) fn bind(wanted: &HostPort) -> Bound {
    match std::net::TcpListener::bind((wanted.ip, wanted.port)) {
        Ok(_) => Bound::Fine,
        Err(error) => match error.kind() {
            std::io::ErrorKind::AddrInUse => Bound::Taken,
            std::io::ErrorKind::AddrNotAvailable => Bound::NoSuchAddress,
            _ => Bound::Fine,
        },
    }
}
