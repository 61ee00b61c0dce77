//! Tentacles in the model: what the operator adds and removes, how one comes up and registers, and
//! the two invariants about them: nobody else waits for one, and none is registered twice.

use std::time::Duration;

use octo_local::daemon::message::About;
use octo_local::daemon::message::TentacleStep;
use octo_local::reconcile::Action;
use octo_local::reconcile::Goal;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Registered;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::action::TroubleKind;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::plan;
use octo_local::reconcile::status::StatusInput;
use octo_local::reconcile::status::status;
use octo_local::spec::ContainerSpec;
use octo_local::spec::StackSpec;
use octo_local::spec::UnitId;
use octo_local::spec::tentacle::Purpose;
use octo_local::spec::tentacle::Registration;
use octo_local::spec::tentacle::Tentacle;
use octo_local::spec::tentacle::TentacleName;

use super::calls::Answer;
use super::operator::Wish;
use super::process::Phase;
use super::process::Step;
use super::sim::Sim;
use super::world::Ms;

/// The names that the operator gives.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// What people are told is compared at every so many milliseconds: it costs as much as a plan.
const STATUS_EVERY: Ms = 5;
/// What the vendor's script says where no node answers.
const NO_SERVER: &str = "ERROR: no answer from the server";

impl Sim {
    /// Some wish about Tentacles; none where this run has none. What is drawn for them is drawn
    /// apart, so that it does not decide what else happens.
    pub(super) fn some_tentacle_wish(&mut self) -> Option<Wish> {
        if !self.has_tentacles {
            return None;
        }
        let name: TentacleName = self.other_chance.pick(&NAMES)?.parse().unwrap();
        let unit = UnitId::Tentacle(name);
        Some(match self.other_chance.below(12) {
            0..5 => Wish::Tentacle(name, TentacleStep::Add(Box::new(wish_of(name)))),
            5 | 6 => Wish::Tentacle(name, TentacleStep::Remove(Registration::Deleted)),
            7 => Wish::Tentacle(name, TentacleStep::Remove(Registration::Kept)),
            8 => Wish::Units(About::Restart, vec![unit]),
            9 => Wish::Units(About::Stop, vec![unit]),
            _ => Wish::Units(About::Start, vec![unit]),
        })
    }

    /// The operator may wish something of a Tentacle, too.
    pub(super) fn perhaps_a_tentacle(&mut self) {
        if self.other_chance.percent(40)
            && let Some(wish) = self.some_tentacle_wish()
        {
            self.command(wish);
        }
    }

    /// A wish was taken: a registration that is to stay there is nobody's any more.
    pub(super) fn tentacle_taken(&mut self, name: TentacleName, step: &TentacleStep) {
        match step {
            TentacleStep::Remove(Registration::Kept) => {
                self.world.left_registered.insert(name.to_string());
            }
            TentacleStep::Remove(Registration::Deleted) | TentacleStep::Add(_) => {}
        }
    }

    /// The next phase of a Tentacle's process: it asks whether it is registered, and a moment later
    /// registers if it was not, unless its identity says that it is configured.
    pub(super) fn tentacle_goes_on(&mut self, id: &str, phase: Phase) {
        let made = &self.world.containers[id];
        let volume = made.volumes.first().cloned().unwrap_or_default();
        let name = made.node.clone();
        let identity = self.world.volumes.get(&volume);
        let is_configured = identity.is_some_and(|one| one.configured);
        match phase {
            Phase::Boot if is_configured => self.enter(id, Phase::Ready),
            Phase::Boot if !self.any_node_answers(id) => self.exit(id, 1, NO_SERVER),
            Phase::Boot => {
                let is_known = self.world.registered.contains(&name);
                self.enter(id, Phase::Registering { is_known });
                let wait = self.chance.between(10, 800);
                self.step(id, wait, Step::Next);
            }
            Phase::Registering { is_known } => {
                if !self.any_node_answers(id) {
                    return self.exit(id, 1, NO_SERVER);
                }
                if !is_known {
                    self.world.registered.push(name);
                }
                if let Some(identity) = self.world.volumes.get_mut(&volume) {
                    identity.configured = true;
                }
                self.check_registrations();
                self.enter(id, Phase::Ready);
            }
            Phase::Connecting(_)
            | Phase::Migrating
            | Phase::Refusing
            | Phase::Recovering
            | Phase::Ready
            | Phase::Closing
            | Phase::Stuck
            | Phase::Foreign => {}
        }
    }

    /// Whether a node serves on a network of this container's.
    fn any_node_answers(&self, id: &str) -> bool {
        let networks = &self.world.containers[id].networks;
        let mut nodes = self.world.ours().filter(|(_, unit, _)| unit.is_server());
        nodes.any(|(node, _, made)| {
            let is_near = !made.networks.is_disjoint(networks);
            made.answers() && is_near && self.has_database(node)
        })
    }

    fn any_is_well<'a>(&self, nodes: impl IntoIterator<Item = &'a ContainerSpec>) -> bool {
        let mut nodes = nodes.into_iter();
        nodes.any(|node| self.invariants.is_well(node.unit))
    }

    /// What a Tentacle answers at its port, and after how long.
    pub(super) fn tentacle_answers(&mut self, id: &str, limit: Ms) -> (Probe, Ms) {
        let quick = self.chance.between(1, 20);
        let made = self.world.containers.get(id);
        match made {
            Some(made) if made.process.is_some() && made.is_silent() => no_answer(limit),
            Some(made) if made.phase() == Some(Phase::Ready) => (Probe::Ready, quick),
            _ => (nobody_listens(), quick),
        }
    }

    /// A registration is deleted by a node that serves; then the identity goes.
    pub(super) fn retire(
        &mut self,
        unit: UnitId,
        from: Option<&Registered>,
        volume: Option<&str>,
    ) -> Answer {
        let UnitId::Tentacle(name) = unit else {
            unreachable!("only a Tentacle is retired");
        };
        if let Some(from) = from {
            let node = self.world.ids_of(from.by).into_iter().next();
            let answers =
                |node: &String| self.world.containers[node].serves() && self.has_database(node);
            if !node.as_ref().is_some_and(answers) {
                return Err(Trouble {
                    kind: TroubleKind::Registration,
                    ..Trouble::refused("not listening yet")
                });
            }
            self.world.registered.retain(|one| *one != name.as_str());
        }
        if let Some(volume) = volume {
            self.world.volumes.remove(volume);
            self.hint_infrastructure();
        }
        Ok(Outcome::default())
    }

    /// Never two registrations of one name.
    pub(super) fn check_registrations(&mut self) {
        let registered = self.world.registered.clone();
        let twice = NAMES
            .iter()
            .find(|name| registered.iter().filter(|one| one == *name).count() > 1);
        self.must(twice.is_none(), || format!("{twice:?} is registered twice"));
    }

    /// An action on a Tentacle begins.
    pub(super) fn check_tentacle(&mut self, action: &Action) {
        match action {
            Action::Create(unit) => self.check_try(*unit),
            Action::Start(unit, id) => {
                self.check_try(*unit);
                let nodes = self.desired().spec.iter().flat_map(|spec| &spec.nodes);
                let serves = self.any_is_well(nodes);
                self.must_of(*unit, serves, "is started and no node serves");
                let ids = self.world.ids_of(*unit);
                let moves = |other: &&String| self.world.containers[*other].moves();
                let other = ids.iter().filter(|other| *other != id).find(moves);
                self.must(other.is_none(), || {
                    format!("{unit} is started beside {other:?}")
                });
            }
            Action::Retire { unit, .. } => {
                let ids = self.world.ids_of(*unit);
                let by_us = |id: &&String| self.world.containers[*id].runs_by_us();
                let runs = ids.iter().find(by_us).cloned();
                self.must(runs.is_none(), || {
                    format!("{unit} is retired while {runs:?} runs")
                });
            }
            _ => {}
        }
    }

    /// What is planned for the stack, and what people are told of it, is the same without any
    /// Tentacle: so none delays a node, an upgrade or a `down`. Only the network, and what `down`
    /// takes with the data, goes after them.
    pub(super) fn check_nobody_waits_for_a_tentacle(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let (state, now) = (daemon.state(), daemon.at(self.now));
        let mut wanted = state.desired.spec.iter().flat_map(|spec| &spec.tentacles);
        let is_none = state.seen.tentacles.is_empty() && state.desired.leaving.is_empty();
        if is_none && wanted.next().is_none() {
            return;
        }
        let mut desired = state.desired.clone();
        desired.spec = desired.spec.map(StackSpec::without_tentacles);
        desired.leaving.clear();
        desired.stopped.retain(|unit| !unit.is_tentacle());
        desired.restart.retain(|unit, _| !unit.is_tentacle());
        let mut seen = state.seen.clone();
        seen.tentacles.clear();
        let mut records = state.records.clone();
        records.units.retain(|unit, _| !unit.is_tentacle());
        records.busy.retain(|subject, _| !subject.is_of_tentacle());
        records
            .blocked
            .retain(|subject, _| !subject.is_of_tentacle());
        let goes_after = |action: &Action| {
            let takes = matches!(action, Action::RemoveNetwork(_) | Action::RemoveVolume(_));
            takes && matches!(desired.goal, Goal::Down { .. })
        };
        let of_stack = |action: &Action| !action.subject().is_of_tentacle() && !goes_after(action);
        let with = plan(&state.desired, &state.seen, &state.records, now);
        let without = plan(&desired, &seen, &records, now);
        let with: Vec<&Action> = with.actions.iter().filter(|one| of_stack(one)).collect();
        let without: Vec<&Action> = without.actions.iter().filter(|one| of_stack(one)).collect();
        let is_same = with == without;
        let differ = (!is_same).then(|| format!("with Tentacles {with:?}, without {without:?}"));
        let is_told_now = self.now.is_multiple_of(STATUS_EVERY);
        let told = is_told_now.then(|| {
            let around = StatusInput::default();
            let told = status(&around, &state.desired, &state.seen, &state.records, now);
            let alone = status(&around, &desired, &seen, &records, now);
            (told.verdict, alone.verdict)
        });
        self.must(is_same, || differ.unwrap_or_default());
        let Some((told, alone)) = told else { return };
        // Something of the stack is there as long as a Tentacle is.
        let is_down = matches!(self.goal(), Goal::Down { .. } | Goal::Halt);
        self.must(told == alone || is_down, || {
            format!("with Tentacles {told:?}, without {alone:?}")
        });
    }

    /// At rest each Tentacle listens or was stopped, and what is registered is somebody's.
    pub(super) fn check_tentacles_at_rest(&mut self) {
        let desired = self.desired().clone();
        let kept = self.kept().tentacles.clone();
        let Some(spec) = &desired.spec else { return };
        let serves = self.any_is_well(&spec.nodes);
        for wanted in &spec.tentacles {
            let unit = wanted.unit;
            let is_stopped = desired.stopped.contains(&unit);
            let ids = self.world.ids_of(unit);
            let runs = ids.iter().any(|id| self.world.containers[id].serves());
            self.must_of(unit, !is_stopped || !runs, "was stopped and runs");
            self.must(is_stopped || !serves || runs && ids.len() == 1, || {
                format!("{unit} is at rest and does not listen: {ids:?}")
            });
        }
        let leaving = desired.leaving.keys().next();
        self.must(leaving.is_none() || !serves, || {
            format!("at rest, and {leaving:?} is not gone")
        });
        let is_somebodys = |one: &&String| {
            let name = one.parse::<TentacleName>().unwrap();
            kept.contains_key(&name) || self.world.left_registered.contains(*one)
        };
        let mut registered = self.world.registered.iter();
        let orphan = registered.find(|one| !is_somebodys(one)).cloned();
        self.must(orphan.is_none(), || {
            format!("{orphan:?} is registered, and no such Tentacle is there")
        });
        let of_nobody = self.world.our_volumes().into_iter().find(|volume| {
            let name = volume.strip_prefix("p_tentacle-");
            name.is_some_and(|name| !kept.contains_key(&name.parse().unwrap()))
        });
        self.must(of_nobody.is_none(), || {
            format!("the volume {of_nobody:?} is left of a Tentacle")
        });
    }
}

/// What somebody hears at a port where nothing listens.
pub(super) fn nobody_listens() -> Probe {
    Probe::Failure(Miss::Gone, "connection refused".to_owned())
}

/// What somebody hears who waits for an answer in vain.
pub(super) fn no_answer(limit: Ms) -> (Probe, Ms) {
    let silent = Miss::Silent(Duration::from_millis(limit));
    (
        Probe::Failure(silent, "no answer in time".to_owned()),
        limit,
    )
}

fn wish_of(name: TentacleName) -> Tentacle {
    let purpose = match name.as_str() {
        "a" => Purpose::Worker {
            pool: "pool".to_owned(),
        },
        _ => Purpose::Target {
            environments: vec!["Test".to_owned()],
            roles: vec!["web".to_owned()],
        },
    };
    Tentacle {
        purpose,
        space: "Default".to_owned(),
        ..Tentacle::default()
    }
}
