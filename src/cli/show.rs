//! `config`: the resolved configuration, secrets masked.

use std::collections::BTreeMap;

use super::args::ConfigFlags;
use super::args::Format;
use super::context::Context;
use super::demo;
use super::outcome::Failure;
use super::outcome::Outcome;
use crate::config::Secret;
use crate::config::keys;
use crate::config::read::Input;
use crate::config::read::read;

/// Shows the variables (`--environment`), or the configuration that they mean.
pub fn config(context: &Context, flags: &ConfigFlags) -> Outcome {
    let variables = context.variables()?;
    if flags.environment {
        show(&variables.vars, flags);
        return Ok(());
    }
    let passwords = (Secret::new("Generated-1"), Secret::new("Generated-1"));
    let input = Input {
        vars: variables.vars.clone(),
        origins: variables.origins,
        demo: flags.demo.then(|| demo::demo(&demo::own_tag(), &passwords)),
        nodes: None,
        pull: None,
    };
    let resolved = read(&input).map_err(|problems| Failure::problems(&problems))?;
    for warning in &resolved.warnings {
        eprintln!("warning: {warning}");
    }
    let value = |key: &keys::Key| {
        let given = variables.vars.get(key.name).filter(|value| !value.is_empty() || key.name == "SQL_IMAGE");
        given.cloned().or_else(|| key.default.map(str::to_owned)).unwrap_or_default()
    };
    let shown: BTreeMap<String, String> = keys::KEYS.iter().map(|key| (key.name.to_owned(), value(key))).collect();
    show(&shown, flags);
    Ok(())
}

fn show(vars: &BTreeMap<String, String>, flags: &ConfigFlags) {
    let mask = |key: &str, value: &str| {
        if keys::is_secret(key) && !flags.show_secrets && !value.is_empty() {
            "***".to_owned()
        } else {
            value.to_owned()
        }
    };
    let shown: BTreeMap<&str, String> = vars.iter().map(|(key, value)| (key.as_str(), mask(key, value))).collect();
    match flags.format {
        Format::Json => println!("{}", serde_json::to_string(&shown).unwrap_or_default()),
        Format::Table => shown.iter().for_each(|(key, value)| println!("{key}={value}")),
    }
}
