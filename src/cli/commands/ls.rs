//! `ls`: the projects that are known here, and how each does.

use std::time::Duration;

use serde::Serialize;

use crate::api::client::Client;
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::known;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::cli::terminal::table;
use crate::reconcile::status::Status;

/// The form of what machines read.
const SCHEMA: u32 = 1;
/// How long one daemon may take to answer: a list does not wait for one that hangs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// A project in the list.
#[derive(Serialize)]
struct Row {
    project: String,
    /// The daemon's verdict; without one `down`, or `unsupervised` where it is wished up.
    verdict: String,
    directory: Option<String>,
    engine: Option<String>,
}

#[derive(Serialize)]
struct List {
    schema: u32,
    projects: Vec<Row>,
}

/// Lists the projects of this user.
pub async fn ls(context: &Context, format: Format) -> Outcome {
    let mut projects = Vec::new();
    for known in known::all(context) {
        let told = ask(&known.client).await;
        let alone = if known.stored.is_up() {
            "unsupervised"
        } else {
            "down"
        };
        projects.push(Row {
            project: known.project.to_string(),
            verdict: told
                .map_or(alone, |status| status.verdict.word())
                .to_owned(),
            directory: known.stored.spec.map(|spec| spec.working_dir),
            engine: known.stored.endpoint.map(|endpoint| endpoint.to_string()),
        });
    }
    match format {
        Format::Json => print::json(&List {
            schema: SCHEMA,
            projects,
        }),
        Format::Table if projects.is_empty() => {
            print::tell("no project is known here; `octo-local up` begins one");
        }
        Format::Table => {
            let rows: Vec<Vec<String>> = projects.into_iter().map(cells).collect();
            let titles = ["NAME", "VERDICT", "ENGINE", "DIRECTORY"];
            table::table(&titles, &rows, print::data_columns())
                .iter()
                .for_each(print::line);
        }
    }
    Ok(())
}

fn cells(row: Row) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        row.project,
        row.verdict,
        known(row.engine),
        known(row.directory),
    ]
}

async fn ask(client: &Client) -> Option<Status> {
    let asking = tokio::time::timeout(ANSWERS_WITHIN, client.status());
    asking.await.ok()?.ok()
}
