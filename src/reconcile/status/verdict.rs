//! One word for the whole stack, and one line that says more.

use serde::Deserialize;
use serde::Serialize;

use super::Note;
use super::Status;
use super::UnitStatus;
use super::VersionStep;
use super::is_down;
use super::units::PhaseWord;
use crate::reconcile::Desired;
use crate::reconcile::Goal;
use crate::reconcile::Observed;
use crate::reconcile::UnitRecords;
use crate::reconcile::action::Subject;
use crate::reconcile::cause::Class;
use crate::reconcile::observed::Container;
use crate::spec::UnitId;

/// One word for the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Verdict {
    /// Nothing is wanted and nothing runs.
    #[default]
    Down,
    /// On its way.
    Working,
    /// Everything wanted is ready, and nothing remains to be done.
    Ready,
    /// Everything serves with what was before; what `up` asked for cannot be done yet.
    ChangeWaits,
    /// Everything wanted serves, save what is being repaired.
    Degraded,
    /// The operator stopped everything on purpose.
    Stopped,
    /// No node runs, because a restore goes on or was broken off; SQL Server serves.
    Restoring,
    /// Stopped with a named cause, or crash-looping.
    Failed,
    /// The engine does not answer.
    EngineDown,
    /// Somebody interrupted the start: nothing is started or restarted.
    Held,
}

/// Every verdict with its word for machines. The one place of these words.
const WORDS: [(Verdict, &str); 10] = [
    (Verdict::Down, "down"),
    (Verdict::Working, "working"),
    (Verdict::Ready, "ready"),
    (Verdict::ChangeWaits, "ready-change-waits"),
    (Verdict::Degraded, "degraded"),
    (Verdict::Stopped, "stopped"),
    (Verdict::Restoring, "restoring"),
    (Verdict::Failed, "failed"),
    (Verdict::EngineDown, "engine-down"),
    (Verdict::Held, "held"),
];

/// What a monitor asks of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything wanted serves.
    Serves,
    /// It gets there by itself, or a part serves meanwhile; the daemon goes on.
    OnItsWay,
    /// It does not serve, by wish or not, and does not get there by itself.
    DoesNotServe,
}

impl Verdict {
    /// The word for machines.
    pub fn word(self) -> &'static str {
        WORDS
            .into_iter()
            .find(|(verdict, _)| *verdict == self)
            .map_or("", |(_, word)| word)
    }

    /// Whether what was asked for is not done, for a named cause that time alone need not cure.
    pub fn has_failed(self) -> bool {
        matches!(self, Self::Failed | Self::ChangeWaits)
    }

    /// Whether nothing remains for the daemon to do, by wish or because all is well.
    pub fn is_at_rest(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Stopped | Self::Restoring | Self::Down | Self::Held
        )
    }

    /// What a monitor makes of it.
    pub fn health(self) -> Health {
        match self {
            Self::Ready => Health::Serves,
            Self::Working | Self::ChangeWaits | Self::Degraded | Self::Restoring => {
                Health::OnItsWay
            }
            Self::Down | Self::Stopped | Self::Failed | Self::EngineDown | Self::Held => {
                Health::DoesNotServe
            }
        }
    }
}

impl From<Verdict> for &'static str {
    fn from(verdict: Verdict) -> Self {
        verdict.word()
    }
}

impl TryFrom<String> for Verdict {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let known = WORDS.into_iter().find(|(_, known)| *known == word);
        known
            .map(|(verdict, _)| verdict)
            .ok_or_else(|| format!("{word} is no verdict"))
    }
}

/// A verdict and its words for people.
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    /// What the verdict is called.
    pub(super) phrase: &'static str,
    /// What it is about; empty where the phrase says it all.
    pub(super) detail: String,
}

impl Judgement {
    fn new(verdict: Verdict, phrase: &'static str, detail: impl Into<String>) -> Self {
        Self {
            verdict,
            phrase,
            detail: detail.into(),
        }
    }

    /// What was seen is older than the last wish.
    pub(super) fn looking() -> Self {
        Self::new(Verdict::Working, "looking", "")
    }
}

/// What the stack is called, from its units and what is under way. `at_rest`: the plan is empty.
pub(super) fn judge(
    status: &Status,
    desired: &Desired,
    seen: &Observed,
    records: &UnitRecords,
    at_rest: bool,
) -> Judgement {
    use Judgement as J;
    if let Some(problem) = &status.engine_problem {
        let phrase = "the Docker Engine does not answer";
        return J::new(Verdict::EngineDown, phrase, problem.as_str());
    }
    match desired.goal {
        Goal::Up if desired.spec.is_some() => judge_up(status, desired, seen, records, at_rest),
        Goal::Hold if desired.spec.is_some() => {
            J::new(Verdict::Held, "held", why_held(status, desired))
        }
        Goal::Down { .. } if !is_down(desired, seen, records) => {
            J::new(Verdict::Working, "going down", "")
        }
        Goal::Halt if !records.is_idle() => J::new(Verdict::Working, "stopping", ""),
        Goal::Up | Goal::Hold | Goal::Halt | Goal::Down { .. } => J::new(Verdict::Down, "down", ""),
    }
}

/// An `up` goes on with what is held, save where it would make a new database unasked: the note
/// says what helps there.
fn why_held(status: &Status, desired: &Desired) -> &'static str {
    let is_gone = |note: &Note| matches!(note, Note::DataGone { .. });
    let is_others = |note: &Note| matches!(note, Note::LookedAfter { .. });
    if status.notes.iter().any(is_gone) {
        "nothing is started or restarted, because the volume with the database is gone"
    } else if status.notes.iter().any(is_others) {
        "another octo-local looks after this project"
    } else if desired.hands_off {
        "nothing is started or restarted; `octo-local up` goes on"
    } else {
        "what has served is kept running, and nothing else is started; `octo-local up` goes on"
    }
}

/// What is wanted of a stack that is up, and how it stands.
struct Wanted<'a> {
    /// The units that the operator wants to run.
    units: Vec<&'a UnitStatus>,
    /// How many rest because the operator wished that.
    resting: usize,
}

/// What the operator stopped is as it was wished, and so are nodes that cannot run without a
/// database that was stopped.
fn wanted<'a>(status: &'a Status, desired: &Desired, seen: &Observed) -> Wanted<'a> {
    let no_database = desired.stopped.contains(&UnitId::Sql);
    let runs = |unit: &UnitStatus| seen.container(unit.unit).is_some_and(Container::is_running);
    let (resting, units): (Vec<_>, Vec<_>) = status
        .units
        .iter()
        .partition(|unit| desired.stopped.contains(&unit.unit) || no_database && !runs(unit));
    Wanted {
        units,
        resting: resting.len(),
    }
}

fn judge_up(
    status: &Status,
    desired: &Desired,
    seen: &Observed,
    records: &UnitRecords,
    at_rest: bool,
) -> Judgement {
    use Judgement as J;
    let mut of_stack = records.units.iter().filter(|(unit, _)| !unit.is_tentacle());
    if of_stack.any(|(_, record)| record.is_unread()) {
        return J::new(Verdict::Working, "reading the log of what failed", "");
    }
    let change = status.version_change.as_ref();
    if let Some(back) = change.filter(|change| change.step == VersionStep::NotBroughtBack) {
        return J::new(Verdict::Failed, "failed", format!("{back}: {}", back.step));
    }
    let wanted = wanted(status, desired, seen);
    // Of nodes that rest while their version goes, it does not matter that they failed with it.
    let goes_back = change.is_some_and(|change| change.step == VersionStep::BringingBack);
    let matters = |unit: &UnitStatus| unit.unit.is_database() || !goes_back;
    let failed = |unit: &&&UnitStatus| unit.phase.has_failed() && matters(unit);
    if let Some(unit) = wanted.units.iter().find(failed) {
        let detail = format!("{}: {}", unit.unit, unit.reason);
        return J::new(Verdict::Failed, "failed", detail);
    }
    let waiting: Vec<&UnitStatus> = wanted
        .units
        .iter()
        .copied()
        .filter(|unit| !is_settled(unit, desired))
        .collect();
    if let Some(detail) = stays_drained(status, desired, records) {
        return J::new(Verdict::Failed, "failed", detail);
    }
    if let Some(detail) = blocked(status, records) {
        return if waiting.is_empty() && !status.units.is_empty() {
            J::new(Verdict::ChangeWaits, "ready, and a change waits", detail)
        } else {
            J::new(Verdict::Failed, "failed", detail)
        };
    }
    if let Some(change) = change.filter(|change| change.has_nodes_rest()) {
        return J::new(
            Verdict::Working,
            "at work",
            format!("{} {change}", change.step),
        );
    }
    match waiting.first() {
        None if at_rest => judge_what_rests(status, wanted.resting),
        None => {
            let work = status.work.first().map(ToString::to_string);
            J::new(Verdict::Working, "at work", work.unwrap_or_default())
        }
        Some(unit) if waiting.iter().any(|unit| unit.restarts > 0) => J::new(
            Verdict::Degraded,
            "degraded",
            format!("{} is {}", unit.unit, unit.phase),
        ),
        Some(unit) => J::new(
            Verdict::Working,
            "working",
            format!("{} is {}", unit.unit, unit.phase),
        ),
    }
}

/// Everything that is to run serves. `resting`: how many units are not to.
fn judge_what_rests(status: &Status, resting: usize) -> Judgement {
    use Judgement as J;
    if let Some(detail) = status.notes.iter().find_map(unfinished_restore) {
        return J::new(Verdict::Restoring, "a restore is not finished", detail);
    }
    match resting {
        0 => J::new(Verdict::Ready, "ready", ""),
        some if some < status.units.len() => {
            J::new(Verdict::Ready, "ready, save what the operator stopped", "")
        }
        _ => J::new(
            Verdict::Stopped,
            "everything was stopped by the operator",
            "",
        ),
    }
}

/// Which restore has the nodes out, and the way on where whoever began it is gone.
fn unfinished_restore(note: &Note) -> Option<String> {
    let Note::RestoreUnfinished { set, .. } = note else {
        return None;
    };
    Some(format!(
        "no node runs before that of backup {set} is; if none goes on, `octo-local backup restore {set} --force` again"
    ))
}

/// Whether a unit serves, or takes no tasks as somebody wished. What it says of itself counts, not
/// what it was asked.
fn is_settled(unit: &UnitStatus, desired: &Desired) -> bool {
    let is_drained = match unit.phase {
        PhaseWord::Ready => false,
        PhaseWord::Drained => true,
        PhaseWord::Absent
        | PhaseWord::Created
        | PhaseWord::Starting
        | PhaseWord::Unready
        | PhaseWord::Draining
        | PhaseWord::Paused
        | PhaseWord::Dead
        | PhaseWord::Stopping
        | PhaseWord::BackingOff
        | PhaseWord::CrashLoop
        | PhaseWord::Failed
        | PhaseWord::Running
        | PhaseWord::Stopped => return false,
    };
    is_drained == desired.drained.contains(&unit.unit)
}

/// How often a node that nobody wished drained is told in vain to take tasks, before that is a
/// failure: others wait for it, and whoever follows an `up` waits for them.
const UNDRAIN_TRIES: u32 = 5;

/// A node that takes no tasks, although nobody wished that, and cannot be told to.
fn stays_drained(status: &Status, desired: &Desired, records: &UnitRecords) -> Option<String> {
    let tries = |unit: &UnitStatus| {
        let blocked = records.blocked.get(&Subject::TasksAgain(unit.unit));
        blocked.map_or(0, |blocked| blocked.failures)
    };
    let stays = |unit: &&UnitStatus| {
        unit.phase == PhaseWord::Drained
            && !desired.drained.contains(&unit.unit)
            && tries(unit) >= UNDRAIN_TRIES
    };
    let unit = status.units.iter().find(stays)?;
    Some(format!(
        "{}: {}; the daemon goes on trying",
        unit.unit, unit.reason
    ))
}

/// What cannot be done, by its name and cause; what the engine said of it is told once, with the
/// work itself. Without an end of trying: the daemon goes on.
fn blocked(status: &Status, records: &UnitRecords) -> Option<String> {
    let lasts = |class: Class| class != Class::Transient;
    let part = records
        .blocked_of_stack()
        .find(|(_, blocked)| lasts(blocked.failure.cause.class()))
        .map(|(subject, blocked)| {
            let what = super::name_of(subject).unwrap_or_default();
            format!("{what}: {}", blocked.failure.cause.title())
        });
    let unit = || {
        let refused = |unit: &&UnitStatus| {
            unit.phase == PhaseWord::Ready && unit.cause.is_some_and(|cause| lasts(cause.class()))
        };
        let unit = status.units.iter().find(refused)?;
        Some(format!("{}: {}", unit.unit, unit.cause?.title()))
    };
    part.or_else(unit)
        .map(|detail| format!("{detail}; the daemon goes on trying"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_its_data_is_not_sent_to_up() {
        let mut status = Status::default();
        let desired = Desired::default();
        assert!(why_held(&status, &desired).contains("`octo-local up`"));
        status.notes.push(Note::DataGone {
            volume: "p_sql-data".to_owned(),
        });
        let why = why_held(&status, &desired);
        assert!(why.contains("is gone") && !why.contains("octo-local up"));
    }

    #[test]
    fn every_verdict_has_one_word_that_comes_back() {
        for (verdict, word) in WORDS {
            assert_eq!(serde_json::to_value(verdict).unwrap(), word);
            assert_eq!(Verdict::try_from(word.to_owned()), Ok(verdict));
        }
        assert!(Verdict::try_from("fine".to_owned()).is_err());
    }
}
