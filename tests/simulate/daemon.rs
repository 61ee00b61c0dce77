//! The daemon of the simulation: it keeps to the protocol of `daemon/driver.rs` and owns the same
//! `State`, with a virtual clock in place of tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use octo_local::config::Pull;
use octo_local::daemon::store;
use octo_local::reconcile::Action;
use octo_local::reconcile::Desired;
use octo_local::reconcile::Goal;
use octo_local::reconcile::Mono;
use octo_local::reconcile::News;
use octo_local::reconcile::Observed;
use octo_local::reconcile::State;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::container_event::ContainerEvent;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Instance;
use octo_local::reconcile::status::is_down;
use octo_local::spec::UnitId;

use super::observation::Memory;
use super::observation::Prober;
use super::operator::Asked;
use super::operator::Wish;
use super::sim::Event;
use super::sim::Sim;
use super::world::Ms;

/// As in `daemon/look.rs`.
pub(super) const RELIST_EVERY: Ms = 5_000;
const RECHECK_EVERY: Ms = 30_000;
const ENGINE_RETRY: Ms = 1_000;
/// As in `daemon/awake.rs`.
const GAP: Ms = 10_000;
/// As in `daemon/ending.rs`.
const ENGINE_FAREWELL: Ms = 10_000;

/// What the daemon's queue carries.
#[derive(Debug)]
pub(super) enum Input {
    Container(ContainerEvent),
    Infrastructure,
    Images,
    StreamOpened,
    StreamClosed,
    Looked(Result<Observed, String>, Memory),
    Probed(UnitId, Option<Instance>, Probe),
    Progressed(UnitId),
    Done(Action, Result<Outcome, Trouble>),
    Asked(Wish),
    Gathered(Box<Asked>),
}

/// What the next look must not trust its memory about.
#[derive(Debug, Default)]
pub(super) struct Stale {
    pub(super) everything: bool,
    pub(super) containers: Vec<String>,
    pub(super) infrastructure: bool,
    pub(super) images: bool,
}

#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) epoch: u64,
    began: Ms,
    pub(super) state: State,
    pub(super) engine: bool,
    problem: bool,
    wished: bool,
    covered: bool,
    pub(super) stale: Stale,
    pub(super) memory: Memory,
    pub(super) look_wanted: bool,
    looking: bool,
    relist_at: Ms,
    recheck_at: Ms,
    pub(super) probers: BTreeMap<UnitId, Prober>,
    /// It follows the engine's events.
    pub(super) follows: bool,
    terminations: u32,
    ends_when_down: bool,
    finished: bool,
    leaves: bool,
    engine_lost_at: Option<Ms>,
    inbox: Vec<Input>,
    pub(super) waiting: Vec<Wish>,
    turn_at: Ms,
    came_round: Ms,
    /// It gets no processor until then.
    pub(super) frozen_until: Ms,
}

impl Daemon {
    pub(super) fn at(&self, now: Ms) -> Mono {
        Mono(Duration::from_millis(now - self.began))
    }

    /// A wish came: it is not fulfilled before a look that began after it says so.
    pub(super) fn wish(&mut self) {
        (self.wished, self.covered) = (true, false);
        self.look_wanted = true;
    }

    pub(super) fn may_act(&self) -> bool {
        self.engine && !self.problem && !self.wished
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.terminations > 0
    }

    pub(super) fn has_problem(&self) -> bool {
        self.problem
    }

    pub(super) fn unfinish(&mut self) {
        self.finished = false;
    }

    pub(super) fn leave(&mut self) {
        self.leaves = true;
    }

    pub(super) fn ends_when_down(&self) -> bool {
        self.ends_when_down
    }

    fn is_over(&self, now_down: bool) -> bool {
        let seen = &self.state.seen;
        let nothing_runs = self.may_act()
            && self.state.records.busy.is_empty()
            && !seen
                .containers
                .iter()
                .any(octo_local::reconcile::observed::Container::is_running);
        match self.state.desired.goal {
            Goal::Halt => self.is_terminating() && nothing_runs,
            Goal::Down { .. } => now_down && (self.ends_when_down || self.is_terminating()),
            Goal::Up | Goal::Hold => self.is_terminating() && self.state.desired.spec.is_none(),
        }
    }
}

impl Sim {
    /// A daemon begins: it knows what the state file kept, and nothing else.
    pub(super) fn begin_daemon(&mut self, held: bool, ends_when_down: bool) {
        if self.daemon.is_some() {
            return;
        }
        self.epoch += 1;
        self.left_early = false;
        self.trace(|| "the daemon begins".to_owned());
        let disk = &self.disk;
        let desired = Desired {
            goal: if disk.is_up() && !held {
                Goal::Up
            } else {
                Goal::Hold
            },
            spec: disk.spec.clone(),
            stopped: disk.stopped.clone(),
            images: disk.images.clone(),
            ..Desired::default()
        };
        self.invariants.daemon_began();
        disk.spec
            .iter()
            .for_each(|spec| self.invariants.wants(spec));
        self.daemon = Some(Daemon {
            epoch: self.epoch,
            began: self.now,
            state: State::new(desired, 7),
            engine: false,
            problem: false,
            wished: true,
            covered: false,
            stale: Stale::default(),
            memory: Memory::default(),
            look_wanted: true,
            looking: false,
            relist_at: self.now,
            recheck_at: self.now,
            probers: BTreeMap::new(),
            follows: false,
            terminations: 0,
            ends_when_down,
            finished: false,
            leaves: false,
            engine_lost_at: None,
            inbox: Vec::new(),
            waiting: Vec::new(),
            turn_at: Ms::MAX,
            came_round: self.now,
            frozen_until: 0,
        });
        self.turn_at(self.now);
    }

    /// kill -9.
    pub(super) fn kill_daemon(&mut self) {
        if self.daemon.take().is_some() {
            self.trace(|| "the daemon is killed".to_owned());
        }
    }

    /// Something arrives in the queue of the daemon of this epoch.
    pub(super) fn deliver(&mut self, epoch: u64, input: Input) {
        let jitter = self.chance.below(3);
        let Some(daemon) = self.daemon.as_mut().filter(|daemon| daemon.epoch == epoch) else {
            return;
        };
        daemon.inbox.push(input);
        let at = (self.now + jitter).max(daemon.frozen_until);
        self.turn_at(at);
    }

    pub(super) fn turn_at(&mut self, at: Ms) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let at = at.max(daemon.frozen_until);
        if daemon.turn_at > at {
            daemon.turn_at = at;
            let epoch = daemon.epoch;
            self.later(at.saturating_sub(self.now), Event::Turn(epoch));
        }
    }

    /// The daemon's loop comes round once.
    pub(super) fn turn(&mut self, epoch: u64) {
        let now = self.now;
        let Some(daemon) = self
            .daemon
            .as_mut()
            .filter(|daemon| daemon.epoch == epoch && daemon.turn_at == now)
        else {
            return;
        };
        daemon.turn_at = Ms::MAX;
        if daemon.frozen_until > now {
            return self.turn_at(now);
        }
        let gap = now - daemon.came_round;
        daemon.came_round = now;
        if gap > GAP {
            let at = daemon.at(now);
            daemon.state.woke(Duration::from_millis(gap), at);
            self.invariants.woke(now);
        }
        let inbox = std::mem::take(&mut self.daemon.as_mut().unwrap().inbox);
        for input in inbox {
            self.absorb(input);
        }
        self.note_a_lost_engine();
        self.look();
        let wake_at = self.act();
        self.pass_on_news();
        self.probe();
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let state = &daemon.state;
        let down = daemon.may_act() && is_down(&state.desired, &state.seen, &state.records);
        let (early, goal) = (daemon.leaves, daemon.state.desired.goal);
        let (over, finishes) = (
            daemon.leaves || daemon.is_over(down),
            down && !daemon.finished,
        );
        let patience = if daemon.looking {
            now + RELIST_EVERY
        } else {
            daemon.relist_at.max(now + 1)
        };
        let woken = wake_at.map_or(Ms::MAX, |at| daemon.began + at.0.as_millis() as Ms + 1);
        if finishes {
            self.finish();
        }
        if over {
            self.left_early |= early;
            self.ended_with = Some(goal);
            self.trace(|| format!("the daemon ends{}", if early { " early" } else { "" }));
            self.daemon = None;
            return;
        }
        self.turn_at(patience.min(woken.max(now + 1)));
    }

    fn act(&mut self) -> Option<Mono> {
        let now = self.now;
        let daemon = self.daemon.as_ref()?;
        let plan = daemon.state.plan(daemon.at(now));
        if daemon.may_act() {
            for action in plan.actions {
                self.check_action(&action);
                let daemon = self.daemon.as_mut()?;
                let at = daemon.at(now);
                daemon.state.begin(&action, at);
                self.call(action);
            }
        }
        plan.wake_at
    }

    fn absorb(&mut self, input: Input) {
        let now = self.now;
        self.trace(|| shown(&input));
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let at = daemon.at(now);
        match input {
            Input::Container(heard) => {
                daemon.state.heard(&heard, at);
                self.invariants.heard(&heard);
                daemon.stale.containers.push(heard.id);
                daemon.look_wanted = true;
            }
            Input::Infrastructure => {
                (daemon.stale.infrastructure, daemon.look_wanted) = (true, true);
            }
            Input::Images => (daemon.stale.images, daemon.look_wanted) = (true, true),
            Input::StreamOpened => (daemon.stale.everything, daemon.look_wanted) = (true, true),
            Input::StreamClosed => {
                (daemon.stale.everything, daemon.look_wanted, daemon.follows) = (true, true, false);
            }
            Input::Looked(seen, memory) => self.looked(seen, memory),
            Input::Probed(unit, instance, probe) => {
                self.invariants.probed(unit, instance.as_ref(), &probe, now);
                daemon.state.probed(unit, instance.as_ref(), &probe, at);
            }
            Input::Progressed(unit) => daemon.state.progressed(unit, at),
            Input::Done(action, result) => {
                self.judge_end(&action, &result);
                let Some(daemon) = &mut self.daemon else {
                    return;
                };
                forget_what_it_touched(&mut daemon.stale, &action);
                daemon.look_wanted |= daemon.state.end(action, result, at);
            }
            Input::Asked(wish) => self.asked(wish),
            Input::Gathered(asked) => self.gathered(*asked),
        }
    }

    fn look(&mut self) {
        let now = self.now;
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        if now >= daemon.relist_at {
            daemon.look_wanted = true;
            if now >= daemon.recheck_at {
                daemon.stale.everything = true;
                daemon.recheck_at = now + RECHECK_EVERY;
            }
        }
        if !daemon.look_wanted || daemon.looking {
            return;
        }
        (daemon.look_wanted, daemon.looking) = (false, true);
        daemon.relist_at = now + RELIST_EVERY;
        daemon.covered = daemon.wished;
        daemon.state.look_begins();
        self.invariants.deaths.clear();
        self.begin_look();
    }

    fn looked(&mut self, seen: Result<Observed, String>, memory: Memory) {
        let now = self.now;
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let at = daemon.at(now);
        daemon.looking = false;
        daemon.memory = memory;
        match seen {
            Ok(seen) => {
                (daemon.problem, daemon.engine) = (false, true);
                self.invariants.looked(&seen);
                daemon.state.looked(seen, at);
                // A demo may go on without privileges.
                daemon
                    .state
                    .desired
                    .spec
                    .iter()
                    .filter(|spec| self.disk.spec.as_ref() != Some(spec))
                    .for_each(|spec| self.invariants.wants(spec));
                if daemon.covered {
                    (daemon.wished, daemon.covered) = (false, false);
                }
                if !daemon.follows {
                    daemon.follows = true;
                    let epoch = daemon.epoch;
                    let wait = self.chance.between(1, 50);
                    self.later(wait, Event::Deliver(epoch, Input::StreamOpened));
                }
            }
            Err(_) => {
                (daemon.problem, daemon.engine, daemon.covered) = (true, false, false);
                daemon.state.look_failed();
                daemon.stale.everything = true;
                daemon.relist_at = now + ENGINE_RETRY;
            }
        }
        let waiting = std::mem::take(&mut self.daemon.as_mut().unwrap().waiting);
        for wish in waiting {
            self.asked(wish);
        }
    }

    fn pass_on_news(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        for news in daemon.state.take_news() {
            match news {
                News::Told(subject, what) => self.trace(|| format!("  {subject}: {what}")),
                News::VersionRan => {
                    let tag = self
                        .disk
                        .config
                        .as_ref()
                        .map(|config| config.octopus.tag.clone());
                    self.disk.ran_tag = tag.or(self.disk.ran_tag.take());
                }
                News::PasswordAccepted => {}
                News::Unprivileged => {
                    self.disk.unprivileged = true;
                    self.disk
                        .spec
                        .clone_from(&self.daemon.as_ref().unwrap().state.desired.spec);
                }
                News::Ask(unit) => self.nudge(unit),
            }
        }
        self.disk
            .images
            .clone_from(&self.daemon.as_ref().unwrap().state.desired.images);
    }

    fn note_a_lost_engine(&mut self) {
        let now = self.now;
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        if !daemon.problem {
            daemon.engine_lost_at = None;
            return;
        }
        let since = *daemon.engine_lost_at.get_or_insert(now);
        daemon.leaves |= daemon.is_terminating() && now - since >= ENGINE_FAREWELL;
    }

    /// SIGTERM: once, twice, and then it leaves.
    pub(super) fn terminate(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        daemon.terminations += 1;
        match daemon.terminations {
            1 => daemon.state.desired.goal = Goal::Halt,
            2 => daemon.state.desired.hurry = true,
            _ => daemon.leaves = true,
        }
        self.turn_at(self.now);
    }

    fn finish(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let Goal::Down { volumes } = daemon.state.desired.goal else {
            return;
        };
        daemon.finished = true;
        self.disk.wish = store::Wish::Rest;
        if volumes {
            self.disk = store::Stored::default();
            daemon.state.desired.images.clear();
        }
    }

    /// A configuration was admitted.
    pub(super) fn apply(
        &mut self,
        config: octo_local::config::Config,
        spec: octo_local::spec::StackSpec,
    ) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let desired = &mut daemon.state.desired;
        desired.images.clear();
        desired.refresh = match config.pull {
            Pull::Always => spec.images().into_iter().map(str::to_owned).collect(),
            Pull::Missing | Pull::Never => std::collections::BTreeSet::new(),
        };
        desired.goal = Goal::Up;
        desired.stopped.clear();
        if desired.spec.as_ref() != Some(&spec) {
            daemon.stale.everything = true;
        }
        desired.spec = Some(spec.clone());
        daemon.state.records.forgive();
        daemon.wish();
        self.invariants.forgave();
        self.invariants.wants(&spec);
        self.disk.wish = store::Wish::Up;
        self.disk.stopped.clear();
        self.disk.config = Some(config);
        self.disk.spec = Some(spec);
    }
}

fn forget_what_it_touched(stale: &mut Stale, action: &Action) {
    if let Some(id) = super::calls::container_of(action) {
        stale.containers.push(id.clone());
    }
    match action {
        Action::CreateNetwork
        | Action::CreateVolume(_)
        | Action::RemoveNetwork(_)
        | Action::RemoveVolume(_) => {
            stale.infrastructure = true;
        }
        Action::Pull(_) => stale.images = true,
        _ => {}
    }
}

fn shown(input: &Input) -> String {
    match input {
        Input::Looked(Ok(seen), _) => {
            let containers: Vec<String> = seen
                .containers
                .iter()
                .map(|one| format!("{} {} {:?}", one.unit, one.id, one.run))
                .collect();
            let containers = containers
                .join(", ")
                .replace("Running { started_at: ", "runs ")
                .replace("octopus-server-", "node ");
            format!("saw {containers} | {:?}", seen.networks.keys())
        }
        Input::Looked(Err(why), _) => format!("saw nothing: {why}"),
        Input::Probed(unit, instance, probe) => {
            format!(
                "{unit} {} {probe:?}",
                instance
                    .as_ref()
                    .map_or("", |instance| instance.started_at.as_str())
            )
        }
        Input::Container(heard) => format!("event {} {}", heard.word, heard.id),
        Input::Done(action, result) => format!(
            "ended: {} {}",
            super::invariants::brief(action),
            result.is_ok()
        ),
        other => format!("{other:?}"),
    }
}
