//! The phase of a unit: derived on each pass, never stored, so it cannot disagree with Docker.
//!
//! ```text
//!  Absent ──> Created ──> Starting ──> Ready <──> Unready
//!    ^           ^           │           │           │
//!    │           │           └───────────┴─────┬─────┘
//!    │           │                          Dead (exit, not examined yet)
//!    │           └── BackingOff / CrashLoop <──┤
//!    └── Removing / Stopping                   └──> Failed(cause)
//! ```

use super::Cause;
use super::Mono;
use super::Observed;
use super::UnitRecords;
use super::action::Subject;
use super::action::Verb;
use super::cause::Class;
use super::observed::Run;
use super::record::DrainStep;
use super::record::UnitRecord;
use crate::spec::UnitId;

/// Failures in a row from which a unit counts as crash-looping.
pub const CRASH_LOOP_FAILURES: u32 = 5;

/// What a unit is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// There is no container.
    Absent,
    /// There is a container that was never started, or one that we stopped.
    Created,
    /// It runs and was not ready yet.
    Starting,
    /// It serves.
    Ready,
    /// It runs, was ready, and is not now.
    Unready,
    /// It runs and is well, and finishes its tasks, taking no more.
    Draining {
        /// Until then, at most.
        until: Mono,
    },
    /// It runs and is well, and takes no work because somebody drained it: in nobody's way.
    Drained,
    /// Somebody froze it.
    Paused,
    /// Its process ended and nobody looked at why.
    Dead,
    /// It is being ended by us, or taken away.
    Stopping,
    /// It failed and is started again at `until`.
    BackingOff {
        /// The instant of the next start.
        until: Mono,
    },
    /// It failed several times in a row; the next start is at `until`.
    CrashLoop {
        /// The instant of the next start.
        until: Mono,
    },
    /// It failed for a cause that only a person or the host can cure.
    Failed(Cause),
}

/// The phase of one unit now. For an external database only what its probes say counts.
pub fn phase_of(
    unit: UnitId,
    external: bool,
    seen: &Observed,
    records: &UnitRecords,
    now: Mono,
) -> Phase {
    let unknown = UnitRecord::default();
    let record = records.get(unit).unwrap_or(&unknown);
    if let Some(cause) = record.gave_up() {
        return Phase::Failed(cause);
    }
    if external {
        return running(record);
    }
    let Some(container) = seen.container(unit) else {
        return waiting(record, now).unwrap_or(Phase::Absent);
    };
    let stopping = matches!(
        records.busy.get(&Subject::Unit(unit)),
        Some((Verb::Stop | Verb::Remove, _))
    );
    match &container.run {
        Run::Removing => Phase::Stopping,
        Run::Running { .. } | Run::Paused { .. } | Run::Exited { .. } if stopping => {
            Phase::Stopping
        }
        Run::Paused { .. } => Phase::Paused,
        Run::Running { .. } if record.instance() == container.instance().as_ref() => {
            running(record)
        }
        Run::Running { .. } => Phase::Starting,
        Run::Exited { .. } if record.unexamined().is_some() => Phase::Dead,
        Run::Exited { .. } | Run::Created => waiting(record, now).unwrap_or(Phase::Created),
    }
}

fn running(record: &UnitRecord) -> Phase {
    let health = record.health();
    let asked = record.instance().and_then(|run| record.drain_of(run));
    if let Some(drain) = asked.filter(|drain| drain.step == DrainStep::Asked)
        && (health.ready || health.drained)
    {
        return Phase::Draining { until: drain.until };
    }
    match (health.started, health.ready) {
        (_, true) => Phase::Ready,
        _ if health.drained => Phase::Drained,
        (true, false) => Phase::Unready,
        (false, false) => Phase::Starting,
    }
}

fn waiting(record: &UnitRecord, now: Mono) -> Option<Phase> {
    let failure = record.failures.last.as_ref()?;
    if failure.cause.class() == Class::Host {
        return Some(Phase::Failed(failure.cause));
    }
    let until = record.failures.retry_at.filter(|until| *until > now)?;
    Some(if record.failures.count >= CRASH_LOOP_FAILURES {
        Phase::CrashLoop { until }
    } else {
        Phase::BackingOff { until }
    })
}

impl Phase {
    /// Whether the unit is in nobody's way: it serves, or is well and takes no tasks.
    pub fn is_well(&self) -> bool {
        match self {
            Self::Ready | Self::Draining { .. } | Self::Drained => true,
            Self::Absent
            | Self::Created
            | Self::Starting
            | Self::Unready
            | Self::Paused
            | Self::Dead
            | Self::Stopping
            | Self::BackingOff { .. }
            | Self::CrashLoop { .. }
            | Self::Failed(_) => false,
        }
    }

    /// The one word for tables and machines.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Draining { .. } => "draining",
            Self::Drained => "drained",
            Self::Paused => "paused",
            Self::Dead => "dead",
            Self::Stopping => "stopping",
            Self::BackingOff { .. } => "backing-off",
            Self::CrashLoop { .. } => "crash-loop",
            Self::Failed(_) => "failed",
        }
    }
}
