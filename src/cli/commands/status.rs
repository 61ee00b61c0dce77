//! `status`: what runs and what does not, from the daemon, or from labels alone when there is none.

use serde::Serialize;

use crate::api::client::ClientError;
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::drift::Drift;
use crate::cli::drift::drift;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Desired;
use crate::reconcile::Mono;
use crate::reconcile::UnitRecords;
use crate::reconcile::status::Status;
use crate::reconcile::status::StatusInput;
use crate::reconcile::status::UnitStatus;
use crate::reconcile::status::status as derive;

/// What the daemon says, and what only this side knows: the `.env` as it is now.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    drift: Option<Drift>,
}

/// Shows the status.
pub async fn status(context: &Context, format: Format) -> Outcome {
    let status = fetch(context).await?;
    let shown = Shown {
        status,
        drift: drift(context).await,
    };
    match format {
        Format::Json => print::json(&shown),
        Format::Table => {
            table(&shown.status);
            if let Some(line) = shown.drift.as_ref().and_then(Drift::line) {
                print::line(line);
            }
            other_directory(context).await;
        }
    }
    Ok(())
}

/// The daemon's status, or one made from labels.
pub async fn fetch(context: &Context) -> Result<Status, Failure> {
    match context.client.status().await {
        Ok(status) => Ok(status),
        Err(ClientError::Absent) => from_labels(context).await,
        Err(error) => Err(error.into()),
    }
}

async fn from_labels(context: &Context) -> Result<Status, Failure> {
    let engine = context.engine().await?;
    let seen = engine
        .observe(&context.project, &[], &mut ObservationCache::default())
        .await?;
    let around = StatusInput {
        project: context.project.to_string(),
        ..StatusInput::default()
    };
    let mut status = derive(
        &around,
        &Desired::default(),
        &seen,
        &UnitRecords::default(),
        Mono::default(),
    );
    status.supervised = false;
    let kept = context.applied().await.unwrap_or_default();
    status.notes.extend(kept.held_back(&context.endpoint()));
    if kept.is_up() || !seen.containers.is_empty() {
        "nobody supervises: no daemon runs; `octo-local up` starts one"
            .clone_into(&mut status.message);
    }
    Ok(status)
}

/// The whole stack in one line.
pub fn head(status: &Status) -> String {
    let demo = if status.demo {
        " (demo: stand-ins, not the real servers)"
    } else {
        ""
    };
    let word = serde_json::to_value(status.verdict)
        .ok()
        .and_then(|word| word.as_str().map(str::to_owned));
    let word = word.filter(|word| status.supervised && !status.message.starts_with(word.as_str()));
    let word = word.map(|word| format!("{word}: ")).unwrap_or_default();
    format!(
        "{}: {word}{}{demo}",
        status.project,
        print::plain(&status.message)
    )
}

fn table(status: &Status) {
    print::line(head(status));
    if !status.units.is_empty() {
        let rows: Vec<[String; 6]> = status.units.iter().map(row).collect();
        let titles = ["UNIT", "PHASE", "FOR", "RESTARTS", "PORTS", "REASON"].map(str::to_owned);
        print_columns(std::iter::once(&titles).chain(&rows));
    }
    for work in &status.work {
        print::line(format_args!("  {}", print::plain(work)));
    }
    for unit in status
        .units
        .iter()
        .filter(|unit| unit.phase == "failed" || unit.phase == "crash-loop")
    {
        if let Some(fix) = &unit.fix {
            print::line(format_args!("fix: {}: {fix}", unit.unit));
        }
    }
    for note in &status.notes {
        print::line(format_args!("note: {note}"));
    }
}

fn row(unit: &UnitStatus) -> [String; 6] {
    let retry = unit
        .retry_in_seconds
        .map(|seconds| format!("; next start in {seconds}s"))
        .unwrap_or_default();
    let reason = format!("{}{retry}", print::plain(&unit.reason));
    [
        unit.unit.to_string(),
        unit.phase.clone(),
        if unit.for_seconds == 0 {
            "-".to_owned()
        } else {
            duration(unit.for_seconds)
        },
        unit.restarts.to_string(),
        unit.ports.join(", "),
        reason.trim_start_matches("; ").to_owned(),
    ]
}

async fn other_directory(context: &Context) {
    let made_from = context
        .applied()
        .await
        .and_then(|stored| stored.spec)
        .map(|spec| spec.working_dir);
    let here = context.files.directory.display().to_string();
    if let Some(other) =
        made_from.filter(|directory| !context.name_on_purpose && *directory != here)
    {
        print::line(format_args!(
            "note: this stack was made from {other}, not from here"
        ));
    }
}

/// Prints rows as columns two spaces apart.
fn print_columns<'a, const N: usize>(rows: impl Iterator<Item = &'a [String; N]> + Clone) {
    let width = |column: usize| {
        rows.clone()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        print::line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// A duration as people say it.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
