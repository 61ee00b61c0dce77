//! octo-local runs Octopus Deploy and its SQL Server on one Docker host, in order, and keeps them running.

pub mod config;
pub mod spec;
pub mod reconcile;
pub mod engine;
pub mod sql;
pub mod octopus;
pub mod daemon;
pub mod api;
pub mod standin;
