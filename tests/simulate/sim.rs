//! One run: a queue of what happens when, with a virtual clock, and the order of a run's acts.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use octo_local::config::Pull;
use octo_local::daemon::message::Inquiry;
use octo_local::daemon::message::LeaseStep;
use octo_local::daemon::message::RequestId;
use octo_local::daemon::state_writer::StateDisk;
use octo_local::daemon::store::Loaded;
use octo_local::daemon::store::PasswordChange;
use octo_local::daemon::store::Stored;
use octo_local::reconcile::Goal;
use octo_local::reconcile::preview::Change;
use tokio::time::Instant;

use super::calls::Answer;
use super::calls::Call;
use super::daemon::Daemon;
use super::daemon::Input;
use super::invariants::Invariants;
use super::mix::MIXES;
use super::mix::Mix;
use super::observation::Look;
use super::operator::Env;
use super::operator::OPERATOR_PAUSE;
use super::operator::Wish;
use super::process::Step;
use super::trouble::Undo;
use super::world::Ms;
use super::world::World;
use crate::kit::chance::Chance;

/// Something that happens at its time.
#[derive(Debug)]
pub(super) enum Event {
    /// The engine does what it was asked for.
    Effect(u64),
    /// The engine's answer arrives.
    Answer(u64, Answer),
    Step(String, u64, Step),
    /// A container that is being removed is gone.
    Gone(String),
    /// The engine restarts a container by itself.
    Rearm(String),
    Turn(u64),
    Deliver(u64, Input),
    List(u64, Box<Look>),
    Inspect(u64, Box<Look>),
    /// What must be known of a configuration is found out.
    Gather(u64, RequestId, Box<Inquiry>),
    /// The engine gets to a question about the lease.
    Lease(u64, LeaseStep),
    /// The disk gets to a write.
    Save(u64, u64, Box<Stored>),
    /// A backup is made.
    BackedUp(u64, Box<Stored>),
    /// Data is brought back, or that failed, with data touched or not.
    BroughtBack(u64, Box<Stored>, Result<(), bool>),
    /// SQL Server is asked for another password.
    PasswordAsked(u64, String, Box<PasswordChange>),
    Trouble,
    Undo(Undo),
}

/// The whole simulation.
#[derive(Debug)]
pub(super) struct Sim {
    /// The instant that the run's clock counts from, for what measures with the system's.
    pub(super) begun: Instant,
    pub(super) now: Ms,
    queue: BTreeMap<(Ms, u64), Event>,
    queued: u64,
    pub(super) chance: Chance,
    /// What is drawn for Tentacles.
    pub(super) other_chance: Chance,
    /// The operator adds some in this run.
    pub(super) has_tentacles: bool,
    pub(super) mix: Mix,
    /// Things may go wrong.
    pub(super) chaos: bool,
    pub(super) world: World,
    pub(super) daemon: Option<Daemon>,
    /// The state file.
    pub(super) disk: ModelDisk,
    /// Counts daemons.
    pub(super) epoch: u64,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) answered: BTreeSet<u64>,
    pub(super) next_call: u64,
    /// Calls that wait for a container's end or removal.
    pub(super) waiters: Vec<(String, u64)>,
    pub(super) slow_until: Ms,
    pub(super) invariants: Invariants,
    pub(super) env: Env,
    /// What the last `up` said that it would do, and why it was refused if it was.
    pub(super) announced: Option<Vec<Change>>,
    pub(super) denied: Option<String>,
    /// A foreign container had one of our names.
    pub(super) name_was_taken: bool,
    /// An older version was admitted before any look could show that a newer one had just been
    /// started.
    pub(super) unseen_version: bool,
    /// What the last daemon that ended worked towards.
    pub(super) ended_with: Option<Goal>,
    /// When it ended.
    pub(super) ended_at: Ms,
    /// Until when the front door's answers reach the daemon.
    pub(super) front_door_said: Ms,
    /// The engine did something that everybody had given up on.
    pub(super) did_late: bool,
    /// The last daemon left before it was done, because the engine did not answer or somebody would
    /// not wait.
    pub(super) left_early: bool,
    trace: Option<Vec<String>>,
}

/// The state file's disk.
#[derive(Debug, Default)]
pub(super) struct ModelDisk {
    /// What it has.
    pub(super) file: Stored,
    /// It takes nothing more.
    pub(super) full: bool,
}

impl StateDisk for ModelDisk {
    fn load(&mut self) -> Loaded {
        Loaded::Fine(Box::new(self.file.clone()))
    }

    fn save(&mut self, stored: &Stored) -> std::io::Result<()> {
        if self.full {
            return Err(std::io::Error::other("no space left on device"));
        }
        self.file = stored.clone();
        Ok(())
    }
}

/// How a run went.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) mix: &'static str,
    pub(super) actions: u64,
    pub(super) violation: Option<String>,
    pub(super) trace: Vec<String>,
    /// Virtual milliseconds.
    pub(super) took: Ms,
}

impl Sim {
    pub(super) fn new(seed: u64, mix: Mix, tracing: bool) -> Self {
        let mut chance = Chance::new(seed);
        let demo = chance.percent(15);
        let env = Env {
            nodes: u8::try_from(chance.between(1, mix.nodes)).unwrap(),
            tag: 1,
            sql_tag: 1,
            node_edit: 0,
            sql_edit: 0,
            pull: Pull::Missing,
            demo,
            no_backup: false,
            back_by_itself: chance.percent(30),
            mistake: None,
            passwords: 0,
        };
        let mut world = World {
            strict: chance.percent(30),
            refuses_privileges: demo && chance.percent(60),
            ..World::default()
        };
        for tag in 1..=4 {
            world.registry.insert(
                format!("octopus:2026.{tag}.1"),
                format!("oct:{}", tag * 100),
            );
        }
        for tag in 1..=2 {
            world
                .registry
                .insert(format!("sql:{tag}"), format!("mssql:{tag}"));
        }
        for image in ["octopusdeploy/tentacle:latest", "tentacle:1"] {
            let id = "tentacle:1".to_owned();
            world.registry.insert(image.to_owned(), id);
        }
        let mut other_chance = Chance::new(!seed);
        Self {
            begun: Instant::now(),
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            chaos: mix.pause.is_some(),
            chance,
            has_tentacles: other_chance.percent(60),
            other_chance,
            mix,
            world,
            daemon: None,
            disk: ModelDisk::default(),
            epoch: 0,
            front_door_said: 0,
            calls: BTreeMap::new(),
            answered: BTreeSet::new(),
            next_call: 0,
            waiters: Vec::new(),
            slow_until: 0,
            invariants: Invariants::default(),
            env,
            announced: None,
            denied: None,
            name_was_taken: false,
            unseen_version: false,
            ended_with: None,
            ended_at: 0,
            did_late: false,
            left_early: false,
            trace: tracing.then(Vec::new),
        }
    }

    /// Runs one seed to its end or to the first violation.
    pub(super) fn run(seed: u64, tracing: bool) -> Outcome {
        let mix = MIXES[usize::try_from(seed).unwrap() % MIXES.len()].clone();
        let mut sim = Self::new(seed, mix, tracing);
        if sim.mix.pause.is_some() {
            sim.stormy();
        } else {
            sim.calm();
        }
        sim.outcome()
    }

    pub(super) fn outcome(self) -> Outcome {
        Outcome {
            mix: self.mix.name,
            actions: self.invariants.actions,
            violation: self.invariants.violation,
            trace: self.trace.unwrap_or_default(),
            took: self.now,
        }
    }

    /// Nothing goes wrong, and the operator waits for each wish to be fulfilled: what was announced
    /// must be what happens.
    fn calm(&mut self) {
        let env = self.env.clone();
        self.up_as_announced(&env);
        for _ in 0..self.chance.between(2, 4) {
            if self.chance.percent(20) {
                self.lose_an_image();
            }
            self.perhaps_a_tentacle();
            self.settle();
            let wish = self.some_wish();
            match wish {
                Wish::Up(env) => self.up_as_announced(&env),
                Wish::Cancel => {
                    self.end_calmly();
                }
                wish => {
                    self.command(wish);
                    self.settle();
                }
            }
            if self.is_over() {
                return;
            }
        }
    }

    /// Things go wrong for a while; then the stack must come to rest as it is wished.
    fn stormy(&mut self) {
        let env = self.env.clone();
        self.command(Wish::Up(env));
        let begins = self.chance.between(100, 20_000);
        self.later(begins, Event::Trouble);
        let ends = self.chance.between(30_000, 100_000);
        self.run_until(ends);
        self.heal();
        let wait = self.chance.below(OPERATOR_PAUSE / 10);
        self.run_until(self.now + wait);
        match self.chance.below(10) {
            0..2 => {}
            2 => self.command(Wish::Down { volumes: false }),
            3 => self.command(Wish::Down { volumes: true }),
            _ => self.good_up(),
        }
        self.settle();
    }

    pub(super) fn good_up(&mut self) {
        // One that is ending refuses; whoever asks waits for its end.
        let limit = self.now + 60_000;
        while self.daemon.as_ref().is_some_and(Daemon::is_ending)
            && self.now < limit
            && self.advance()
        {}
        self.finish_rollback();
        self.denied = None;
        let env = self.good_env();
        self.command(Wish::Up(env));
    }

    pub(super) fn is_over(&self) -> bool {
        self.invariants.violation.is_some()
    }

    pub(super) fn run_until(&mut self, end: Ms) {
        while !self.is_over() && self.queue.keys().next().is_some_and(|(at, _)| *at <= end) {
            self.advance();
        }
        self.now = self.now.max(end);
    }

    pub(super) fn later(&mut self, wait: Ms, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now + wait, self.queued), event);
    }

    /// Whether the engine will still do something that it was asked for, or is about it: nothing is
    /// at rest before.
    pub(super) fn will_do(&self) -> bool {
        self.queue
            .values()
            .any(|event| matches!(event, Event::Effect(_) | Event::Gone(_)))
    }

    pub(super) fn is_slow_engine(&self) -> bool {
        self.now < self.slow_until
    }

    /// The next thing happens. False: nothing more does.
    pub(super) fn advance(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else {
            return false;
        };
        self.now = at;
        match event {
            Event::Effect(number) => self.effect(number),
            Event::Answer(number, answer) => self.answer(number, answer),
            Event::Step(id, run, step) => self.stepped(&id, run, step),
            Event::Gone(id) => self.gone(&id),
            Event::Rearm(id) => self.rearm(&id),
            Event::Turn(epoch) => self.turn(epoch),
            Event::Deliver(epoch, input) => self.deliver(epoch, input),
            Event::List(epoch, look) => self.list(epoch, *look),
            Event::Inspect(epoch, look) => self.inspect(epoch, *look),
            Event::Gather(epoch, id, inquiry) => self.gather(epoch, id, &inquiry),
            Event::Lease(epoch, step) => self.on_lease(epoch, step),
            Event::Save(epoch, number, stored) => self.save(epoch, number, &stored),
            Event::BackedUp(epoch, stored) => self.backed_up(epoch, &stored),
            Event::BroughtBack(epoch, stored, step) => self.brought_back(epoch, stored, step),
            Event::PasswordAsked(epoch, id, change) => self.password_asked(epoch, &id, &change),
            Event::Trouble => self.trouble(),
            Event::Undo(undo) => self.undo(undo),
        }
        true
    }

    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let line = line();
            // What repeats itself is shown once.
            if line.starts_with("->")
                || !trace
                    .iter()
                    .rev()
                    .take(12)
                    .any(|before| before.ends_with(&line))
            {
                trace.push(format!("{:>6}.{:03} {line}", now / 1_000, now % 1_000));
            }
        }
    }
}
