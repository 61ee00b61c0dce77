//! octo-local runs Octopus Deploy and its SQL Server on one Docker host, in order, and keeps them running.

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dotenv;
pub mod engine;
pub mod octopus;
pub mod reconcile;
pub mod spec;
pub mod sql;
pub mod standin;
