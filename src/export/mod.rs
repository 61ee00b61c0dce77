//! The way out: the same stack for another tool, as files. Pure: a configuration in, files out; the
//! command line writes them.
//!
//! `kubernetes` makes manifests for a cluster, `compose` a project for docker compose on the same
//! volumes. No secret stands in any file but the one that is for its owner only.

pub mod address;
pub mod compose;
pub mod environment;
pub mod file;
pub mod kubernetes;
pub mod network_object;
pub mod object;
pub mod source;
pub mod yaml;

pub use file::File;
pub use source::Source;
