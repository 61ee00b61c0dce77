//! Tentacles that are added and removed: what is refused, what is kept, and what becomes of it.

use octo_local::daemon::admit::Facts;
use octo_local::daemon::message::About;
use octo_local::daemon::message::Answer;
use octo_local::daemon::message::Denied;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::Request;
use octo_local::daemon::message::TentacleStep;
use octo_local::daemon::store::Stored;
use octo_local::reconcile::Action;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::action::TroubleKind;
use octo_local::reconcile::observed::Container;
use octo_local::reconcile::preview::Step;
use octo_local::reconcile::status::Verdict;
use octo_local::spec::UnitId;
use octo_local::spec::tentacle::Purpose;
use octo_local::spec::tentacle::Registration;
use octo_local::spec::tentacle::Tentacle;
use octo_local::spec::tentacle::TentacleName;

use super::Bench;
use super::applied;
use super::applied_with;
use super::down;
use super::known::ready_with;
use super::up;

const KEY: (&str, &str) = ("ADMIN_API_KEY", "API-CORE000000000000000000000");

fn name(text: &str) -> TentacleName {
    text.parse().unwrap()
}

fn unit() -> UnitId {
    UnitId::Tentacle(name("web"))
}

fn worker(pool: &str) -> Tentacle {
    Tentacle {
        purpose: Purpose::Worker {
            pool: pool.to_owned(),
        },
        space: "Default".to_owned(),
        ..Tentacle::default()
    }
}

fn add(text: &str, pool: &str) -> Request {
    let step = TentacleStep::Add(Box::new(worker(pool)));
    Request::Tentacle(name(text), step, None)
}

fn remove(registration: Registration) -> Request {
    Request::Tentacle(name("web"), TentacleStep::Remove(registration), None)
}

#[track_caller]
fn refused(bench: &mut Bench, request: Request) -> String {
    let id = bench.ask(request);
    match bench.answers.get(&id) {
        Some(Answer::Wished(Err(Denied::Because(why)))) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn taken(bench: &mut Bench, request: Request) {
    let id = bench.ask(request);
    assert!(bench.is_taken(id), "{:?}", bench.answers.get(&id));
}

/// The actions on the Tentacle that were asked for since the last call.
fn acts(bench: &mut Bench) -> Vec<Action> {
    let effects = std::mem::take(&mut bench.effects);
    let act = |effect| match effect {
        Effect::Act(action, _) => Some(action),
        _ => None,
    };
    let acts = effects.into_iter().filter_map(act);
    acts.filter(|action: &Action| action.subject().is_of_tentacle())
        .collect()
}

#[test]
fn what_cannot_be_added_is_refused_with_what_helps() {
    let mut bench = Bench::awake(Stored::default());
    assert!(refused(&mut bench, add("web", "P")).contains("octo-local up"));
    let mut bench = applied();
    let why = refused(&mut bench, add("web", "P"));
    assert!(
        why.contains("ADMIN_API_KEY is not set") && why.contains(".env"),
        "{why}"
    );
    let mut bench = applied_with(&[KEY]);
    let before = bench.writes;
    taken(&mut bench, add("web", "P"));
    assert!(
        bench.writes > before,
        "it is on the disk before it is answered"
    );
    taken(&mut bench, add("web", "P"));
    let why = refused(&mut bench, add("web", "Q"));
    assert!(
        why.contains("worker in P") && why.contains("tentacle remove web"),
        "{why}"
    );
    for number in 1..16 {
        taken(&mut bench, add(&format!("t{number}"), "P"));
    }
    assert!(refused(&mut bench, add("more", "P")).contains("16 Tentacles"));
    assert_eq!(bench.core.stored().tentacles.len(), 16);
}

#[test]
fn it_is_made_at_once_and_outlives_the_daemon_and_down_but_not_its_data() {
    let mut bench = ready_with(&[KEY]);
    taken(&mut bench, add("web", "P"));
    assert_eq!(acts(&mut bench), [Action::Create(unit())]);
    let mut next = Bench::awake(bench.core.stored().clone());
    next.seen = bench.seen.clone();
    let spec = next.core.state().desired.spec.clone().unwrap();
    assert_eq!(spec.tentacles.len(), 1);
    assert_eq!(
        next.core.stored().spec.as_ref().unwrap().tentacles,
        [],
        "it is kept apart"
    );
    taken(&mut next, down(false));
    assert_eq!(next.core.stored().tentacles.len(), 1);
    let data_deleted = next.core.stored().data_deleted();
    assert!(data_deleted.tentacles.is_empty() && data_deleted.is_blank());
}

#[test]
fn what_replaces_or_removes_it_is_told_before() {
    let mut bench = ready_with(&[KEY]);
    taken(&mut bench, add("web", "P"));
    let spec = bench.core.state().desired.spec.clone().unwrap();
    let wanted = &spec.tentacles[0];
    bench.seen.tentacles = vec![Container {
        id: "t".to_owned(),
        name: wanted.name.clone(),
        unit: wanted.unit,
        digest: wanted.digest(),
        image: wanted.image.clone(),
        ..bench.seen.containers[0].clone()
    }];
    bench.on(Event::Done(Action::Create(unit()), Ok(Outcome::default())));
    let mut told = |more: &[(&str, &str)]| {
        let id = bench.ask(Request::Plan(up(more)));
        let facts = Facts {
            has_data: true,
            ..Facts::default()
        };
        bench.found(id, facts);
        let Some(Answer::Plan(Ok(changes))) = bench.answers.get(&id) else {
            panic!("{:?}", bench.answers.get(&id));
        };
        let changes = changes.iter().filter(|one| one.name == "p-tentacle-web");
        changes
            .map(|one| (one.what, one.why.join(" ")))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&[KEY]), []);
    let [(what, why)] = <[_; 1]>::try_from(told(&[KEY, ("TENTACLE_TAG", "9.1")])).unwrap();
    assert!(
        what == Step::Recreate && why.contains("octopusdeploy/tentacle:9.1"),
        "{why}"
    );
    let [(what, why)] = <[_; 1]>::try_from(told(&[])).unwrap();
    assert!(
        what == Step::Remove && why.contains("ADMIN_API_KEY"),
        "{why}"
    );
}

#[test]
fn its_failures_are_its_own() {
    let mut bench = ready_with(&[KEY]);
    let verdict = |bench: &Bench| {
        let status = bench.core.status(super::moment(bench.now).mono);
        (status.verdict, status.tentacles.len())
    };
    let before = verdict(&bench).0;
    taken(&mut bench, add("web", "P"));
    let [create] = <[Action; 1]>::try_from(acts(&mut bench)).unwrap();
    assert_eq!(verdict(&bench), (before, 1));
    let trouble = Trouble::refused("pull image x: manifest unknown");
    bench.on(Event::Done(create, Err(trouble)));
    assert_eq!(verdict(&bench), (before, 1));
    assert_eq!(before, Verdict::Ready);
    let status = bench.core.status(super::moment(bench.now).mono);
    let told = &status.tentacles[0];
    assert!(told.reason.contains("manifest unknown"), "{told:?}");
    assert!(
        told.fix.as_ref().unwrap().contains("TENTACLE_TAG"),
        "{told:?}"
    );
}

#[test]
fn one_that_leaves_is_deregistered_after_its_container_went_and_then_forgotten() {
    let mut bench = ready_with(&[KEY]);
    assert!(refused(&mut bench, remove(Registration::Deleted)).contains("no Tentacle web"));
    taken(&mut bench, add("web", "P"));
    acts(&mut bench);
    taken(&mut bench, remove(Registration::Deleted));
    assert!(refused(&mut bench, add("web", "P")).contains("still being removed"));
    // Its container is being made: nothing is deregistered before that ended.
    assert_eq!(acts(&mut bench), []);
    bench.on(Event::Done(Action::Create(unit()), Ok(Outcome::default())));
    let [retire] = <[Action; 1]>::try_from(acts(&mut bench)).unwrap();
    let Action::Retire {
        from: Some(from), ..
    } = &retire
    else {
        panic!("{retire:?}");
    };
    assert!(from.is_worker && from.space == "Default");
    // The API does not do it: it is tried again, and it is told.
    let trouble = Trouble {
        kind: TroubleKind::Registration,
        ..Trouble::refused("the API answers 500")
    };
    bench.on(Event::Done(retire, Err(trouble)));
    let status = bench.core.status(super::moment(bench.now).mono);
    let told = &status.tentacles[0];
    assert!(told.reason.contains("the API answers 500"), "{told:?}");
    assert!(told.retry_in_seconds.is_some(), "{told:?}");
    assert_eq!(bench.core.stored().tentacles.len(), 1);
    // A person gives that up.
    taken(&mut bench, remove(Registration::Kept));
    let [retire] = <[Action; 1]>::try_from(acts(&mut bench)).unwrap();
    assert!(
        matches!(&retire, Action::Retire { from: None, .. }),
        "{retire:?}"
    );
    bench.on(Event::Done(retire, Ok(Outcome::default())));
    assert!(bench.core.stored().tentacles.is_empty());
    assert_eq!(acts(&mut bench), []);
}

#[test]
fn without_a_node_it_is_not_removed_unless_its_registration_may_stay() {
    let mut bench = applied_with(&[KEY]);
    taken(&mut bench, add("web", "P"));
    let why = refused(&mut bench, remove(Registration::Deleted));
    assert!(
        why.contains("no node serves") && why.contains("--keep-registration"),
        "{why}"
    );
    taken(&mut bench, remove(Registration::Kept));
}

#[test]
fn what_stops_everything_stops_it_and_is_kept_where_an_older_program_does_not_look() {
    let mut bench = ready_with(&[KEY]);
    taken(&mut bench, add("web", "P"));
    taken(&mut bench, Request::Units(About::Stop, Vec::new(), None));
    let kept = bench.core.stored();
    assert!(kept.tentacles[&name("web")].stopped);
    assert!(!kept.stopped.iter().any(|unit| unit.is_tentacle()));
    assert!(bench.core.state().desired.rests(unit()));
    taken(&mut bench, Request::Units(About::Start, vec![unit()], None));
    assert!(!bench.core.state().desired.rests(unit()));
    taken(&mut bench, Request::Units(About::Stop, vec![unit()], None));
    taken(&mut bench, Request::Up(up(&[KEY])));
    assert!(
        !bench.core.state().desired.rests(unit()),
        "an `up` starts it"
    );
    let id = bench.ask(Request::Units(About::Drain, vec![unit()], None));
    assert!(!bench.is_taken(id), "it has no tasks of its own");
    let id = bench.ask(Request::Units(
        About::Stop,
        vec![UnitId::Tentacle(name("other"))],
        None,
    ));
    assert!(!bench.is_taken(id));
}
