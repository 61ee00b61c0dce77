//! Whether a wish may be carried out: the wishes are taken up one at a time, in the order in which
//! they were asked for, each judged by what is kept when its turn comes.

use super::Core;
use super::looks::EngineView;
use super::requests::Evidence;
use super::requests::Wished;
use super::tenure::Admission;
use super::upgrade::first_change;
use super::wish::Admitted;
use super::wish::NewKey;
use super::wish::Up;
use crate::config::Pull;
use crate::config::Secret;
use crate::daemon::admit;
use crate::daemon::admit::MasterKey;
use crate::daemon::message::About;
use crate::daemon::message::Answer;
use crate::daemon::message::Denied;
use crate::daemon::message::RequestId;
use crate::daemon::message::RestoreStep;
use crate::daemon::message::UpRequest;
use crate::daemon::store::Data;
use crate::daemon::store::Wish;
use crate::reconcile::Goal;
use crate::reconcile::Observed;
use crate::reconcile::preview;
use crate::reconcile::status::Note;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::spec::build::BuildInput;
use crate::spec::build::build;

impl Core {
    /// Takes up the next wish, if the one before is done with.
    pub(super) fn begin_next_wish(&mut self) {
        while (self.keeping.is_idle() || self.keeping.is_stuck())
            && let Some(admission) = self.admission_by_lease()
            && let Some((id, wished)) = self.requests.next_wish()
        {
            let admitted = match admission {
                Ok(()) => self.admit_wish(id, wished),
                Err(denied) => Err(wished.denied(denied)),
            };
            match admitted {
                Ok(admitted) => self.keep_wish(id, admitted),
                Err(answer) => {
                    self.reply(id, answer);
                    self.go_on_as_before();
                }
            }
        }
    }

    /// Whether a wish may be taken as far as the lease on the engine goes; none while that is not
    /// known. One that waits for an engine that does not answer is kept all the same.
    fn admission_by_lease(&self) -> Option<Result<(), Denied>> {
        match self.tenure.admit(self.now.mono) {
            Admission::Taken => Some(Ok(())),
            Admission::Waits if *self.looks.engine() != EngineView::Answers => Some(Ok(())),
            Admission::Waits => None,
            Admission::Refused(by) => {
                Some(Err(Denied::Because(Note::LookedAfter { by }.to_string())))
            }
        }
    }

    fn admit_wish(&mut self, id: RequestId, wished: Wished) -> Result<Admitted, Answer> {
        match wished {
            Wished::Up(request, by) => self
                .admit_up_in_order(id, &request, &by)
                .map(|up| Admitted::Up(Box::new(up)))
                .map_err(|denied| Answer::Up(Err(denied))),
            Wished::Down { volumes, pace } => Ok(Admitted::Down { volumes, pace }),
            Wished::Restore(step) => {
                let admitted = self.admit_restore(step);
                admitted.map_err(|denied| Answer::Wished(Err(denied)))
            }
            Wished::Tentacle(name, step) => self
                .admit_tentacle(name, step)
                .map_err(|denied| Answer::Wished(Err(denied))),
            Wished::RollBack => self
                .admit_rollback()
                .map_err(|denied| Answer::Wished(Err(denied))),
            Wished::Quiesce(number) => match self.admit_quiesce() {
                Ok(()) => Ok(Admitted::Quiesce(number)),
                Err(denied) => Err(Answer::Wished(Err(denied))),
            },
            Wished::Password(step) => match self.admit_password(&step) {
                Ok(()) => Ok(Admitted::Password(step)),
                Err(denied) => Err(Answer::Wished(Err(denied))),
            },
            Wished::Units(about, units) => self.admit_units(about, &units),
        }
    }

    fn admit_units(&self, about: About, units: &[UnitId]) -> Result<Admitted, Answer> {
        let denied = |words: String| Err(Answer::Wished(Err(Denied::Because(words))));
        match about {
            About::Start | About::Restart => {
                if let Some(note) = self.unfinished_restore() {
                    return denied(note.to_string());
                }
            }
            // It would be kept, and leave the next `up` with nobody who takes tasks.
            About::Drain if self.keeping.stored().wish != Wish::Up => {
                let words =
                    "the stack is not up, so there is nobody to drain: `octo-local up` first";
                return denied(words.to_owned());
            }
            About::Stop | About::Drain | About::Undrain => {}
        }
        let is_named = !units.is_empty();
        let units = self
            .known(about, units)
            .map_err(|denied| Answer::Wished(Err(denied)))?;
        if about == About::Stop
            && units.iter().any(|unit| unit.is_database())
            && let Some(denied) = self.deny_to_stop_the_database()
        {
            return Err(Answer::Wished(Err(denied)));
        }
        Ok(match about {
            About::Restart => Admitted::Restart(units),
            About::Stop => Admitted::Stop(units),
            About::Drain => Admitted::Drain(Self::nodes_of(units, is_named)?),
            About::Undrain => Admitted::Undrain(Self::nodes_of(units, is_named)?),
            About::Start => Admitted::Start(units),
        })
    }

    /// Why SQL Server cannot be stopped on purpose now: something that is under way needs it, and
    /// would wait for it for ever.
    fn deny_to_stop_the_database(&self) -> Option<Denied> {
        let upgrades = &self.keeping.stored().backups.upgrades;
        let goes_back = upgrades.rolling_back.as_ref();
        let words = if let Some((upgrade, _)) = upgrades.waiting() {
            format!(
                "the upgrade to {} is about to back its data up; `octo-local up` with what was before takes the \
                 upgrade back, `octo-local down` stops everything",
                upgrade.to
            )
        } else if goes_back.is_some_and(|back| back.failure.is_none()) {
            "the data of before the upgrade is being brought back into it; stop it when that is done"
                .to_owned()
        } else {
            return self.deny_for_password();
        };
        Some(Denied::Because(words))
    }

    /// A restore or a rollback that is not finished: on half of its data no node may run.
    pub(super) fn unfinished_restore(&self) -> Option<Note> {
        self.keeping.stored().backups.unfinished()
    }

    fn admit_rollback(&self) -> Result<Admitted, Denied> {
        let kept = self.keeping.stored();
        let because = |words: &str| Err(Denied::Because(words.to_owned()));
        if self.shutdown.is_under_way() {
            return because("the daemon is ending; try again when it has");
        }
        if kept.is_going_down() {
            return because("a `down` goes on; roll back when it is done");
        }
        if kept.backups.restoring.is_some() {
            return because("a restore is not finished: finish that first");
        }
        if let Some(denied) = self.deny_for_password() {
            return Err(denied);
        }
        if kept.backups.upgrades.waiting().is_some() {
            return because(
                "the upgrade is not applied yet: `octo-local up` with what was before takes it back",
            );
        }
        // Whoever was interrupted asks again once it is done, and waits until what was before serves.
        let is_done = kept.backups.upgrades.rolled_back.is_some();
        if kept.backups.upgrades.way_back().is_none() && !is_done {
            return because("there is no upgrade that a backup was made for");
        }
        Ok(Admitted::RollBack)
    }

    fn admit_restore(&self, step: RestoreStep) -> Result<Admitted, Denied> {
        let kept = self.keeping.stored();
        let because = |words: &str| Err(Denied::Because(words.to_owned()));
        if self.shutdown.is_under_way() {
            return because("the daemon is ending; try again when it has");
        }
        let is_begun = kept.backups.restoring.is_some();
        match step {
            RestoreStep::Begin { .. } => {}
            RestoreStep::BeginBack if kept.backups.way_back_from_restore().is_some() => {}
            RestoreStep::BeginBack => {
                return because("nothing is kept any more of what a restore replaced");
            }
            _ if is_begun => return Ok(Admitted::Restore(step)),
            _ => return because("no restore is under way: another command took over"),
        }
        if kept.spec.is_none() {
            return because("nothing was applied yet: `octo-local up` first");
        }
        if kept.sa.changing().is_some() {
            return because("the password of sa is being changed; restore when that is done");
        }
        if kept.is_going_down() {
            return because("a `down` goes on; restore when it is done");
        }
        Ok(Admitted::Restore(step))
    }

    /// The units that are nodes; only these have tasks.
    fn nodes_of(units: Vec<UnitId>, named: bool) -> Result<Vec<UnitId>, Answer> {
        let is_node = |unit: &UnitId| unit.is_server();
        if let Some(unit) = units.iter().find(|unit| named && !is_node(unit)) {
            let words = format!("{unit} has no tasks: only nodes can be drained");
            return Err(Answer::Wished(Err(Denied::Because(words))));
        }
        Ok(units.into_iter().filter(is_node).collect())
    }

    /// The units that are meant. Where none is named these are all that the wish is about: what
    /// stops or starts everything stops or starts Tentacles too, and a restart is one of the stack.
    fn known(&self, about: About, units: &[UnitId]) -> Result<Vec<UnitId>, Denied> {
        let kept = self.keeping.stored();
        let Some(spec) = &kept.spec else {
            let words = "nothing was applied yet: `octo-local up` first";
            return Err(Denied::Because(words.to_owned()));
        };
        let stack = spec.containers().map(|container| container.unit);
        let stay = kept
            .tentacles
            .iter()
            .filter(|(_, one)| one.leaves.is_none());
        let tentacles = stay.map(|(name, _)| UnitId::Tentacle(*name));
        let ours: Vec<UnitId> = stack.chain(tentacles).collect();
        if let Some(unit) = units.iter().find(|unit| !ours.contains(unit)) {
            return Err(Denied::Because(format!("this stack has no {unit}")));
        }
        if !units.is_empty() {
            return Ok(units.to_vec());
        }
        let is_meant = |unit: &UnitId| match about {
            About::Stop | About::Start => true,
            About::Restart | About::Drain | About::Undrain => !unit.is_tentacle(),
        };
        Ok(ours.into_iter().filter(is_meant).collect())
    }

    /// Facts take a while to gather. A wish that was taken meanwhile and was asked for later is not
    /// overruled.
    fn admit_up_in_order(
        &self,
        id: RequestId,
        request: &UpRequest,
        by: &Evidence,
    ) -> Result<Up, Denied> {
        if let Some(denied) = self.deny_any_up() {
            return Err(denied);
        }
        let is_overruled = self.requests.is_overruled(id);
        let kept = self.keeping.stored();
        // Two who ask for the same overrule nobody. What waits for a backup is what counts.
        let waiting = kept.backups.upgrades.waiting();
        let counts = waiting.map_or(kept.config.as_ref(), |(_, next)| Some(&next.config));
        let is_what_counts = kept.wish == Wish::Up && counts == Some(&request.config);
        if is_overruled && !is_what_counts {
            let words = "another command was taken meanwhile, and it was asked for later";
            return Err(Denied::Because(words.to_owned()));
        }
        self.admit_up(request, by)
    }

    /// What applying a configuration means here, or why it cannot be applied.
    pub(super) fn admit_up(&self, request: &UpRequest, by: &Evidence) -> Result<Up, Denied> {
        let kept = self.keeping.stored();
        let mut notes = Vec::new();
        let (spec, key, seen) = match by {
            Evidence::Unchanged => match self.unchanged(request) {
                Some(spec) => (spec, None, self.state.seen.clone()),
                None => {
                    let words = "what was applied changed meanwhile; ask again";
                    return Err(Denied::Because(words.to_owned()));
                }
            },
            Evidence::Found(found) => {
                let plain = self.spec_for(request, &Secret::default());
                let asked = admit::Asked {
                    config: &request.config,
                    spec: &plain,
                    fresh: request.fresh,
                    name_on_purpose: request.name_on_purpose,
                    no_backup: request.no_backup,
                    today: Some(self.now.wall.date()),
                };
                let admitted =
                    admit::admit(&asked, kept, &found.facts).map_err(Denied::Problems)?;
                notes.extend(admitted.notes);
                let (key, is_new) = match admitted.key {
                    MasterKey::Known(key) => (key, false),
                    MasterKey::Generate => (found.fresh_key.clone(), true),
                };
                if is_new {
                    notes.push(self.note_of_a_new_key());
                }
                let new = NewKey {
                    key: key.clone(),
                    is_new,
                    data: Data::of(&plain),
                    begins_anew: found.facts.makes_database(&request.config) == Some(true),
                };
                let seen = Observed {
                    images: found.images.clone(),
                    ..self.state.seen.clone()
                };
                (self.spec_for(request, &key), Some(new), seen)
            }
        };
        let refetch = request.config.pull == Pull::Always;
        let mut changes = preview::changes(kept.spec.as_ref(), &spec, &seen, refetch);
        let upgrade = self.upgrade_to(request, &spec, &seen);
        if let Some(denied) = upgrade.as_ref().and_then(|_| self.deny_for_password()) {
            return Err(denied);
        }
        let first = upgrade.as_ref().and_then(first_change);
        changes.splice(0..0, first);
        changes.extend(self.changes_of_tentacles(&request.config, &spec));
        Ok(Up {
            config: request.config.clone(),
            spec,
            endpoint: self.setup.endpoint.clone(),
            generated: request.generated.clone(),
            key,
            upgrade,
            notes,
            changes,
        })
    }

    fn note_of_a_new_key(&self) -> String {
        format!(
            "a master key was made for this new database, and is kept in {}; back it up: without \
             it, backups of the database are useless",
            self.setup.state_file
        )
    }

    /// The applied desired state, when the same configuration is applied again to a stack that is
    /// up, as far as that was seen.
    pub(super) fn unchanged(&self, request: &UpRequest) -> Option<StackSpec> {
        let kept = self.keeping.stored();
        let spec = kept.spec.clone()?;
        let same = kept.config.as_ref() == Some(&request.config)
            && self.state.desired.goal == Goal::Up
            && self.state.seen != Observed::default()
            && self.has_its_data(&spec)
            && (spec.working_dir == request.working_dir || request.name_on_purpose)
            && request.config.pull != Pull::Always;
        same.then_some(spec)
    }

    /// Whether what was seen has the data that a desired state runs on, as far as it is here.
    pub(super) fn has_its_data(&self, spec: &StackSpec) -> bool {
        match Data::of(spec) {
            Data::Volume(name) => self.state.seen.volumes.contains(&name),
            Data::Theirs(_) | Data::Directory(_) | Data::External { .. } => true,
        }
    }

    pub(super) fn spec_for(&self, request: &UpRequest, key: &Secret) -> StackSpec {
        let unprivileged = request.config.demo && self.keeping.stored().demo.unprivileged;
        build(
            &request.config,
            &BuildInput {
                project: &self.setup.project,
                working_dir: &request.working_dir,
                master_key: key,
                may_be_privileged: !unprivileged,
            },
        )
    }

    pub(super) fn deny_any_up(&self) -> Option<Denied> {
        if self.shutdown.is_under_way() {
            let words = "the daemon is ending; try again when it has";
            return Some(Denied::Because(words.to_owned()));
        }
        if let Some(note) = self.unfinished_restore() {
            return Some(Denied::Because(note.to_string()));
        }
        let upgrades = &self.keeping.stored().backups.upgrades;
        if let Some(upgrade) = upgrades.waits_to_go_back() {
            let words = format!(
                "a rollback to {} is about to begin: `octo-local rollback` follows it, `octo-local down` takes it back",
                upgrade.from
            );
            return Some(Denied::Because(words));
        }
        if self.keeping.may_write() {
            return None;
        }
        let forbids =
            |note: &&Note| matches!(note, Note::StateNewer { .. } | Note::StateUnreadable { .. });
        let why = self.notes.iter().find(forbids).map(ToString::to_string);
        Some(Denied::Because(why.unwrap_or_default()))
    }
}
