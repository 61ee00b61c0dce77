//! `status`: what runs and what does not, from the daemon, or from labels alone when there is none.

use super::args::Format;
use super::context::Context;
use super::outcome::Failure;
use super::outcome::Outcome;
use crate::api::client::ClientError;
use crate::engine::observe::Memory;
use crate::reconcile::Desired;
use crate::reconcile::Mono;
use crate::reconcile::Tracks;
use crate::reconcile::status::Circumstances;
use crate::reconcile::status::Status;
use crate::reconcile::status::UnitStatus;
use crate::reconcile::status::status as derive;

/// Shows the status.
pub async fn status(context: &Context, format: Format) -> Outcome {
    let status = fetch(context).await?;
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&status).unwrap_or_default()),
        Format::Table => table(&status),
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
    let seen = engine.observe(&context.project, &[], &mut Memory::default()).await?;
    let around = Circumstances { project: context.project.to_string(), ..Circumstances::default() };
    let mut status = derive(&around, &Desired::default(), &seen, &Tracks::default(), Mono::default());
    status.supervised = false;
    if !seen.containers.is_empty() {
        "nobody supervises: no daemon runs; `octo-local up` starts one".clone_into(&mut status.message);
    }
    Ok(status)
}

fn table(status: &Status) {
    let demo = if status.demo { " (demo: stand-ins, not the real servers)" } else { "" };
    println!("{}: {}{demo}", status.project, status.message);
    if !status.units.is_empty() {
        let rows: Vec<[String; 6]> = status.units.iter().map(row).collect();
        let head = ["UNIT", "PHASE", "FOR", "RESTARTS", "PORTS", "REASON"].map(str::to_owned);
        print_columns(std::iter::once(&head).chain(&rows));
    }
    for work in &status.work {
        println!("  {work}");
    }
    for note in &status.notes {
        println!("note: {note}");
    }
}

fn row(unit: &UnitStatus) -> [String; 6] {
    let retry = unit.retry_in_seconds.map(|seconds| format!("; next start in {seconds}s")).unwrap_or_default();
    [
        unit.unit.to_string(),
        unit.phase.clone(),
        duration(unit.for_seconds),
        unit.restarts.to_string(),
        unit.ports.join(", "),
        format!("{}{retry}", unit.reason),
    ]
}

/// Prints rows as columns two spaces apart.
pub fn print_columns<'a, const N: usize>(rows: impl Iterator<Item = &'a [String; N]> + Clone) {
    let width = |column: usize| rows.clone().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0 => "-".to_owned(),
        1..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
