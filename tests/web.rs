//! The front door as a process of its own, between real clients and small nodes on loopback.

mod door;
mod h2;
mod hostile;
mod node;
mod process;
mod streams;
mod traffic;
mod trust;
