//! The fingerprint of a container definition, kept in a label, so that a later run knows whether a container is still right.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;

use super::ContainerSpec;

/// SHA-256 over the definition, in hexadecimal, shortened to 128 bits.
///
/// A newer octo-local must compute the same for the same definition, or it would recreate healthy containers: a new field
/// of `ContainerSpec` is left out of the serialised form while it has its old meaning. A golden test holds this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub String);

impl Digest {
    /// The fingerprint of one definition.
    pub fn of(container: &ContainerSpec) -> Self {
        let text = serde_json::to_vec(container).expect("a definition has only string keys, so it always serialises");
        let hash = sha2::Sha256::digest(text);
        Self(hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
