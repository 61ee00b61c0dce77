//! The daemon: a pure [`core`] that decides, and a [`shell`] that performs what it decided.
//!
//! Reading order: [`message`] (what goes in and comes out), [`core`], [`shell`], [`tasks`]; beside
//! them what is kept ([`store`], [`state_writer`]), what is asked before a configuration is
//! admitted ([`admit`], [`facts`]), and the process ([`run`], its [`log`], and what systemd is told
//! of it: [`service_manager`]).

pub mod admit;
pub mod back_up;
pub mod beats;
mod before_upgrade;
pub mod bring_back;
pub mod core;
mod facts;
pub mod guard;
pub mod journal;
mod log;
pub mod message;
pub mod paths;
pub(crate) mod places;
pub mod ports;
pub mod pressure;
pub mod run;
mod service_manager;
pub mod shell;
pub mod state_writer;
pub mod store;
mod tasks;
pub mod throttling;

pub use tasks::observe::LOOK_LIMIT;
