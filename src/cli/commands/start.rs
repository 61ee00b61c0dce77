//! `start`: what was stopped runs again, and what failed is tried again.

use super::change_units;
use crate::api::route;
use crate::cli::context::Context;
use crate::cli::outcome::Outcome;

/// Starts units again.
pub async fn start(context: &Context, names: &[String]) -> Outcome {
    change_units::wish(context, route::START, names, |_| None).await
}
