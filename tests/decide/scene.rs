//! A stack in which all is well, what is changed in it, and what is planned then.

use octo_local::config::Input;
use octo_local::config::Secret;
use octo_local::config::project::ProjectName;
use octo_local::reconcile::Action;
use octo_local::reconcile::Cause;
use octo_local::reconcile::Desired;
use octo_local::reconcile::Goal;
use octo_local::reconcile::Mono;
use octo_local::reconcile::Observed;
use octo_local::reconcile::State;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Instance;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::preview;
use octo_local::reconcile::preview::Step;
use octo_local::reconcile::status::Status;
use octo_local::reconcile::status::StatusInput;
use octo_local::reconcile::status::Verdict;
use octo_local::reconcile::status::status;
use octo_local::spec::Digest;
use octo_local::spec::StackSpec;
use octo_local::spec::UnitId;
use octo_local::spec::build::BuildInput;
use octo_local::spec::build::build;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const ONE: UnitId = UnitId::Node(1);
pub(super) const TWO: UnitId = UnitId::Node(2);
pub(super) const DB: UnitId = UnitId::Sql;

/// A database and two nodes, all of them ready.
pub(super) struct Scene {
    pub(super) state: State,
    pub(super) now: Mono,
}

pub(super) fn spec() -> StackSpec {
    let vars = [
        ("SA_PASSWORD", "Str0ng-enough"),
        ("ADMIN_PASSWORD", "Str0ng-enough"),
        ("ACCEPT_EULA", "Y"),
        ("ACCEPT_OCTOPUS_EULA", "Y"),
        ("OCTOPUS_SERVER_TAG", "1"),
        ("SQL_IMAGE", "sql:1"),
        ("OCTOPUS_IMAGE", "octopus"),
        ("OCTOPUS_NODES", "2"),
        // Drains have a file of their own.
        ("DRAIN_TIMEOUT", "0"),
    ];
    let vars = vars
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let config = octo_local::config::read(&Input {
        vars,
        ..Input::default()
    })
    .unwrap()
    .config;
    let project = ProjectName::given("p").unwrap();
    let key = Secret::new("key");
    build(
        &config,
        &BuildInput {
            project: &project,
            working_dir: "/",
            master_key: &key,
            may_be_privileged: true,
        },
    )
}

pub(super) fn runs() -> Run {
    Run::Running {
        started_at: "1".to_owned(),
    }
}

pub(super) fn ended(code: i64) -> Run {
    Run::Exited {
        started_at: "1".to_owned(),
        code,
        oom: false,
        error: String::new(),
    }
}

/// Everything that is wanted, and it runs.
pub(crate) fn running_as(spec: &StackSpec) -> Observed {
    let containers = spec.containers().map(|wanted| Container {
        id: wanted.name.clone(),
        name: wanted.name.clone(),
        unit: wanted.unit,
        digest: wanted.digest(),
        image: wanted.image.clone(),
        image_id: format!("id of {}", wanted.image),
        run: runs(),
        networks: ["net".to_owned()].into(),
        network_mode: String::new(),
        engine_restarts: false,
    });
    let images = spec.images().into_iter();
    Observed {
        containers: containers.collect(),
        networks: [("net".to_owned(), spec.network.clone())].into(),
        volumes: spec.our_volumes().map(str::to_owned).collect(),
        images: images
            .map(|image| (image.to_owned(), format!("id of {image}")))
            .collect(),
        ..Observed::default()
    }
}

impl Scene {
    pub(super) fn all_ready() -> Self {
        let spec = spec();
        let seen = running_as(&spec);
        let desired = Desired {
            spec: Some(spec),
            goal: Goal::Up,
            ..Desired::default()
        };
        let mut scene = Self {
            state: State::new(desired, 1),
            now: Mono(Duration::from_secs(1)),
        };
        scene.look(seen);
        for unit in [DB, ONE, TWO] {
            scene.probe(unit, &Probe::Ready);
        }
        // Nobody is lenient any more because the database just came.
        scene.wait(20);
        assert_eq!(scene.plan(), []);
        scene
    }

    /// A daemon that just began, and sees the same.
    pub(super) fn adopted(self) -> Self {
        let desired = Desired {
            images: BTreeMap::new(),
            ..self.state.desired
        };
        let mut scene = Self {
            state: State::new(desired, 1),
            now: self.now,
        };
        scene.look(self.state.seen);
        scene
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    pub(super) fn look(&mut self, seen: Observed) {
        self.state.look_begins();
        self.state.looked(seen, self.now);
    }

    /// Docker changes, and is looked at.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Observed)) {
        let mut seen = self.state.seen.clone();
        change(&mut seen);
        self.look(seen);
    }

    pub(super) fn is(&mut self, unit: UnitId, run: Run) {
        self.change(|seen| of(seen, unit).run = run);
    }

    pub(super) fn is_outdated(&mut self, unit: UnitId) {
        self.change(|seen| of(seen, unit).digest = Digest("other".to_owned()));
    }

    pub(super) fn instance(&self, unit: UnitId) -> Instance {
        self.state
            .seen
            .container(unit)
            .and_then(Container::instance)
            .unwrap()
    }

    pub(super) fn probe(&mut self, unit: UnitId, probe: &Probe) {
        let instance = self.instance(unit);
        self.state.probed(unit, Some(&instance), probe, self.now);
    }

    pub(super) fn plan(&self) -> Vec<Action> {
        self.state.plan(self.now).actions
    }

    pub(super) fn stops(&self) -> Vec<(UnitId, Option<Cause>)> {
        let stops = self.plan().into_iter().filter_map(|action| match action {
            Action::Stop { unit, why, .. } => Some((unit, why.cause())),
            _ => None,
        });
        stops.collect()
    }

    /// The planned stop of a unit: its grace, and how often SIGTERM is sent again.
    pub(super) fn grace(&self, unit: UnitId) -> Option<(Duration, Option<Duration>)> {
        self.plan().into_iter().find_map(|action| match action {
            Action::Stop {
                unit: of,
                grace,
                repeat,
                ..
            } if of == unit => Some((grace, repeat)),
            _ => None,
        })
    }

    /// A unit is asked every second, and looked at.
    pub(super) fn probe_for(&mut self, seconds: u64, unit: UnitId, probe: &Probe) {
        for _ in 0..seconds {
            self.wait(1);
            self.probe(unit, probe);
            if unit != DB {
                self.probe(DB, &Probe::Ready);
            }
            self.change(|_| {});
        }
    }

    pub(super) fn starts(&self) -> Vec<UnitId> {
        let starts = self.plan().into_iter().filter_map(|action| match action {
            Action::Start(unit, _) => Some(unit),
            _ => None,
        });
        starts.collect()
    }

    /// The planned stop of a unit begins.
    pub(super) fn begin_stop(&mut self, unit: UnitId) -> Action {
        let stop = self
            .plan()
            .into_iter()
            .find(|action| matches!(action, Action::Stop { unit: of, .. } if *of == unit));
        let stop = stop.unwrap();
        self.state.begin(&stop, self.now);
        stop
    }

    /// An action ends, and a look shows what came of it.
    pub(super) fn end(&mut self, action: Action, result: Result<Outcome, Trouble>) {
        self.state.end(action, result, self.now);
        self.change(|_| {});
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.status().verdict
    }

    pub(super) fn status(&self) -> Status {
        let State {
            desired,
            seen,
            records,
            ..
        } = &self.state;
        status(&StatusInput::default(), desired, seen, records, self.now)
    }

    pub(super) fn preview(&self) -> Vec<(String, Step)> {
        let spec = self.state.desired.spec.as_ref().unwrap();
        let changes = preview::changes(Some(spec), spec, &self.state.seen, false);
        changes
            .into_iter()
            .map(|change| (change.name, change.what))
            .collect()
    }
}

pub(super) fn of(seen: &mut Observed, unit: UnitId) -> &mut Container {
    seen.containers
        .iter_mut()
        .find(|one| one.unit == unit)
        .unwrap()
}
