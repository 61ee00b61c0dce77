//! What is learned of runs, and what of it goes to the state file and the history.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::Core;
use super::millis;
use super::quiesce::Quiesce;
use super::replaced::Dropping;
use super::sa_password::PasswordWork;
use super::schedule::Scheduled;
use super::task_counts::TaskCounts;
use super::upgrade::VersionWork;
use crate::daemon::message::Effect;
use crate::daemon::store::Data;
use crate::daemon::store::KeptDrain;
use crate::daemon::store::Ran;
use crate::reconcile::Mono;
use crate::reconcile::News;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Instance;
use crate::reconcile::status::Note;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// What was learned of runs, beside what the planner knows of them.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Since when the goal is what it is; none where that is older than this daemon.
    pub(super) goal_since: Option<Mono>,
    /// The run of a node that proved its key last.
    proved: Option<Instance>,
    /// The last two times that each unit was asked to start, by the wall clock, as lines of its log
    /// are.
    pub(super) asked_to_start: BTreeMap<UnitId, [Option<OffsetDateTime>; 2]>,
    /// Runs that are to be ended once the disk has that it is we who end them.
    pub(super) stops_to_come: BTreeMap<UnitId, Instance>,
    /// The next backup that is made by itself.
    pub(super) scheduled: Scheduled,
    /// When nodes that finish their tasks were asked how many those are.
    pub(super) task_counts: TaskCounts,
    /// What is under way of an upgrade or a rollback.
    pub(super) version: VersionWork,
    /// Who has all nodes drained for a while.
    pub(super) quiesce: Quiesce,
    /// What is under way of a change of the password of `sa`.
    pub(super) password: PasswordWork,
    /// Whether what a restore replaced is being removed.
    pub(super) dropping: Dropping,
}

impl Core {
    /// Passes on what the state found: to the history, to what is kept, to a prober.
    pub(super) fn pass_on_news(&mut self) {
        for news in self.state.take_news() {
            match news {
                News::Told(subject, what) => self.tell(subject, what),
                News::VersionRan => self.remember_version(),
                News::PasswordAccepted => self.keeping.edit(|stored| {
                    // Only the password that was tried: another login says nothing of `sa`'s.
                    let config = stored.config.as_ref();
                    let tried = config
                        .filter(|config| config.database.user.eq_ignore_ascii_case("sa"))
                        .and_then(|config| config.sql.as_ref());
                    let password = tried.map(|sql| sql.sa_password.clone());
                    stored.sa.known = password.or(stored.sa.known.take());
                }),
                News::Unprivileged => {
                    self.tell("", Note::Unprivileged.to_string());
                    self.notes.push(Note::Unprivileged);
                    let spec = self.state.desired.spec.clone();
                    let spec = spec.map(StackSpec::without_tentacles);
                    self.keeping.edit(|stored| {
                        stored.demo.unprivileged = true;
                        stored.spec = spec;
                    });
                }
                News::Retired(name) => {
                    self.keeping.edit(|stored| {
                        stored.tentacles.remove(&name);
                    });
                    self.derive();
                }
                News::Ask(unit) => self.pacing.nudge(unit, self.now.mono),
            }
        }
        self.learn_of_what_serves();
        self.keep_drains();
        let images = &self.state.desired.images;
        if self.keeping.stored().images != *images {
            self.keeping.edit(|stored| stored.images.clone_from(images));
        }
    }

    /// What the state knows of the past is kept beside what is wished.
    pub(super) fn keep_what_is_known(&mut self) {
        let mut durable = self.state.records.durable.clone();
        durable
            .ended_by_us
            .extend(self.learned.stops_to_come.clone());
        if self.keeping.stored().durable != durable {
            self.keeping.edit(|stored| stored.durable = durable);
        }
    }

    /// Nodes that finish their tasks are kept with their time, by the wall clock: a daemon that comes
    /// after goes on with what is left of it.
    fn keep_drains(&mut self) {
        let now = self.now;
        let kept = &self.keeping.stored().drains.draining;
        let drains: BTreeMap<UnitId, KeptDrain> = self
            .state
            .drains()
            .map(|(unit, drain)| {
                let left = i64::try_from(drain.until.since(now.mono).as_millis());
                let known = kept.get(&unit).filter(|known| known.run == drain.instance);
                let kept = known.cloned().unwrap_or_else(|| KeptDrain {
                    run: drain.instance.clone(),
                    until_ms: millis(now.wall).saturating_add(left.unwrap_or(i64::MAX)),
                });
                (unit, kept)
            })
            .collect();
        if drains != *kept {
            self.keeping.edit(|stored| stored.drains.draining = drains);
        }
        let restarts = &self.state.desired.restart;
        if *restarts != self.keeping.stored().drains.restarts {
            let restarts = restarts.clone();
            self.keeping
                .edit(|stored| stored.drains.restarts = restarts);
        }
    }

    /// What an earlier daemon drained and restarted, this one drains and restarts.
    pub(super) fn go_on_with_drains(&mut self) {
        let now = self.now;
        let restarts = &self.keeping.stored().drains.restarts;
        self.state.desired.restart.clone_from(restarts);
        for (unit, kept) in &self.keeping.stored().drains.draining {
            let left = u64::try_from(kept.until_ms.saturating_sub(millis(now.wall)));
            let left = Duration::from_millis(left.unwrap_or(0));
            self.state
                .go_on_with_drain(*unit, kept.run.clone(), now.mono.after(left));
        }
    }

    /// Notes the version whose nodes started, so that an older one is refused later.
    fn remember_version(&mut self) {
        let spec = self.state.desired.spec.as_ref();
        let Some((spec, wanted)) = spec.and_then(|spec| Some((spec, spec.nodes.first()?))) else {
            return;
        };
        let mut nodes = self.state.seen.containers.iter();
        let node = nodes.find(|one| one.unit == wanted.unit && one.instance().is_some());
        let ran = Ran {
            version: String::new(),
            image: wanted.image.clone(),
            image_id: node.map(|node| node.image_id.clone()).unwrap_or_default(),
            data: Some(Data::of(spec)),
        };
        self.keeping.edit(|stored| {
            stored.version_ran(ran);
        });
    }

    /// A node that serves and was made as it is wanted: it has the key and the image that are wanted.
    pub(super) fn serving_node(&self) -> Option<(&ContainerSpec, &Container)> {
        let spec = self.state.desired.spec.as_ref()?;
        spec.nodes.iter().find_map(|node| {
            let record = self.state.records.get(node.unit)?;
            let container = self.state.seen.container(node.unit)?;
            let is_its =
                record.health().ready && record.instance() == container.instance().as_ref();
            let serves = is_its && node.digest() == container.digest;
            serves.then_some((node, container))
        })
    }

    pub(super) fn on_version_read(&mut self, ran: Ran) {
        self.keeping.edit(|stored| {
            stored.version_ran(ran);
        });
    }

    /// A node that serves proves that its key is the database's, and is asked for its version.
    fn learn_of_what_serves(&mut self) {
        let Some(spec) = &self.state.desired.spec else {
            return;
        };
        let Some((node, container)) = self.serving_node() else {
            return;
        };
        if self.learned.proved == container.instance() {
            return;
        }
        let data = Data::of(spec);
        let ran = Ran {
            version: String::new(),
            image: node.image.clone(),
            image_id: container.image_id.clone(),
            data: Some(data.clone()),
        };
        let (key, address) = (node.env.get("MASTER_KEY").cloned(), node.host_address());
        self.learned.proved = container.instance();
        if let Some(key) = key {
            self.keeping.edit(|stored| {
                stored.key_proven(&key, &data);
            });
        }
        let asks = address.map(|address| Effect::AskVersion(address, ran));
        self.out.extend(asks);
    }
}
