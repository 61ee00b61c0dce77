//! A unit: one thing that runs, the SQL Server or one Octopus node.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// Which unit. The order is the start order: the database, then node 1, node 2, …
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitId {
    /// The SQL Server, `db`.
    #[default]
    Sql,
    /// The Octopus node of this number, from 1: `octopus-server-1`.
    Node(u8),
}

/// What a unit is for. What holds for one role says nothing about another: rules match on it
/// exhaustively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The database: one, started first and ended last; it may be external, without a container.
    Database,
    /// An Octopus Server node: it migrates the database at its start, and serves.
    Server,
}

const NODE_PREFIX: &str = "octopus-server-";

/// A name that is no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no unit is called {0:?}: units are db, octopus-server-1, octopus-server-2, …")]
pub struct UnknownUnit(pub String);

impl UnitId {
    /// What it is for.
    pub fn role(self) -> Role {
        match self {
            Self::Sql => Role::Database,
            Self::Node(_) => Role::Server,
        }
    }

    /// Whether it is an Octopus Server node, to which the rules of versions and turns apply.
    pub fn is_server(self) -> bool {
        match self.role() {
            Role::Server => true,
            Role::Database => false,
        }
    }

    /// Whether it is the database.
    pub fn is_database(self) -> bool {
        match self.role() {
            Role::Database => true,
            Role::Server => false,
        }
    }

    /// The name of the compose service that the unit is an instance of.
    pub fn service(self) -> &'static str {
        match self {
            Self::Sql => "db",
            Self::Node(_) => "octopus-server",
        }
    }

    /// Its number within the service, from 1.
    pub fn number(self) -> u8 {
        match self {
            Self::Sql => 1,
            Self::Node(number) => number,
        }
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql => out.pad("db"),
            Self::Node(number) => out.pad(&format!("{NODE_PREFIX}{number}")),
        }
    }
}

impl FromStr for UnitId {
    type Err = UnknownUnit;

    fn from_str(text: &str) -> Result<Self, UnknownUnit> {
        let number = |rest: &str| rest.parse::<u8>().ok().filter(|number| *number > 0);
        match text {
            "db" | "db-1" => Ok(Self::Sql),
            _ => text
                .strip_prefix(NODE_PREFIX)
                .and_then(number)
                .map(Self::Node)
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
        let units = [UnitId::Sql, UnitId::Node(1), UnitId::Node(12)];
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
        ] {
            assert_eq!(text.parse::<UnitId>(), Err(UnknownUnit(text.to_owned())));
        }
    }
}
