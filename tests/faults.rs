//! The product against a fake engine in which everything goes wrong: one test a fault of the list,
//! and the daemon killed at every call it makes.

mod absence;
mod calls;
mod case;
mod deaths;
mod journey_runner;
mod real_nodes;
mod stream;
mod sweep;
mod things;
