//! What people are told of a cluster: all words in one place.

use super::handover;
use super::handover::Handover;
use super::nodes::Wait;
use super::nodes::crash;
use super::record::Record;
use super::record::Stage;
use super::seen::Life;
use super::seen::Pod;
use super::seen::Seen;
use super::upgrade;

/// What a step of an upgrade does; none for what is told otherwise.
pub fn of_upgrade(step: &upgrade::Step, record: &Record) -> Option<String> {
    let line = match step {
        upgrade::Step::Scale(0) => "the nodes end: none is wished".to_owned(),
        upgrade::Step::Scale(1) => format!("the first node starts on {}", starting(record)),
        upgrade::Step::Scale(nodes) => format!("the first node serves; {nodes} nodes in all"),
        upgrade::Step::End(pods) => ends(pods),
        upgrade::Step::BackUp => "no node runs; SQL Server backs the database up".to_owned(),
        upgrade::Step::Restore { file, .. } => {
            format!("no node runs; SQL Server brings the database back from {file}")
        }
        upgrade::Step::Change { image, .. } => format!("the image is {image} now"),
        upgrade::Step::Keep(record) => match &record.stage {
            Stage::GoingBack { why, .. } => {
                format!("{} does not come up: {why}; going back", record.to)
            }
            Stage::Ending => "a node ran after the backup was made: another one is made".to_owned(),
            Stage::BackedUp { .. }
            | Stage::Changed { .. }
            | Stage::WentBack { .. }
            | Stage::GaveUp { .. } => return None,
        },
        upgrade::Step::Undrain(pod) => {
            format!("{pod}: drained before it ended; it takes tasks again")
        }
        upgrade::Step::Wait(wait) => waiting(wait),
        upgrade::Step::Finish(_) => return None,
    };
    Some(line)
}

fn starting(record: &Record) -> &str {
    match record.stage {
        Stage::WentBack { .. } | Stage::GaveUp { .. } => &record.from,
        Stage::Ending
        | Stage::BackedUp { .. }
        | Stage::Changed { .. }
        | Stage::GoingBack { .. } => &record.to,
    }
}

fn ends(pods: &[Pod]) -> String {
    let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    format!("{}: draining, then ending", names.join(", "))
}

/// What is waited for.
pub fn waiting(wait: &Wait) -> String {
    match wait {
        Wait::Controller => "waiting for the StatefulSet's controller".to_owned(),
        Wait::Ending { pods } if pods.is_empty() => "waiting for the last pod to go".to_owned(),
        Wait::Ending { pods } => format!("waiting for {} to end", pods.join(", ")),
        Wait::Revision => "waiting for the controller to take the new image".to_owned(),
        Wait::First { life } => format!("waiting for the first node: {}", of_life(life)),
        Wait::Others { ready, of } => format!("{ready} of {of} nodes serve"),
    }
}

/// What a container does.
pub fn of_life(life: &Life) -> String {
    match life {
        Life::Unknown => "being made".to_owned(),
        Life::Unplaced { why } if why.is_empty() => "no machine takes it".to_owned(),
        Life::Unplaced { why } => format!("no machine takes it: {why}"),
        Life::Waiting { reason, message } if message.is_empty() => reason.clone(),
        Life::Waiting { reason, message } => format!("{reason}: {message}"),
        Life::Running { is_started: false } => {
            "it runs and starts; a new version changes the database now".to_owned()
        }
        Life::Running { is_started: true } => "it runs, and does not serve".to_owned(),
        Life::Ended(end) => format!("it ended with exit code {}", end.code),
    }
}

/// How a node is, in one word, and why.
pub fn of_pod(pod: &Pod, drained: Option<bool>) -> (&'static str, String) {
    if pod.is_ending {
        return ("ending", "it drains, then it stops".to_owned());
    }
    if pod.is_ready {
        return ("ready", String::new());
    }
    match (&pod.life, drained) {
        (Life::Running { is_started: true }, Some(true)) => {
            ("drained", "it takes no tasks".to_owned())
        }
        (Life::Running { is_started: true }, _) => ("not-ready", of_life(&pod.life)),
        (Life::Running { is_started: false }, _) if pod.restarts > 0 => ("starting", crash(pod)),
        (Life::Running { is_started: false }, _) => ("starting", String::new()),
        (Life::Waiting { reason, .. }, _) if reason == "CrashLoopBackOff" => {
            ("crash-loop", crash(pod))
        }
        (Life::Waiting { .. } | Life::Unknown | Life::Unplaced { .. }, _) => {
            ("waiting", of_life(&pod.life))
        }
        (Life::Ended(_), _) => ("ended", of_life(&pod.life)),
    }
}

/// Where an upgrade is, for who did not call it.
pub fn of_record(record: &Record) -> String {
    let (from, to) = (&record.from, &record.to);
    let stage = match &record.stage {
        Stage::Ending => "the nodes end".to_owned(),
        Stage::BackedUp { file, .. } => format!("the database is backed up in {file}"),
        Stage::Changed { .. } => "the new version comes up".to_owned(),
        Stage::GoingBack { why, .. } => format!("it goes back: {why}"),
        Stage::WentBack { why } => format!("the database is back, the old version comes up: {why}"),
        Stage::GaveUp { why } => format!("nothing was changed, the old version comes up: {why}"),
    };
    format!("upgrade from {from} to {to}: {stage}")
}

/// What an upgrade will do.
pub fn plan_of_upgrade(record: &Record, seen: &Seen) -> Vec<String> {
    let nodes: Vec<&str> = seen.pods.iter().map(|pod| pod.name.as_str()).collect();
    let grace = seen.set.grace.as_secs();
    let backup = match &record.database {
        Some(database) => {
            format!(
                "SQL Server backs {database} up and reads the backup again; it stays in its volume"
            )
        }
        None => "no backup is made: there is no way back".to_owned(),
    };
    let others = match record.nodes {
        0 | 1 => "it serves".to_owned(),
        nodes => format!("the others follow: {nodes} nodes in all"),
    };
    let back = match record.database {
        Some(_) => {
            "if the first node does not come up: it ends, the database is brought back, and the old image runs again"
        }
        None => "if the first node does not come up, it stays as it is",
    };
    vec![
        format!("{} -> {}", record.from, record.to),
        format!(
            "1. {} drain beside each other and end, for up to {grace} s; nobody is served from here on",
            nodes.join(", ")
        ),
        format!("2. {backup}"),
        "3. the image changes while no pod is there".to_owned(),
        "4. the first node starts alone and changes the database; it is not killed while it moves"
            .to_owned(),
        format!("5. {others}"),
        back.to_owned(),
    ]
}

/// What a step of a handover does; none for what is told otherwise.
pub fn of_handover(step: &handover::Step, kept: &Handover) -> Option<String> {
    let line = match step {
        handover::Step::StopNodes => "the nodes here finish their tasks and stop".to_owned(),
        handover::Step::BackUp => "a backup set is made".to_owned(),
        handover::Step::BeginAgain => {
            "nodes ran here again: what was made before is out of date, and made anew".to_owned()
        }
        handover::Step::TakeDown => "the containers here go; the data stays".to_owned(),
        handover::Step::Restore => format!(
            "{}: brought to the SQL Server in the cluster",
            kept.database
        ),
        handover::Step::Copy(directory) => format!("{directory}: copied into the cluster"),
        handover::Step::RemoveHelper => "the pod that files went through goes".to_owned(),
        handover::Step::Scale(0) => "the nodes in the cluster end: none is wished".to_owned(),
        handover::Step::Scale(1) => "the first node starts in the cluster".to_owned(),
        handover::Step::Scale(nodes) => format!("{nodes} nodes in all"),
        handover::Step::End(pods) => ends(pods),
        handover::Step::Undrain(pod) => format!("{pod}: drained before; it takes tasks again"),
        handover::Step::RemoveOldNodes => {
            "the first node serves; its list of nodes is looked at".to_owned()
        }
        handover::Step::Wait(wait) => waiting(wait),
        handover::Step::Keep(_) | handover::Step::Finish | handover::Step::Forget => return None,
    };
    Some(line)
}

/// What a handover will do.
pub fn plan_of_handover(kept: &Handover, set: &str) -> Vec<String> {
    let Handover {
        namespace,
        image,
        nodes,
        database,
        ..
    } = kept;
    vec![
        format!("this stack -> statefulset/{set} in the namespace {namespace}, {nodes} nodes of {image}"),
        "1. the nodes here finish their tasks and stop; nobody is served from here on".to_owned(),
        "2. a backup set is made; then the containers here go, and their data stays".to_owned(),
        format!("3. SQL Server in the cluster takes the database {database} of the set; one of that name must not be there"),
        format!("4. {} are copied through a pod of its own and compared, every file", handover::DIRECTORIES.join(", ")),
        "5. the first node starts there; its version and the list of nodes are looked at".to_owned(),
        format!("6. {} are taken off the list of nodes", kept.old_names.join(", ")),
        "7. the other nodes start".to_owned(),
        "until 7 `octo-local kubernetes handover --undo` goes back; `octo-local up` here is refused from now on".to_owned(),
    ]
}

/// How a polling Tentacle gets to know the nodes in the cluster: each polls every one
/// (octopus.com/docs, polling Tentacles with high availability).
pub fn poll_lines(addresses: &[(String, String)]) -> Vec<String> {
    let mut lines = vec!["listening Tentacles need nothing. On each polling Tentacle:".to_owned()];
    for (service, address) in addresses {
        lines.push(format!(
            "  Tentacle poll-server --instance Tentacle --server https://PORTAL --server-comms-address https://{address} \
             --apiKey API-…   # {service}"
        ));
    }
    lines.push("  then Tentacle service --instance Tentacle --restart".to_owned());
    lines
}
