//! `secrets`: the passwords and keys of a project, in clear. This and `config --show-secrets` are
//! the only places that show them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::args::Format;
use crate::cli::args::SecretFlags;
use crate::cli::context::Context;
use crate::cli::daemon_client::request;
use crate::cli::daemon_client::request::Wish;
use crate::cli::known;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::terminal::print;
use crate::config::Config;
use crate::config::values::values;
use crate::daemon::store::Stored;

/// The form of what machines read.
const SCHEMA: u32 = 1;
/// What is shown, under the names that `.env` has for it, with what it is.
const NAMES: [(&str, &str); 6] = [
    ("MASTER_KEY", "encrypts the database; back it up"),
    ("SA_PASSWORD", "of SQL Server's login sa"),
    ("ADMIN_USERNAME", "the first user of Octopus"),
    ("ADMIN_PASSWORD", "of the first user, as it was at first"),
    ("ADMIN_API_KEY", "of the first user"),
    ("DB_CONNECTION_STRING", "the way to an external database"),
];

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    project: &'a str,
    secrets: &'a BTreeMap<&'static str, String>,
}

/// Shows all secrets, or the value of one alone, for scripts.
pub async fn secrets(context: &Context, flags: &SecretFlags) -> Outcome {
    let stored = context.applied().await.unwrap_or_default();
    let config = match &stored.config {
        Some(config) => Some(config.clone()),
        None => request::resolve(context, &Wish::default())
            .await
            .ok()
            .map(|resolved| resolved.config),
    };
    let found = collect(&stored, config.as_ref());
    if found.is_empty() {
        let line = format!(
            "nothing is kept of {}, and no .env says anything of it: `octo-local up` makes it",
            context.project
        );
        let mut failure = Failure::new(FAILED, line);
        failure.lines.extend(known::others(context));
        return Err(failure);
    }
    if let Some(name) = &flags.name {
        let value = found.get(name.to_uppercase().as_str()).ok_or_else(|| {
            let names = found.keys().copied().collect::<Vec<_>>().join(", ");
            let project = &context.project;
            Failure::new(
                USAGE,
                format!("{project} has no secret {name}: it has {names}"),
            )
        })?;
        print::line(value);
        return Ok(());
    }
    match flags.format {
        Format::Json => print::json(&Shown {
            schema: SCHEMA,
            project: context.project.as_str(),
            secrets: &found,
        }),
        Format::Table => {
            for (name, what) in NAMES {
                if let Some(value) = found.get(name) {
                    print::tell(format_args!("# {what}"));
                    print::line(format_args!("{name}={value}"));
                }
            }
        }
    }
    Ok(())
}

/// The secrets that there are: what is kept counts before what a file says.
fn collect(stored: &Stored, config: Option<&Config>) -> BTreeMap<&'static str, String> {
    let values = config.map(values).unwrap_or_default();
    let kept = |name: &str| match name {
        "MASTER_KEY" => stored.master_key(),
        "SA_PASSWORD" => stored.sa.known.as_ref(),
        _ => None,
    };
    let value = |name: &str| {
        let secret = kept(name).or_else(|| values.get(name));
        let value = secret.map(crate::config::Secret::expose)?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    NAMES
        .into_iter()
        .filter_map(|(name, _)| Some((name, value(name)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::daemon::store::Data;

    #[test]
    fn what_is_kept_counts_before_what_is_configured() {
        let mut stored = Stored::default();
        let data = Data::Volume("demo_sql-data".to_owned());
        stored.keys.set(&Secret::new("kept"), true, &data);
        let found = collect(&stored, None);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("MASTER_KEY", "kept".to_owned())]
        );
    }
}
