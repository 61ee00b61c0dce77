//! A database of somebody else, asked as another login: what it said before says nothing any more.

use octo_local::daemon::admit::Facts;
use octo_local::daemon::admit::Login;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::Request;
use octo_local::daemon::store::Stored;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::status::PhaseWord;
use octo_local::spec::UnitId;

use super::Bench;
use super::known::answer;
use super::known::stops;
use super::known::wait;
use super::moment;
use super::up;
use crate::decide::scene::running_as;

const NODE: UnitId = UnitId::Node(1);

fn asked_with(password: &str) -> Request {
    let way = format!("Server=sql.example.com;Database=O;User Id=u;Password={password}");
    Request::Up(up(&[
        ("SQL_IMAGE", ""),
        ("DB_CONNECTION_STRING", &way),
        ("MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ]))
}

/// A stack that serves on such a database.
fn ready() -> Bench {
    let mut bench = Bench::awake(Stored::default());
    let id = bench.ask(asked_with("before"));
    let facts = Facts {
        external_database: Some(true),
        external_login: Login::Accepted,
        ..Facts::default()
    };
    bench.found(id, facts);
    assert!(bench.is_taken(id), "{:?}", bench.answers);
    let spec = bench.core.stored().spec.clone().unwrap();
    bench.seen = running_as(&spec);
    assert_eq!(answer(&mut bench, |_, _| Some(Probe::Ready)), 1);
    bench.finish_actions();
    bench.on(Event::StreamOpened);
    bench.settle();
    assert_eq!(answer(&mut bench, |_, _| Some(Probe::Ready)), 1);
    assert!(bench.core.status(moment(bench.now).mono).units[1].phase == PhaseWord::Ready);
    bench.effects.clear();
    bench
}

#[test]
fn a_node_that_serves_is_left_alone_until_the_new_login_was_let_in() {
    let refused = Probe::Refused("18456".to_owned());
    for (says, ends) in [(Probe::Ready, vec![NODE]), (refused, Vec::new())] {
        let mut bench = ready();
        let id = bench.ask(asked_with("after"));
        // The server could not be asked in time, so nobody knows yet.
        bench.found(id, Facts::default());
        assert!(bench.is_taken(id), "{:?}", bench.answers);
        assert_eq!(stops(&bench.effects), []);
        let is_asked_anew = |effect: &Effect| matches!(effect, Effect::Probe { unit, instance: None, .. } if *unit == UnitId::Sql);
        assert!(bench.effects.iter().any(is_asked_anew));
        answer(&mut bench, |unit, _| {
            (unit == UnitId::Sql).then(|| says.clone())
        });
        wait(&mut bench, 100);
        assert_eq!(stops(&bench.effects), ends, "{says:?}");
    }
}

#[test]
fn what_helps_with_a_database_of_somebody_else_speaks_of_it() {
    let mut bench = ready();
    let refused = || Some(Probe::Refused("18456".to_owned()));
    for _ in 0..200 {
        wait(&mut bench, 500);
        answer(&mut bench, |unit, _| {
            (unit == UnitId::Sql).then(refused).flatten()
        });
    }
    let status = bench.core.status(moment(bench.now).mono);
    let database = &status.units[0];
    assert_eq!(database.phase, PhaseWord::Failed, "{database:?}");
    let fix = database.fix.clone().unwrap_or_default();
    assert!(fix.contains("DB_CONNECTION_STRING"), "{fix}");
    assert!(
        !fix.contains("SA_PASSWORD") && !fix.contains("volume"),
        "{fix}"
    );
    // The server lets it in again: nothing has to be asked for.
    for _ in 0..200 {
        wait(&mut bench, 500);
        answer(&mut bench, |_, _| Some(Probe::Ready));
    }
    let status = bench.core.status(moment(bench.now).mono);
    assert_eq!(status.units[0].phase, PhaseWord::Ready);
}
