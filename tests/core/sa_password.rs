//! Another password of `sa`: who rests meanwhile, what is kept before anything changes, and what the
//! next daemon knows.

use octo_local::daemon::message::PasswordNotChanged;
use octo_local::daemon::message::PasswordStep;
use octo_local::daemon::store::Upgrading;
use octo_local::reconcile::Action;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::status::Note;

use super::known::answer;
use super::known::ready;
use super::known::stops;
use super::*;

const OLD: &str = "Str0ng-enough";
const NEW: &str = "Str0nger-than-before";

fn begin(bench: &mut Bench, to: &str) -> RequestId {
    let step = PasswordStep::Begin(Secret::new(to));
    bench.ask(Request::Password(step, None))
}

/// A change was asked for.
fn begun() -> Bench {
    let mut bench = ready();
    let id = begin(&mut bench, NEW);
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    bench.look();
    bench
}

/// What SQL Server was asked, as the password of before and the new one.
fn asked(bench: &Bench) -> Vec<(String, String)> {
    let of = |effect: &Effect| match effect {
        Effect::ChangePassword { change, .. } => Some((
            change.from.expose().to_owned(),
            change.to.expose().to_owned(),
        )),
        _ => None,
    };
    bench.effects.iter().filter_map(of).collect()
}

fn once() -> Vec<(String, String)> {
    vec![(OLD.to_owned(), NEW.to_owned())]
}

fn applied_password(bench: &Bench) -> String {
    let config = bench.core.stored().config.as_ref().unwrap();
    config.sql.as_ref().unwrap().sa_password.expose().to_owned()
}

fn notes(bench: &Bench) -> Vec<Note> {
    bench.core.status(Mono(bench.now)).notes
}

fn not_yet(why: &str) -> Event {
    Event::PasswordChanged(Err(PasswordNotChanged {
        why: why.to_owned(),
        is_final: false,
    }))
}

#[test]
fn sql_server_is_asked_once_no_node_runs_and_what_it_has_is_applied() {
    let mut bench = begun();
    assert_eq!(stops(&bench.effects), [UnitId::Node(1)]);
    assert_eq!(
        (asked(&bench), applied_password(&bench).as_str()),
        (vec![], OLD)
    );
    assert!(notes(&bench).contains(&Note::PasswordChanging { why: None }));
    bench.end_nodes();
    assert_eq!(
        (asked(&bench), applied_password(&bench).as_str()),
        (once(), OLD)
    );
    bench.settle();
    assert_eq!(asked(&bench).len(), 1, "it is being asked");
    bench.on(Event::PasswordChanged(Ok(())));
    bench.settle();
    assert_eq!(applied_password(&bench), NEW);
    assert!(!bench.core.state().desired.nodes_rest);
    assert!(notes(&bench).contains(&Note::PasswordUnwritten));
    let spec = bench.core.stored().spec.clone().unwrap();
    assert!(
        spec.nodes[0].env["DB_CONNECTION_STRING"]
            .expose()
            .contains(NEW)
    );
    let written = bench.ask(Request::Password(PasswordStep::Written, None));
    assert!(bench.is_taken(written), "{:?}", bench.answers);
    assert_eq!(bench.core.stored().sa.change, None);
}

/// The disk has everything that it was given.
fn write(bench: &mut Bench) {
    let is_save = |effect: &Effect| matches!(effect, Effect::Save { .. });
    while let Some(place) = bench.effects.iter().position(is_save) {
        if let Effect::Save { number, .. } = bench.effects.remove(place) {
            let result = Ok(());
            bench.on(Event::Saved { number, result });
        }
    }
}

#[test]
fn a_configuration_that_was_admitted_before_the_change_has_the_new_password_after_it() {
    let mut bench = begun();
    bench.end_nodes();
    bench.disk_takes_its_time = true;
    let id = bench.ask(Request::Up(up(&[("TASK_CAP", "7")])));
    let facts = Facts {
        has_data: true,
        ..Facts::default()
    };
    bench.found(id, facts);
    assert!(
        !bench.answers.contains_key(&id),
        "it is not on the disk yet"
    );
    bench.on(Event::PasswordChanged(Ok(())));
    write(&mut bench);
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    assert_eq!(applied_password(&bench), NEW);
    let spec = bench.core.stored().spec.as_ref().unwrap();
    assert!(
        spec.nodes[0].env["DB_CONNECTION_STRING"]
            .expose()
            .contains(NEW)
    );
    assert_eq!(spec.nodes[0].env["TASK_CAP"].expose(), "7");
}

#[test]
fn sql_server_stays_while_it_gets_its_new_password() {
    let mut bench = begun();
    bench.end_nodes();
    let id = bench.ask(Request::Units(About::Restart, vec![UnitId::Sql], None));
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    bench.settle();
    assert!(!stops(&bench.effects).contains(&UnitId::Sql));
    bench.on(Event::PasswordChanged(Ok(())));
    bench.settle();
    assert!(stops(&bench.effects).contains(&UnitId::Sql));
}

#[test]
fn the_next_daemon_asks_which_password_counts_also_where_its_own_is_refused() {
    let mut bench = begun();
    bench.end_nodes();
    // The statement was carried out, and nobody heard of it.
    let mut next = bench.followed_by(bench.core.stored().clone());
    answer(&mut next, |unit, _| {
        (unit == UnitId::Sql).then(|| Probe::Refused("error 18456".to_owned()))
    });
    assert_eq!(asked(&next), once());
    assert!(next.core.state().desired.nodes_rest);
    next.on(Event::PasswordChanged(Ok(())));
    next.settle();
    assert_eq!(applied_password(&next), NEW);
}

#[test]
fn both_passwords_are_on_the_disk_before_a_node_stops() {
    let mut bench = ready();
    bench.disk_takes_its_time = true;
    let id = begin(&mut bench, NEW);
    bench.look();
    assert!(!bench.answers.contains_key(&id));
    assert_eq!(stops(&bench.effects), []);
    let mut full = ready();
    full.disk = Err("no space left on device".to_owned());
    let id = begin(&mut full, NEW);
    assert!(!full.is_taken(id), "{:?}", full.answers);
    let said = format!("{:?}", full.answers[&id]);
    assert!(
        said.contains("no password is changed") && !said.contains(NEW),
        "{said}"
    );
    full.look();
    assert_eq!(stops(&full.effects), []);
}

#[test]
fn no_node_starts_with_the_new_password_before_the_disk_knows() {
    let mut bench = begun();
    bench.end_nodes();
    bench.disk = Err("full".to_owned());
    bench.on(Event::PasswordChanged(Ok(())));
    bench.settle();
    assert!(bench.core.state().desired.nodes_rest);
    bench.disk = Ok(());
    bench.now += Duration::from_secs(60);
    bench.settle();
    bench.settle();
    assert!(!bench.core.state().desired.nodes_rest);
}

#[test]
fn one_that_cannot_be_asked_is_asked_again_and_nobody_starts_before() {
    let mut bench = begun();
    bench.end_nodes();
    bench.on(not_yet("connection refused"));
    bench.settle();
    assert_eq!(asked(&bench).len(), 1, "not at once");
    let why = Some("connection refused".to_owned());
    assert!(notes(&bench).contains(&Note::PasswordChanging { why }));
    assert!(bench.core.state().desired.nodes_rest);
    bench.now += Duration::from_secs(3);
    assert!(bench.core.wake_at() <= Mono(bench.now));
    bench.settle();
    bench.look();
    assert_eq!(asked(&bench).len(), 2);
}

#[test]
fn a_password_that_sql_server_does_not_take_leaves_all_as_it_was() {
    let mut bench = begun();
    bench.end_nodes();
    bench.on(Event::PasswordChanged(Err(PasswordNotChanged {
        why: "error 15118".to_owned(),
        is_final: true,
    })));
    bench.settle();
    assert_eq!(applied_password(&bench), OLD);
    assert!(!bench.core.state().desired.nodes_rest);
    let why = "error 15118".to_owned();
    assert!(notes(&bench).contains(&Note::PasswordKept { why }));
    let id = begin(&mut bench, "An0ther-password");
    assert!(bench.is_taken(id), "{:?}", bench.answers);
}

#[test]
fn while_it_changes_nothing_else_changes_the_data_or_the_version() {
    let mut bench = begun();
    for request in [
        Request::RollBack(None),
        Request::Restore(
            octo_local::daemon::message::RestoreStep::Begin {
                set: "one".to_owned(),
                keep_as: Some("1".to_owned()),
            },
            None,
        ),
        Request::Password(PasswordStep::Begin(Secret::new("An0ther-password")), None),
    ] {
        let id = bench.ask(request);
        assert!(!bench.is_taken(id), "{:?}", bench.answers);
    }
    let again = begin(&mut bench, NEW);
    assert!(
        bench.is_taken(again),
        "whoever follows it asks again: {:?}",
        bench.answers
    );
    let down = bench.ask(down(false));
    assert!(bench.is_taken(down));
    let kept = bench.core.stored().sa.changing().cloned();
    assert_eq!(kept.unwrap().to.expose(), NEW, "SQL Server may have it");
}

#[test]
fn what_cannot_be_changed_now_is_refused_and_no_password_is_repeated() {
    let words = |bench: &mut Bench, to: &str| {
        let id = begin(bench, to);
        assert!(!bench.is_taken(id), "{:?}", bench.answers);
        let said = format!("{:?}", bench.answers[&id]);
        assert!(!said.contains(to), "{said}");
        said
    };
    assert!(words(&mut Bench::awake(Stored::default()), NEW).contains("octo-local up"));
    let mut bench = ready();
    assert!(words(&mut bench, "weak-word").contains("fewer than three"));
    assert!(words(&mut bench, OLD).contains("has already"));
    let mut stored = bench.core.stored().clone();
    stored.backups.upgrades.upgrading = Some(Upgrading::default());
    let mut upgrading = Bench::awake(stored);
    assert!(words(&mut upgrading, NEW).contains("upgrade"));
    let mut stored = bench.core.stored().clone();
    stored.stopped.insert(UnitId::Sql);
    assert!(words(&mut Bench::awake(stored), NEW).contains("not up"));
}

#[test]
fn a_server_that_does_not_run_is_started_and_then_asked() {
    let mut bench = begun();
    bench.end_nodes();
    for container in &mut bench.seen.containers {
        container.run = Run::Exited {
            started_at: "1".to_owned(),
            code: 0,
            oom: false,
            error: String::new(),
        };
    }
    let next = bench.followed_by(bench.core.stored().clone());
    assert_eq!(asked(&next), []);
    let starts = |effect: &&Effect| matches!(effect, Effect::Act(Action::Start(UnitId::Sql, _), _));
    let examines = |effect: &&Effect| matches!(effect, Effect::Act(Action::Examine(..), _));
    assert!(
        next.effects
            .iter()
            .any(|effect| starts(&effect) || examines(&effect)),
        "{:?}",
        next.effects
    );
}
