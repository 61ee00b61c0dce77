//! What the front door is to be fed, by what is wished and seen; and how long a node that is to stop
//! waits for the requests that run on it.
//!
//! The front door is wished while the stack is to be up, and as long as anything of it runs. It is
//! told only what changed. One that a daemon before left behind goes on with what it knew until
//! this daemon knows how each running node is.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Core;
use crate::daemon::message::DoorReport;
use crate::daemon::message::DoorWish;
use crate::daemon::message::Effect;
use crate::reconcile::Action;
use crate::reconcile::Desired;
use crate::reconcile::Goal;
use crate::reconcile::Mono;
use crate::reconcile::Observed;
use crate::reconcile::Phase;
use crate::reconcile::UnitRecords;
use crate::reconcile::observed::Container;
use crate::reconcile::observed::Instance;
use crate::reconcile::observed::Run;
use crate::reconcile::phase::phase_of;
use crate::reconcile::record::UnitRecord;
use crate::reconcile::status::FrontDoorStatus;
use crate::spec::ContainerSpec;
use crate::spec::FrontDoorSpec;
use crate::spec::Port;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::web::limits::Limits;
use crate::web::message::Node;
use crate::web::message::NodeState;
use crate::web::message::State;
use crate::web::settings::CertificateFiles;
use crate::web::settings::Settings;

/// How long a node that is to stop waits for the requests that run on it. What takes longer is cut
/// off, as it would be without a front door.
pub const REQUESTS_END_WITHIN: Duration = Duration::from_secs(10);

/// What is wished of the front door.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// That it ends, if there is one.
    Gone,
    /// That it is as this says.
    Open(Box<DoorWish>),
}

impl Wish {
    fn open(self) -> Option<Box<DoorWish>> {
        match self {
            Self::Gone => None,
            Self::Open(wish) => Some(wish),
        }
    }
}

/// What is known of the front door.
#[derive(Debug, Default)]
pub(super) struct FrontDoor {
    /// What it was told last; none before it was told anything.
    told: Option<Wish>,
    /// How it says that it is; none while it does not answer.
    report: Option<State>,
    /// Where it may listen: what it was told, and what it reported since, until it says that it ended.
    listens_at: BTreeSet<SocketAddr>,
    /// Where each run of a node was reached last: its definition may be another by now.
    addresses: BTreeMap<UnitId, (Instance, Addresses)>,
    /// Nodes that are to stop once no request runs on them, and until when they wait at most.
    leaving: BTreeMap<UnitId, (Instance, Mono)>,
}

/// Where a node is reached from the host.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    web: SocketAddr,
    grpc: Option<SocketAddr>,
}

/// What is looked at.
#[derive(Clone, Copy)]
struct View<'a> {
    desired: &'a Desired,
    seen: &'a Observed,
    records: &'a UnitRecords,
    now: Mono,
}

impl View<'_> {
    fn phase(&self, unit: UnitId) -> Phase {
        phase_of(
            unit,
            self.is_external(unit),
            self.seen,
            self.records,
            self.now,
        )
    }

    fn is_external(&self, unit: UnitId) -> bool {
        let has_own = |spec: &StackSpec| spec.sql.is_some();
        unit.is_database() && !self.desired.spec.as_ref().is_some_and(has_own)
    }

    /// Whether there is to be one: while the stack is to be up, and until nothing of it runs.
    fn wishes_one(&self) -> bool {
        let runs = || self.seen.containers.iter().any(Container::is_running);
        self.desired.goal == Goal::Up || runs()
    }

    /// Whether a node runs that is asked how it is and has not answered yet.
    fn awaits_an_answer(&self, spec: &StackSpec) -> bool {
        let waits = |node: &ContainerSpec| {
            let runs = |container: &&Container| {
                matches!(container.run, Run::Running { .. }) && container.digest == node.digest()
            };
            let running = self.seen.container(node.unit).filter(runs);
            running.is_some_and(|container| !self.was_asked(container))
        };
        spec.nodes.iter().any(waits)
    }

    fn was_asked(&self, container: &Container) -> bool {
        let is_its = |record: &&UnitRecord| record.instance() == container.instance().as_ref();
        let record = self.records.get(container.unit).filter(is_its);
        record.is_some_and(|record| record.health().was_asked())
    }
}

impl FrontDoor {
    /// What it is to be told now, if that is news.
    fn next(&mut self, view: View<'_>) -> Option<Wish> {
        let spec = view.desired.spec.as_ref();
        let wished = spec.and_then(|spec| Some((spec, spec.front_door.as_ref()?)));
        let wish = match wished.filter(|_| view.wishes_one()) {
            Some((spec, _)) if self.told.is_none() && view.awaits_an_answer(spec) => return None,
            Some((spec, door)) => Wish::Open(Box::new(self.wish(spec, door, view))),
            None => Wish::Gone,
        };
        if self.told.as_ref() == Some(&wish) {
            return None;
        }
        self.told = Some(wish.clone());
        self.listens_at.extend(self.told_listeners());
        Some(wish)
    }

    fn wish(&mut self, spec: &StackSpec, door: &FrontDoorSpec, view: View<'_>) -> DoorWish {
        let nodes: Vec<Node> = spec
            .nodes
            .iter()
            .map(|node| self.node(node, door, view))
            .collect();
        let serves = nodes.iter().any(|node| node.state == NodeState::Ready);
        let doing = if serves {
            Vec::new()
        } else {
            doing(spec, view)
        };
        let settings = settings(door);
        DoorWish {
            feed: settings.feed(&nodes, &doing, None),
            certificate: settings.certificate,
        }
    }

    fn node(&mut self, wanted: &ContainerSpec, door: &FrontDoorSpec, view: View<'_>) -> Node {
        let container = view.seen.container(wanted.unit);
        let run = container.and_then(Container::instance);
        let addresses = run.as_ref().and_then(|run| {
            let is_as_wanted = container.is_some_and(|one| one.digest == wanted.digest());
            let known = self.addresses.get(&wanted.unit);
            let before = known.filter(|(of, _)| of == run && !is_as_wanted);
            let addresses = match before {
                Some((_, addresses)) => *addresses,
                None => addresses_of(wanted, door)?,
            };
            self.addresses.insert(wanted.unit, (run.clone(), addresses));
            Some(addresses)
        });
        Node {
            name: wanted.unit.to_string(),
            state: self.state_of(wanted, container, view),
            run: run.as_ref().map_or(0, number_of),
            web: addresses.map(|at| at.web),
            grpc: addresses.and_then(|at| at.grpc),
        }
    }

    fn state_of(
        &self,
        wanted: &ContainerSpec,
        container: Option<&Container>,
        view: View<'_>,
    ) -> NodeState {
        let unit = wanted.unit;
        let runs = container.is_some_and(Container::is_running);
        // One of an older definition is asked by nobody here: the front door finds out itself.
        let is_unknown = container.is_some_and(|container| {
            container.digest != wanted.digest() && !view.was_asked(container)
        });
        match view.phase(unit) {
            _ if !runs => NodeState::Down,
            Phase::Ready if self.leaving.contains_key(&unit) => NodeState::Draining,
            Phase::Ready => NodeState::Ready,
            Phase::Starting if is_unknown => NodeState::Ready,
            Phase::Draining { .. } | Phase::Drained | Phase::Stopping | Phase::Unready => {
                NodeState::Draining
            }
            Phase::Absent
            | Phase::Created
            | Phase::Starting
            | Phase::Paused
            | Phase::Dead
            | Phase::BackingOff { .. }
            | Phase::CrashLoop { .. }
            | Phase::Failed(_) => NodeState::Down,
        }
    }

    /// Of the actions that may begin now, those that need not wait for requests to end.
    fn let_requests_end(&mut self, actions: Vec<Action>, view: View<'_>) -> Vec<Action> {
        let mut leaving = BTreeMap::new();
        let may_begin = |action: &Action| {
            let Action::Stop { unit, instance, .. } = action else {
                return true;
            };
            if !unit.is_server() || view.desired.hurry || !view.phase(*unit).is_well() {
                return true;
            }
            let known = self.leaving.get(unit).filter(|(run, _)| run == instance);
            let until = known.map_or_else(|| view.now.after(REQUESTS_END_WITHIN), |(_, at)| *at);
            leaving.insert(*unit, (instance.clone(), until));
            !self.has_requests(*unit) || view.now >= until
        };
        let begin = actions.into_iter().filter(may_begin).collect();
        self.leaving = leaving;
        begin
    }

    /// Takes in how it is.
    fn on_report(&mut self, report: DoorReport) {
        self.report = match report {
            DoorReport::Silent => None,
            DoorReport::Ended => {
                self.listens_at.clear();
                None
            }
            DoorReport::Is(state) => {
                let open = state.listeners.iter().filter(|one| one.failure.is_none());
                self.listens_at = open.map(|one| one.address).collect();
                Some(*state)
            }
        };
        self.listens_at.extend(self.told_listeners());
    }

    /// Where it was told to listen.
    fn told_listeners(&self) -> Vec<SocketAddr> {
        let listeners = self.fed().into_iter().flat_map(|wish| &wish.feed.listeners);
        listeners.map(|listener| listener.address).collect()
    }

    /// What it was told to be, if it was.
    fn fed(&self) -> Option<&DoorWish> {
        match &self.told {
            Some(Wish::Open(wish)) => Some(wish),
            Some(Wish::Gone) | None => None,
        }
    }

    /// Whether requests run on the node, or may still come.
    fn has_requests(&self, unit: UnitId) -> bool {
        let Some(report) = self.report.as_ref().filter(|_| self.fed().is_some()) else {
            return false;
        };
        let name = unit.to_string();
        let node = report.nodes.iter().find(|node| node.name == name);
        node.is_some_and(|node| node.serves || node.requests > 0)
    }
}

fn addresses_of(node: &ContainerSpec, door: &FrontDoorSpec) -> Option<Addresses> {
    let grpc = door.grpc.and_then(|grpc| node.published(grpc.inside));
    Some(Addresses {
        web: node.host_address()?,
        grpc: grpc.map(Port::reached_at),
    })
}

/// What the stack does now, for those who see the page in place of a node's.
fn doing(spec: &StackSpec, view: View<'_>) -> Vec<String> {
    let units = spec.units().into_iter();
    let units = units.filter_map(|unit| {
        let phase = view.phase(unit);
        (phase != Phase::Ready).then(|| format!("{unit}: {}", phase.word()))
    });
    let work = view.records.busy.iter();
    let work = work.filter_map(|(subject, (verb, _))| {
        let image = crate::reconcile::status::name_of(subject)?;
        Some(format!("{verb} {image}"))
    });
    units.chain(work).collect()
}

fn settings(door: &FrontDoorSpec) -> Settings {
    Settings {
        bind: door.bind,
        http_port: door.http_port,
        https_port: door.https.as_ref().map(|https| https.port),
        redirect_to_https: true,
        certificate: door.https.as_ref().map(|https| CertificateFiles {
            certificate: https.certificate.clone(),
            key: https.key.clone(),
        }),
        grpc_port: door.grpc.map(|grpc| grpc.port),
        hold: Duration::from_millis(door.hold_ms),
        trusted: door.trusted.clone(),
        access_log: door.access_log,
        limits: Limits::default(),
    }
}

/// A number that tells runs of a node apart (FNV-1a).
fn number_of(run: &Instance) -> u64 {
    let bytes = run.id.bytes().chain([0]).chain(run.started_at.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Core {
    /// Tells the front door what is news to it. Before Docker was seen nothing is known of nodes.
    pub(super) fn feed_the_front_door(&mut self) {
        if self.host.front_door.told.is_none() {
            if !self.looks.may_act() {
                return;
            }
            let before = self.listeners_before();
            self.host.front_door.listens_at.extend(before);
        }
        let door = &mut self.host.front_door;
        let view = View {
            desired: &self.state.desired,
            seen: &self.state.seen,
            records: &self.state.records,
            now: self.now.mono,
        };
        let news = door.next(view);
        self.out
            .extend(news.map(|wish| Effect::FrontDoor(wish.open())));
    }

    /// Keeps stops of nodes back until the requests on them ended.
    pub(super) fn let_requests_end(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let view = View {
            desired: &self.state.desired,
            seen: &self.state.seen,
            records: &self.state.records,
            now: self.now.mono,
        };
        self.host.front_door.let_requests_end(actions, view)
    }

    /// The front door says how it is.
    pub(super) fn on_front_door(&mut self, report: DoorReport) {
        self.host.front_door.on_report(report);
    }

    /// When a node that waits for its requests stops all the same.
    pub(super) fn requests_end_at(&self) -> Option<Mono> {
        let times = self.host.front_door.leaving.values().map(|(_, at)| *at);
        times.filter(|at| *at > self.now.mono).min()
    }

    /// Where our own front door listens, or one that a daemon before left behind, and until it has
    /// ended: to us these ports are free.
    pub(super) fn own_listeners(&self) -> Vec<SocketAddr> {
        let door = &self.host.front_door;
        let mut all = door.listens_at.clone();
        if door.told.is_none() {
            all.extend(self.listeners_before());
        }
        all.into_iter().collect()
    }

    /// Where one listens that a daemon before may have left behind.
    fn listeners_before(&self) -> Vec<SocketAddr> {
        let kept = self.keeping.stored().spec.as_ref();
        let door = kept.and_then(|spec| spec.front_door.as_ref());
        door.map(FrontDoorSpec::listeners).unwrap_or_default()
    }

    /// How it is, for people; none where none is wished.
    pub(super) fn front_door_status(&self) -> Option<FrontDoorStatus> {
        let door = &self.host.front_door;
        let wish = door.fed()?;
        let Some(report) = &door.report else {
            return Some(FrontDoorStatus::default());
        };
        let failed = report.listeners.iter().find_map(|listener| {
            let why = listener.failure.as_ref()?;
            Some(format!("{}: {why}", listener.address))
        });
        let is_ours = |address| report.listeners.iter().any(|one| one.address == address);
        let mut wished = wish.feed.listeners.iter();
        let problem = failed.or_else(|| report.certificate.clone());
        Some(FrontDoorStatus {
            open: problem.is_none() && wished.all(|listener| is_ours(listener.address)),
            serving: report.nodes.iter().filter(|node| node.serves).count(),
            without_access_log: report.access_log.clone(),
            problem,
        })
    }
}
