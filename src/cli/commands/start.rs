//! `start`: what was stopped runs again, and what failed is tried again.

use super::change_units;
use crate::cli::context::Context;
use crate::cli::outcome::Outcome;

/// Starts units again.
pub async fn start(context: &Context, names: &[String]) -> Outcome {
    change_units::wish(context, "/v1/start", names, |_| None).await
}
