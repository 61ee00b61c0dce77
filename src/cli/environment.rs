//! The process environment, read in one place.

use std::collections::BTreeMap;

/// The process environment. What is not UTF-8 cannot be one of ours.
#[expect(
    clippy::disallowed_methods,
    reason = "the one home of the process environment"
)]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
