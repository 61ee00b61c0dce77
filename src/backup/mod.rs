//! Backup sets: the database, the nodes' shared volumes, the configuration and the secrets of one
//! stack, in one directory.
//!
//! A set is complete or it is not there. It is written as streams of constant memory under a hidden
//! name, read again, and renamed ([`directory`]). Its [`manifest`] tells what ran, what is
//! consistent with what, and the SHA-256 of every part before and after compression ([`part`]), so
//! that [`verify`] can vouch for every byte, and for the stored ones without a key.
//!
//! What is decided is pure: names, manifests, which sets are old enough to go ([`retention`]), when
//! the next one is due ([`schedule`]), how far a run is ([`progress`]).

pub mod admission;
mod ahead;
pub mod directory;
mod directory_tar;
mod handoff;
mod host_volume;
pub mod manifest;
pub mod name;
pub mod part;
pub mod progress;
pub mod prune;
pub mod pump;
pub mod replaced;
mod reread;
pub mod restore;
pub mod restore_test;
pub mod retention;
pub mod run;
pub mod schedule;
pub mod secrets;
mod server_file;
pub mod tar_stream;
mod telling;
pub mod verify;

pub use directory::Directory;
pub use manifest::Manifest;
pub use name::SetName;
pub use progress::Progress;
