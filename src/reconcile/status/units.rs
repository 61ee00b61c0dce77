//! One unit of the status: its phase in a word, why, what mends it, and when it is tried again.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::config::vendor;
use crate::reconcile::Desired;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::Observed;
use crate::reconcile::Phase;
use crate::reconcile::UnitRecords;
use crate::reconcile::action::Subject;
use crate::reconcile::cause::Cause;
use crate::reconcile::cause::Failure;
use crate::reconcile::observed::Container;
use crate::reconcile::phase::phase_of;
use crate::reconcile::record::Blocked;
use crate::reconcile::record::UnitRecord;
use crate::spec::ContainerSpec;
use crate::spec::Role;
use crate::spec::StackSpec;
use crate::spec::Storage;
use crate::spec::UnitId;
use crate::spec::tentacle::Registration;
use crate::spec::tentacle::TentacleName;

/// One unit, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Which.
    pub unit: UnitId,
    /// The container's name; empty for an external database.
    pub container: String,
    /// The phase in one word.
    pub phase: PhaseWord,
    /// Whether it is somebody else's: only asked, never started or stopped.
    #[serde(default)]
    pub external: bool,
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
    /// Seconds until it is tried again: a start, or what it needs before one.
    pub retry_in_seconds: Option<u64>,
    /// The image reference.
    pub image: String,
    /// Published ports, as `address:port->port`.
    pub ports: Vec<String>,
    /// What a Tentacle that polls registers this node with (`poll-server
    /// --server-comms-address`), if that is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polling: Option<String>,
    /// Whether the operator stopped it on purpose.
    pub stopped: bool,
}

/// A unit's phase as people and machines read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseWord {
    /// There is no container.
    Absent,
    /// There is a container that does not run and has not failed.
    Created,
    /// It runs and was not ready yet.
    Starting,
    /// It serves.
    Ready,
    /// It runs, was ready, and is not now.
    Unready,
    /// It is well and finishes its tasks, taking no more.
    Draining,
    /// It is well and takes no tasks, because somebody drained it.
    Drained,
    /// Somebody froze it.
    Paused,
    /// Its process ended and nobody looked at why.
    Dead,
    /// It is being ended, or taken away.
    Stopping,
    /// It failed and is started again after a wait.
    BackingOff,
    /// It failed several times in a row.
    CrashLoop,
    /// It failed for a cause that only a person or the host can cure.
    Failed,
    /// It runs, and nobody supervises it: more is not known.
    Running,
    /// It does not run, and nobody supervises it.
    Stopped,
}

impl PhaseWord {
    /// Whether it does not serve for a cause that a person should see.
    pub fn has_failed(self) -> bool {
        matches!(self, Self::Failed | Self::CrashLoop)
    }
}

impl From<&Phase> for PhaseWord {
    fn from(phase: &Phase) -> Self {
        match phase {
            Phase::Absent => Self::Absent,
            Phase::Created => Self::Created,
            Phase::Starting => Self::Starting,
            Phase::Ready => Self::Ready,
            Phase::Unready => Self::Unready,
            Phase::Draining { .. } => Self::Draining,
            Phase::Drained => Self::Drained,
            Phase::Paused => Self::Paused,
            Phase::Dead => Self::Dead,
            Phase::Stopping => Self::Stopping,
            Phase::BackingOff { .. } => Self::BackingOff,
            Phase::CrashLoop { .. } => Self::CrashLoop,
            Phase::Failed(_) => Self::Failed,
        }
    }
}

/// The word for machines is the word for people.
impl fmt::Display for PhaseWord {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

/// What mends a cause where the database is somebody else's: it has no volume and no variables of
/// ours, and cannot be left out.
const FIXES_WITH_OTHERS: [(Cause, &str); 4] = [
    (
        Cause::PasswordRefused,
        "correct User Id and Password in DB_CONNECTION_STRING, then `octo-local up`; or set them in that server",
    ),
    (
        Cause::WrongHost,
        "correct the server in DB_CONNECTION_STRING, as containers know it, then `octo-local up`",
    ),
    (
        Cause::DatabaseSuspect,
        "have the database restored on its server: its files are damaged there",
    ),
    (
        Cause::OutOfMemory,
        "give the host more memory, or raise OCTOPUS_MEMORY where it is set",
    ),
];

/// What mends a cause of a Tentacle's, where it is not what would mend a node's.
const FIXES_OF_TENTACLES: [(Cause, &str); 2] = [
    (
        Cause::PrivilegedRefused,
        "remove it with `octo-local tentacle remove`, and add it again without --dind",
    ),
    (
        Cause::ImageMissing,
        "check TENTACLE_TAG or its --image, `docker login`, and the network; it is tried again",
    ),
];

/// What units are told from.
pub(super) struct Around<'a> {
    pub(super) spec: &'a StackSpec,
    pub(super) host_name: &'a str,
    pub(super) desired: &'a Desired,
    pub(super) seen: &'a Observed,
    pub(super) records: &'a UnitRecords,
    pub(super) now: Mono,
}

impl Around<'_> {
    fn is_external(&self, unit: UnitId) -> bool {
        unit == UnitId::Sql && self.spec.sql.is_none()
    }

    /// What a person can do about a cause.
    fn fix_of(&self, unit: UnitId, cause: Cause) -> &'static str {
        let special: &[(Cause, &str)] = match unit.role() {
            Role::Tentacle => &FIXES_OF_TENTACLES,
            Role::Database | Role::Server if self.spec.sql.is_none() => &FIXES_WITH_OTHERS,
            Role::Database | Role::Server => &[],
        };
        let special = special.iter().find(|(known, _)| *known == cause);
        special.map_or_else(|| cause.fix(), |(_, fix)| fix)
    }

    fn is_stopped_by_operator(&self, unit: UnitId) -> bool {
        self.desired.stopped.contains(&unit) && !self.desired.out_for_restore.contains(&unit)
    }

    fn phase(&self, unit: UnitId) -> Phase {
        let external = self.is_external(unit);
        phase_of(unit, external, self.seen, self.records, self.now)
    }

    /// Whether what comes after it in the order of starts need not wait for it.
    fn serves(&self, unit: UnitId) -> bool {
        self.phase(unit).is_well()
    }

    /// What comes before a unit in the order of starts, is wanted, and does not serve.
    fn ahead(&self, unit: UnitId) -> Option<UnitId> {
        let units = self.spec.units();
        let mut before = units.into_iter().take_while(|before| *before != unit);
        before
            .find(|before| !self.desired.rests(*before) && !self.serves(*before))
            .filter(|_| self.desired.goal == Goal::Up)
    }

    /// Why a container that is wanted cannot be made: its image, its network or a volume is not
    /// there.
    fn blocked(&self, wanted: &ContainerSpec) -> Option<(&Subject, &Blocked)> {
        if wanted.unit.is_tentacle() {
            return None;
        }
        let volumes = wanted.mounts.values().filter_map(Storage::ours);
        let volumes = volumes.map(|name| Subject::Volume(name.to_owned()));
        let mut parts = [Subject::Image(wanted.image.clone()), Subject::Network]
            .into_iter()
            .chain(volumes);
        let blocked = parts.find_map(|part| self.records.blocked.get_key_value(&part));
        let is_there = self
            .seen
            .container(wanted.unit)
            .is_some_and(|container| container.digest == wanted.digest());
        blocked.filter(|_| !is_there)
    }

    /// Whether a unit that failed is tried again at all: where nothing new is begun, only what has
    /// served is, and what rests is not.
    fn is_tried_again(&self, unit: UnitId, record: &UnitRecord) -> bool {
        let may_begin =
            self.desired.goal != Goal::Hold || record.served_once && !self.desired.hands_off;
        may_begin && !self.desired.rests(unit)
    }

    /// The status of one unit.
    pub(super) fn unit(&self, unit: UnitId) -> UnitStatus {
        let phase = self.phase(unit);
        let unknown = UnitRecord::default();
        let record = self.records.get(unit).unwrap_or(&unknown);
        let container = self.spec.container(unit);
        let own = Subject::Unit(unit);
        let own = self.records.blocked.get_key_value(&own);
        let own = own.filter(|_| unit.is_tentacle());
        let blocked = container.and_then(|container| self.blocked(container));
        let blocked = blocked.or(own);
        let failure = record
            .failures
            .last
            .as_ref()
            .or(blocked.map(|(_, blocked)| &blocked.failure));
        let runs = self.seen.container(unit).is_some_and(Container::is_running);
        let busy = self.records.busy.get(&Subject::Unit(unit));
        let retry_at = record.failures.retry_at.filter(|_| !runs);
        let retry_at = retry_at.or(blocked.map(|(_, blocked)| blocked.retry_at));
        let mut status = UnitStatus {
            phase: PhaseWord::from(&phase),
            external: self.is_external(unit),
            reason: self.reason(unit, &phase, record, blocked, runs),
            fix: failure.map(|failure| self.fix_of(unit, failure.cause).to_owned()),
            cause: failure.map(|failure| failure.cause),
            lines: failure
                .map(|failure| failure.lines.clone())
                .unwrap_or_default(),
            restarts: record.restarts,
            retry_in_seconds: retry_at
                .filter(|_| busy.is_none() && self.is_tried_again(unit, record))
                .map(|until| until.since(self.now).as_secs()),
            stopped: self.is_stopped_by_operator(unit),
            ..blank(unit)
        };
        if runs {
            status.for_seconds = self.now.since(record.seen_at()).as_secs();
        }
        if let Some(container) = container {
            status.container.clone_from(&container.name);
            status.image.clone_from(&container.image);
            status.ports = ports(container);
            status.polling = polling(container, self.host_name);
        }
        status
    }

    /// Why a node takes no tasks that nobody wished drained, once it was told to in vain.
    fn cannot_be_undrained(&self, unit: UnitId) -> Option<String> {
        let blocked = self.records.blocked.get(&Subject::TasksAgain(unit))?;
        let is_wished = self.desired.drained.contains(&unit);
        let words = &blocked.failure.detail;
        (!is_wished).then(|| format!("it is drained, and could not be told to take tasks: {words}"))
    }

    fn what_a_tentacle_waits_for(&self, name: TentacleName) -> Option<String> {
        let leaves = self.desired.leaving.get(&name).and_then(|one| one.leaves);
        let serves = self.spec.nodes.iter().any(|node| self.serves(node.unit));
        let words = match leaves {
            Some(Registration::Deleted) if !serves => {
                "is to go: waits for a node that deletes its registration"
            }
            Some(Registration::Deleted | Registration::Kept) => "is to go",
            None if !serves => "waits for a node that serves",
            None => return None,
        };
        Some(words.to_owned())
    }

    fn reason(
        &self,
        unit: UnitId,
        phase: &Phase,
        record: &UnitRecord,
        blocked: Option<(&Subject, &Blocked)>,
        runs: bool,
    ) -> String {
        let drains = matches!(phase, Phase::Draining { .. });
        if self.is_stopped_by_operator(unit) && !drains {
            return "stopped by the operator".to_owned();
        }
        if self.desired.out_for_restore.contains(&unit) && !drains {
            return "rests while a restore is not finished".to_owned();
        }
        if !runs && self.desired.rests(unit) {
            return "rests while the database is worked on".to_owned();
        }
        if !runs && self.desired.stopped.contains(&UnitId::Sql) {
            return "waits for db, which the operator stopped".to_owned();
        }
        // What a part of it fails on is told with the work on that part.
        let failed = || match (&record.failures.last, blocked) {
            (Some(failure), _) => Some(words_of(failure)),
            (None, Some((subject, blocked))) => match super::name_of(subject) {
                Some(name) => Some(format!("waits for {name}")),
                None => Some(words_of(&blocked.failure)),
            },
            (None, None) => None,
        };
        let probed = || record.health().last_problem.clone();
        let turn = || match unit {
            UnitId::Tentacle(name) => self.what_a_tentacle_waits_for(name),
            UnitId::Sql | UnitId::Node(_) => {
                self.ahead(unit).map(|ahead| format!("waits for {ahead}"))
            }
        };
        let text = match phase {
            Phase::Failed(_) | Phase::BackingOff { .. } | Phase::CrashLoop { .. } | Phase::Dead => {
                failed()
            }
            Phase::Draining { until } => {
                let deadline = self.desired.deadlines.tasks;
                let until = deadline.map_or(*until, |deadline| deadline.min(*until));
                let tasks = record.drain.as_ref().and_then(|drain| drain.tasks);
                Some(draining(until.since(self.now), tasks))
            }
            Phase::Drained => self.cannot_be_undrained(unit).or_else(probed),
            // While a server of ours begins, that is how it begins.
            Phase::Starting
                if record.health().refused_since.is_some() && !self.is_external(unit) =>
            {
                Some("takes no logins yet".to_owned())
            }
            Phase::Starting | Phase::Unready => probed().or_else(failed),
            Phase::Paused => Some("somebody paused the container; `docker unpause` it".to_owned()),
            Phase::Absent | Phase::Created | Phase::Stopping => {
                let busy = self.records.busy.get(&Subject::Unit(unit));
                match (busy.map(|(verb, _)| verb), failed()) {
                    (Some(verb), Some(failed)) => Some(format!("{verb}…; before: {failed}")),
                    (Some(verb), None) => Some(format!("{verb}…")),
                    (None, failed) => failed.or_else(turn),
                }
            }
            Phase::Ready => failed().map(|failed| format!("it is not replaced yet: {failed}")),
        };
        text.unwrap_or_default()
    }
}

/// The number of tasks is known where the API may be asked.
fn draining(left: Duration, tasks: Option<u64>) -> String {
    let seconds = left.as_secs();
    let tasks = match tasks {
        None => "its tasks".to_owned(),
        Some(1) => "1 task".to_owned(),
        Some(tasks) => format!("{tasks} tasks"),
    };
    format!(
        "it finishes {tasks} and takes no more, at most {}:{:02} longer",
        seconds / 60,
        seconds % 60
    )
}

fn words_of(failure: &Failure) -> String {
    format!("{}: {}", failure.cause.title(), failure.detail)
}

fn ports(container: &ContainerSpec) -> Vec<String> {
    // The engine chooses those that are zero.
    let chosen = container.ports.iter().filter(|port| port.host != 0);
    chosen
        .map(|port| format!("{}:{}->{}", port.host_ip, port.host, port.container))
        .collect()
}

/// Where Tentacles that poll reach a node. A wildcard is every address of the host: its name stands
/// for them. The TLS is the node's own, which the front door must not end.
fn polling(container: &ContainerSpec, host_name: &str) -> Option<String> {
    let port = container.published(vendor::POLLING_PORT)?;
    if port.host_ip.is_unspecified() && !host_name.is_empty() {
        return Some(format!("https://{host_name}:{}", port.host));
    }
    Some(format!("https://{}", port.reached_at()))
}

/// A unit of which only labels are known: nobody supervises it.
pub(super) fn from_labels(unit: UnitId, seen: &Observed) -> UnitStatus {
    let container = seen.container(unit);
    let mut status = blank(unit);
    if container.is_some_and(Container::is_running) {
        status.phase = PhaseWord::Running;
    }
    if let Some(container) = container {
        status.container.clone_from(&container.name);
        status.image.clone_from(&container.image);
    }
    status
}

fn blank(unit: UnitId) -> UnitStatus {
    UnitStatus {
        unit,
        container: String::new(),
        phase: PhaseWord::Stopped,
        external: false,
        reason: String::new(),
        fix: None,
        cause: None,
        lines: Vec::new(),
        for_seconds: 0,
        restarts: 0,
        retry_in_seconds: None,
        image: String::new(),
        ports: Vec::new(),
        polling: None,
        stopped: false,
    }
}
