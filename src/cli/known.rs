//! The projects of this user on this machine: whatever has a state file here.

use crate::api::client::Client;
use crate::cli::context::Context;
use crate::cli::terminal::print;
use crate::config::project::ProjectName;
use crate::daemon::paths::Paths;
use crate::daemon::store;
use crate::daemon::store::Stored;

/// How many other projects a message names.
const NAMED: usize = 8;

/// A project of which something is kept.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub project: ProjectName,
    /// What is kept of it.
    pub stored: Stored,
    /// The way to its daemon.
    pub client: Client,
}

/// All of them, by name. What cannot be read is none.
pub fn all(context: &Context) -> Vec<Known> {
    let (Some(state), Some(runtime)) =
        (context.paths.state.parent(), context.paths.runtime.parent())
    else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let mut known: Vec<Known> = entries
        .filter_map(|entry| {
            let project = ProjectName::given(entry.file_name().to_str()?)?;
            let paths = Paths {
                state: state.join(project.as_str()),
                runtime: runtime.join(project.as_str()),
            };
            let stored = store::read(&paths.store())?;
            let is_kept = stored.spec.is_some() || stored.master_key().is_some();
            is_kept.then(|| Known {
                client: Client::at(paths.socket()),
                project,
                stored,
            })
        })
        .collect();
    known.sort_by(|one, other| one.project.as_str().cmp(other.project.as_str()));
    known
}

/// What is said where this project is not there: which ones are.
pub fn others(context: &Context) -> Option<String> {
    let others: Vec<String> = all(context)
        .into_iter()
        .filter(|known| known.project != context.project)
        .map(|known| match known.stored.spec {
            Some(spec) => format!("{} (from {})", known.project, spec.working_dir),
            None => known.project.to_string(),
        })
        .collect();
    let more = match others.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more: `octo-local ls`"),
    };
    let named = others.iter().take(NAMED).cloned().collect::<Vec<_>>();
    (!named.is_empty()).then(|| {
        format!(
            "known projects: {}{more}; another one is named with -p NAME",
            named.join(", ")
        )
    })
}

/// Tells which other projects there are, if there are any.
pub fn tell_others(context: &Context) {
    others(context).iter().for_each(print::tell);
}
