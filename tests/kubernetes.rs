//! Living in a cluster: an upgrade and a handover, decided against a model of the StatefulSet
//! controller by the thousand.

mod handing_over;
pub(crate) mod model;
mod upgrading;
