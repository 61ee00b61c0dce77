//! A unit: one thing that runs, the SQL Server, one Octopus node or one Tentacle.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use super::tentacle_name::TentacleName;

/// Which unit. The order is the start order: the database, then node 1, node 2, … Tentacles are in
/// no order of starts; they come last in every list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitId {
    /// The SQL Server, `db`.
    #[default]
    Sql,
    /// The Octopus node of this number, from 1: `octopus-server-1`.
    Node(u8),
    /// The Tentacle of this name: `tentacle-web`.
    Tentacle(TentacleName),
}

/// What a unit is for. What holds for one role says nothing about another: rules match on it
/// exhaustively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The database: one, started first and ended last; it may be external, without a container.
    Database,
    /// An Octopus Server node: it migrates the database at its start, and serves.
    Server,
    /// A Tentacle: a deployment target or a worker, which waits for the others and nobody for it.
    Tentacle,
}

const NODE_PREFIX: &str = "octopus-server-";
const TENTACLE_PREFIX: &str = "tentacle-";

/// A name that is no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no unit is called {0:?}: units are db, octopus-server-1, octopus-server-2, …, tentacle-NAME"
)]
pub struct UnknownUnit(pub String);

impl UnitId {
    /// What it is for.
    pub fn role(self) -> Role {
        match self {
            Self::Sql => Role::Database,
            Self::Node(_) => Role::Server,
            Self::Tentacle(_) => Role::Tentacle,
        }
    }

    /// Whether it is an Octopus Server node, to which the rules of versions and turns apply.
    pub fn is_server(self) -> bool {
        match self.role() {
            Role::Server => true,
            Role::Database | Role::Tentacle => false,
        }
    }

    /// Whether it is the database.
    pub fn is_database(self) -> bool {
        match self.role() {
            Role::Database => true,
            Role::Server | Role::Tentacle => false,
        }
    }

    /// Whether it is a Tentacle, to which no rule of order applies.
    pub fn is_tentacle(self) -> bool {
        match self.role() {
            Role::Tentacle => true,
            Role::Database | Role::Server => false,
        }
    }

    /// The name of the compose service that the unit is an instance of.
    pub fn service(self) -> &'static str {
        match self {
            Self::Sql => "db",
            Self::Node(_) => "octopus-server",
            Self::Tentacle(_) => "tentacle",
        }
    }

    /// Its number within the service, from 1. Tentacles have names in the place of numbers.
    pub fn number(self) -> u8 {
        match self {
            Self::Sql | Self::Tentacle(_) => 1,
            Self::Node(number) => number,
        }
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql => out.pad("db"),
            Self::Node(number) => out.pad(&format!("{NODE_PREFIX}{number}")),
            Self::Tentacle(name) => out.pad(&format!("{TENTACLE_PREFIX}{name}")),
        }
    }
}

impl FromStr for UnitId {
    type Err = UnknownUnit;

    fn from_str(text: &str) -> Result<Self, UnknownUnit> {
        let number = |rest: &str| rest.parse::<u8>().ok().filter(|number| *number > 0);
        let node = || text.strip_prefix(NODE_PREFIX).and_then(number);
        let tentacle = || text.strip_prefix(TENTACLE_PREFIX)?.parse().ok();
        match text {
            "db" | "db-1" => Ok(Self::Sql),
            _ => node()
                .map(Self::Node)
                .or_else(|| tentacle().map(Self::Tentacle))
                .ok_or_else(|| UnknownUnit(text.to_owned())),
        }
    }
}

impl Serialize for UnitId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnitId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_order_is_start_order() {
        let web = UnitId::Tentacle("web-1".parse().unwrap());
        let units = [UnitId::Sql, UnitId::Node(1), UnitId::Node(12), web];
        assert!(units.is_sorted());
        for unit in units {
            assert_eq!(unit.to_string().parse(), Ok(unit));
        }
    }

    #[test]
    fn what_is_no_unit_is_named() {
        for text in [
            "",
            "octopus-server-0",
            "octopus-server-",
            "sql",
            "octopus-server-999",
            "tentacle-",
            "tentacle-Web",
        ] {
            assert_eq!(text.parse::<UnitId>(), Err(UnknownUnit(text.to_owned())));
        }
    }
}
