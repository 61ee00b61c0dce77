//! How all nodes end, and how they come up again: the first one alone, since it changes the database.

use std::time::Duration;

use super::seen::Life;
use super::seen::Pod;
use super::seen::Seen;

/// A container that was started so often and fails again does not come up by itself.
const FAILED_STARTS: u32 = 3;
/// How long a registry or a missing Secret may keep the first node from starting before that is
/// believed. What a machine has not pulled yet takes its time and is no failure.
const BELIEVED_AFTER: Duration = Duration::from_secs(180);

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The StatefulSet's controller has not seen the last change.
    Controller,
    /// Pods end.
    Ending {
        /// Their names, and the machines that they are on.
        pods: Vec<String>,
    },
    /// The controller has not taken the new image for the current one.
    Revision,
    /// The first node comes up.
    First {
        /// What it does.
        life: Life,
    },
    /// The others come up.
    Others {
        /// How many serve.
        ready: u32,
        /// Of how many.
        of: u32,
    },
}

/// What ends the nodes, one thing at a time; none when no node runs and none is wished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No node is wished any more.
    ScaleToNone,
    /// These pods are told to end, all at once: their drains run beside each other, and one that is
    /// not ready holds up no other.
    End(Vec<Pod>),
    /// It takes its time.
    Wait(Wait),
}

/// The next thing that ends the nodes.
pub fn ending(seen: &Seen) -> Option<Ending> {
    let set = &seen.set;
    if set.wished != 0 {
        return Some(Ending::ScaleToNone);
    }
    // Until then the controller would make a pod again that is told to end.
    if !set.is_observed() {
        return Some(Ending::Wait(Wait::Controller));
    }
    let told: Vec<Pod> = seen
        .pods
        .iter()
        .filter(|pod| !pod.is_ending)
        .cloned()
        .collect();
    if !told.is_empty() {
        return Some(Ending::End(told));
    }
    // The status counts pods that end, and may know of one that the list has not.
    if !seen.pods.is_empty() || set.existing > 0 {
        let pods = seen.pods.iter().map(placed).collect();
        return Some(Ending::Wait(Wait::Ending { pods }));
    }
    None
}

/// A pod and its machine: one that does not answer keeps its pods until a person says that it is off.
fn placed(pod: &Pod) -> String {
    match &pod.machine {
        Some(machine) => format!("{} on {machine}", pod.name),
        None => pod.name.clone(),
    }
}

/// What brings nodes up, one thing at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rising {
    /// So many nodes are wished.
    Scale(u32),
    /// A node of another image runs: all must end.
    OtherImage,
    /// A node that runs is drained, and does not let itself take tasks again.
    Undrain(String),
    /// It takes its time.
    Wait(Wait),
    /// The first node, which is alone, does not come up.
    FirstFails {
        /// Why.
        why: String,
    },
    /// The first node serves, alone; now the others.
    FirstServes,
    /// All serve.
    Serve,
}

/// The next thing that brings `nodes` nodes of an image up. `failing`: for how long the first one
/// has been seen to fail without a break.
pub fn rising(seen: &Seen, image: &str, nodes: u32, failing: Duration) -> Rising {
    let set = &seen.set;
    if !set.is_observed() {
        return Rising::Wait(Wait::Controller);
    }
    if seen.pods.iter().any(|pod| pod.image != image) {
        return Rising::OtherImage;
    }
    if set.wished == 0 {
        // A pod that is made before this is one of the old image.
        if !seen.pods.is_empty() || set.existing > 0 {
            let pods = seen.pods.iter().map(placed).collect();
            return Rising::Wait(Wait::Ending { pods });
        }
        if set.current_revision != set.update_revision {
            return Rising::Wait(Wait::Revision);
        }
        return Rising::Scale(1);
    }
    if let Some(drained) = seen.pods.iter().find(|pod| is_left_drained(seen, pod)) {
        return Rising::Undrain(drained.name.clone());
    }
    let first = seen
        .pods
        .iter()
        .find(|pod| pod.number == 0 && !pod.is_ending);
    let first_serves = first.is_some_and(|pod| pod.is_ready);
    let is_alone = seen.pods.iter().all(|pod| pod.number == 0);
    if !first_serves && (is_alone || set.wished < nodes) {
        let fault = first
            .filter(|_| is_alone)
            .and_then(|pod| fault(pod, failing));
        return fault.map_or_else(
            || Rising::Wait(first_comes(first)),
            |why| Rising::FirstFails { why },
        );
    }
    if set.wished < nodes {
        return Rising::FirstServes;
    }
    if set.wished > nodes {
        return Rising::Scale(nodes);
    }
    let ready = seen
        .pods
        .iter()
        .filter(|pod| pod.is_ready && !pod.is_ending);
    let ready = u32::try_from(ready.count()).unwrap_or(u32::MAX);
    if ready < nodes {
        return Rising::Wait(Wait::Others { ready, of: nodes });
    }
    Rising::Serve
}

fn first_comes(first: Option<&Pod>) -> Wait {
    let life = first.map(|pod| pod.life.clone()).unwrap_or_default();
    Wait::First { life }
}

/// A node that came up, is not ready, and has no hook that would let it take tasks again: it was
/// drained before it ended the last time, which the database remembers.
fn is_left_drained(seen: &Seen, pod: &Pod) -> bool {
    let runs = matches!(pod.life, Life::Running { is_started: true });
    runs && !pod.is_ready && !pod.is_ending && !seen.set.undrains_itself
}

/// Why a node does not come up. One that runs is never judged: it may be changing the database.
pub fn fault(pod: &Pod, failing: Duration) -> Option<String> {
    match &pod.life {
        Life::Waiting { reason, message } => match reason.as_str() {
            "InvalidImageName" => Some(said(reason, message)),
            "CrashLoopBackOff" if pod.restarts >= FAILED_STARTS => Some(crash(pod)),
            reason if hinders(reason) && failing >= BELIEVED_AFTER => Some(said(reason, message)),
            _ => None,
        },
        Life::Ended(end) if pod.restarts >= FAILED_STARTS => {
            Some(format!("it ended with {}", ended(end.code, &end.reason)))
        }
        Life::Ended(_) | Life::Unknown | Life::Unplaced { .. } | Life::Running { .. } => None,
    }
}

/// Whether it is seen to fail, so that the time is taken for how long.
pub fn is_failing(pod: &Pod) -> bool {
    matches!(&pod.life, Life::Waiting { reason, .. } if hinders(reason))
}

/// What keeps a container from starting until somebody mends it (kubernetes, kubelet
/// `images/types.go`, `kuberuntime`).
fn hinders(reason: &str) -> bool {
    [
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ]
    .contains(&reason)
}

fn said(reason: &str, message: &str) -> String {
    if message.is_empty() {
        return reason.to_owned();
    }
    format!("{reason}: {message}")
}

/// A container that ended again and again, and how the last time.
pub fn crash(pod: &Pod) -> String {
    let end = pod.last_end.as_ref();
    let last = end.map_or_else(String::new, |end| {
        format!(", the last time with {}", ended(end.code, &end.reason))
    });
    format!("it ended {} times{last}", pod.restarts)
}

fn ended(code: i32, reason: &str) -> String {
    match reason {
        "" | "Error" | "Completed" => format!("exit code {code}"),
        reason => format!("exit code {code} ({reason})"),
    }
}
