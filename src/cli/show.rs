//! `config`: the resolved configuration, or the variables before any validation; secrets masked.

use std::collections::BTreeMap;

use super::args::Args;
use super::args::ConfigFlags;
use super::args::Format;
use super::context::Context;
use super::outcome::Outcome;
use super::print;
use super::request;
use super::request::Wish;
use super::variables::Files;
use super::variables::environment;
use crate::config::keys;
use crate::config::values::values;

/// Shows the variables as docker compose's `config --environment` does: the process environment over the files.
pub fn environment_of(args: &Args, flags: &ConfigFlags) -> Outcome {
    let variables = Files::of(args)?.read(&environment())?;
    show(variables.vars.iter().map(|(key, value)| (key.as_str(), value.as_str())), flags);
    Ok(())
}

/// Shows the configuration that the variables mean, as variables.
pub async fn config(context: &Context, flags: &ConfigFlags) -> Outcome {
    let resolved = request::resolve(context, &Wish { demo: flags.demo, ..Wish::default() }).await?;
    request::tell_warnings(&resolved);
    let values = values(&resolved.config);
    show(values.iter().map(|(key, value)| (key.as_str(), value.expose())), flags);
    Ok(())
}

fn show<'a>(vars: impl Iterator<Item = (&'a str, &'a str)>, flags: &ConfigFlags) {
    let shown =
        |(key, value): (&'a str, &'a str)| (key, if flags.show_secrets { value } else { keys::shown(key, value) });
    let vars: BTreeMap<&str, &str> = vars.map(shown).collect();
    match flags.format {
        Format::Json => print::json(&vars),
        Format::Table => vars.iter().for_each(|(key, value)| print::line(format_args!("{key}={value}"))),
    }
}
