//! `config`: the resolved configuration, or the variables before any validation; secrets masked.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::args::Args;
use crate::cli::args::ConfigFlags;
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::daemon_client::request;
use crate::cli::daemon_client::request::Wish;
use crate::cli::environment::environment;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::cli::variables::Files;
use crate::config::keys;
use crate::config::values::values;

/// The form of what machines read.
const SCHEMA: u32 = 2;

/// What machines read.
#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    variables: BTreeMap<&'a str, &'a str>,
}

/// Shows the variables as docker compose's `config --environment` does: the process environment
/// over the files.
pub fn environment_of(args: &Args, flags: &ConfigFlags) -> Outcome {
    let variables = Files::of(args)?.read(&environment())?;
    show(
        variables
            .vars
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
        flags,
    );
    Ok(())
}

/// Shows the configuration that the variables mean, as variables.
pub async fn config(context: &Context, flags: &ConfigFlags) -> Outcome {
    let resolved = request::resolve(
        context,
        &Wish {
            demo: flags.demo,
            ..Wish::default()
        },
    )
    .await?;
    request::tell_warnings(&resolved);
    let mut values = values(&resolved.config);
    // A key that the `.env` leaves out is the one that is kept with the data.
    let kept = context.applied().await;
    let kept = kept.and_then(|stored| stored.master_key().cloned());
    if let (Some(key), None) = (kept, &resolved.config.octopus.master_key) {
        values.insert("MASTER_KEY".to_owned(), key);
    }
    show(
        values
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose())),
        flags,
    );
    Ok(())
}

fn show<'a>(vars: impl Iterator<Item = (&'a str, &'a str)>, flags: &ConfigFlags) {
    let shown = |(key, value): (&'a str, &'a str)| {
        (
            key,
            if flags.show_secrets {
                value
            } else {
                keys::shown(key, value)
            },
        )
    };
    let vars: BTreeMap<&str, &str> = vars.map(shown).collect();
    match flags.format {
        Format::Json => print::json(&Shown {
            schema: SCHEMA,
            variables: vars,
        }),
        Format::Table => vars
            .iter()
            .for_each(|(key, value)| print::line(format_args!("{key}={value}"))),
    }
}
