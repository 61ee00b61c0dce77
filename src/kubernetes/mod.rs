//! Living in a cluster: what it shows of the nodes, and the next step of an upgrade or of a handover
//! from this host. Pure: `cli::commands::kubernetes` looks through the person's own `kubectl`, asks,
//! and carries out.
//!
//! # How versions are kept apart
//!
//! The exported StatefulSet has a partition above every node, so an edit of its image replaces no
//! pod, and a pod that is lost comes back as it was. Only when the set has no replica does its
//! controller take the new revision for the current one (kubernetes, `completeRollingUpdate`). So an
//! upgrade ends all nodes, changes the image, waits for the controller, and starts one.
//!
//! # Death
//!
//! What an upgrade is about is an annotation of the StatefulSet ([`record`]), written in the same
//! patch as the image that goes with it and only onto the version of the object that was looked at.
//! Each step follows from it and from what the cluster shows ([`upgrade`]), so whoever calls the
//! command next goes on from wherever the last one died. A handover is kept on this host
//! ([`handover`]), where it keeps the stack from being started again.

pub mod handover;
pub mod nodes;
pub mod record;
pub mod refusal;
pub mod seen;
pub mod told;
pub mod upgrade;

pub use record::Record;
pub use record::Stage;
pub use seen::Seen;
