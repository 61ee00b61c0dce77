//! When each run of each unit is asked how it is. Judging the answers is not its business, save for
//! one thing: an answer that came late because this process did not get to run says nothing about
//! the unit.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Core;
use super::looks::EngineView;
use crate::config::Timing;
use crate::daemon::message::Effect;
use crate::daemon::message::ProbeTarget;
use crate::reconcile::Mono;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Instance;
use crate::reconcile::observed::Run;
use crate::spec::Role;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// How much later than its deadline a probe may end before this process counts as starved.
const STARVED: Duration = Duration::from_millis(500);
/// Between a failure and the next probe of a unit that was ready, unless the failure itself took
/// longer.
const AFTER_MISS: Duration = Duration::from_millis(500);
/// A unit that is well may be asked by this part of its interval early, with others that are well or
/// with a look at the engine: at half of it any two come together, whenever they began, and stay so.
/// A process that wakes once for all costs less than one that wakes for each.
const EARLY: u32 = 2;
/// A Tentacle is asked so much more seldom than what serves people: each question is a line in its
/// log, and the engine tells of its end.
pub const TENTACLE_PACE: u32 = 6;
/// How often a starting unit's log is looked at.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// The longest wait after a refused login while the server may still be setting its password up:
/// each one is a line in its log, and readiness is not noticed later than this.
const REFUSED_STARTING: Duration = Duration::from_secs(5);
/// The longest wait after a refused login otherwise: an account must not be locked by us.
const REFUSED: Duration = Duration::from_secs(60);

/// Who is probed, and when.
#[derive(Debug, Default)]
pub(super) struct ProbePacing {
    probers: BTreeMap<UnitId, Pace>,
    last_number: u64,
}

/// The pace of one run of one unit.
#[derive(Debug)]
struct Pace {
    instance: Option<Instance>,
    target: ProbeTarget,
    begun: Mono,
    /// It was ready once in this run.
    started: bool,
    /// The probe under way.
    asked: Option<Asked>,
    due: Mono,
    /// Something suggests that the next answer differs from the last: ask at once.
    nudged: bool,
    refusals: u32,
    /// Answers in a row that were not success.
    unready: u32,
    log: LogMark,
}

/// A probe under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    number: u64,
    at: Mono,
    /// How long each of its phases may take.
    limit: Duration,
}

/// When a starting run's log was read.
#[derive(Debug, Default)]
struct LogMark {
    read_at: Option<Mono>,
    reading: bool,
}

impl ProbePacing {
    /// Keeps one prober for each run that can be asked, and none for what does not run.
    pub(super) fn keep_only(
        &mut self,
        mut wanted: BTreeMap<UnitId, (Option<Instance>, ProbeTarget)>,
        now: Mono,
    ) {
        self.probers.retain(|unit, pace| {
            wanted.get(unit).is_some_and(|(instance, target)| {
                *instance == pace.instance && *target == pace.target
            })
        });
        wanted.retain(|unit, _| !self.probers.contains_key(unit));
        let begun = wanted.into_iter().map(|(unit, (instance, target))| {
            let pace = Pace {
                instance,
                target,
                begun: now,
                started: false,
                asked: None,
                due: now,
                nudged: false,
                refusals: 0,
                unready: 0,
                log: LogMark::default(),
            };
            (unit, pace)
        });
        self.probers.extend(begun);
    }

    /// Asks this unit at once, or as soon as the probe under way has ended.
    pub(super) fn nudge(&mut self, unit: UnitId, now: Mono) {
        if let Some(pace) = self.probers.get_mut(&unit) {
            pace.nudged = true;
            pace.due = now;
        }
    }

    /// Asks this unit no later than at this time.
    pub(super) fn want_by(&mut self, unit: UnitId, at: Mono) {
        if let Some(pace) = self.probers.get_mut(&unit) {
            pace.due = pace.due.min(at);
        }
    }

    /// Whether a unit that is well is to be asked now.
    pub(super) fn asks_who_is_well(&self, now: Mono) -> bool {
        let mut well = self.probers.values().filter(|pace| pace.is_well());
        well.any(|pace| pace.is_due(now))
    }

    /// What is to be asked now, each with as much patience as it is given. `awake`: the engine is
    /// looked at now, and who is due soon is asked with it.
    pub(super) fn due(
        &mut self,
        patience_with: impl Fn(UnitId) -> Duration,
        awake: bool,
        steady: Duration,
        now: Mono,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let asks = awake || self.asks_who_is_well(now);
        let soon = now.after(steady / EARLY);
        for (unit, pace) in &mut self.probers {
            if pace.is_due(now) || asks && pace.is_well() && pace.is_due(soon) {
                self.last_number += 1;
                let limit = patience_with(*unit);
                let asked = Asked {
                    number: self.last_number,
                    at: now,
                    limit,
                };
                (pace.asked, pace.nudged) = (Some(asked), false);
                effects.push(Effect::Probe {
                    number: self.last_number,
                    unit: *unit,
                    instance: pace.instance.clone(),
                    target: pace.target.clone(),
                    limit,
                });
            }
        }
        effects
    }

    /// Takes in an answer and sets when to ask again. `None` when nobody waits for it any more;
    /// else the answer as it counts, and the effect of looking at the log, if it is time.
    pub(super) fn on_probed(
        &mut self,
        unit: UnitId,
        number: u64,
        probe: Probe,
        timing: &Timing,
        now: Mono,
    ) -> Option<(Probe, Option<Effect>)> {
        let pace = self.probers.get_mut(&unit)?;
        let asked = pace.asked.take_if(|asked| asked.number == number)?;
        let took = now.since(asked.at);
        let probe = judged(probe, took, unit, asked.limit);
        pace.started |= probe == Probe::Ready;
        pace.refusals = match &probe {
            Probe::Refused(_) | Probe::Alive(_) => pace.refusals.saturating_add(1),
            Probe::Unknown(_) => pace.refusals,
            Probe::Ready
            | Probe::Suspect(_)
            | Probe::NotOpen(..)
            | Probe::Drained(_)
            | Probe::Failure(..) => 0,
        };
        pace.unready = match &probe {
            Probe::Ready => 0,
            Probe::Unknown(_) => pace.unready,
            Probe::Alive(_)
            | Probe::Suspect(_)
            | Probe::NotOpen(..)
            | Probe::Drained(_)
            | Probe::Failure(..)
            | Probe::Refused(_) => pace.unready.saturating_add(1),
        };
        if !pace.nudged {
            pace.due = now.after(pace.pause(&probe, took, timing, now));
        }
        let reads = !pace.started && pace.log.is_due(now);
        let read = pace.instance.clone().filter(|_| reads);
        pace.log.reading |= read.is_some();
        Some((probe, read.map(|instance| Effect::ReadLog(unit, instance))))
    }

    /// The log of a starting run was read. False when it is of a run that is not asked any more.
    pub(super) fn on_log_read(&mut self, unit: UnitId, instance: &Instance, now: Mono) -> bool {
        let pace = self.probers.get_mut(&unit);
        let is_its = |pace: &&mut Pace| pace.instance.as_ref() == Some(instance);
        let Some(pace) = pace.filter(is_its) else {
            return false;
        };
        (pace.log.reading, pace.log.read_at) = (false, Some(now));
        true
    }

    /// Whether the answer to this probe is still waited for.
    pub(super) fn awaits(&self, unit: UnitId, number: u64) -> bool {
        let asked = self.probers.get(&unit).and_then(|pace| pace.asked);
        asked.is_some_and(|asked| asked.number == number)
    }

    /// When the next probe is due.
    pub(super) fn due_at(&self) -> Option<Mono> {
        self.probers
            .values()
            .filter(|pace| pace.asked.is_none())
            .map(|pace| pace.due)
            .min()
    }
}

/// What a probe that took this long says: one that failed long after its deadline only says that
/// this process did not get to run. A database probe has phases (TCP, prelogin and TLS, login,
/// query), each with the limit.
pub fn judged(probe: Probe, took: Duration, unit: UnitId, limit: Duration) -> Probe {
    let longest = match unit.role() {
        Role::Database => limit * 4,
        Role::Server | Role::Tentacle => limit,
    };
    match probe {
        Probe::Failure(_, why) if took > longest + STARVED => Probe::Unknown(why),
        other => other,
    }
}

impl Pace {
    fn is_due(&self, at: Mono) -> bool {
        self.asked.is_none() && self.due <= at
    }

    fn is_well(&self) -> bool {
        self.started && self.unready == 0
    }

    fn pause(&self, probe: &Probe, took: Duration, timing: &Timing, now: Mono) -> Duration {
        let steady = timing.steady_probe;
        let starting = if now.since(self.begun) < timing.fast_window {
            timing.start_probe_fast
        } else {
            timing.start_probe_slow
        };
        match (probe, self.started) {
            (Probe::Refused(_), _) => self.pause_after_refusal(timing),
            // A server that upgrades its own databases takes no logins either, for minutes.
            (Probe::Alive(_), false) => growing(self.refusals, REFUSED_STARTING, timing),
            (Probe::Ready, _) => steady,
            // It is somebody else's server, and each question brings it the password again, which
            // keeps an account locked out that is.
            (_, _) if self.instance.is_none() => growing(self.unready, REFUSED_STARTING, timing),
            (Probe::Failure(..), true) => AFTER_MISS.min(steady).saturating_sub(took),
            (_, true) => steady * self.target_pace(),
            (_, false) => starting,
        }
    }

    /// How much more seldom than others a target is asked.
    fn target_pace(&self) -> u32 {
        match self.target {
            ProbeTarget::Database(_) | ProbeTarget::Node(_) => 1,
            ProbeTarget::Tentacle(_) => TENTACLE_PACE,
        }
    }

    /// Each refused login is a line in the server's log and counts against the account, so waits
    /// grow. A server of ours that starts may refuse for a while because it is not set up yet.
    fn pause_after_refusal(&self, timing: &Timing) -> Duration {
        let starts = self.instance.is_some() && !self.started;
        let longest = if starts { REFUSED_STARTING } else { REFUSED };
        growing(self.refusals, longest, timing)
    }
}

/// The wait after so many answers in a row that are no reason to ask again soon.
fn growing(answers: u32, longest: Duration, timing: &Timing) -> Duration {
    let doublings = answers.saturating_sub(1).min(16);
    (timing.start_probe_slow * 2u32.pow(doublings)).min(longest)
}

impl LogMark {
    fn is_due(&self, now: Mono) -> bool {
        !self.reading
            && self
                .read_at
                .is_none_or(|at| now.since(at) >= PROGRESS_EVERY)
    }
}

impl Core {
    /// Keeps one prober for each run that can be asked, and asks those whose turn it is. `looks`: the
    /// engine is looked at now.
    pub(super) fn probe(&mut self, looks: bool) {
        let wanted = match &self.state.desired.spec {
            Some(spec) if *self.looks.engine() != EngineView::Unknown => self.who_is_probed(spec),
            Some(_) | None => BTreeMap::new(),
        };
        let now = self.now.mono;
        self.pacing.keep_only(wanted, now);
        let timing = self.state.timing();
        let soon = now.after(timing.start_probe_slow);
        for unit in self.state.unconfirmed(now) {
            self.pacing.want_by(unit, soon);
        }
        let patience_with = |unit| self.state.patience_with(unit);
        let due = self
            .pacing
            .due(patience_with, looks, timing.steady_probe, now);
        self.out.extend(due);
    }

    /// A probe ended. False where there is nothing to decide by what it says.
    pub(super) fn on_probed(
        &mut self,
        unit: UnitId,
        number: u64,
        instance: Option<&Instance>,
        probe: Probe,
    ) -> bool {
        let (timing, now) = (self.state.timing(), self.now.mono);
        let paced = self.pacing.on_probed(unit, number, probe, &timing, now);
        let Some((probe, reads_log)) = paced else {
            return false;
        };
        let is_news = self.state.probed(unit, instance, &probe, now);
        self.out.extend(reads_log);
        self.ask_whether_it_starves(unit, instance, &probe);
        is_news
    }

    /// The last lines of a starting run's log were read.
    pub(super) fn on_log_read(&mut self, unit: UnitId, instance: &Instance, lines: &[String]) {
        let now = self.now.mono;
        if self.pacing.on_log_read(unit, instance, now) {
            self.state.on_log_read(unit, instance, lines, now);
        }
    }

    fn who_is_probed(&self, spec: &StackSpec) -> BTreeMap<UnitId, (Option<Instance>, ProbeTarget)> {
        let mut wanted = BTreeMap::new();
        if spec.sql.is_none() {
            let target = ProbeTarget::Database(spec.database.clone());
            wanted.insert(UnitId::Sql, (None, target));
        }
        // A frozen process cannot answer, and is not asked.
        let moves = |container: &&Container| matches!(container.run, Run::Running { .. });
        for container in self.state.seen.all().filter(moves) {
            let current = spec
                .container(container.unit)
                .filter(|wanted| wanted.digest() == container.digest);
            let target = match (container.unit, current) {
                (_, None) => None,
                (UnitId::Sql, Some(_)) => Some(ProbeTarget::Database(spec.database.clone())),
                (UnitId::Node(_), Some(node)) => node.host_address().map(ProbeTarget::Node),
                (UnitId::Tentacle(_), Some(_)) => Some(ProbeTarget::Tentacle(container.id.clone())),
            };
            if let Some(target) = target {
                wanted.insert(container.unit, (container.instance(), target));
            }
        }
        wanted
    }
}
