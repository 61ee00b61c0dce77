//! Moving in from docker compose: what of a compose project is SQL Server and Octopus Server, where
//! its data is, what its containers say that the `.env` does not, and the steps from them to a
//! stack of octo-local's and back. Pure: `cli::commands::adopt` looks, asks, and carries out.
//!
//! # What stays and what moves
//!
//! A volume or a directory that is mounted where the data belongs is used as it is, under its name.
//! What is in a container's own layer, or in a mount inside of that place, is copied into a volume
//! of the project's own.
//!
//! # Death
//!
//! A [`Record`] is written before anything is touched. Each further step follows from it and from
//! what the engine shows ([`steps`]), so whoever comes next goes on, or back, from wherever the last
//! one died. Nothing of the old stack is removed before it is forgotten, save its network, which an
//! engine makes again.

mod containers;
pub mod found;
pub mod record;
pub mod seen;
pub mod steps;
pub mod told;
pub mod variables;

#[cfg(test)]
mod tests;

pub use found::Found;
pub use record::Record;
pub use record::Stage;
pub use seen::Seen;
