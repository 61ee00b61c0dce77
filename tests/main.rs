//! The one test binary: every test of the project that is not a unit test is a module of it.

#![expect(clippy::unwrap_used, reason = "in a test, unwrap is an assertion")]

mod causes;
mod cli;
mod compose;
mod conformance;
mod core;
mod daemon;
mod decide;
mod docker;
mod engine;
mod export;
mod fake;
mod faults;
mod images;
mod kit;
mod kubernetes;
mod scripts;
mod simulate;
mod soak;
mod standin_octopus;
mod standin_sql;
mod tidy;
mod web;
