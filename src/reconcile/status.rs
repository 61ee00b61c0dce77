//! What people are told: one value for the socket, the command line and every page, derived from
//! the same facts as the plan.

use serde::Deserialize;
use serde::Serialize;

use super::Desired;
use super::Goal;
use super::Mono;
use super::Observed;
use super::Phase;
use super::UnitRecords;
use super::action::Subject;
use super::action::Verb;
use super::cause::Cause;
use super::cause::Class;
use super::cause::Failure;
use super::phase::phase_of;
use super::record::UnitRecord;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// The whole stack, for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The project.
    pub project: String,
    /// Counts the wishes that this daemon took; who made one waits for its own.
    pub generation: u64,
    /// What is wanted: `up`, `hold`, `halt`, `down`.
    #[serde(default)]
    pub goal: String,
    /// One word for everything.
    pub verdict: Verdict,
    /// One line for everything.
    pub message: String,
    /// Whether the images are stand-ins.
    pub demo: bool,
    /// Whether a daemon looks after the stack. False only where the status was made from labels
    /// alone.
    pub supervised: bool,
    /// Why the engine cannot be asked, if it cannot.
    pub engine_problem: Option<String>,
    /// The units in start order.
    pub units: Vec<UnitStatus>,
    /// What is under way besides the units: images, the network, volumes.
    pub work: Vec<String>,
    /// Things people should know and cannot see elsewhere.
    pub notes: Vec<String>,
    /// Where to open Octopus.
    pub url: Option<String>,
    /// The first user's name.
    pub admin_username: String,
    /// Whether the daemon ends when the stack is down.
    pub ends_when_down: bool,
}

/// One word for the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is wanted and nothing runs.
    #[default]
    Down,
    /// On its way.
    Working,
    /// Everything wanted is ready.
    Ready,
    /// Everything wanted serves, save what is being repaired.
    Degraded,
    /// Stopped with a named cause, or crash-looping.
    Failed,
    /// The engine does not answer.
    EngineDown,
    /// Held: somebody interrupted the start.
    Held,
}

/// One unit, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Which.
    pub unit: UnitId,
    /// The container's name; empty for an external database.
    pub container: String,
    /// The phase in one word.
    pub phase: String,
    /// Why, if there is more to say.
    pub reason: String,
    /// What mends it, if something must be mended.
    pub fix: Option<String>,
    /// The named cause of the last failure, while it matters.
    pub cause: Option<Cause>,
    /// The last log lines of the failed run.
    pub lines: Vec<String>,
    /// Seconds since the run began to be seen, for a unit that runs.
    pub for_seconds: u64,
    /// Restarts since the daemon began.
    pub restarts: u32,
    /// Seconds until the next start, for a unit that waits.
    pub retry_in_seconds: Option<u64>,
    /// The image reference.
    pub image: String,
    /// Published ports, as `address:port->port`.
    pub ports: Vec<String>,
    /// Whether the operator stopped it on purpose.
    pub stopped: bool,
}

/// Everything `status` is derived from, besides what the planner is given.
#[derive(Clone, Debug, Default)]
pub struct StatusInput {
    /// The project's name.
    pub project: String,
    /// Counts the wishes that this daemon took.
    pub generation: u64,
    /// Why the engine cannot be asked.
    pub engine_problem: Option<String>,
    /// Whether what was seen is older than the last wish.
    pub unsure: bool,
    /// Things people should know.
    pub notes: Vec<String>,
    /// Whether the daemon ends when the stack is down.
    pub ends_when_down: bool,
}

/// Whether what `down` asked for is true: nothing is left of what was to go, and nothing is under
/// way.
pub fn is_down(desired: &Desired, seen: &Observed, records: &UnitRecords) -> bool {
    let Goal::Down { volumes } = desired.goal else {
        return false;
    };
    // What somebody else's container uses stays, and `down` says so.
    let is_left = |name: &String| records.is_left(&Subject::Volume(name.clone()));
    records.busy.is_empty()
        && seen.containers.is_empty()
        && (seen.networks.is_empty() || records.is_left(&Subject::Network))
        && (!volumes || seen.volumes.iter().all(is_left))
}

/// Derives the status.
pub fn status(
    around: &StatusInput,
    desired: &Desired,
    seen: &Observed,
    records: &UnitRecords,
    now: Mono,
) -> Status {
    let units = match &desired.spec {
        Some(spec) => spec
            .units()
            .iter()
            .map(|unit| unit_status(*unit, spec, desired, seen, records, now))
            .collect(),
        None => seen
            .containers
            .iter()
            .map(|container| from_labels(container.unit, seen))
            .collect(),
    };
    let mut status = Status {
        project: around.project.clone(),
        generation: around.generation,
        goal: desired.goal.word().to_owned(),
        demo: desired.spec.as_ref().is_some_and(|spec| spec.demo),
        supervised: true,
        engine_problem: around.engine_problem.clone(),
        units,
        work: work(records),
        notes: around
            .notes
            .iter()
            .cloned()
            .chain(moved_images(desired, seen))
            .collect(),
        url: desired.spec.as_ref().and_then(url),
        admin_username: desired
            .spec
            .as_ref()
            .map(|spec| spec.admin_username.clone())
            .unwrap_or_default(),
        ends_when_down: around.ends_when_down,
        ..Status::default()
    };
    // What serves may still be what is to be replaced: ready means that nothing remains to be done.
    let at_rest = records.busy.is_empty()
        && records.blocked.is_empty()
        && super::plan(desired, seen, records, now).actions.is_empty();
    (status.verdict, status.message) = verdict(&status, desired, seen, records, at_rest);
    if around.unsure
        && matches!(
            status.verdict,
            Verdict::Ready | Verdict::Down | Verdict::Failed
        )
    {
        (status.verdict, status.message) = (Verdict::Working, "looking".to_owned());
    }
    status
}

/// The address of the first node on the host.
pub fn url(spec: &StackSpec) -> Option<String> {
    spec.nodes
        .first()
        .and_then(crate::spec::ContainerSpec::host_address)
        .map(|address| format!("http://{address}"))
}

/// References that stand for another image now than at the last `up`: shown, never applied unasked.
fn moved_images(desired: &Desired, seen: &Observed) -> Vec<String> {
    let moved =
        |(image, id): &(&String, &String)| seen.images.get(*image).is_some_and(|now| now != *id);
    let images = desired.images.iter().filter(moved).map(|(image, _)| image);
    images
        .map(|image| {
            format!(
                "{image} stands for another image now than at the last `up`; the next one uses it"
            )
        })
        .collect()
}

fn work(records: &UnitRecords) -> Vec<String> {
    let of = |subject: &Subject| match subject {
        Subject::Unit(_) | Subject::Process(_) | Subject::Tasks(_) | Subject::Log(_) => None,
        Subject::Network => Some("the network".to_owned()),
        Subject::Volume(name) => Some(format!("volume {name}")),
        Subject::Image(image) => Some(format!("image {image}")),
    };
    let under_way = records
        .busy
        .iter()
        .filter_map(|(subject, (verb, _))| Some(format!("{verb} {}", of(subject)?)));
    let blocked = records.blocked.iter().filter_map(|(subject, blocked)| {
        Some(format!(
            "{}: {} ({})",
            of(subject)?,
            blocked.failure.cause.title(),
            blocked.failure.detail
        ))
    });
    under_way.chain(blocked).collect()
}

fn unit_status(
    unit: UnitId,
    spec: &StackSpec,
    desired: &Desired,
    seen: &Observed,
    records: &UnitRecords,
    now: Mono,
) -> UnitStatus {
    let external = unit == UnitId::Sql && spec.sql.is_none();
    let phase = phase_of(unit, external, seen, records, now);
    let unknown = UnitRecord::default();
    let record = records.get(unit).unwrap_or(&unknown);
    let container = spec.container(unit);
    let failure = record
        .failures
        .last
        .as_ref()
        .or_else(|| missing(container?, seen, records));
    let runs = seen
        .container(unit)
        .is_some_and(super::observed::Container::is_running);
    let busy = records
        .busy
        .get(&Subject::Unit(unit))
        .map(|(verb, _)| *verb);
    let stopped = desired.stopped.contains(&unit);
    let waits = !runs && desired.stopped.contains(&UnitId::Sql);
    // What comes before it in the order of starts and does not serve.
    let serves = |before: &UnitId| {
        let external = *before == UnitId::Sql && spec.sql.is_none();
        let phase = phase_of(*before, external, seen, records, now);
        phase.is_well()
    };
    let mut before = spec
        .units()
        .into_iter()
        .take_while(|before| *before != unit);
    let ahead = before.find(|before| !desired.stopped.contains(before) && !serves(before));
    let ahead = ahead.filter(|_| desired.goal == Goal::Up);
    UnitStatus {
        unit,
        container: container
            .map(|container| container.name.clone())
            .unwrap_or_default(),
        phase: if external {
            format!("external, {}", phase.word())
        } else {
            phase.word().to_owned()
        },
        reason: match (stopped, waits) {
            (true, _) => "stopped by the operator".to_owned(),
            (false, true) => "waits for db, which the operator stopped".to_owned(),
            (false, false) => match phase {
                Phase::Draining { until } => draining(until.since(now)),
                _ => reason(&phase, record, failure, busy, ahead),
            },
        },
        fix: failure.map(|failure| failure.cause.fix().to_owned()),
        cause: failure.map(|failure| failure.cause),
        lines: failure
            .map(|failure| failure.lines.clone())
            .unwrap_or_default(),
        for_seconds: if runs {
            now.since(record.seen_at()).as_secs()
        } else {
            0
        },
        restarts: record.restarts,
        retry_in_seconds: record
            .failures
            .retry_at
            .filter(|_| !runs && busy.is_none())
            .map(|until| until.since(now).as_secs()),
        image: container
            .map(|container| container.image.clone())
            .unwrap_or_default(),
        ports: container.map(ports).unwrap_or_default(),
        stopped,
    }
}

/// Why a container that is wanted cannot be made: its image, its network or a volume is not there.
fn missing<'a>(
    wanted: &crate::spec::ContainerSpec,
    seen: &Observed,
    records: &'a UnitRecords,
) -> Option<&'a Failure> {
    let volumes = wanted
        .mounts
        .values()
        .map(|name| Subject::Volume(name.clone()));
    let mut parts = [Subject::Image(wanted.image.clone()), Subject::Network]
        .into_iter()
        .chain(volumes);
    let blocked = parts.find_map(|part| records.blocked.get(&part));
    let is_there = seen
        .container(wanted.unit)
        .is_some_and(|container| container.digest == wanted.digest());
    blocked
        .filter(|_| !is_there)
        .map(|blocked| &blocked.failure)
}

fn ports(container: &crate::spec::ContainerSpec) -> Vec<String> {
    container
        .ports
        .iter()
        .map(|port| format!("{}:{}->{}", port.host_ip, port.host, port.container))
        .collect()
}

fn reason(
    phase: &Phase,
    record: &UnitRecord,
    failure: Option<&Failure>,
    busy: Option<Verb>,
    ahead: Option<UnitId>,
) -> String {
    let turn = || ahead.map(|ahead| format!("waits for {ahead}"));
    let failed = || failure.map(|failure| format!("{}: {}", failure.cause.title(), failure.detail));
    let probed = || record.health().last_problem.clone();
    let text = match phase {
        Phase::Failed(_) | Phase::BackingOff { .. } | Phase::CrashLoop { .. } | Phase::Dead => {
            failed()
        }
        Phase::Starting | Phase::Unready | Phase::Draining { .. } | Phase::Drained => {
            probed().or_else(failed)
        }
        Phase::Paused => Some("somebody paused the container; `docker unpause` it".to_owned()),
        Phase::Absent | Phase::Created | Phase::Stopping => match (busy, failed()) {
            (Some(verb), Some(failed)) => Some(format!("{verb}…; before: {failed}")),
            (Some(verb), None) => Some(format!("{verb}…")),
            (None, failed) => failed.or_else(turn),
        },
        Phase::Ready => failed().map(|failed| format!("it is not replaced yet: {failed}")),
    };
    text.unwrap_or_default()
}

fn draining(left: std::time::Duration) -> String {
    let seconds = left.as_secs();
    format!(
        "it finishes its tasks and takes no more, at most {}:{:02} longer",
        seconds / 60,
        seconds % 60
    )
}

fn from_labels(unit: UnitId, seen: &Observed) -> UnitStatus {
    let container = seen.container(unit);
    let runs = container.is_some_and(super::observed::Container::is_running);
    UnitStatus {
        unit,
        container: container
            .map(|container| container.name.clone())
            .unwrap_or_default(),
        phase: if runs { "running" } else { "stopped" }.to_owned(),
        reason: String::new(),
        fix: None,
        cause: None,
        lines: Vec::new(),
        for_seconds: 0,
        restarts: 0,
        retry_in_seconds: None,
        image: container
            .map(|container| container.image.clone())
            .unwrap_or_default(),
        ports: Vec::new(),
        stopped: false,
    }
}

fn verdict(
    status: &Status,
    desired: &Desired,
    seen: &Observed,
    records: &UnitRecords,
    at_rest: bool,
) -> (Verdict, String) {
    if let Some(problem) = &status.engine_problem {
        return (
            Verdict::EngineDown,
            format!("the Docker Engine does not answer: {problem}"),
        );
    }
    match desired.goal {
        Goal::Up if desired.spec.is_some() => up_verdict(status, desired, seen, records, at_rest),
        Goal::Hold if desired.spec.is_some() => {
            (Verdict::Held, "held: `octo-local up` goes on".to_owned())
        }
        Goal::Down { .. } if !is_down(desired, seen, records) => {
            (Verdict::Working, "going down".to_owned())
        }
        Goal::Halt if !records.busy.is_empty() => (Verdict::Working, "stopping".to_owned()),
        Goal::Up | Goal::Hold | Goal::Halt | Goal::Down { .. } => {
            (Verdict::Down, "down".to_owned())
        }
    }
}

/// What a stack in which nothing remains to be done is called: it may rest because somebody wished
/// that.
fn at_rest_as(status: &Status, rests: impl Fn(&&UnitStatus) -> bool) -> &'static str {
    match status.units.iter().filter(rests).count() {
        0 => "ready",
        some if some < status.units.len() => "ready, save what the operator stopped",
        _ => "everything was stopped by the operator",
    }
}

fn up_verdict(
    status: &Status,
    desired: &Desired,
    seen: &Observed,
    records: &UnitRecords,
    at_rest: bool,
) -> (Verdict, String) {
    if records.units.values().any(UnitRecord::is_unread) {
        return (
            Verdict::Working,
            "reading the log of what failed".to_owned(),
        );
    }
    // What the operator stopped is as it was wished, and so are nodes that cannot run without a
    // database that was stopped.
    let no_database = desired.stopped.contains(&UnitId::Sql);
    let runs = |unit: &UnitStatus| {
        seen.container(unit.unit)
            .is_some_and(super::observed::Container::is_running)
    };
    let rests = |unit: &&UnitStatus| unit.stopped || no_database && !runs(unit);
    let failed = |unit: &&UnitStatus| unit.phase.ends_with("failed") || unit.phase == "crash-loop";
    let wanted = || status.units.iter().filter(|unit| !rests(unit));
    if let Some(unit) = wanted().find(failed) {
        return (Verdict::Failed, format!("{}: {}", unit.unit, unit.reason));
    }
    if let Some(blocked) = records
        .blocked
        .values()
        .find(|blocked| blocked.failure.cause.class() != Class::Transient)
    {
        return (
            Verdict::Failed,
            format!(
                "{}: {}",
                blocked.failure.cause.title(),
                blocked.failure.detail
            ),
        );
    }
    let ready = |unit: &UnitStatus| {
        let serves = unit.phase.ends_with("ready") && !unit.phase.ends_with("unready");
        serves || unit.phase == "drained"
    };
    let waiting: Vec<&UnitStatus> = wanted().filter(|unit| !ready(unit)).collect();
    match waiting.first() {
        None if at_rest => (Verdict::Ready, at_rest_as(status, rests).to_owned()),
        None => (
            Verdict::Working,
            status
                .work
                .first()
                .cloned()
                .unwrap_or_else(|| "at work".to_owned()),
        ),
        Some(unit) if waiting.iter().any(|unit| unit.restarts > 0) => (
            Verdict::Degraded,
            format!("{} is {}", unit.unit, unit.phase),
        ),
        Some(unit) => (Verdict::Working, format!("{} is {}", unit.unit, unit.phase)),
    }
}
