//! What the engine tells of our containers by itself, and what somebody else does to them.

use time::OffsetDateTime;

use super::Goal;
use super::Mono;
use super::Observed;
use super::action::Subject;
use super::action::Verb;
use super::observed::Container;
use super::observed::Instance;
use super::state::Signalled;
use super::state::State;
use crate::spec::UnitId;

/// Something that the engine told about a container, as it said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// The container's ID.
    pub id: String,
    /// The event: `die`, `kill`, `pause`, …
    pub word: String,
    /// When, by the engine's clock.
    pub at: Option<OffsetDateTime>,
    /// The signal of a `kill`.
    pub signal: Option<String>,
    /// The exit code of a `die`.
    pub code: Option<i64>,
}

impl State {
    /// What we are at with a unit.
    fn verb_of(&self, unit: UnitId) -> Option<Verb> {
        self.records
            .busy
            .get(&Subject::Unit(unit))
            .map(|(verb, _)| *verb)
    }

    /// Takes in what the engine told about a container of ours, and describes what somebody else
    /// does to it.
    pub fn heard(&mut self, heard: &ContainerEvent, now: Mono) {
        let Some(unit) = self
            .seen
            .all()
            .find(|one| one.id == heard.id)
            .map(|one| one.unit)
        else {
            return;
        };
        // The end of a run is taken at the engine's word, and these change what a look shows.
        if matches!(
            heard.word.as_str(),
            "pause" | "unpause" | "start" | "destroy"
        ) {
            self.on_change_told();
        }
        match heard.word.as_str() {
            "die" => self.ended(heard, now),
            "oom" if self.run_of(heard).is_some() => {
                if let Some(running) = self.records.of(unit).running_mut() {
                    running.oom = true;
                }
            }
            _ => {}
        }
        let what = match (heard.word.as_str(), heard.signal.as_deref()) {
            ("kill", _) if matches!(self.verb_of(unit), Some(Verb::Stop | Verb::Remove)) => return,
            ("kill", signal) => {
                return self.signals.push(Signalled {
                    unit,
                    signal: signal.unwrap_or("?").to_owned(),
                    is_covered: false,
                });
            }
            ("pause", _) => "somebody froze it: it is left alone until it is thawed".to_owned(),
            ("unpause", _) => "somebody thawed it".to_owned(),
            ("rename", _) => "somebody renamed its container".to_owned(),
            ("oom", _) => "the kernel killed a process in it for memory".to_owned(),
            _ => return,
        };
        self.tell(&unit, what);
    }

    /// The engine still answers: signals that it told of before it was asked were not the beginning
    /// of its own end.
    pub(super) fn tell_of_signals(&mut self) {
        for Signalled { unit, signal, .. } in self
            .signals
            .extract_if(.., |one| one.is_covered)
            .collect::<Vec<_>>()
        {
            let what = format!(
                "somebody sent it signal {signal} (docker stop or kill); `octo-local stop {unit}` keeps it stopped"
            );
            self.tell(&unit, what);
        }
    }

    /// The engine goes away: it ended what it ran first (moby `daemon/daemon.go`, `Shutdown`), and
    /// nobody else did.
    pub fn on_engine_left(&mut self) {
        for Signalled { unit, signal, .. } in std::mem::take(&mut self.signals) {
            let what = format!("the engine sent it signal {signal} as it went away itself");
            self.tell(&unit, what);
        }
    }

    /// The engine told of the end of a run. It answers no question about that container for a
    /// while, and need not be asked: the run that was seen is over, if it is an older one than the
    /// end.
    fn ended(&mut self, heard: &ContainerEvent, now: Mono) {
        let Some((instance, code)) = self.run_of(heard).zip(heard.code) else {
            return;
        };
        for container in self.seen.all_mut().filter(|one| one.id == heard.id) {
            container.end(code, self.records.saw_oom(container.unit));
        }
        self.deaths.insert(instance, code);
        self.take_in_runs(now);
    }

    /// The run that was seen running, if what was heard is about it and not about an earlier one.
    fn run_of(&self, heard: &ContainerEvent) -> Option<Instance> {
        let container = self
            .seen
            .all()
            .find(|one| one.id == heard.id && one.is_running())?;
        container
            .instance()
            .filter(|instance| instance.began().is_some_and(|began| heard.at > Some(began)))
    }

    /// What is gone was removed by somebody else, if we were not at it. Whoever replaces the data
    /// removes nodes past the plan, and may be done before a look shows that.
    pub(super) fn tell_of_what_somebody_removed(&mut self, before: &Observed) {
        let is_replaced = self.desired.data_is_replaced;
        let was_replaced = std::mem::replace(&mut self.data_was_replaced, is_replaced);
        let is_gone = |old: &&Container| self.seen.all().all(|one| one.id != old.id);
        let gone: Vec<UnitId> = before.all().filter(is_gone).map(|one| one.unit).collect();
        let what = if self.desired.goal == Goal::Up {
            "somebody removed its container: it is made again; `octo-local down` takes the stack away"
        } else {
            "somebody removed its container"
        };
        for unit in gone {
            let is_ours = unit.is_server() && (is_replaced || was_replaced);
            if self.verb_of(unit) != Some(Verb::Remove) && !is_ours {
                self.tell(&unit, what);
            }
        }
    }
}
