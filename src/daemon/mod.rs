//! The daemon: one task owns all state, reads one queue of events, asks the pure half what to do,
//! and starts it.
//!
//! ```text
//!  events of the engine ─┐                       ┌─> actions (tasks) ──> Docker, SQL
//!  probes ───────────────┼─> queue ─> driver ────┤
//!  requests, signals ────┘   (absorb, observe,   └─> status (watch) ───> command line, pages
//!                             plan, start, publish)
//! ```

mod actions;
pub mod admit;
mod awake;
pub mod beats;
pub mod driver;
pub mod effects;
mod ending;
pub mod event;
mod facts;
pub mod guard;
pub mod journal;
mod keeper;
mod keeping;
mod look;
pub mod paths;
pub mod ports;
pub mod prober;
mod probing;
pub mod requests;
pub mod run;
pub mod store;
mod wishes;
