//! octo-local runs Octopus Deploy and its SQL Server on one Docker host, in order, and keeps them running.

pub mod standin;
