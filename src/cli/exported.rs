//! What an export of this host's stack is made from: its configuration, and what is kept of its data.

use crate::cli::context::Context;
use crate::config::Config;
use crate::config::Secret;
use crate::daemon::store::Data;
use crate::daemon::store::Stored;
use crate::export::Source;
use crate::export::source::Ran;

/// A configuration of this host as it would be exported with this master key.
pub fn source<'a>(
    context: &'a Context,
    config: &'a Config,
    stored: &'a Stored,
    working_dir: &'a str,
    master_key: &'a Secret,
) -> Source<'a> {
    let mut source = Source {
        config,
        project: &context.project,
        working_dir,
        master_key,
        ran: None,
        has_data: stored.spec.is_some(),
    };
    let ran = stored.ran_on(&Data::of(&source.stack()));
    source.ran = ran.map(|ran| Ran {
        image: &ran.image,
        version: &ran.version,
    });
    source
}
