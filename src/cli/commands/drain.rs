//! `drain` and `undrain`: nodes finish their tasks and take no more, until they are to take some
//! again.

use super::change_units;
use crate::api::route;
use crate::cli::context::Context;
use crate::cli::outcome::Outcome;

/// Drains nodes, and waits until none of their tasks runs any more.
pub async fn drain(context: &Context, names: &[String]) -> Outcome {
    change_units::wish(context, route::DRAIN, names, |_| None).await
}

/// Lets nodes take tasks again.
pub async fn undrain(context: &Context, names: &[String]) -> Outcome {
    change_units::wish(context, route::UNDRAIN, names, |_| None).await
}
