//! One journey after the other on one fake engine: an `up` or a `down` in which something happens
//! at single calls of the daemon, and what must be true at its end.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Mutex;

use rustix::process::Signal;

use super::case::Case;
use super::case::OCTOPUS;
use crate::fake::call::Verb;
use crate::fake::invariants::Allowed;
use crate::fake::script::Act;
use crate::fake::script::Turn;
use crate::kit::process::wait_until;

/// Journeys at the same time. Much of one is waiting.
const WORKERS: usize = 3;

/// What the daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Journey {
    /// The first `up` on a machine.
    Cold,
    /// An `up` with a changed variable of the nodes.
    Change,
    /// An `up` with a newer version.
    Version,
    /// A `down`.
    Down,
    /// A `down` that takes the data too.
    DownWithData,
}

impl Journey {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Cold | Self::Change => &["up"],
            // The fake engine has no files to back up.
            Self::Version => &["up", "--no-backup"],
            Self::Down => &["down"],
            Self::DownWithData => &["down", "--volumes", "--yes"],
        }
    }

    fn goes_up(self) -> bool {
        matches!(self, Self::Cold | Self::Change | Self::Version)
    }

    /// The units that start, each once: whatever happens, nothing that runs as it should is
    /// restarted.
    fn starts(self) -> BTreeMap<String, usize> {
        let units: &[&str] = match self {
            Self::Cold => &["db", "octopus-server-1", "octopus-server-2"],
            Self::Change | Self::Version => &["octopus-server-1", "octopus-server-2"],
            Self::Down | Self::DownWithData => &[],
        };
        units.iter().map(|unit| ((*unit).to_owned(), 1)).collect()
    }
}

/// Whoever makes the journeys.
pub(super) struct JourneyRunner {
    case: Case,
    is_up: bool,
    /// Counts the journeys: each change is another one.
    round: usize,
    failures: Vec<String>,
}

/// Lets several travel at once, each on an engine of its own; gives the journeys that failed.
pub(super) fn in_parallel(work: impl Fn(&mut JourneyRunner) + Sync) -> Vec<String> {
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut journey_runner = JourneyRunner {
                    case: Case::new(),
                    is_up: false,
                    round: 0,
                    failures: Vec::new(),
                };
                work(&mut journey_runner);
                failures
                    .lock()
                    .unwrap()
                    .append(&mut journey_runner.failures);
            });
        }
    });
    failures.into_inner().unwrap()
}

impl JourneyRunner {
    /// One journey. Gives the call that the last turn came to; none when the journey ended before.
    pub(super) fn travel(&mut self, journey: Journey, turns: &[Turn]) -> Option<Verb> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.prepare(journey);
            self.go(journey, turns);
        }));
        let came_to = self
            .case
            .engine
            .turns()
            .get(turns.len() - 1)
            .and_then(|turn| turn.came_to);
        if let Err(error) = outcome {
            let why = error.downcast_ref::<String>().cloned();
            let why = why
                .or_else(|| error.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            // The first one is shown whole: the others often have the same cause.
            let told = if self.failures.is_empty() {
                self.case.engine.world().timeline.told()
            } else {
                String::new()
            };
            let turns: Vec<String> = turns
                .iter()
                .map(|turn| format!("{:?} at call {}", turn.act, turn.at))
                .collect();
            // The reason comes last: of an output that is cut, the end is what is kept.
            self.failures.push(format!(
                "{told}{journey:?}, {}, last at {came_to:?}: {why}",
                turns.join(" and ")
            ));
            self.case.clear();
            self.is_up = false;
        }
        came_to
    }

    /// Each journey begins with a daemon that finds what runs.
    fn prepare(&mut self, journey: Journey) {
        self.round += 1;
        let case = &self.case;
        if journey == Journey::Cold || !self.is_up {
            case.clear();
        }
        if journey != Journey::Cold && !self.is_up {
            case.run(&["up"]).ok();
        }
        case.kill_daemon();
        self.is_up = journey.goes_up();
        match journey {
            Journey::Change => case.set("TASK_CAP", &self.round.to_string()),
            Journey::Version => {
                let tag = format!("1.{}", self.round);
                case.engine.add_image(&format!("{OCTOPUS}:{tag}"));
                case.set("OCTOPUS_SERVER_TAG", &tag);
            }
            Journey::Cold | Journey::Down | Journey::DownWithData => {}
        }
    }

    fn go(&self, journey: Journey, turns: &[Turn]) {
        let case = &self.case;
        let before = case.starts();
        case.engine.at(turns.iter().cloned());
        self.insist(journey);
        case.engine.calm();
        let started = more(&before, &case.starts());
        assert_eq!(
            started,
            journey.starts(),
            "each unit that must start starts once, and no other"
        );
        let data_goes = journey == Journey::DownWithData;
        case.check(&Allowed {
            data_goes,
            ..Allowed::default()
        });
        if journey.goes_up() {
            case.run(&["plan"]).with(0);
        } else {
            assert!(case.is_gone(), "nothing is left");
            assert_eq!(
                case.engine.world().has_no_data(),
                data_goes,
                "the data stays or goes"
            );
        }
    }

    /// What follows a death takes turns: an `up` goes on by itself; a person interrupts the command
    /// and asks again; systemd puts another daemon in the dead one's place, which goes on with what
    /// was applied. A `down` is asked for again.
    fn insist(&self, journey: Journey) {
        let mut successors = Vec::new();
        loop {
            let before = self.came();
            let mut command = self.case.spawn(journey.words());
            let mut seen = before;
            loop {
                wait_until("the command ends or its daemon dies", || {
                    (command.has_ended() || self.dies() && self.came() > seen).then_some(())
                });
                if command.has_ended() {
                    break;
                }
                seen = self.came();
                match self.round % 3 {
                    0 if self.case.is_wanted_up() => successors.push(self.case.spawn(&["daemon"])),
                    1 => {}
                    _ => command.signal(Signal::INT),
                }
            }
            let ended = command.end();
            // An `up` goes on by itself, unless its daemon died before it ever answered.
            let goes_on = self.round % 3 == 1
                && journey.goes_up()
                && !ended.err.contains("the daemon does not answer");
            let may_fail = self.dies() && self.came() > before && !goes_on;
            if ended.code == 0 || !may_fail {
                ended.ok();
                return;
            }
        }
    }

    fn came(&self) -> usize {
        self.case
            .engine
            .turns()
            .iter()
            .filter(|turn| turn.came_to.is_some())
            .count()
    }

    fn dies(&self) -> bool {
        self.case
            .engine
            .turns()
            .iter()
            .any(|turn| !matches!(turn.act, Act::Fails(_)))
    }
}

fn more(
    before: &BTreeMap<String, usize>,
    after: &BTreeMap<String, usize>,
) -> BTreeMap<String, usize> {
    let more = |(unit, count): (&String, &usize)| {
        let more = count - before.get(unit).copied().unwrap_or(0);
        (more > 0).then(|| (unit.clone(), more))
    };
    after.iter().filter_map(more).collect()
}
