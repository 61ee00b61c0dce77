//! What to do next, decided without doing it: from what is wanted, what Docker shows, what the daemon remembers, and the time.
//!
//! ```text
//!  Desired ──┐
//!  Observed ─┼── plan() ──> Plan { actions, wake_at }
//!  Tracks ───┤
//!  now ──────┘── status() ──> what people are told
//! ```

pub mod action;
pub mod backoff;
pub mod cause;
pub mod clock;
pub mod desired;
pub mod health;
pub mod heard;
pub mod images;
mod judge;
pub mod observed;
pub mod phase;
pub mod plan;
pub mod preview;
pub mod state;
pub mod status;
pub mod track;

pub use action::Action;
pub use action::Plan;
pub use cause::Cause;
pub use clock::Mono;
pub use desired::Desired;
pub use desired::Goal;
pub use judge::SUSPECT;
pub use observed::Observed;
pub use phase::Phase;
pub use plan::plan;
pub use state::News;
pub use state::State;
pub use track::Tracks;
