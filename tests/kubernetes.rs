//! Living in a cluster: an upgrade and a handover, decided against a model of the StatefulSet
//! controller by the thousand, and carried out through a stand-in of kubectl.

mod apiserver;
mod commands;
mod deciding;
mod handing_over;
pub(crate) mod model;
pub(crate) mod standin;
mod upgrading;
