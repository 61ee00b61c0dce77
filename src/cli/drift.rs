//! Drift: what the `.env` says now and what was applied. Names only, never values.

use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::daemon_client::request;
use crate::cli::daemon_client::request::Wish;
use crate::cli::variables::Files;
use crate::config::Config;
use crate::config::read::read;
use crate::config::values;
use crate::daemon::store::Stored;

/// When images are fetched changes nothing that runs, and `--pull` is often said for one time.
const HARMLESS: &str = "PULL";

/// How the `.env`, with the process environment over it, differs from what was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The directory whose `.env` was read: the one that the stack was made from, unless another
    /// was named.
    pub directory: String,
    /// What shows the consequences.
    #[serde(skip)]
    plan: &'static str,
    /// They ask for a version that was taken back.
    #[serde(skip)]
    undone: bool,
    /// Variables whose values differ.
    pub keys: Vec<String>,
    /// Why the two cannot be compared.
    pub problem: Option<String>,
}

/// The drift of a stack that is up; none where nothing is applied.
pub async fn drift(context: &Context) -> Option<Drift> {
    let stored = context.applied().await.filter(Stored::is_up)?;
    let (applied, spec) = (stored.config?, stored.spec?);
    let mut context = context.clone();
    if !context.directory_on_purpose {
        context.files = Files::at(spec.working_dir.as_ref());
    }
    let directory = context.files.directory.display().to_string();
    let back = stored.backups.upgrades.rolled_back;
    let plan = if applied.demo { "plan --demo" } else { "plan" };
    Some(match now(&context, applied.demo).await {
        Ok(now) => {
            let undone = back.is_some_and(|back| back.undone == now.octopus.tag);
            Drift {
                directory,
                plan,
                undone: undone && applied.octopus.tag != now.octopus.tag,
                keys: differences(&applied, &now),
                problem: None,
            }
        }
        Err(problem) => Drift {
            directory,
            plan,
            undone: false,
            keys: Vec::new(),
            problem: Some(problem),
        },
    })
}

/// The variables whose values `up` would change, for `plan` and `status` alike. A master key that is
/// left out is the one that is kept.
pub fn differences(applied: &Config, now: &Config) -> Vec<String> {
    let mut now = now.clone();
    if now.octopus.master_key.is_none() {
        now.octopus
            .master_key
            .clone_from(&applied.octopus.master_key);
    }
    let keys = values::differences(applied, &now).into_iter();
    keys.filter(|key| key != HARMLESS).collect()
}

/// The configuration that `up` would apply now.
async fn now(context: &Context, demo: bool) -> Result<Config, String> {
    let variables = context
        .variables()
        .map_err(|failure| failure.lines.join("; "))?;
    let (input, _) = request::input(
        context,
        variables,
        &Wish {
            demo,
            ..Wish::default()
        },
    )
    .await;
    read(&input).map(|read| read.config).map_err(|problems| {
        if context.files.are_missing() {
            return "there is no .env".to_owned();
        }
        let keys: std::collections::BTreeSet<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        format!(
            "{} cannot be applied as the .env has it",
            keys.into_iter().collect::<Vec<_>>().join(", ")
        )
    })
}

impl Drift {
    /// What a person is told, if there is anything to tell.
    pub fn line(&self) -> Option<String> {
        if let Some(problem) = &self.problem {
            let directory = &self.directory;
            return Some(format!(
                "drift: unknown ({directory}): {problem}; what was applied goes on"
            ));
        }
        let keys = self.keys.join(", ");
        let undone = if self.undone {
            "; `octo-local rollback` writes the version of before there, and `up` without that would upgrade again"
        } else {
            ""
        };
        (!keys.is_empty()).then(|| {
            format!(
                "drift: {keys}: not as the .env and the environment say now; `octo-local {}` shows what `up` would do{undone}",
                self.plan
            )
        })
    }
}
