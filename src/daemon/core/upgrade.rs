//! Upgrades of Octopus Server with a backup before them, and rollbacks: which step is next. Nodes
//! rest while the data is saved or brought back; what follows begins once the disk has it, so that
//! a daemon that comes after a killed one goes on with the same step.

use std::collections::BTreeMap;

use super::Core;
use super::EngineView;
use super::roll_back::Reading;
use crate::backup::SetName;
use crate::config::AfterFailedUpgrade;
use crate::daemon::message::BackedUp;
use crate::daemon::message::BackupFor;
use crate::daemon::message::Effect;
use crate::daemon::message::UpRequest;
use crate::daemon::store::Applied;
use crate::daemon::store::Data;
use crate::daemon::store::Stored;
use crate::daemon::store::Upgrade;
use crate::daemon::store::Upgrades;
use crate::daemon::store::Upgrading;
use crate::reconcile::Action;
use crate::reconcile::Goal;
use crate::reconcile::Observed;
use crate::reconcile::Phase;
use crate::reconcile::action::Subject;
use crate::reconcile::cause::Class;
use crate::reconcile::phase::phase_of;
use crate::reconcile::plan::no_node_runs;
use crate::reconcile::preview::Change;
use crate::reconcile::preview::Step;
use crate::reconcile::record::UnitRecord;
use crate::reconcile::status::Note;
use crate::reconcile::status::VersionChange;
use crate::reconcile::status::VersionStep;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// What is under way of an upgrade or a rollback, beside what is kept of it.
#[derive(Debug, Default)]
pub(super) struct VersionWork {
    /// Data is backed up for an upgrade.
    saves: bool,
    /// Data is brought back.
    pub(super) brings_back: bool,
    /// How far the set was read that is to be brought back.
    pub(super) reading: Reading,
    /// What was applied last is not on the disk yet: no node starts with it before.
    waits_for_the_disk: bool,
}

impl Core {
    /// What applying a desired state is an upgrade from, if it is one: another image than the one
    /// that last ran on this data. The way back of one that is not done stays what it is, since the
    /// database may be migrated in part.
    pub(super) fn upgrade_to(
        &self,
        request: &UpRequest,
        spec: &StackSpec,
        seen: &Observed,
    ) -> Option<Upgrading> {
        let kept = self.keeping.stored();
        let upgrades = &kept.backups.upgrades;
        let to = spec.nodes.first()?.image.clone();
        if let Some(begun) = upgrades.migrating() {
            let upgrade = Upgrade {
                to,
                ..begun.clone()
            };
            return Some(Upgrading {
                upgrade,
                ..Upgrading::default()
            });
        }
        let data = Data::of(spec);
        let before = kept.applied()?;
        let ran = kept.ran_on(&data)?;
        let id = seen.images.get(&to);
        let is_same =
            ran.image == to && id.is_none_or(|id| ran.image_id.is_empty() || *id == ran.image_id);
        // Somebody else's database is backed up where it is.
        let is_ours = !matches!(data, Data::External { .. })
            && Data::of(&before.spec) == data
            && self.has_its_data(spec);
        if is_same || !is_ours || request.no_backup {
            return None;
        }
        let waiting = upgrades.upgrading.as_ref();
        let same = |one: &&Upgrading| {
            one.next
                .as_ref()
                .is_some_and(|next| next.config == request.config)
        };
        if let Some(same) = waiting.filter(same) {
            return Some(same.clone());
        }
        let sql = |spec: &StackSpec| spec.sql.as_ref().map(ContainerSpec::digest);
        let replaced = spec.sql.as_ref().filter(|_| sql(spec) != sql(&before.spec));
        let needs = replaced.into_iter().chain(spec.nodes.first());
        Some(Upgrading {
            needs: needs.map(|container| container.image.clone()).collect(),
            upgrade: Upgrade {
                from: ran.image.clone(),
                to,
                set: SetName::of(&self.setup.project, self.now.wall).to_string(),
                before: Box::new(before),
            },
            next: Some(Box::new(Applied {
                config: request.config.clone(),
                spec: spec.clone(),
                images: BTreeMap::new(),
            })),
        })
    }

    /// Has nodes rest as long as the data is saved or brought back, and the images of what is
    /// applied next fetched before that.
    pub(super) fn settle_who_rests(&mut self) {
        if self.keeping.is_well() && self.keeping.is_settled() {
            self.learned.version.waits_for_the_disk = false;
        }
        let upgrades = &self.keeping.stored().backups.upgrades;
        let waiting = upgrades.upgrading.as_ref().filter(|one| one.next.is_some());
        let next = match upgrades.waits_to_go_back() {
            Some(upgrade) => self.images_of_before(upgrade),
            None => waiting.map(|one| one.needs.clone()).unwrap_or_default(),
        };
        let desired = &self.state.desired;
        let are_here = desired.refresh.is_empty()
            && next
                .iter()
                .all(|image| self.state.seen.images.contains_key(image));
        let is_saved = waiting.is_some() && (are_here || desired.nodes_rest);
        let rest = is_saved
            || upgrades.goes_back().is_some()
            || self.is_data_worked_on()
            || self.is_password_changing()
            || self.learned.version.waits_for_the_disk;
        let in_use = self.learned.version.saves
            || self.learned.version.brings_back
            || self.is_password_written();
        let is_replaced = self.keeping.stored().backups.unfinished().is_some();
        let desired = &mut self.state.desired;
        desired.data_is_replaced = is_replaced;
        if desired.wanted_next != next {
            desired.wanted_next = next;
            self.looks.invalidate_images();
            self.looks.want();
        }
        desired.nodes_rest = rest;
        desired.data_in_use = in_use;
    }

    /// Begins the step that is next, and notices what came of the last one.
    pub(super) fn go_on_with_version_change(&mut self) {
        self.look_before_going_back();
        let upgrades = &self.keeping.stored().backups.upgrades;
        if upgrades.waiting().is_some()
            && let Some(cause) = self
                .state
                .records
                .get(UnitId::Sql)
                .and_then(UnitRecord::gave_up)
        {
            let why = format!(
                "SQL Server does not serve ({}), so the data cannot be backed up: mend that with the version of \
                 before, or say --no-backup",
                cause.title()
            );
            self.tell("", why.clone());
            self.keeping.edit(|stored| stored.give_up_upgrade(&why));
            self.derive();
        } else if upgrades.waiting().is_some() {
            if !self.learned.scheduled.is_made() && self.is_data_at_rest() {
                self.learned.scheduled.begins();
                self.learned.version.saves = true;
                self.tell("", "no node runs: the data is backed up before the upgrade");
                let stored = Box::new(self.keeping.stored().clone());
                self.out.push(Effect::BackUp(BackupFor::Upgrade, stored));
            }
        } else if upgrades
            .goes_back()
            .is_some_and(|back| back.failure.is_none())
        {
            if !self.learned.version.brings_back && self.is_data_at_rest() {
                self.learned.version.brings_back = true;
                self.tell("", "no node runs: the data of before is brought back");
                let stored = Box::new(self.keeping.stored().clone());
                self.out.push(Effect::BringBack(stored));
            }
        } else if let Some(upgrade) = upgrades.migrating() {
            let (from, to) = (upgrade.from.clone(), upgrade.to.clone());
            if self
                .serving_node()
                .is_some_and(|(node, _)| node.image == to)
            {
                self.keeping.edit(Stored::upgraded);
                self.tell("", format!("upgraded from {from} to {to}"));
            } else if self.a_node_failed() && self.goes_back_by_itself() {
                self.tell(
                    "",
                    format!("{to} does not come up: back to {from}, as UPGRADE_ROLLBACK says"),
                );
                self.keeping.edit(Stored::begin_rollback);
                self.derive();
            }
        }
    }

    /// Whether a task reads or writes the data as a whole. It ends by itself, also where what it is
    /// for was taken back meanwhile; no node starts before, and no volume goes.
    pub(super) fn is_data_worked_on(&self) -> bool {
        self.learned.version.saves || self.learned.version.brings_back
    }

    /// What was tried in vain is not tried again and again: a person has to mend something.
    fn goes_back_by_itself(&self) -> bool {
        let kept = self.keeping.stored();
        let is_new = kept.backups.upgrades.failure.is_none();
        kept.config
            .as_ref()
            .filter(|_| is_new)
            .is_some_and(|config| {
                config.octopus.after_failed_upgrade == AfterFailedUpgrade::RollBack
            })
    }

    /// Whether a node is beyond another try by itself, or failed again and again. What only the host
    /// lacks is not the version's fault.
    fn a_node_failed(&self) -> bool {
        let nodes = self.state.desired.spec.iter().flat_map(|spec| &spec.nodes);
        let phase = |unit| {
            phase_of(
                unit,
                false,
                &self.state.seen,
                &self.state.records,
                self.now.mono,
            )
        };
        nodes.map(|node| phase(node.unit)).any(|phase| match phase {
            Phase::CrashLoop { .. } => true,
            Phase::Failed(cause) => cause.class() == Class::Permanent,
            _ => false,
        })
    }

    /// Whether no node runs nor can, and the database serves: what is read or written now is whole.
    fn is_data_at_rest(&self) -> bool {
        let database = self.state.records.get(UnitId::Sql);
        database.is_some_and(|database| database.health().ready)
            && self.are_nodes_out()
            && self.database_stays()
    }

    /// Whether no node runs nor can. What the disk does not have yet is waited for.
    pub(super) fn are_nodes_out(&self) -> bool {
        let now = self.now.mono;
        self.state.desired.goal == Goal::Up
            && self.state.desired.nodes_rest
            && self.keeping.is_well()
            && self.keeping.is_settled()
            && *self.looks.engine() == EngineView::Answers
            && self.looks.may_act()
            && self.tenure.may_act(now)
            && no_node_runs(
                &self.state.desired,
                &self.state.seen,
                &self.state.records,
                now,
            )
    }

    /// Whether nothing ends SQL Server now: one that is to be replaced would go in the middle of what
    /// is read or written.
    fn database_stays(&self) -> bool {
        let ends = |action: &Action| {
            matches!(
                action,
                Action::Stop {
                    unit: UnitId::Sql,
                    ..
                }
            )
        };
        let plan = self.state.plan(self.now.mono);
        !self.learned.stops_to_come.contains_key(&UnitId::Sql)
            && !self.state.records.is_busy(&Subject::Unit(UnitId::Sql))
            && !plan.actions.iter().any(ends)
    }

    /// The backup that an upgrade waited for was made, or was not.
    pub(super) fn on_saved_for_upgrade(&mut self, result: Result<BackedUp, String>) {
        self.learned.version.saves = false;
        let Some((upgrade, _)) = self.keeping.stored().backups.upgrades.waiting() else {
            return;
        };
        let (to, set) = (upgrade.to.clone(), upgrade.set.clone());
        match result {
            Ok(made) if made.name == set => {
                self.tell("", format!("backup {set} is made; {to} is applied"));
                self.keeping.edit(Stored::apply_what_waits);
                self.apply_another_version();
            }
            // One for an upgrade that was taken back meanwhile.
            Ok(_) => {}
            Err(why) => {
                self.tell(
                    "",
                    format!("there is no backup, so {to} is not applied: {why}"),
                );
                self.keeping
                    .edit(|stored| stored.give_up_upgrade(&format!("there is no backup: {why}")));
                self.derive();
            }
        }
    }

    pub(super) fn apply_another_version(&mut self) {
        self.learned.version.waits_for_the_disk = true;
        self.state.records.forgive();
        self.derive();
        self.looks.invalidate_everything();
        self.looks.renew_for_a_wish();
    }

    /// How an upgrade or a rollback stands, for people.
    pub(super) fn version_change(&self) -> Option<VersionChange> {
        let upgrades = &self.keeping.stored().backups.upgrades;
        let told = |upgrade: &Upgrade, step| VersionChange {
            from: upgrade.from.clone(),
            to: upgrade.to.clone(),
            set: upgrade.set.clone(),
            step,
        };
        if let Some(back) = &upgrades.rolling_back {
            let step = match back.failure {
                _ if back.waits => VersionStep::Checking,
                Some(_) => VersionStep::NotBroughtBack,
                None => VersionStep::BringingBack,
            };
            return Some(told(&back.upgrade, step));
        }
        let step = match upgrades.waiting() {
            Some(_) if self.learned.version.saves => VersionStep::Saving,
            Some(_) if self.state.desired.nodes_rest => VersionStep::Resting,
            Some(_) => VersionStep::Fetching,
            None => VersionStep::Migrating,
        };
        upgrades
            .upgrading
            .as_ref()
            .map(|one| told(&one.upgrade, step))
    }

    /// What people should know of it and can do.
    pub(super) fn notes_of_version_change(&self) -> Vec<Note> {
        let Upgrades {
            upgrading: _,
            last: _,
            rolled_back: _,
            rolling_back,
            failure,
        } = &self.keeping.stored().backups.upgrades;
        let upgrades = &self.keeping.stored().backups.upgrades;
        let failed = upgrades.migrating().filter(|_| self.a_node_failed());
        let failed = failed.map(|upgrade| Note::UpgradeFailed {
            from: upgrade.from.clone(),
            to: upgrade.to.clone(),
        });
        let not_begun = failure.clone().map(|why| Note::VersionKept { why });
        let not_back = rolling_back.as_ref().and_then(|back| {
            let why = back.failure.clone()?;
            Some(Note::RollbackFailed { why })
        });
        failed
            .into_iter()
            .chain(not_begun)
            .chain(not_back)
            .collect()
    }
}

/// The step that comes before all others of an upgrade, for people.
pub(super) fn first_change(upgrading: &Upgrading) -> Option<Change> {
    upgrading.next.as_ref()?;
    let Upgrade { from, to, set, .. } = &upgrading.upgrade;
    // A tag that moved stands for another version under the same name.
    let to = if from == to {
        "the image that it stands for now"
    } else {
        to
    };
    Some(Change {
        name: set.clone(),
        what: Step::BackUp,
        why: vec![format!(
            "from {from} to {to}: all nodes finish their tasks and stop first, the first one then migrates the database alone; `octo-local rollback` goes back to this backup"
        )],
    })
}
