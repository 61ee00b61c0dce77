//! Decisions one by one, where the simulation would need luck to meet them: a scene, and what is planned in it.

use std::collections::BTreeMap;
use std::time::Duration;

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
use octo_local::reconcile::action::Subject;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::observed::Instance;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::preview;
use octo_local::reconcile::preview::Step;
use octo_local::reconcile::status::Circumstances;
use octo_local::reconcile::status::Verdict;
use octo_local::reconcile::status::status;
use octo_local::spec::Digest;
use octo_local::spec::StackSpec;
use octo_local::spec::UnitId;
use octo_local::spec::build::Surroundings;
use octo_local::spec::build::build;

const ONE: UnitId = UnitId::Node(1);
const TWO: UnitId = UnitId::Node(2);
const DB: UnitId = UnitId::Sql;

/// A database and two nodes, all of them ready.
struct Scene {
    state: State,
    now: Mono,
}

fn spec() -> StackSpec {
    let vars = [
        ("SA_PASSWORD", "Str0ng-enough"),
        ("ADMIN_PASSWORD", "Str0ng-enough"),
        ("ACCEPT_EULA", "Y"),
        ("ACCEPT_OCTOPUS_EULA", "Y"),
        ("OCTOPUS_SERVER_TAG", "1"),
        ("SQL_IMAGE", "sql:1"),
        ("OCTOPUS_IMAGE", "octopus"),
        ("OCTOPUS_NODES", "2"),
    ];
    let vars = vars.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let config = octo_local::config::read(&Input { vars, ..Input::default() }).unwrap().config;
    let project = ProjectName::given("p").unwrap();
    let key = Secret::new("key");
    build(&config, &Surroundings { project: &project, working_dir: "/", master_key: &key, may_be_privileged: true })
}

fn runs() -> Run {
    Run::Running { started_at: "1".to_owned() }
}

fn ended(code: i64) -> Run {
    Run::Exited { started_at: "1".to_owned(), code, oom: false, error: String::new() }
}

impl Scene {
    fn all_ready() -> Self {
        let spec = spec();
        let containers = spec.containers().map(|wanted| Container {
            id: wanted.name.clone(),
            name: wanted.name.clone(),
            unit: wanted.unit,
            digest: wanted.digest(),
            image: wanted.image.clone(),
            image_id: format!("id of {}", wanted.image),
            run: runs(),
            networks: ["net".to_owned()].into(),
            engine_restarts: false,
        });
        let seen = Observed {
            containers: containers.collect(),
            networks: [("net".to_owned(), spec.network.clone())].into(),
            volumes: spec.volumes.values().cloned().collect(),
            images: spec.images().into_iter().map(|image| (image.to_owned(), format!("id of {image}"))).collect(),
        };
        let desired = Desired { spec: Some(spec), goal: Goal::Up, ..Desired::default() };
        let mut scene = Self { state: State::new(desired, 1), now: Mono(Duration::from_secs(1)) };
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
    fn adopted(self) -> Self {
        let desired = Desired { images: BTreeMap::new(), ..self.state.desired };
        let mut scene = Self { state: State::new(desired, 1), now: self.now };
        scene.look(self.state.seen);
        scene
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    fn look(&mut self, seen: Observed) {
        self.state.look_begins();
        self.state.looked(seen, self.now);
    }

    /// Docker changes, and is looked at.
    fn change(&mut self, change: impl FnOnce(&mut Observed)) {
        let mut seen = self.state.seen.clone();
        change(&mut seen);
        self.look(seen);
    }

    fn is(&mut self, unit: UnitId, run: Run) {
        self.change(|seen| of(seen, unit).run = run);
    }

    fn is_outdated(&mut self, unit: UnitId) {
        self.change(|seen| of(seen, unit).digest = Digest("other".to_owned()));
    }

    fn instance(&self, unit: UnitId) -> Instance {
        self.state.seen.container(unit).and_then(Container::instance).unwrap()
    }

    fn probe(&mut self, unit: UnitId, probe: &Probe) {
        let instance = self.instance(unit);
        self.state.probed(unit, Some(&instance), probe, self.now);
    }

    fn plan(&self) -> Vec<Action> {
        self.state.plan(self.now).actions
    }

    fn stops(&self) -> Vec<(UnitId, Option<Cause>)> {
        let stops = self.plan().into_iter().filter_map(|action| match action {
            Action::Stop { unit, cause, .. } => Some((unit, cause)),
            _ => None,
        });
        stops.collect()
    }

    fn starts(&self) -> Vec<UnitId> {
        let starts = self.plan().into_iter().filter_map(|action| match action {
            Action::Start(unit, _) => Some(unit),
            _ => None,
        });
        starts.collect()
    }

    /// The planned stop of a unit begins.
    fn begin_stop(&mut self, unit: UnitId) -> Action {
        let stop =
            self.plan().into_iter().find(|action| matches!(action, Action::Stop { unit: of, .. } if *of == unit));
        let stop = stop.unwrap();
        self.state.begin(&stop, self.now);
        stop
    }

    /// An action ends, and a look shows what came of it.
    fn end(&mut self, action: Action, result: Result<Outcome, Trouble>) {
        self.state.end(action, result, self.now);
        self.change(|_| {});
    }

    fn verdict(&self) -> Verdict {
        let State { desired, seen, tracks, .. } = &self.state;
        status(&Circumstances::default(), desired, seen, tracks, self.now).verdict
    }

    fn preview(&self) -> Vec<(String, Step)> {
        let spec = self.state.desired.spec.as_ref().unwrap();
        let changes = preview::changes(Some(spec), spec, &self.state.seen, false);
        changes.into_iter().map(|change| (change.name, change.what)).collect()
    }
}

fn of(seen: &mut Observed, unit: UnitId) -> &mut Container {
    seen.containers.iter_mut().find(|one| one.unit == unit).unwrap()
}

fn drained() -> Probe {
    Probe::Drained("418".to_owned())
}

#[test]
fn a_drained_node_holds_nobody_up_even_on_its_way_out() {
    let mut scene = Scene::all_ready();
    scene.probe(ONE, &drained());
    scene.is(TWO, Run::Created);
    assert_eq!(scene.starts(), [TWO]);
    let wish = scene.instance(ONE);
    scene.state.desired.restart.insert(ONE, wish);
    assert_eq!(scene.stops(), [(ONE, None)]);
    assert_eq!(scene.starts(), [TWO]);
}

#[test]
fn what_the_operator_stopped_stops_although_no_image_is_there_to_replace_it() {
    let mut scene = Scene::all_ready();
    scene.is_outdated(ONE);
    scene.change(|seen| seen.images.clear());
    assert_eq!(scene.stops(), [], "what cannot be replaced goes on");
    scene.state.desired.stopped.insert(ONE);
    assert_eq!(scene.stops(), [(ONE, None)]);
}

#[test]
fn images_of_what_runs_well_are_neither_fetched_nor_missed() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.images.clear());
    assert_eq!((scene.plan(), scene.verdict(), scene.preview()), (vec![], Verdict::Ready, vec![]));
    scene.state.desired.refresh.insert("sql:1".to_owned());
    assert_eq!(scene.plan(), [Action::Pull("sql:1".to_owned())], "asked for");
    scene.state.desired.refresh.clear();
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    assert_eq!(scene.plan(), [Action::Pull("octopus:1".to_owned())], "the other node's is not here");
    let name = |change: &(String, Step)| (change.0.clone(), change.1);
    let expected = [("octopus:1".to_owned(), Step::Pull), ("p-octopus-server-2".to_owned(), Step::Create)];
    assert_eq!(scene.preview().iter().map(name).collect::<Vec<_>>(), expected);
    scene.state.desired.stopped.insert(TWO);
    assert_eq!(scene.plan(), [], "nobody wants it");
}

#[test]
fn what_runs_pins_a_reference_that_is_gone() {
    let mut scene = Scene::all_ready();
    scene.state.desired.images.clear();
    scene.change(|seen| seen.images.clear());
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    scene.change(|seen| drop(seen.images.insert("octopus:1".to_owned(), "a newer one".to_owned())));
    assert_eq!(scene.plan(), [Action::Create(TWO)], "the other node keeps its version");
    assert_eq!(scene.state.moved_images().get("octopus:1").map(String::as_str), Some("id of octopus:1"));
}

#[test]
fn a_missing_image_holds_no_other_replacement_up_than_one_that_needs_it() {
    let mut scene = Scene::all_ready();
    scene.is_outdated(ONE);
    scene.change(|seen| drop(seen.images.remove("sql:1")));
    assert_eq!(scene.stops(), [(ONE, None)]);
    scene.is_outdated(DB);
    assert_eq!(scene.stops(), []);
}

#[test]
fn no_node_starts_on_a_database_that_is_about_to_end() {
    let mut scene = Scene::all_ready();
    scene.is(TWO, Run::Created);
    assert_eq!(scene.starts(), [TWO]);
    scene.is_outdated(DB);
    assert_eq!((scene.starts(), scene.stops()), (vec![], vec![(ONE, None)]));
}

#[test]
fn a_second_network_goes_once_nothing_is_attached_to_it() {
    let mut scene = Scene::all_ready();
    let other = "another".to_owned();
    scene.change(|seen| drop(seen.networks.insert(other.clone(), "p_default".to_owned())));
    assert_eq!(scene.plan(), [Action::RemoveNetwork(other.clone())], "not the one in use");
    scene.is(TWO, ended(0));
    scene.change(|seen| of(seen, TWO).networks = [other].into());
    assert!(!scene.plan().iter().any(|action| matches!(action, Action::RemoveNetwork(_))), "{:?}", scene.plan());
}

#[test]
fn of_two_containers_the_one_that_runs_counts() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| {
        let mut twin = of(seen, TWO).clone();
        (twin.id, twin.name, twin.run) = ("a twin".to_owned(), "renamed".to_owned(), ended(0));
        seen.containers.insert(0, twin);
    });
    assert_eq!(scene.plan(), [Action::Remove(TWO, "a twin".to_owned())]);
}

#[test]
fn nobody_is_killed_before_somebody_asked_twice() {
    let mut scene = Scene::all_ready();
    scene.state.desired.goal = Goal::Halt;
    scene.begin_stop(ONE);
    scene.begin_stop(TWO);
    assert_eq!(scene.plan(), []);
    scene.state.desired.hurry = true;
    assert_eq!(scene.plan(), [Action::Kill(ONE, scene.instance(ONE)), Action::Kill(TWO, scene.instance(TWO))]);
}

#[test]
fn an_adopted_node_is_asked_before_it_counts_as_having_lost_its_database() {
    let mut scene = Scene::all_ready();
    scene.is(DB, ended(137));
    let mut scene = scene.adopted();
    assert_eq!(scene.stops(), []);
    scene.probe(ONE, &Probe::Failure("503".to_owned()));
    assert_eq!(scene.stops(), [(ONE, Some(Cause::LostDatabase))]);
}

#[test]
fn the_end_of_what_we_end_is_no_failure() {
    let mut scene = Scene::all_ready();
    scene.is_outdated(ONE);
    let stop = scene.begin_stop(ONE);
    scene.is(ONE, ended(137));
    scene.end(stop, Ok(Outcome::default()));
    let track = scene.state.tracks.get(ONE).unwrap();
    assert_eq!((&track.unexamined, &track.failure, track.failures), (&None, &None, 0));
    assert_eq!(scene.plan(), [Action::Remove(ONE, "p-octopus-server-1".to_owned())]);
}

#[test]
fn a_database_that_we_end_is_not_blamed_for_what_it_says() {
    let mut scene = Scene::all_ready();
    scene.state.desired.goal = Goal::Halt;
    scene.change(|seen| seen.containers.retain(|one| one.unit == DB));
    scene.begin_stop(DB);
    scene.probe(DB, &Probe::Alive("suspect database: Octopus".to_owned()));
    assert_eq!(scene.state.tracks.get(DB).unwrap().failure, None);
}

#[test]
fn an_unknown_outcome_is_no_failure_of_the_unit() {
    for (unknown, failures) in [(true, 0), (false, 1)] {
        let mut scene = Scene::all_ready();
        scene.is(TWO, Run::Created);
        let start = scene.plan().remove(0);
        scene.state.begin(&start, scene.now);
        scene.end(start, Err(Trouble { words: "broken".to_owned(), unknown }));
        assert_eq!(scene.state.tracks.get(TWO).unwrap().failures, failures);
        assert_eq!(scene.starts().is_empty(), unknown, "nothing is known before a while");
        scene.wait(2);
        assert_eq!(scene.starts(), [TWO]);
    }
}

#[test]
fn a_volume_of_somebody_else_does_not_count_as_made() {
    let mut scene = Scene::all_ready();
    let name = scene.state.seen.volumes.pop_first().unwrap();
    scene.change(|seen| seen.volumes.retain(|volume| *volume != name));
    let create = Action::CreateVolume(name.clone());
    assert_eq!(scene.plan(), std::slice::from_ref(&create));
    scene.state.begin(&create, scene.now);
    scene.end(create, Ok(Outcome::default()));
    assert!(scene.state.tracks.blocked.contains_key(&Subject::Volume(name)));
}

#[test]
fn a_host_that_is_well_again_is_not_called_ill() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    let create = Action::Create(TWO);
    scene.state.begin(&create, scene.now);
    scene.end(create.clone(), Err(Trouble { words: "no space left on device".to_owned(), unknown: false }));
    assert_eq!(
        scene.state.tracks.get(TWO).unwrap().failure.as_ref().map(|failure| failure.cause),
        Some(Cause::DiskFull)
    );
    assert_eq!(scene.verdict(), Verdict::Failed);
    scene.wait(10);
    scene.state.begin(&create, scene.now);
    let made = Scene::all_ready().state.seen.container(TWO).cloned().unwrap();
    scene.state.end(create, Ok(Outcome::default()), scene.now);
    scene.change(|seen| seen.containers.push(Container { run: Run::Created, ..made }));
    assert_eq!((scene.verdict(), scene.starts()), (Verdict::Working, vec![TWO]));
}

#[test]
fn an_up_announces_what_a_moved_tag_changes() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| drop(seen.images.insert("octopus:1".to_owned(), "a newer one".to_owned())));
    assert_eq!(scene.plan(), [], "nothing before the next `up`");
    let nodes = ["p-octopus-server-1", "p-octopus-server-2"];
    assert_eq!(scene.preview(), nodes.map(|node| (node.to_owned(), Step::Recreate)));
}

#[test]
fn a_silent_node_gets_one_grace_after_its_database_came_back() {
    let mut scene = Scene::all_ready();
    scene.probe(DB, &Probe::Failure("away".to_owned()));
    for _ in 0..9 {
        scene.probe(ONE, &Probe::Failure("503".to_owned()));
        scene.wait(1);
        assert_eq!(scene.stops(), []);
    }
    scene.probe(DB, &Probe::Ready);
    for _ in 0..9 {
        scene.wait(1);
        scene.probe(ONE, &Probe::Failure("silent".to_owned()));
        scene.probe(DB, &Probe::Ready);
        assert_eq!(scene.stops(), []);
    }
    scene.wait(1);
    assert_eq!(scene.stops(), [(ONE, Some(Cause::Hung))]);
}

#[test]
fn a_restart_is_done_once_also_where_two_runs_look_the_same() {
    let mut scene = Scene::all_ready();
    let wish = scene.instance(ONE);
    scene.state.desired.restart.insert(ONE, wish);
    let stop = scene.begin_stop(ONE);
    scene.is(ONE, ended(0));
    scene.end(stop, Ok(Outcome::default()));
    assert_eq!(scene.starts(), [ONE]);
    scene.is(ONE, runs());
    scene.probe(ONE, &Probe::Ready);
    assert_eq!(scene.plan(), []);
}

#[test]
fn a_call_that_took_effect_did_not_fail_whatever_its_answer_was() {
    let refused = || Err(Trouble { words: "the engine says no".to_owned(), unknown: false });
    let mut scene = Scene::all_ready();
    let name = scene.state.seen.volumes.first().cloned().unwrap();
    let made = scene.instance(TWO).id;
    for (action, result) in [
        (Action::Create(TWO), refused()),
        (Action::Start(TWO, made.clone()), refused()),
        (Action::Connect(TWO, made), refused()),
        (Action::Pull("sql:1".to_owned()), refused()),
        (Action::CreateNetwork, refused()),
        (Action::CreateVolume(name), Ok(Outcome::default())),
    ] {
        scene.state.begin(&action, scene.now);
        scene.end(action, result);
    }
    let track = scene.state.tracks.get(TWO).unwrap();
    assert_eq!((track.failures, &track.failure), (0, &None));
    assert_eq!((&scene.state.tracks.blocked, scene.verdict()), (&BTreeMap::new(), Verdict::Ready));
}

#[test]
fn nodes_of_two_images_need_one_that_is_gone() {
    let mut scene = Scene::all_ready();
    scene.state.desired.images.clear();
    scene.change(|seen| {
        seen.images.remove("octopus:1");
        "another".clone_into(&mut of(seen, TWO).image_id);
    });
    assert_eq!(scene.plan(), [Action::Pull("octopus:1".to_owned())], "nobody knows which of the two to keep");
}

#[test]
fn a_unit_that_was_ready_for_long_begins_its_waits_anew() {
    let mut scene = Scene::all_ready();
    scene.is(TWO, Run::Created);
    let start = scene.plan().remove(0);
    scene.state.begin(&start, scene.now);
    scene.end(start, Err(Trouble { words: "no".to_owned(), unknown: false }));
    scene.wait(2);
    scene.is(TWO, runs());
    let failures = |scene: &Scene| scene.state.tracks.get(TWO).unwrap().failures;
    scene.probe(TWO, &Probe::Ready);
    scene.wait(60);
    scene.probe(TWO, &Probe::Ready);
    assert_eq!(failures(&scene), 1, "not long enough");
    scene.wait(600);
    scene.probe(TWO, &Probe::Ready);
    assert_eq!(failures(&scene), 0);
}

#[test]
fn what_was_under_way_for_an_earlier_wish_is_not_held_against_the_next() {
    let mut scene = Scene::all_ready();
    scene.is(TWO, Run::Created);
    let start = scene.plan().remove(0);
    scene.state.begin(&start, scene.now);
    scene.state.tracks.forgive();
    scene.end(start, Err(Trouble { words: "no space left on device".to_owned(), unknown: false }));
    assert_eq!(scene.state.tracks.get(TWO).unwrap().failure, None);
    assert_eq!(scene.starts(), [TWO]);
}

#[test]
fn an_image_that_turns_out_to_be_missing_is_fetched() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    let create = scene.plan().remove(0);
    assert_eq!(create, Action::Create(TWO));
    scene.state.begin(&create, scene.now);
    scene.end(create, Err(Trouble { words: "No such image: octopus:1".to_owned(), unknown: false }));
    assert_eq!(scene.plan(), [Action::Pull("octopus:1".to_owned())]);
}

#[test]
fn nothing_is_made_of_an_image_that_is_to_be_fetched_again() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.containers.retain(|one| one.unit != TWO));
    scene.state.desired.refresh.insert("octopus:1".to_owned());
    assert_eq!(scene.plan(), [Action::Pull("octopus:1".to_owned())]);
}

#[test]
fn no_node_that_serves_is_taken_out_while_the_database_does_not() {
    let mut scene = Scene::all_ready();
    let wish = scene.instance(ONE);
    scene.state.desired.restart.insert(ONE, wish);
    assert_eq!(scene.stops(), [(ONE, None)]);
    scene.probe(DB, &Probe::Failure("away".to_owned()));
    assert_eq!(scene.stops(), []);
}

#[test]
fn a_node_without_its_network_is_attached_again_and_not_called_hung() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| of(seen, ONE).networks.clear());
    for _ in 0..9 {
        scene.wait(1);
        scene.probe(ONE, &Probe::Failure("refused".to_owned()));
        scene.probe(DB, &Probe::Ready);
    }
    assert_eq!(scene.plan(), [Action::Connect(ONE, scene.instance(ONE).id)]);
}
