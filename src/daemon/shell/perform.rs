//! The effects that the core decides on, each begun as a task of its own that tells how it ended.

use std::future::Future;

use base64::Engine as _;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::Input;
use super::LookedInput;
use super::Shell;
use crate::config::Secret;
use crate::daemon::bring_back;
use crate::daemon::facts::Question;
use crate::daemon::guard::guarded;
use crate::daemon::message::ActionInput;
use crate::daemon::message::BackupFor;
use crate::daemon::message::Denied;
use crate::daemon::message::DoorWish;
use crate::daemon::message::Effect;
use crate::daemon::message::Event;
use crate::daemon::message::Found;
use crate::daemon::message::Inquiry;
use crate::daemon::message::Invalidated;
use crate::daemon::message::LeaseStep;
use crate::daemon::message::NoLease;
use crate::daemon::message::NotBroughtBack;
use crate::daemon::message::PasswordNotChanged;
use crate::daemon::message::RequestId;
use crate::daemon::store::PasswordChange;
use crate::daemon::store::Ran;
use crate::daemon::store::Stored;
use crate::daemon::tasks::back_up;
use crate::daemon::tasks::execute::ActionContext;
use crate::daemon::tasks::front_door;
use crate::daemon::tasks::lease;
use crate::daemon::tasks::node_tasks;
use crate::daemon::tasks::observe;
use crate::daemon::tasks::observe::Looked;
use crate::daemon::tasks::pressure;
use crate::daemon::tasks::probe;
use crate::daemon::tasks::sa_password;
use crate::engine::observe::ObservationCache;
use crate::reconcile::Action;
use crate::reconcile::action::Doubt;
use crate::reconcile::action::Trouble;
use crate::reconcile::health::Probe;
use crate::reconcile::observed::Instance;
use crate::spec::UnitId;

impl Shell {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Look {
                invalidated,
                images,
            } => self.look(invalidated, images),
            Effect::FollowEvents => self.follow_events(),
            Effect::Act(action, input) => self.act(action, *input),
            Effect::Probe {
                number,
                unit,
                instance,
                target,
                limit,
            } => {
                let login = self.contact.login.clone();
                let engine = self.contact.engine.clone();
                let work =
                    async move { probe::probe(&login, &target, engine.as_ref(), limit).await };
                self.spawn_and_tell("probe", work, move |probe| {
                    Input::Event(Event::Probed {
                        number,
                        unit,
                        instance,
                        probe: probe.unwrap_or_else(Probe::Unknown),
                    })
                });
            }
            Effect::ReadLog(unit, instance) => self.read_log(unit, instance),
            Effect::Lease(step) => self.lease(step),
            Effect::ReadPressure => {
                self.spawn_and_tell("pressure", pressure::read(), |pressure| {
                    Input::Event(Event::PressureRead(pressure.ok().flatten()))
                });
            }
            Effect::ReadThrottling(unit, instance) => self.read_throttling(unit, instance),
            Effect::AskVersion(address, ran) => {
                let work = probe::version(address);
                self.spawn_and_tell("version", work, |told| {
                    let version = told.ok().flatten().unwrap_or_default();
                    Input::Event(Event::VersionRead(Ran { version, ..ran }))
                });
            }
            Effect::CountTasks(unit, instance, node) => {
                let work = async move { node_tasks::running(&node).await };
                self.spawn_and_tell("count tasks", work, move |told| {
                    Input::Event(Event::TasksCounted(unit, instance, told.ok().flatten()))
                });
            }
            Effect::ChangePassword { container, change } => {
                self.change_password(container, *change);
            }
            Effect::BackUp(of, stored) => self.back_up(of, *stored),
            Effect::ReadSet(set, stored) => self.read_set(set, *stored),
            Effect::BringBack(stored) => self.bring_back(*stored),
            Effect::DropReplaced(stored) => self.drop_replaced(*stored),
            Effect::Gather(id, inquiry) => self.gather(id, *inquiry),
            Effect::Save { number, stored } => self.writer.write(number, stored),
            Effect::Reply(id, answer) => {
                if let Some(reply) = self.askers.waiting.remove(&id) {
                    let _ = reply.send(*answer);
                }
            }
            Effect::Tell(subject, what) => self.journal.write(&subject, &what),
            Effect::RemoveImages(images) => self.remove_images(images),
            Effect::FrontDoor(wish) => self.keep_the_front_door(wish),
            Effect::Leave(_) => {}
        }
    }

    fn back_up(&self, of: BackupFor, stored: Stored) {
        let (engine, paths) = (self.contact.engine.clone(), self.paths.clone());
        let work = back_up::make(engine, paths, of, stored);
        self.spawn_and_tell("backup", work, move |made| {
            Input::Event(Event::BackedUp(of, made.unwrap_or_else(Err)))
        });
    }

    fn read_set(&self, set: String, stored: Stored) {
        let work = bring_back::read_set(self.paths.clone(), stored);
        self.spawn_and_tell("read a set", work, |read| {
            Input::Event(Event::SetRead(set, read.unwrap_or_else(Err)))
        });
    }

    fn bring_back(&self, stored: Stored) {
        let (engine, paths) = (self.contact.engine.clone(), self.paths.clone());
        let work = bring_back::roll_back(engine, paths, stored);
        self.spawn_and_tell("bring back", work, |back| {
            // What ended without a word may have begun.
            let broken = |why| NotBroughtBack {
                why,
                is_touched: true,
            };
            let back = back.unwrap_or_else(|why| Err(broken(why)));
            Input::Event(Event::BroughtBack(back))
        });
    }

    fn drop_replaced(&self, stored: Stored) {
        let work = bring_back::drop_replaced(self.contact.engine.clone(), stored);
        self.spawn_and_tell("drop replaced", work, |dropped| {
            Input::Event(Event::ReplacedDropped(dropped.unwrap_or_else(Err)))
        });
    }

    fn change_password(&self, container: String, change: PasswordChange) {
        let (engine, paths) = (self.contact.engine.clone(), self.paths.clone());
        let work = sa_password::change(engine, paths, container, change);
        self.spawn_and_tell("password", work, |changed| {
            // What ended without a word may have been done: it is asked again.
            let broken = |why| PasswordNotChanged {
                why,
                is_final: false,
            };
            let changed = changed.unwrap_or_else(|why| Err(broken(why)));
            Input::Event(Event::PasswordChanged(changed))
        });
    }

    fn follow_events(&mut self) {
        if let Some(engine) = self.contact.engine.clone() {
            let work = observe::follow_events(engine, self.project.clone(), self.queue.clone());
            // Also one that met a bug has ended: the events are followed anew.
            self.spawn_and_tell("events", work, |why| {
                let why = why.unwrap_or_else(|words| words);
                Input::Event(Event::StreamClosed(why))
            });
        }
    }

    fn act(&mut self, action: Action, input: ActionInput) {
        let Some(engine) = self.contact.engine.clone() else {
            // The core acts only on an engine that answered, and it is kept until one does not.
            return;
        };
        let context = ActionContext {
            engine,
            input,
            env: self.env.clone(),
        };
        let copy = action.clone();
        self.spawn_and_tell(
            "action",
            async move { context.carry_out(&copy).await },
            move |result| {
                let result =
                    result.unwrap_or_else(|words| Err(Trouble::engine(words, Doubt::Unknown)));
                Input::Event(Event::Done(action, result))
            },
        );
    }

    fn read_throttling(&mut self, unit: UnitId, instance: Instance) {
        let (engine, id) = (self.contact.engine.clone(), instance.id.clone());
        let work = async move { pressure::is_throttled(engine, &id).await };
        self.spawn_and_tell("throttling", work, move |starves| {
            let starves = starves.unwrap_or_default();
            Input::Event(Event::ThrottlingRead(unit, instance, starves))
        });
    }

    fn read_log(&mut self, unit: UnitId, instance: Instance) {
        let (engine, id) = (self.contact.engine.clone(), instance.id.clone());
        let work = async move {
            match engine {
                Some(engine) => probe::log_lines(&engine, &id).await,
                None => Vec::new(),
            }
        };
        self.spawn_and_tell("log", work, move |lines| {
            Input::Event(Event::LogRead {
                unit,
                instance,
                lines: lines.unwrap_or_default(),
            })
        });
    }

    /// Waited for when the daemon ends.
    fn remove_images(&mut self, images: Vec<String>) {
        let engine = self.contact.engine.clone();
        self.tasks.spawn(async move {
            for image in images {
                if let Some(engine) = &engine {
                    let _ = engine.remove_unused_image(&image).await;
                }
            }
        });
    }

    /// Takes, renews or gives back the lease. Giving it back is waited for when the daemon ends.
    fn lease(&mut self, step: LeaseStep) {
        let (engine, project, lease) = (
            self.contact.engine.clone(),
            self.project.clone(),
            self.contact.lease.clone(),
        );
        let work = async move {
            match engine {
                Some(engine) => lease::carry_out(&engine, &project, step, lease).await,
                None => Err(NoLease::Unknown("it does not answer any more".to_owned())),
            }
        };
        if step == LeaseStep::Release {
            self.contact.lease = None;
            let queue = self.queue.clone();
            self.tasks.spawn(async move {
                let _ = queue.send(Input::Leased(work.await)).await;
            });
        } else {
            self.spawn_and_tell("lease", work, |answer| {
                Input::Leased(answer.unwrap_or_else(|words| Err(NoLease::Unknown(words))))
            });
        }
    }

    /// Not cancelled when the daemon ends: a front door that is to end is told so first.
    fn keep_the_front_door(&mut self, wish: Option<Box<DoorWish>>) {
        if let Some(wished) = &self.front_door.wished {
            wished.send_replace(wish);
            return;
        }
        let (wished, receiver) = watch::channel(wish);
        let start = self.front_door.start.clone();
        let keeping = front_door::keep(start, receiver, self.queue.clone());
        self.front_door.wished = Some(wished);
        self.tasks.spawn(async move {
            if let Err(words) = guarded(keeping).await {
                tracing::error!(words, "the front door is not looked after any more");
            }
        });
    }

    fn look(&mut self, invalidated: Invalidated, images: Vec<String>) {
        let work = observe::look(
            self.contact.engine.clone(),
            self.contact.endpoint.clone(),
            self.project.clone(),
            images,
            invalidated,
            std::mem::take(&mut self.contact.cache),
        );
        self.spawn_and_tell("look", work, |looked| {
            let looked = looked.unwrap_or_else(|words| Looked {
                seen: Err(words),
                cache: ObservationCache::default(),
            });
            Input::Looked(Box::new(LookedInput(looked)))
        });
    }

    fn gather(&mut self, id: RequestId, inquiry: Inquiry) {
        let (engine, project) = (self.contact.engine.clone(), self.project.clone());
        let state_root = self.paths.root();
        let work = async move {
            match engine {
                Some(engine) => {
                    let question = Question {
                        engine,
                        project,
                        config: inquiry.config,
                        spec: inquiry.spec,
                        elsewhere: inquiry.elsewhere,
                        name_on_purpose: inquiry.name_on_purpose,
                        seen: inquiry.seen,
                        ready: inquiry.ready,
                        applied_data: inquiry.applied_data,
                        giving_way: inquiry.giving_way,
                        own_listeners: inquiry.own_listeners,
                        state_root,
                    };
                    question.insist().await
                }
                None => Err(Denied::Engine("it does not answer any more".to_owned())),
            }
        };
        self.spawn_and_tell("facts", work, move |found| {
            let found = found.unwrap_or_else(|words| Err(Denied::Because(words)));
            let found = found.map(|found| {
                Box::new(Found {
                    facts: found.facts,
                    images: found.images,
                    fresh_key: fresh_key(),
                })
            });
            Input::Gathered(id, found)
        });
    }

    /// Starts work whose end is told, also if that is a panic: then with its words.
    fn spawn_and_tell<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
        tell: impl FnOnce(Result<T, String>) -> Input + Send + 'static,
    ) {
        let queue = self.queue.clone();
        let work = async move {
            let result = guarded(work).await;
            if let Err(words) = &result {
                let panicked = Event::Panicked(words.clone());
                let _ = queue.send(Input::Event(panicked)).await;
            }
            let _ = queue.send(tell(result)).await;
        };
        self.spawn_named(name, work);
    }

    fn spawn_named(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        let work = async move {
            ended.run_until_cancelled(work).await;
        };
        self.tasks
            .spawn(work.instrument(tracing::debug_span!("task", name)));
    }
}

/// 128 random bits in base64, the form of a master key that the vendor documents.
fn fresh_key() -> Secret {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    Secret::new(base64::engine::general_purpose::STANDARD.encode(bytes))
}
