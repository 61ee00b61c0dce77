//! Whether a container may stay as it is, or why not.

use super::Pass;
use crate::reconcile::Cause;
use crate::reconcile::Mono;
use crate::reconcile::Phase;
use crate::reconcile::observed::Container;
use crate::reconcile::record::UnitRecord;
use crate::spec::ContainerSpec;
use crate::spec::Role;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// Whether a container may stay as it is.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::reconcile) enum Fit {
    /// It is what is wanted.
    Right,
    /// It must end and start again: a person asked.
    Restart,
    /// It is beyond waiting for and must end, to be started again.
    Broken(Cause),
    /// It must be replaced by another of the same name: its definition changed.
    Replace,
    /// Nobody wants it any more.
    Surplus,
    /// The operator stopped this unit.
    Halted,
}

impl Pass<'_> {
    /// How well a container fits what is wanted.
    pub(super) fn fit(&self, spec: &StackSpec, container: &Container) -> Fit {
        let unit = container.unit;
        let Some(wanted) = spec.container(unit) else {
            return Fit::Surplus;
        };
        if self.desired.stopped.contains(&unit) {
            return Fit::Halted;
        }
        if self.digests.get(&unit) != Some(&container.digest)
            || self.is_of_another_image(wanted, container)
        {
            return Fit::Replace;
        }
        // Attached to a network that is gone, it could never start again; made for a network that
        // is gone, it could never be attached again.
        let is_mendable = container.is_running() && self.seen.can_be_attached(container);
        if !self.seen.networks.is_empty() && !self.seen.is_attached(container) && !is_mendable {
            return Fit::Replace;
        }
        let asked = self.desired.restart.get(&unit);
        if asked.is_some() && asked == container.instance().as_ref() {
            return Fit::Restart;
        }
        self.broken(spec, container)
    }

    /// Whether a container was made of another image than the one that its reference stood for at
    /// the last `up`.
    pub(super) fn is_of_another_image(
        &self,
        wanted: &ContainerSpec,
        container: &Container,
    ) -> bool {
        let pinned = self
            .desired
            .images
            .get(&wanted.image)
            .filter(|_| !container.image_id.is_empty());
        pinned.is_some_and(|id| *id != container.image_id)
    }

    /// Whether a running container is beyond waiting for.
    pub(super) fn broken(&self, spec: &StackSpec, container: &Container) -> Fit {
        let unknown = UnitRecord::default();
        let record = self.records.get(container.unit).unwrap_or(&unknown);
        // Without its network it has no port that could answer.
        if container.is_running() && !self.seen.is_attached(container) {
            return Fit::Right;
        }
        let is_node = container.unit.is_server();
        let is_held_to_account = self.has_grace_ended(record)
            && (!is_node || self.database_was_well_after(spec, record));
        match self.phase(spec, container.unit) {
            Phase::Unready if is_held_to_account && record.health.misses >= spec.timing.misses => {
                Fit::Broken(Cause::Hung)
            }
            // One that nobody asked yet may be ready: a new daemon first looks.
            Phase::Starting
                if is_node && !self.database_runs(spec) && record.health.was_asked() =>
            {
                Fit::Broken(Cause::LostDatabase)
            }
            Phase::Starting
                if is_held_to_account
                    && self.now >= start_deadline(container.unit, spec, record) =>
            {
                Fit::Broken(Cause::StuckStarting)
            }
            Phase::Absent
            | Phase::Created
            | Phase::Starting
            | Phase::Ready
            | Phase::Unready
            | Phase::Paused
            | Phase::Dead
            | Phase::Stopping
            | Phase::BackingOff { .. }
            | Phase::CrashLoop { .. }
            | Phase::Failed(_) => Fit::Right,
        }
    }

    /// Whether this host has been awake, and the unit's database back, for long enough that silence
    /// means something.
    pub(super) fn has_grace_ended(&self, record: &UnitRecord) -> bool {
        self.now >= self.records.lenient_until.max(record.reconnects_until)
    }

    /// Whether the database answered after this node began to fail: only then is it the node's own
    /// fault.
    pub(super) fn database_was_well_after(&self, spec: &StackSpec, node: &UnitRecord) -> bool {
        let Some(database) = self.records.get(UnitId::Sql).map(|sql| &sql.health) else {
            return false;
        };
        let failing = node.health.failing_since;
        self.phase(spec, UnitId::Sql) == Phase::Ready
            && failing.is_none_or(|since| database.last_ready_at >= Some(since))
    }

    /// Whether the database can be expected to answer some time: a container of ours runs, or it is
    /// external.
    pub(super) fn database_runs(&self, spec: &StackSpec) -> bool {
        spec.sql.is_none()
            || self
                .seen
                .container(UnitId::Sql)
                .is_some_and(Container::is_running)
    }
}

/// When a unit that is starting and no longer moves counts as stuck. Progress puts it off.
fn start_deadline(unit: UnitId, spec: &StackSpec, record: &UnitRecord) -> Mono {
    let limit = match unit.role() {
        Role::Database => spec.timing.sql_start_limit,
        Role::Server => spec.timing.node_start_limit,
    };
    record.progress_at.max(record.seen_at).after(limit)
}
