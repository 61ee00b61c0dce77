//! `kubernetes status`: what the cluster shows, what is under way, and what differs from the
//! configuration.

use std::collections::BTreeMap;

use serde::Serialize;

use super::here;
use super::kubectl::Kubectl;
use super::kubectl::KubectlError;
use super::look::Places;
use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::kubernetes::Seen;
use crate::kubernetes::handover::Handover;
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::seen::Life;
use crate::kubernetes::seen::Pod;
use crate::kubernetes::told;

/// The form of the JSON.
const SCHEMA: u32 = 1;
/// The port and the path at which a node says whether it takes tasks.
const PING: &str = "8080/proxy/api/octopusservernodes/ping";

/// What is shown.
#[derive(Debug, Serialize)]
struct Shown {
    schema: u32,
    namespace: String,
    verdict: &'static str,
    set: ShownSet,
    nodes: Vec<Node>,
    sql: Option<ShownSql>,
    upgrade: Option<ShownUpgrade>,
    handover: Option<String>,
    differences: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownSet {
    name: String,
    image: String,
    wished: u32,
    ready: usize,
    guarded: bool,
    partition: Option<u32>,
    current_revision: String,
    update_revision: String,
    /// The controller has seen what is wished.
    observed: bool,
}

#[derive(Debug, Serialize)]
struct Node {
    pod: String,
    image: String,
    state: &'static str,
    reason: String,
    restarts: u32,
    machine: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownSql {
    pod: String,
    image: String,
    ready: bool,
}

#[derive(Debug, Serialize)]
struct ShownUpgrade {
    from: String,
    to: String,
    words: String,
}

/// Shows it.
pub(super) async fn status(context: &Context, kubectl: &Kubectl, format: Format) -> Outcome {
    let shown = interruptible("", look(context, kubectl)).await?;
    match format {
        Format::Json => print::json(&shown),
        Format::Table => table(&shown),
    }
    Ok(())
}

async fn look(context: &Context, kubectl: &Kubectl) -> Result<Shown, crate::cli::outcome::Failure> {
    let places = Places::find(kubectl).await?;
    let seen = places.seen(kubectl).await?;
    let sql = places.sql(kubectl).await?;
    let mut nodes = Vec::new();
    for pod in &seen.pods {
        let drained = is_drained(kubectl, pod).await?;
        let (state, reason) = told::of_pod(pod, drained);
        nodes.push(Node {
            pod: pod.name.clone(),
            image: pod.image.clone(),
            state,
            reason,
            restarts: pod.restarts,
            machine: pod.machine.clone(),
        });
    }
    let (upgrade, mut differences) = match seen.set.record() {
        Ok(record) => (record, Vec::new()),
        Err(error) => (None, vec![error.to_string()]),
    };
    differences.extend(here::differences(context, &seen, places.has_sql).await);
    let handover = context.handover.as_ref().ok().and_then(Option::as_ref);
    let shown_sql = match (sql, places.has_sql) {
        (Some(sql), _) => Some(ShownSql {
            pod: sql.pod,
            image: sql.image,
            ready: sql.is_ready,
        }),
        (None, true) => Some(ShownSql {
            pod: "none".to_owned(),
            image: String::new(),
            ready: false,
        }),
        (None, false) => None,
    };
    Ok(Shown {
        schema: SCHEMA,
        namespace: kubectl.namespace.clone(),
        verdict: verdict(&seen, upgrade.is_some(), shown_sql.as_ref()),
        set: set(&seen),
        nodes,
        sql: shown_sql,
        upgrade: upgrade.map(|record| ShownUpgrade {
            words: told::of_record(&record),
            from: record.from,
            to: record.to,
        }),
        handover: handover.map(Handover::in_the_way),
        differences,
    })
}

fn set(seen: &Seen) -> ShownSet {
    let set = &seen.set;
    ShownSet {
        name: set.name.clone(),
        image: set.image.clone(),
        wished: set.wished,
        ready: seen.pods.iter().filter(|pod| pod.is_ready).count(),
        guarded: set.is_guarded(),
        partition: set.partition,
        current_revision: set.current_revision.clone(),
        update_revision: set.update_revision.clone(),
        observed: set.is_observed(),
    }
}

fn verdict(seen: &Seen, upgrades: bool, sql: Option<&ShownSql>) -> &'static str {
    let wished = usize::try_from(seen.set.wished).unwrap_or(usize::MAX);
    let ready = seen.pods.iter().filter(|pod| pod.is_ready).count();
    let sql_serves = sql.is_none_or(|sql| sql.ready);
    match (upgrades, wished) {
        (true, _) => "upgrading",
        (false, 0) if seen.pods.is_empty() => "stopped",
        (false, 0) => "stopping",
        (false, wished) if ready == wished && sql_serves => "ready",
        (false, _) if ready > 0 && sql_serves => "degraded",
        (false, _) => "not-ready",
    }
}

/// Whether a node that runs and is not ready was drained; none where it cannot be asked. The API
/// server asks it, so that nothing in the image is needed.
async fn is_drained(kubectl: &Kubectl, pod: &Pod) -> Result<Option<bool>, KubectlError> {
    let runs = matches!(pod.life, Life::Running { is_started: true });
    if !runs || pod.is_ready || pod.is_ending {
        return Ok(None);
    }
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}:{PING}",
        kubectl.namespace, pod.name
    );
    let asked = kubectl
        .call(&["get", "--raw", &path], "ask a node whether it is drained")
        .await;
    Ok(match asked {
        Ok(_) => Some(false),
        // kubectl's words for an answer that it has no reason for.
        Err(KubectlError::Refused { refusal, .. }) if words(&refusal).contains("418") => Some(true),
        Err(_) => None,
    })
}

fn words(refusal: &Refusal) -> String {
    refusal.to_string()
}

fn table(shown: &Shown) {
    let set = &shown.set;
    print::line(format_args!(
        "{} in {}: {}, {} of {} nodes serve",
        set.name, shown.namespace, shown.verdict, set.ready, set.wished
    ));
    let width = |of: fn(&Node) -> usize| shown.nodes.iter().map(of).max().unwrap_or_default();
    let columns: BTreeMap<&str, usize> = [
        ("pod", width(|node| node.pod.len())),
        ("state", width(|node| node.state.len())),
        ("image", width(|node| node.image.len())),
    ]
    .into();
    for node in &shown.nodes {
        let machine = node.machine.as_deref().unwrap_or("-");
        let restarts = match node.restarts {
            0 => String::new(),
            1 => ", restarted once".to_owned(),
            times => format!(", restarted {times} times"),
        };
        let line = format!(
            "  {:<pod$}  {:<state$}  {:<image$}  on {machine}{restarts}",
            node.pod,
            node.state,
            node.image,
            pod = columns["pod"],
            state = columns["state"],
            image = columns["image"],
        );
        print::line(line.trim_end());
        if !node.reason.is_empty() {
            print::line(format_args!("      {}", print::plain(&node.reason)));
        }
    }
    match &shown.sql {
        Some(sql) => {
            let state = if sql.ready { "ready" } else { "not-ready" };
            print::line(format_args!("  {}  {state}  {}", sql.pod, sql.image));
        }
        None => print::line("  the database is not in this namespace"),
    }
    if !set.guarded {
        print::line(
            "  danger    the StatefulSet has no partition above its nodes: an edit of its image mixes versions; apply an export",
        );
    }
    if !shown.nodes.is_empty() && set.current_revision != set.update_revision {
        print::line(
            "  waits     an edit of the template takes effect when no node runs: `octo-local kubernetes upgrade` does that",
        );
    }
    if let Some(line) = shown.upgrade.as_ref().map(|upgrade| &upgrade.words) {
        print::line(format_args!("  {}", print::plain(line)));
    }
    if let Some(line) = &shown.handover {
        print::line(format_args!("  handover  {line}"));
    }
    for line in &shown.differences {
        print::line(format_args!("  differs   {}", print::plain(line)));
    }
}
