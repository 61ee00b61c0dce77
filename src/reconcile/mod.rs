//! What to do next, decided without doing it: from what is wanted, what Docker shows, what the
//! daemon remembers, and the time.
//!
//! ```text
//!  Desired ──┐
//!  Observed ─┼── plan() ──> Plan { actions, wake_at }
//!  UnitRecords ───┤
//!  now ──────┘── status() ──> what people are told
//! ```

#![warn(clippy::wildcard_enum_match_arm)]

pub mod action;
pub mod backoff;
pub mod cause;
pub mod clock;
pub mod container_event;
pub mod desired;
mod diagnose;
pub mod health;
pub mod images;
mod names;
pub mod observed;
pub mod phase;
pub mod plan;
pub mod preview;
pub mod record;
mod roster;
pub mod start_log;
pub mod state;
pub mod status;

pub use action::Action;
pub use action::Plan;
pub use cause::Cause;
pub use clock::Mono;
pub use desired::Desired;
pub use desired::Goal;
pub use observed::Observed;
pub use phase::Phase;
pub use plan::plan;
pub use record::UnitRecords;
pub use state::News;
pub use state::State;
