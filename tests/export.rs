//! The way out: what `export` writes for Kubernetes and for docker compose, over many
//! configurations.

mod compose;
mod configurations;
mod kubernetes;
mod lint;
mod schemas;
mod upgrade;
mod values;
