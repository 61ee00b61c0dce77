//! Whether a container may stay as it is, or why not.

use std::time::Duration;

use super::Pass;
use crate::reconcile::Cause;
use crate::reconcile::Mono;
use crate::reconcile::Phase;
use crate::reconcile::health::DATABASE_SILENCE;
use crate::reconcile::health::Health;
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
    /// It is a node, and none runs for now.
    Resting,
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
        if self.desired.rests(unit) {
            return Fit::Resting;
        }
        if self.is_outdated(wanted, container) {
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

    /// Whether a container was made from another definition than the wanted one, or of another image.
    pub(super) fn is_outdated(&self, wanted: &ContainerSpec, container: &Container) -> bool {
        self.digests.get(&container.unit) != Some(&container.digest)
            || self.is_of_another_image(wanted, container)
    }

    /// Whether a container was made of another image than the one that its reference stood for at
    /// the last `up`.
    fn is_of_another_image(&self, wanted: &ContainerSpec, container: &Container) -> bool {
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
        let unit = container.unit;
        let is_held_to_account = self.has_grace_ended(record)
            && match unit.role() {
                Role::Database => true,
                Role::Server => self.database_was_well_after(spec, record),
                // Without a node it cannot register, and a start would not help.
                Role::Tentacle => self.any_node_serves(spec),
            };
        match self.phase(spec, unit) {
            Phase::Unready if is_held_to_account && self.hangs(spec, unit, record.health()) => {
                Fit::Broken(Cause::Hung)
            }
            // One that nobody asked yet may be ready: a new daemon first looks.
            Phase::Starting
                if unit.is_server() && !self.database_runs(spec) && record.health().was_asked() =>
            {
                Fit::Broken(Cause::LostDatabase)
            }
            // One that refuses a login is no stuck process.
            Phase::Starting
                if is_held_to_account
                    && record.health().refused_since.is_none()
                    && self.now >= start_deadline(unit, spec, record) =>
            {
                Fit::Broken(Cause::StuckStarting)
            }
            Phase::Absent
            | Phase::Created
            | Phase::Starting
            | Phase::Ready
            | Phase::Unready
            | Phase::Draining { .. }
            | Phase::Drained
            | Phase::Paused
            | Phase::Dead
            | Phase::Stopping
            | Phase::BackingOff { .. }
            | Phase::CrashLoop { .. }
            | Phase::Failed(_) => Fit::Right,
        }
    }

    /// Whether a unit that served does not come back by itself: its process is gone or says nothing
    /// at all, or it has been slow or broken for minutes. A look must have found it attached to its
    /// network since it began to fail.
    fn hangs(&self, spec: &StackSpec, unit: UnitId, health: &Health) -> bool {
        let misses = spec.timing.misses;
        health.failing_seen
            && (self.is_certainly_gone(spec, unit, health)
                || health.is_slow_for_too_long(misses, self.now))
    }

    /// Whether a unit hangs beyond doubt: nobody is there, or nothing at all was said for long.
    pub(super) fn is_certainly_gone(
        &self,
        spec: &StackSpec,
        unit: UnitId,
        health: &Health,
    ) -> bool {
        let silence = match unit.role() {
            Role::Database => DATABASE_SILENCE,
            Role::Server | Role::Tentacle => Duration::ZERO,
        };
        health.is_gone(spec.timing.misses, silence, self.now)
    }

    /// Whether a running container that is beyond waiting for may be ended now. A node that may
    /// only be slow waits until no other node is on its way out or back: where the host is slow,
    /// all of them are.
    pub(super) fn may_end_broken(
        &mut self,
        spec: &StackSpec,
        container: &Container,
        cause: Cause,
    ) -> bool {
        let unit = container.unit;
        let health = self.records.get(unit).map(UnitRecord::health);
        let is_certain = cause != Cause::Hung
            || unit.is_database()
            || health.is_some_and(|health| self.is_certainly_gone(spec, unit, health));
        let others = spec.nodes.iter().map(|node| node.unit);
        let is_out = |other: UnitId| {
            let phase = self.phase(spec, other);
            other != unit && matches!(phase, Phase::Starting | Phase::Stopping | Phase::Dead)
        };
        is_certain || !self.stops_a_node_already() && !others.into_iter().any(is_out)
    }

    /// Whether this host has been awake, and the unit's database back, for long enough that silence
    /// means something.
    pub(super) fn has_grace_ended(&self, record: &UnitRecord) -> bool {
        self.now >= self.records.lenient_until.max(record.reconnects_until)
    }

    /// Whether the database answered after this node began to fail: only then is it the node's own
    /// fault.
    pub(super) fn database_was_well_after(&self, spec: &StackSpec, node: &UnitRecord) -> bool {
        let Some(database) = self.records.get(UnitId::Sql).map(UnitRecord::health) else {
            return false;
        };
        let failing = node.health().failing_since;
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
        Role::Server | Role::Tentacle => spec.timing.node_start_limit,
    };
    let moved = record.running().map(|running| running.progress_at);
    moved.unwrap_or_default().max(record.seen_at()).after(limit)
}
