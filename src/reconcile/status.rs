//! What people are told: one value for the socket, the command line and every page, derived from
//! the same facts as the plan.

mod listed;
mod note;
mod units;
mod verdict;
mod version_change;

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use super::Desired;
use super::Goal;
use super::Mono;
use super::Observed;
use super::UnitRecords;
use super::action::Subject;
use super::observed::Container;
use super::observed::Stranger;
use super::record::DrainStep;
use super::record::UnitRecord;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use verdict::Judgement;

pub use note::Note;
pub use units::PhaseWord;
pub use units::UnitStatus;
pub use verdict::Health;
pub use verdict::Verdict;
pub use version_change::VersionChange;
pub use version_change::VersionStep;

/// The form of the status for machines. It grows when a field goes or changes its meaning.
pub const SCHEMA: u32 = 2;

/// The whole stack, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The form of this value: [`SCHEMA`].
    #[serde(default)]
    pub schema: u32,
    /// The project.
    pub project: String,
    /// Counts the wishes that this daemon took; who made one waits for its own.
    pub generation: u64,
    /// What is wanted.
    #[serde(default)]
    pub goal: GoalWord,
    /// Seconds since that is wanted, as far as this daemon knows.
    #[serde(default)]
    pub goal_for_seconds: Option<u64>,
    /// One word for everything.
    pub verdict: Verdict,
    /// What the verdict is called by people.
    #[serde(default)]
    pub phrase: String,
    /// What the verdict is about; empty where the phrase says it all.
    #[serde(default)]
    pub detail: String,
    /// One line for everything: phrase and detail.
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
    /// The Tentacles. The verdict says nothing about them: nothing waits for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tentacles: Vec<UnitStatus>,
    /// What is under way or cannot be done besides the units: images, the network, volumes.
    pub work: Vec<Work>,
    /// Things people should know and cannot see elsewhere.
    pub notes: Vec<Note>,
    /// Where to open Octopus.
    pub url: Option<String>,
    /// How the front door is, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_door: Option<FrontDoorStatus>,
    /// An upgrade or a rollback that is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_change: Option<VersionChange>,
    /// The first user's name.
    pub admin_username: String,
    /// Whether the daemon ends when the stack is down.
    pub ends_when_down: bool,
}

/// The front door, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontDoorStatus {
    /// Whether it listens wherever it is to.
    pub open: bool,
    /// How many nodes get requests through it.
    pub serving: usize,
    /// What is wrong with it, if something is.
    pub problem: Option<String>,
    /// Why requests are not written down, where they are to be. It serves all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_access_log: Option<String>,
}

impl FrontDoorStatus {
    /// What is under way or wrong with it while it is not open.
    fn work(&self) -> Option<Work> {
        (!self.open).then(|| Work {
            what: "the front door".to_owned(),
            is_volume: false,
            doing: self.problem.is_none().then(|| "opening".to_owned()),
            problem: self.problem.clone(),
            fix: None,
            retry_in_seconds: None,
        })
    }
}

/// What is wanted of the stack, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GoalWord {
    /// Everything runs and is kept running.
    Up,
    /// Nothing is started or restarted.
    #[default]
    Hold,
    /// Everything stops in order; containers stay.
    Halt,
    /// Everything stops in order and goes.
    Down,
}

/// Work on something that is no unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// On what: `image NAME`, `volume NAME`, `the network`.
    pub what: String,
    /// Whether it is a volume: those come and go in a moment.
    pub is_volume: bool,
    /// What is being done to it, while something is.
    pub doing: Option<String>,
    /// Why it cannot be done, with the engine's words.
    pub problem: Option<String>,
    /// What mends it.
    pub fix: Option<String>,
    /// Seconds until it is tried again.
    pub retry_in_seconds: Option<u64>,
}

/// Everything `status` is derived from, besides what the planner is given.
#[derive(Clone, Debug, Default)]
pub struct StatusInput {
    /// The project's name.
    pub project: String,
    /// Counts the wishes that this daemon took.
    pub generation: u64,
    /// Since when the goal is what it is; none where that is older than this daemon.
    pub goal_since: Option<Mono>,
    /// Why the engine cannot be asked.
    pub engine_problem: Option<String>,
    /// Whether what was seen is older than the last wish.
    pub unsure: bool,
    /// Things people should know.
    pub notes: Vec<Note>,
    /// Whether the daemon ends when the stack is down.
    pub ends_when_down: bool,
    /// How the front door is, if there is to be one.
    pub front_door: Option<FrontDoorStatus>,
    /// An upgrade or a rollback that is not done.
    pub version_change: Option<VersionChange>,
    /// What this host is called, where others reach it.
    pub host_name: String,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            project: String::new(),
            generation: 0,
            goal: GoalWord::default(),
            goal_for_seconds: None,
            verdict: Verdict::default(),
            phrase: String::new(),
            detail: String::new(),
            message: String::new(),
            demo: false,
            supervised: false,
            engine_problem: None,
            units: Vec::new(),
            tentacles: Vec::new(),
            work: Vec::new(),
            notes: Vec::new(),
            url: None,
            front_door: None,
            version_change: None,
            admin_username: String::new(),
            ends_when_down: false,
        }
    }
}

impl From<Goal> for GoalWord {
    fn from(goal: Goal) -> Self {
        match goal {
            Goal::Up => Self::Up,
            Goal::Hold => Self::Hold,
            Goal::Halt => Self::Halt,
            Goal::Down { .. } => Self::Down,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.doing, &self.problem) {
            (Some(doing), _) => write!(out, "{doing} {}", self.what),
            (None, Some(problem)) => write!(out, "{}: {problem}", self.what),
            (None, None) => out.write_str(&self.what),
        }
    }
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
        && seen.all().next().is_none()
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
    let (units, tentacles) = units_of(around, desired, seen, records, now);
    let mut status = Status {
        project: around.project.clone(),
        generation: around.generation,
        goal: desired.goal.into(),
        goal_for_seconds: around.goal_since.map(|since| now.since(since).as_secs()),
        supervised: true,
        engine_problem: around.engine_problem.clone(),
        units,
        tentacles,
        work: work(records, now),
        notes: around.notes.clone(),
        ends_when_down: around.ends_when_down,
        front_door: around.front_door.clone(),
        version_change: around.version_change.clone(),
        ..Status::default()
    };
    status.notes.extend(moved_images(desired, seen));
    status.notes.extend(not_ours(seen));
    status.notes.extend(listed::notes(desired, seen, records));
    if let Some(spec) = &desired.spec {
        status.demo = spec.demo;
        status.url = url(spec);
        status.admin_username.clone_from(&spec.admin_username);
    }
    // What serves may still be what is to be replaced: ready means that nothing remains to be done.
    // What finished its tasks is about to end, or to take some again, although nothing is planned
    // before it says so itself. One that could not be asked ends, if it is to, by the plan.
    let is_on_its_way = |(unit, record): (&UnitId, &UnitRecord)| {
        let running = record.running().and_then(|run| run.instance.as_ref());
        let drain = running.and_then(|run| record.drain_of(run));
        let was_asked = drain.is_some_and(|drain| drain.step != DrainStep::Failed);
        was_asked && !desired.drained.contains(unit)
    };
    let opening = around.front_door.as_ref().and_then(FrontDoorStatus::work);
    let changing = around.version_change.as_ref().and_then(VersionChange::work);
    let at_rest = opening.is_none()
        && changing.is_none()
        && records.is_idle()
        && records.blocked_of_stack().next().is_none()
        && !records.units.iter().any(is_on_its_way)
        && super::plan(desired, seen, records, now)
            .actions
            .iter()
            .all(|action| action.subject().is_of_tentacle());
    status.work.extend(opening);
    status.work.splice(0..0, changing);
    let judgement = verdict::judge(&status, desired, seen, records, at_rest);
    let is_final = judgement.verdict.is_at_rest() || judgement.verdict.has_failed();
    let is_final = is_final && judgement.verdict != Verdict::Held;
    status.set(if around.unsure && is_final {
        Judgement::looking()
    } else {
        judgement
    });
    status
}

impl Status {
    fn set(&mut self, judgement: Judgement) {
        self.verdict = judgement.verdict;
        judgement.phrase.clone_into(&mut self.phrase);
        self.detail = judgement.detail;
        self.message = self.headline("");
    }

    /// Says what is known without a daemon, in the place of what the verdict is called and about.
    pub fn set_unsupervised(&mut self, phrase: &str, detail: &str) {
        self.supervised = false;
        phrase.clone_into(&mut self.phrase);
        detail.clone_into(&mut self.detail);
        self.message = self.headline("");
    }

    /// The line for people, with since when the verdict holds: ` since 12:00` or nothing.
    pub fn headline(&self, since: &str) -> String {
        match self.detail.as_str() {
            "" => format!("{}{since}", self.phrase),
            detail => format!("{}{since}: {detail}", self.phrase),
        }
    }
}

/// The stack's units, then its Tentacles, each in order.
fn units_of(
    input: &StatusInput,
    desired: &Desired,
    seen: &Observed,
    records: &UnitRecords,
    now: Mono,
) -> (Vec<UnitStatus>, Vec<UnitStatus>) {
    let Some(spec) = &desired.spec else {
        let labelled = |containers: &[Container]| {
            let units = containers.iter().map(|container| container.unit);
            units.map(|unit| units::from_labels(unit, seen)).collect()
        };
        return (labelled(&seen.containers), labelled(&seen.tentacles));
    };
    let around = units::Around {
        spec,
        host_name: &input.host_name,
        desired,
        seen,
        records,
        now,
    };
    let wanted = spec.tentacles.iter().map(|one| one.unit);
    let leaving = desired.leaving.keys().map(|name| UnitId::Tentacle(*name));
    let mut tentacles: Vec<UnitId> = wanted.chain(leaving).collect();
    tentacles.sort_unstable();
    let told = |units: Vec<UnitId>| units.into_iter().map(|unit| around.unit(unit)).collect();
    (told(spec.units()), told(tentacles))
}

/// The web address: the front door's, else the first node's on the host.
pub fn url(spec: &StackSpec) -> Option<String> {
    if let Some(door) = &spec.front_door {
        return Some(door.url());
    }
    spec.nodes
        .first()
        .and_then(ContainerSpec::host_address)
        .map(|address| format!("http://{address}"))
}

/// References that stand for another image now than at the last `up`: shown, never applied unasked.
fn moved_images(desired: &Desired, seen: &Observed) -> Vec<Note> {
    let moved =
        |(image, id): &(&String, &String)| seen.images.get(*image).is_some_and(|now| now != *id);
    let images = desired.images.iter().filter(moved);
    let note = |(image, _): (&String, _)| Note::ImageMoved {
        image: image.clone(),
    };
    images.map(note).collect()
}

/// How many strangers are named; the others are counted.
const NAMED: usize = 8;

/// What carries the project's label and is not ours. One of its names without the label is told of
/// where it is in the way.
fn not_ours(seen: &Observed) -> Option<Note> {
    let is_labelled = |one: &&Stranger| !matches!(one, Stranger::Namesake(_));
    let labelled: Vec<&Stranger> = seen.strangers.iter().filter(is_labelled).collect();
    let mut names: Vec<String> = labelled
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    if labelled.len() > NAMED {
        names.push(format!("{} more", labelled.len() - NAMED));
    }
    let what = names.join(", ");
    (!what.is_empty()).then_some(Note::NotOurs { what })
}

/// What something that is no unit is called; none for units.
pub fn name_of(subject: &Subject) -> Option<String> {
    match subject {
        Subject::Unit(_)
        | Subject::Process(_)
        | Subject::Tasks(_)
        | Subject::TasksAgain(_)
        | Subject::Log(_) => None,
        Subject::Place(node) => Some(format!("node {node}")),
        Subject::Network => Some("the network".to_owned()),
        Subject::Volume(name) => Some(format!("volume {name}")),
        Subject::Image(image) => Some(format!("image {image}")),
    }
}

fn work(records: &UnitRecords, now: Mono) -> Vec<Work> {
    let blank = |subject: &Subject| {
        Some(Work {
            what: name_of(subject)?,
            is_volume: matches!(subject, Subject::Volume(_)),
            doing: None,
            problem: None,
            fix: None,
            retry_in_seconds: None,
        })
    };
    let mut work = Vec::new();
    for (subject, (verb, _)) in &records.busy {
        work.extend(blank(subject).map(|one| Work {
            doing: Some(verb.to_string()),
            ..one
        }));
    }
    for (subject, blocked) in &records.blocked {
        let cause = blocked.failure.cause;
        work.extend(blank(subject).map(|one| Work {
            problem: Some(format!("{} ({})", cause.title(), blocked.failure.detail)),
            fix: Some(cause.fix().to_owned()),
            retry_in_seconds: Some(blocked.retry_at.since(now).as_secs()),
            ..one
        }));
    }
    work
}

/// How many characters systemd shows of a status text before it is of no use in a line.
const STATUS_LINE: usize = 160;

/// One line for a service manager: the verdict, the units ready of all, what is waited for.
pub fn status_line(status: &Status) -> String {
    let is_ready = |unit: &&UnitStatus| unit.phase == PhaseWord::Ready;
    let ready = status.units.iter().filter(is_ready).count();
    let mut line = status.message.clone();
    if !status.units.is_empty() {
        line = format!("{line} ({ready} of {} ready)", status.units.len());
    }
    // The protocol is one assignment a line.
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    line.chars().map(plain).take(STATUS_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_is_told_one_short_line() {
        let mut status = Status {
            phrase: "working".to_owned(),
            detail: "db is starting\nA=1".to_owned(),
            ..Status::default()
        };
        status.message = status.headline("");
        assert_eq!(status_line(&status), "working: db is starting A=1");
        status.detail = "x".repeat(1_000);
        status.message = status.headline("");
        assert_eq!(status_line(&status).chars().count(), STATUS_LINE);
    }
}
