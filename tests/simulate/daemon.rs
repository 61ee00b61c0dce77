//! The daemon in the simulation: the product's own core, with the model's world behind its effects
//! and a virtual clock in place of tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use octo_local::config::project::ProjectName;
use octo_local::daemon::core::Core;
use octo_local::daemon::core::Duty;
use octo_local::daemon::core::Setup;
use octo_local::daemon::message::About;
use octo_local::daemon::message::Answer;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event as CoreEvent;
use octo_local::daemon::message::Inquiry;
use octo_local::daemon::message::Leave;
use octo_local::daemon::message::Moment;
use octo_local::daemon::message::RequestId;
use octo_local::daemon::state_writer::StateDisk as _;
use octo_local::daemon::store::Stored;
use octo_local::engine::Endpoint;
use octo_local::engine::observe::ObservationCache;
use octo_local::engine::watch::Hint;
use octo_local::reconcile::Mono;
use octo_local::reconcile::Observed;
use octo_local::reconcile::State;
use octo_local::spec::UnitId;

use super::invariants::Promise;
use super::operator::Wish;
use super::sim::Event;
use super::sim::Sim;
use super::world::Ms;

/// What waits for the core.
#[derive(Debug)]
pub(super) enum Input {
    Event(CoreEvent),
    /// A look ended. What it may trust the next time stays outside the core.
    Looked(Result<Box<Observed>, String>, ObservationCache),
    /// Somebody types a command.
    Asked(Wish),
}

#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) epoch: u64,
    began: Ms,
    core: Core,
    pub(super) cache: ObservationCache,
    /// It follows the engine's events.
    pub(super) follows: bool,
    inbox: Vec<Input>,
    /// What the disk was given last.
    given: Option<Box<Stored>>,
    /// What was asked and is not answered yet.
    asked: BTreeMap<RequestId, Wish>,
    last_request: u64,
    /// The last `up` that was taken: whoever interrupts follows it.
    session: u64,
    /// Probes that are not answered yet: the unit, and when it was asked. One that is asked anew
    /// takes the place of the one before, whose answer says nothing any more.
    pub(super) probes: BTreeMap<u64, Question>,
    turn_at: Ms,
    came_round: Ms,
    /// It gets no processor until then.
    pub(super) frozen_until: Ms,
}

/// A probe under way.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) unit: UnitId,
    asked_at: Ms,
    /// How long each of its phases may take.
    limit: Duration,
}

impl Daemon {
    pub(super) fn at(&self, now: Ms) -> Mono {
        self.moment(now).mono
    }

    fn moment(&self, now: Ms) -> Moment {
        moment(self.began, now)
    }

    pub(super) fn state(&self) -> &State {
        self.core.state()
    }

    pub(super) fn stored(&self) -> &Stored {
        self.core.stored()
    }

    pub(super) fn status(&self, now: Ms) -> octo_local::reconcile::status::Status {
        self.core.status(self.at(now))
    }

    pub(super) fn is_ending(&self) -> bool {
        self.core.is_ending()
    }
}

/// A moment in the life of a daemon that began then.
fn moment(began: Ms, now: Ms) -> Moment {
    Moment {
        mono: Mono(Duration::from_millis(now - began)),
        suspended: Duration::ZERO,
        wall: time::OffsetDateTime::UNIX_EPOCH + Duration::from_millis(now),
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
        let setup = Setup {
            project: ProjectName::given("p").unwrap(),
            endpoint: Endpoint::at("unix:///model"),
            host_name: "octo.example".to_owned(),
            state_file: "state.json".to_owned(),
            ends_when_down,
            duty: if held {
                Duty::AwaitRequest
            } else {
                Duty::Supervise
            },
            next_backup: |_, _| None,
        };
        self.invariants.daemon_began();
        let began = moment(self.now, self.now);
        self.daemon = Some(Daemon {
            epoch: self.epoch,
            began: self.now,
            core: Core::new(setup, self.disk.load(), began),
            cache: ObservationCache::default(),
            follows: false,
            inbox: Vec::new(),
            given: None,
            asked: BTreeMap::new(),
            last_request: 0,
            session: 0,
            probes: BTreeMap::new(),
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
            self.stranger_takes_the_lease();
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

    pub(super) fn deliver_event(&mut self, epoch: u64, event: CoreEvent) {
        self.deliver(epoch, Input::Event(event));
    }

    /// The daemon that is there now is told something after a while, if it is still there.
    pub(super) fn deliver_later(&mut self, wait: Ms, event: CoreEvent) {
        let told = Event::Deliver(self.epoch, Input::Event(event));
        self.later(wait, told);
    }

    /// Whether the daemon of this epoch is there.
    pub(super) fn lives(&self, epoch: u64) -> bool {
        let daemon = self.daemon.as_ref();
        daemon.is_some_and(|daemon| daemon.epoch == epoch)
    }

    /// What is kept, as far as it is known.
    pub(super) fn kept(&self) -> &Stored {
        let daemon = self.daemon.as_ref();
        daemon.map_or(&self.disk.file, |daemon| daemon.stored())
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
        let gap = now - std::mem::replace(&mut daemon.came_round, now);
        if u128::from(gap) > octo_local::daemon::core::SLEEP_GAP.as_millis() {
            self.invariants.woke(now);
        }
        for input in std::mem::take(&mut self.daemon.as_mut().unwrap().inbox) {
            self.absorb(input);
        }
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let moment = daemon.moment(now);
        let effects = daemon.core.decide(moment);
        self.check_nobody_waits_for_a_tentacle();
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let wake_at = daemon.began + daemon.core.wake_at().0.as_millis() as Ms + 1;
        for effect in effects {
            self.perform(effect);
        }
        self.turn_at(wake_at.max(now + 1));
    }

    fn absorb(&mut self, input: Input) {
        let now = self.now;
        self.trace(|| shown(&input));
        let event = match input {
            Input::Event(event) => event,
            Input::Looked(seen, cache) => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.cache = cache;
                }
                CoreEvent::Looked(seen)
            }
            Input::Asked(wish) => {
                let Some(daemon) = &mut self.daemon else {
                    return;
                };
                daemon.last_request += 1;
                let id = RequestId(daemon.last_request);
                let request = wish.request(daemon.session);
                daemon.asked.insert(id, wish);
                CoreEvent::Requested(id, request)
            }
        };
        self.note_event(&event);
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let moment = daemon.moment(now);
        daemon.core.absorb(event, moment);
    }

    /// What reaches the daemon is what the invariants hold against what it does.
    fn note_event(&mut self, event: &CoreEvent) {
        let now = self.now;
        match event {
            CoreEvent::Hinted(Hint::Container(heard)) => self.invariants.heard(heard),
            CoreEvent::StreamClosed(_) => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.follows = false;
                }
            }
            CoreEvent::Looked(Ok(seen)) => self.invariants.looked(seen),
            CoreEvent::Probed {
                number,
                unit,
                instance,
                probe,
            } => {
                let Some(daemon) = &mut self.daemon else {
                    return;
                };
                let Some(question) = daemon.probes.remove(number) else {
                    return;
                };
                if !daemon.core.awaits_probe(*unit, *number) {
                    return;
                }
                let took = Duration::from_millis(now - question.asked_at);
                // The product says itself which answers came too late to say anything.
                let limit = question.limit;
                let probe = octo_local::daemon::core::judged(probe.clone(), took, *unit, limit);
                self.invariants
                    .probed(*unit, instance.as_ref(), &probe, now);
            }
            CoreEvent::Done(action, result) => self.judge_end(action, result),
            _ => {}
        }
    }

    /// The model's host is never short, nor is a container on it.
    fn is_not_short(&mut self, read: CoreEvent) {
        let wait = self.chance.between(1, 20);
        self.deliver_later(wait, read);
    }

    fn perform(&mut self, effect: Effect) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let epoch = daemon.epoch;
        match effect {
            Effect::Look {
                invalidated,
                images,
            } => {
                self.invariants.deaths.clear();
                self.begin_look(&invalidated, images);
            }
            Effect::FollowEvents => {
                daemon.follows = true;
                let wait = self.chance.between(1, 50);
                self.deliver_later(wait, CoreEvent::StreamOpened);
            }
            Effect::Act(action, input) => {
                self.note_what_is_wanted();
                self.check_action(&action);
                self.check_key(&action);
                self.call(action, *input);
            }
            Effect::Probe {
                number,
                unit,
                instance,
                target,
                limit,
            } => {
                daemon.probes.retain(|_, other| other.unit != unit);
                let question = Question {
                    unit,
                    asked_at: self.now,
                    limit,
                };
                daemon.probes.insert(number, question);
                self.begin_probe(number, unit, instance, &target, limit);
            }
            Effect::ReadLog(unit, instance) => self.read_log(unit, instance),
            Effect::ReadPressure => self.is_not_short(CoreEvent::PressureRead(None)),
            Effect::ReadThrottling(unit, instance) => {
                self.is_not_short(CoreEvent::ThrottlingRead(unit, instance, false));
            }
            Effect::Gather(id, inquiry) => {
                let wait = self.chance.between(2, 200);
                self.later(wait, Event::Gather(epoch, id, inquiry));
            }
            Effect::Save { number, stored } => {
                daemon.given = Some(stored.clone());
                let wait = self.chance.between(1, 40);
                self.later(wait, Event::Save(epoch, number, stored));
            }
            Effect::Reply(id, answer) => self.answered(id, *answer),
            Effect::Tell(subject, what) => self.trace(|| format!("  {subject}: {what}")),
            Effect::Lease(step) => self.lease(step),
            Effect::BackUp(of, stored) => self.begin_backup(of, stored),
            Effect::ReadSet(set, _) => self.begin_to_read(set),
            Effect::BringBack(stored) => self.begin_to_bring_back(stored),
            Effect::DropReplaced(_) => {
                self.must(false, || "nobody restored anything".to_owned());
            }
            Effect::ChangePassword { container, change } => {
                self.begin_password_change(container, change);
            }
            Effect::FrontDoor(wish) => self.tell_the_front_door(wish),
            Effect::RemoveImages(_) | Effect::AskVersion(..) | Effect::CountTasks(..) => {}
            Effect::Leave(leave) => self.end_daemon(leave),
        }
    }

    /// A demo may go on without privileges, so what is wanted is asked for at each action.
    fn note_what_is_wanted(&mut self) {
        if let Some(spec) = self.kept().whole_spec() {
            self.invariants.wants(&spec);
        }
    }

    /// What was given to the disk before the end is written.
    fn end_daemon(&mut self, leave: Leave) {
        let Some(daemon) = self.daemon.take() else {
            return;
        };
        let goal = daemon.state().desired.goal;
        let runs = self.world.all_ours().any(|(_, _, made)| made.moves());
        let early = leave != Leave::End || (runs && goal != octo_local::reconcile::Goal::Hold);
        self.left_early |= early;
        (self.ended_with, self.ended_at) = (Some(goal), self.now);
        self.trace(|| format!("the daemon ends{}", if early { " early" } else { "" }));
        if let Some(given) = daemon.given {
            let _ = self.disk.save(&given);
        }
    }

    /// The disk has what it was given, unless it does not take it.
    pub(super) fn save(&mut self, epoch: u64, number: u64, stored: &Stored) {
        if !self.lives(epoch) {
            return;
        }
        self.disk.full = self.world.disk_full;
        let result = self.disk.save(stored).map_err(|error| error.to_string());
        self.deliver_event(epoch, CoreEvent::Saved { number, result });
    }

    /// A request is answered.
    fn answered(&mut self, id: RequestId, answer: Answer) {
        let now = self.now;
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let Some(wish) = daemon.asked.remove(&id) else {
            return self.must(false, || format!("{id:?} is answered twice"));
        };
        match (wish, answer) {
            (Wish::Up(env), Answer::Up(Ok(accepted))) => {
                daemon.session = accepted.generation;
                self.trace(|| format!("admitted: {:?}", accepted.changes));
                self.announced = Some(accepted.changes);
                self.unseen_version |= self.has_unseen_version(env.tag * 100);
                self.env = env;
                self.forgave();
                self.note_what_is_wanted();
                self.invariants.wished(id, Promise::Up);
            }
            (Wish::Down { volumes }, Answer::Wished(Ok(_))) => {
                self.invariants.volumes_may_go = volumes;
                self.invariants.wished(id, Promise::Down);
            }
            (Wish::Password(number), Answer::Wished(Ok(_))) => {
                self.trace(|| format!("password {number} is begun"));
                self.invariants.wished(id, Promise::Up);
            }
            (
                Wish::Units(About::Restart | About::Start, _) | Wish::RollBack,
                Answer::Wished(Ok(_)),
            ) => {
                self.forgave();
                self.invariants.wished(id, Promise::Up);
            }
            (Wish::Tentacle(name, step), Answer::Wished(Ok(_))) => {
                self.invariants.forgave_unit(UnitId::Tentacle(name));
                self.tentacle_taken(name, &step);
            }
            (Wish::Units(..), Answer::Wished(Ok(_))) | (Wish::Cancel, Answer::Cancelled(_)) => {}
            (wish, answer) => {
                self.trace(|| format!("denied at {now}: {wish:?}: {answer:?}"));
                self.denied = Some(format!("{answer:?}"));
            }
        }
        self.check_kept(id);
    }

    /// What must be known of a configuration is found out.
    pub(super) fn gather(&mut self, epoch: u64, id: RequestId, inquiry: &Inquiry) {
        let found = self.find_out(inquiry);
        let event = CoreEvent::Gathered {
            id,
            asker_left: false,
            found: found.map(Box::new),
        };
        self.deliver_event(epoch, event);
    }

    /// SIGTERM: once, twice, and then it leaves.
    pub(super) fn terminate(&mut self) {
        self.deliver_event(self.epoch, CoreEvent::Terminated);
    }
}

fn shown(input: &Input) -> String {
    match input {
        Input::Looked(Ok(seen), _) => {
            let containers: Vec<String> = seen
                .all()
                .map(|one| format!("{} {} {:?}", one.unit, one.id, one.run))
                .collect();
            let containers = containers
                .join(", ")
                .replace("Running { started_at: ", "runs ")
                .replace("octopus-server-", "node ");
            format!("saw {containers} | {:?}", seen.networks.keys())
        }
        Input::Looked(Err(why), _) => format!("saw nothing: {why}"),
        Input::Event(CoreEvent::Probed {
            unit,
            instance,
            probe,
            ..
        }) => {
            let run = instance
                .as_ref()
                .map_or("", |instance| instance.started_at.as_str());
            format!("{unit} {run} {probe:?}")
        }
        Input::Event(CoreEvent::Hinted(Hint::Container(heard))) => {
            format!("event {} {}", heard.word, heard.id)
        }
        Input::Event(CoreEvent::Done(action, result)) => {
            format!(
                "ended: {} {}",
                super::invariants::brief(action),
                result.is_ok()
            )
        }
        other => format!("{other:?}"),
    }
}
