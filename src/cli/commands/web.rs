//! `web`: the front door's process. Needs no project and no configuration: it is fed.

use crate::api::Identity;
use crate::cli::args::WebFlags;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::TIMED_OUT;
use crate::web::process;
use crate::web::process::Options;
use crate::web::process::WebError;

/// Runs the front door until it is told to end.
pub async fn web(flags: WebFlags) -> Outcome {
    let options = Options {
        control: flags.control,
        take_over: flags.take_over,
        user: flags.user,
        log: flags.log,
        access_log: flags.access_log,
        built: Identity::own().built,
    };
    process::run(options).await.map_err(|error| match error {
        WebError::Owned(_) => Failure::new(TIMED_OUT, error.to_string()),
        WebError::Prepare { .. } => Failure::new(FAILED, error.to_string()),
    })
}
