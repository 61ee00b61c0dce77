//! Decisions that were wrong once: what keeps a stack from being repaired, and what repairs one that
//! is well.

use std::time::Duration;

use octo_local::reconcile::Action;
use octo_local::reconcile::Cause;
use octo_local::reconcile::Desired;
use octo_local::reconcile::Goal;
use octo_local::reconcile::News;
use octo_local::reconcile::State;
use octo_local::reconcile::action::Doubt;
use octo_local::reconcile::action::Outcome;
use octo_local::reconcile::action::Subject;
use octo_local::reconcile::action::Trouble;
use octo_local::reconcile::action::TroubleKind;
use octo_local::reconcile::container_event::ContainerEvent;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::NotOpen;
use octo_local::reconcile::health::PATIENCE;
use octo_local::reconcile::health::Probe;
use octo_local::reconcile::observed::Run;
use octo_local::reconcile::record::Durable;
use octo_local::reconcile::status::is_down;
use octo_local::spec::UnitId;

use super::broken;
use super::drained;
use super::gone;
use super::scene::DB;
use super::scene::ONE;
use super::scene::Scene;
use super::scene::TWO;
use super::scene::ended;
use super::scene::of;
use super::scene::runs;

fn silent(seconds: u64) -> Probe {
    let waited = Duration::from_secs(seconds);
    Probe::Failure(Miss::Silent(waited), "no answer".to_owned())
}

fn refused() -> Probe {
    Probe::Refused("error 18456".to_owned())
}

fn later_run() -> Run {
    Run::Running {
        started_at: "2".to_owned(),
    }
}

/// A run that ended with these lines is examined.
fn examined(scene: &mut Scene, unit: UnitId, code: i64, lines: &[&str]) -> Option<Cause> {
    let examine = scene
        .plan()
        .into_iter()
        .find(|action| matches!(action, Action::Examine(of, _) if *of == unit))?;
    let outcome = Outcome {
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        exit: Some((code, false, String::new())),
    };
    scene.state.begin(&examine, scene.now);
    scene.end(examine, Ok(outcome));
    cause(scene, unit)
}

fn cause(scene: &Scene, unit: UnitId) -> Option<Cause> {
    let failure = scene.state.records.get(unit)?.failures.last.as_ref()?;
    Some(failure.cause)
}

/// Another daemon takes over, with what the one before it kept.
fn taken_over(scene: Scene) -> Scene {
    let durable = scene.state.records.durable.clone();
    let mut next = Scene {
        state: State::new(scene.state.desired.clone(), 1),
        now: scene.now,
    };
    next.state.records.durable = durable;
    next.look(scene.state.seen);
    next
}

#[test]
fn runs_that_an_earlier_daemon_ended_in_order_are_no_failures() {
    let mut scene = Scene::all_ready();
    scene.state.desired.goal = Goal::Halt;
    for unit in [ONE, TWO, DB] {
        let stop = scene.begin_stop(unit);
        scene.is(unit, ended(0));
        scene.end(stop, Ok(Outcome::default()));
    }
    scene.state.desired.goal = Goal::Up;
    let mut scene = taken_over(scene);
    assert_eq!(scene.plan(), [Action::Start(DB, "p-db-1".to_owned())]);
    let told: Vec<News> = scene.state.take_news();
    assert!(
        !told.iter().any(|news| matches!(news, News::Told(..))),
        "{told:?}"
    );
    for unit in [DB, ONE, TWO] {
        assert_eq!(cause(&scene, unit), None, "{unit}");
        assert_eq!(scene.state.records.get(unit).unwrap().restarts, 0);
    }
    scene.is(DB, later_run());
    scene.is(
        DB,
        Run::Exited {
            started_at: "2".to_owned(),
            code: 1,
            oom: false,
            error: String::new(),
        },
    );
    assert_eq!(
        examined(&mut scene, DB, 1, &[]),
        Some(Cause::Crashed),
        "a later one is"
    );
}

#[test]
fn an_unrelated_line_of_a_run_that_served_keeps_nobody_down() {
    let line = "Info: the user has no access: permission denied";
    for code in [0, 137, 143, 1] {
        let mut scene = Scene::all_ready();
        scene.is(ONE, ended(code));
        assert_eq!(
            scene.starts(),
            [] as [UnitId; 0],
            "the database is asked first"
        );
        scene.wait(1);
        scene.probe(DB, &Probe::Ready);
        assert_eq!(scene.starts(), [ONE], "{code}");
        examined(&mut scene, ONE, code, &[line]);
        assert_eq!(scene.starts(), [ONE], "{code}");
    }
    // The same line is the cause of a start that ended itself with it.
    let mut scene = Scene::all_ready();
    scene.is(ONE, Run::Created);
    scene.is(ONE, ended(1));
    let mut scene = scene.adopted();
    assert_eq!(
        examined(&mut scene, ONE, 1, &[line]),
        Some(Cause::VolumePermissions)
    );
}

/// A Tentacle serves within milliseconds: the engine may answer that it started one after that.
#[test]
fn a_restart_counts_once_whether_its_run_or_the_engines_answer_is_seen_first() {
    for answers_late in [true, false] {
        let mut scene = Scene::all_ready();
        scene.is(ONE, ended(137));
        scene.wait(1);
        scene.probe(DB, &Probe::Ready);
        let start = Action::Start(ONE, "p-octopus-server-1-1".to_owned());
        scene.state.begin(&start, scene.now);
        scene.is(ONE, later_run());
        if !answers_late {
            scene.end(start.clone(), Ok(Outcome::default()));
        }
        scene.probe(ONE, &Probe::Ready);
        if answers_late {
            scene.end(start, Ok(Outcome::default()));
        }
        let record = scene.state.records.get(ONE).unwrap();
        assert_eq!(record.restarts, 1, "the answer is late: {answers_late}");
    }
}

#[test]
fn nobody_is_promised_a_start_while_nothing_is_started() {
    let mut scene = Scene::all_ready();
    scene.is(ONE, ended(1));
    examined(&mut scene, ONE, 1, &[]);
    let promised = |scene: &Scene| {
        let status = scene.status();
        let unit = status.units.iter().find(|one| one.unit == ONE);
        unit.unwrap().retry_in_seconds.is_some()
    };
    assert!(promised(&scene), "{:?}", scene.status());
    scene.state.desired.goal = Goal::Hold;
    assert!(promised(&scene), "it has served, and is kept running");
    scene.state.desired.hands_off = true;
    assert!(!promised(&scene));
    scene.state.desired.hands_off = false;
    scene.state.records.of(ONE).served_once = false;
    assert!(!promised(&scene));
}

/// What could not be started before it ever ran was not restarted.
#[test]
fn a_first_run_after_failed_starts_is_no_restart() {
    let mut scene = Scene::all_ready();
    scene.is(ONE, Run::Created);
    let start = Action::Start(ONE, "p-octopus-server-1-1".to_owned());
    let refused = Trouble {
        kind: TroubleKind::Engine,
        words: "no".to_owned(),
        doubt: Doubt::Refused,
    };
    scene.state.begin(&start, scene.now);
    scene.end(start.clone(), Err(refused));
    scene.state.begin(&start, scene.now);
    scene.is(ONE, runs());
    scene.end(start, Ok(Outcome::default()));
    assert_eq!(scene.state.records.get(ONE).unwrap().restarts, 0);
}

/// What is to be restored over cannot be waited for: it is what is damaged.
#[test]
fn a_database_that_is_replaced_need_not_open() {
    let not_open = |state| Probe::NotOpen(state, "database Octopus is not open".to_owned());
    let grace = Scene::all_ready().state.timing().refused_grace.as_secs();
    for (state, waits) in [
        (NotOpen::Damaged, 0),
        (NotOpen::Restoring, 0),
        (NotOpen::RecoveryPending, grace),
        (NotOpen::Recovering, u64::MAX),
    ] {
        let mut scene = Scene::all_ready();
        scene.probe_for(1, DB, &not_open(state));
        let is_ready = |scene: &Scene| scene.state.records.get(DB).unwrap().health().ready;
        assert!(!is_ready(&scene), "{state:?}: nodes need it open");
        let is_damaged = cause(&scene, DB) == Some(Cause::DatabaseSuspect);
        assert_eq!(is_damaged, state == NotOpen::Damaged);

        scene.state.desired.data_is_replaced = true;
        if waits > 0 {
            scene.probe_for(grace - 2, DB, &not_open(state));
            assert!(!is_ready(&scene), "{state:?} may be over soon");
        }
        scene.probe_for(2, DB, &not_open(state));
        assert_eq!(is_ready(&scene), waits <= grace, "{state:?}");
        assert_eq!(cause(&scene, DB), None, "{state:?}");
    }
}

#[test]
fn a_hung_sql_server_gets_its_full_stop_limit_and_is_not_called_hung_for_slow_answers() {
    let limit = Scene::all_ready().state.timing().sql_stop_limit;
    let mut scene = Scene::all_ready();
    for _ in 0..20 {
        // It answers after three seconds: too late for the first question, not for the next.
        scene.probe_for(1, DB, &silent(2));
        assert_eq!(scene.state.patience_with(DB), PATIENCE);
        scene.probe_for(1, DB, &Probe::Ready);
        assert_eq!(scene.stops(), []);
    }
    scene.probe_for(2, DB, &gone());
    assert_eq!(scene.stops(), []);
    scene.probe_for(1, DB, &gone());
    assert_eq!(scene.stops(), [(DB, Some(Cause::Hung))]);
    assert_eq!(scene.grace(DB), Some((limit, None)));
}

#[test]
fn sql_server_may_say_nothing_for_longer_than_a_node() {
    for (unit, seconds) in [(ONE, 2), (DB, 31)] {
        let mut scene = Scene::all_ready();
        scene.probe_for(1, unit, &silent(2));
        scene.probe_for(seconds - 2, unit, &silent(8));
        assert_eq!(scene.stops(), [], "{unit}");
        scene.probe_for(1, unit, &silent(8));
        assert_eq!(scene.stops(), [(unit, Some(Cause::Hung))]);
    }
}

#[test]
fn slow_nodes_are_given_minutes_and_end_one_at_a_time() {
    let mut scene = Scene::all_ready();
    for _ in 0..300 {
        assert_eq!(scene.stops(), []);
        scene.probe_for(1, ONE, &broken());
        scene.probe(TWO, &broken());
    }
    scene.probe_for(1, ONE, &broken());
    let stop = scene.begin_stop(ONE);
    assert_eq!(scene.stops(), [], "one is on its way out");
    scene.is(ONE, ended(0));
    scene.end(stop, Ok(Outcome::default()));
    scene.is(ONE, later_run());
    assert_eq!(scene.stops(), [], "and on its way back");
    scene.probe_for(1, ONE, &Probe::Ready);
    assert_eq!(scene.stops(), [(TWO, Some(Cause::Hung))]);
    let grace = scene.state.timing().node_stop_grace;
    assert_eq!(
        scene.grace(TWO),
        Some((grace, None)),
        "what is only slow may end in order"
    );
}

#[test]
fn a_unit_is_not_hung_before_a_look_shows_that_it_is_not_cut_off() {
    let mut scene = Scene::all_ready();
    for _ in 0..9 {
        scene.wait(1);
        scene.probe(ONE, &gone());
        scene.probe(DB, &Probe::Ready);
    }
    assert_eq!(scene.stops(), []);
    assert!(scene.state.contradicted(), "a look is due");
    // One that began before it failed does not count.
    let mut scene = Scene::all_ready();
    scene.state.look_begins();
    for _ in 0..9 {
        scene.wait(1);
        scene.probe(ONE, &gone());
        scene.probe(DB, &Probe::Ready);
    }
    let seen = scene.state.seen.clone();
    scene.state.looked(seen, scene.now);
    assert_eq!(scene.stops(), []);
    scene.change(|seen| of(seen, ONE).networks.clear());
    assert_eq!(scene.plan(), [Action::Connect(ONE, scene.instance(ONE).id)]);
    scene.change(|seen| of(seen, ONE).networks = ["net".to_owned()].into());
    assert_eq!(scene.stops(), [(ONE, Some(Cause::Hung))]);
}

#[test]
fn a_look_that_shows_no_change_is_repeated_a_few_times() {
    let mut scene = Scene::all_ready();
    let paused = ContainerEvent {
        id: scene.instance(ONE).id,
        word: "pause".to_owned(),
        at: None,
        signal: None,
        code: None,
    };
    scene.state.heard(&paused, scene.now);
    assert!(
        !scene.state.contradicted(),
        "the look for it is yet to come"
    );
    scene.change(|_| {});
    assert!(scene.state.contradicted());
    scene.is(
        ONE,
        Run::Paused {
            started_at: "1".to_owned(),
        },
    );
    assert!(!scene.state.contradicted());
    scene.state.on_change_told();
    let mut looks = 0;
    scene.change(|_| {});
    while scene.state.contradicted() {
        looks += 1;
        assert!(looks < 9, "without end");
        scene.change(|_| {});
    }
    assert_eq!(looks, 2);
}

#[test]
fn a_starved_host_says_nothing_about_its_units() {
    let mut scene = Scene::all_ready();
    scene.probe_for(2, ONE, &gone());
    scene.state.on_host_starved(scene.now);
    scene.probe_for(9, ONE, &gone());
    assert_eq!(scene.stops(), []);
    scene.probe_for(30, ONE, &gone());
    assert_eq!(scene.stops(), [(ONE, Some(Cause::Hung))]);
}

#[test]
fn a_node_that_cannot_be_started_holds_no_other_up_once_the_version_ran() {
    let frozen = |started_at: &str| Run::Paused {
        started_at: started_at.to_owned(),
    };
    let failed = Run::Exited {
        started_at: "2".to_owned(),
        code: 1,
        oom: false,
        error: String::new(),
    };
    for (what, run) in [
        ("failed for good", failed),
        ("frozen", frozen("1")),
        ("never served and is frozen", frozen("2")),
    ] {
        for is_migrated in [true, false] {
            let mut scene = Scene::all_ready();
            scene.is(TWO, Run::Created);
            scene.is(ONE, run.clone());
            if !is_migrated {
                scene.state.records.durable = Durable::default();
            }
            examined(&mut scene, ONE, 1, &["Error: you must accept the EULA"]);
            scene.wait(1);
            scene.probe(DB, &Probe::Ready);
            let expected = if is_migrated { vec![TWO] } else { vec![] };
            assert_eq!(scene.starts(), expected, "{what} {is_migrated}");
        }
    }
}

#[test]
fn sql_server_waits_for_the_end_of_a_node_that_lost_it_in_its_migration() {
    let mut scene = Scene::all_ready();
    scene.state.records.durable = Durable::default();
    scene.is(TWO, Run::Created);
    let started_at = "2".to_owned();
    scene.is(ONE, Run::Running { started_at });
    scene.probe(ONE, &gone());
    scene.is(DB, ended(137));
    let stop = scene.begin_stop(ONE);
    assert_eq!(scene.starts(), [], "it could go on with its migration");
    scene.is(ONE, ended(143));
    scene.end(stop, Ok(Outcome::default()));
    assert_eq!(scene.starts(), [DB]);
}

#[test]
fn a_crash_loop_and_an_unready_node_hold_no_other_up() {
    let mut scene = Scene::all_ready();
    scene.probe(ONE, &broken());
    scene.is(TWO, ended(1));
    scene.wait(1);
    scene.probe(DB, &Probe::Ready);
    assert_eq!(scene.starts(), [TWO]);

    let mut scene = Scene::all_ready();
    scene.is(ONE, Run::Created);
    for _ in 0..6 {
        let start = Action::Start(ONE, scene.state.seen.container(ONE).unwrap().id.clone());
        scene.state.begin(&start, scene.now);
        scene.end(start, Err(Trouble::refused("no")));
    }
    scene.is(TWO, Run::Created);
    assert_eq!(scene.starts(), [TWO]);
    scene.state.records.durable = Durable::default();
    assert_eq!(scene.starts(), []);
}

#[test]
fn what_served_on_other_data_says_nothing() {
    let mut scene = Scene::all_ready();
    assert!(scene.state.records.durable.migrated.is_some());
    let volumes = scene.state.seen.volumes.clone();
    scene.change(|seen| seen.volumes.clear());
    scene.change(|seen| seen.volumes = volumes);
    assert_eq!(scene.state.records.durable.migrated, None);
}

#[test]
fn a_drained_node_holds_up_no_change_and_is_replaced_itself() {
    let mut scene = Scene::all_ready();
    scene.state.desired.drained.insert(ONE);
    scene.probe(ONE, &drained());
    scene.is_outdated(TWO);
    assert_eq!(scene.stops(), [(TWO, None)]);
    let mut scene = Scene::all_ready();
    scene.probe(ONE, &drained());
    scene.is_outdated(ONE);
    assert_eq!(scene.stops(), [(ONE, None)]);
}

#[test]
fn a_log_that_cannot_be_read_keeps_nobody_down() {
    let mut scene = Scene::all_ready().adopted();
    scene.probe(TWO, &Probe::Ready);
    scene.is(ONE, ended(3));
    for _ in 0..3 {
        assert_eq!(scene.starts(), [], "its end is to be examined first");
        scene.wait(9);
        scene.probe(DB, &Probe::Ready);
        let examine = scene
            .plan()
            .into_iter()
            .find(|action| matches!(action, Action::Examine(..)))
            .expect("it is tried");
        scene.state.begin(&examine, scene.now);
        scene.end(examine, Err(Trouble::engine("no answer", Doubt::Unknown)));
    }
    assert_eq!(cause(&scene, ONE), Some(Cause::Crashed));
    scene.wait(5);
    scene.probe(DB, &Probe::Ready);
    assert_eq!(scene.starts(), [ONE]);
}

#[test]
fn down_ends_although_somebody_elses_container_uses_the_network_or_the_data() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.containers.clear());
    scene.state.desired.goal = Goal::Down { volumes: true };
    for _ in 0..3 {
        for action in scene.plan() {
            scene.state.begin(&action, scene.now);
            let in_use = Trouble {
                kind: TroubleKind::InUse,
                ..Trouble::refused("in use by somebody-1")
            };
            scene.end(action, Err(in_use));
        }
        scene.wait(5);
    }
    assert_eq!(scene.plan(), []);
    let State {
        desired,
        seen,
        records,
        ..
    } = &scene.state;
    assert!(is_down(desired, seen, records));
    let left = records.left_to_others();
    assert!(left.contains(&(&Subject::Network, "in use by somebody-1")));
    assert_eq!(left.len(), 1 + seen.volumes.len());
    // They are tried again when somebody asks again.
    scene.state.records.forgive();
    assert!(
        scene
            .plan()
            .contains(&Action::RemoveNetwork("net".to_owned()))
    );
}

#[test]
fn a_network_that_is_kept_for_another_reason_is_tried_on() {
    let mut scene = Scene::all_ready();
    scene.change(|seen| seen.containers.clear());
    scene.state.desired.goal = Goal::Down { volumes: false };
    for _ in 0..9 {
        let remove = scene.plan().remove(0);
        scene.state.begin(&remove, scene.now);
        scene.end(remove, Err(Trouble::refused("the engine is ill")));
        while scene.plan().is_empty() {
            scene.wait(1);
        }
    }
    assert_eq!(scene.plan(), [Action::RemoveNetwork("net".to_owned())]);
}

#[test]
fn a_node_is_not_started_on_a_database_whose_last_answer_is_older_than_its_own_end() {
    let mut scene = Scene::all_ready();
    scene.wait(1);
    scene.state.take_news();
    scene.is(ONE, ended(137));
    assert_eq!(scene.starts(), []);
    assert!(
        scene.state.take_news().contains(&News::Ask(DB)),
        "it is asked at once"
    );
    scene.wait(1);
    scene.probe(DB, &gone());
    assert_eq!(scene.starts(), []);
    scene.probe(DB, &Probe::Ready);
    assert_eq!(scene.starts(), [ONE]);
}

#[test]
fn sigterm_is_sent_again_to_a_process_that_may_have_had_no_handler() {
    let mut scene = Scene::all_ready();
    scene.is(TWO, later_run());
    scene.state.desired.stopped = [ONE, TWO].into();
    assert_eq!(scene.grace(ONE).map(|(_, repeat)| repeat), Some(None));
    let again = Some(Duration::from_secs(3));
    assert_eq!(scene.grace(TWO).map(|(_, repeat)| repeat), Some(again));
}

#[test]
fn a_hold_keeps_what_has_served_and_begins_nothing_new() {
    let mut scene = Scene::all_ready();
    scene.is(TWO, Run::Created);
    let start = scene.plan();
    assert_eq!(scene.starts(), [TWO]);
    scene.state.desired.goal = Goal::Hold;
    let on_hold = scene.plan();
    assert_eq!((start.len(), on_hold.len()), (1, 1), "it had served");
    scene.is(TWO, Run::Created);
    let mut held = scene.adopted();
    held.probe(DB, &Probe::Ready);
    held.probe(ONE, &Probe::Ready);
    assert_eq!(held.plan(), [], "it never served under this daemon");
    assert!(!held.state.hold_is_over(held.now));
    held.is(ONE, ended(137));
    held.wait(1);
    held.probe(DB, &Probe::Ready);
    assert_eq!(held.starts(), [ONE]);
    held.is(ONE, later_run());
    held.probe(ONE, &Probe::Ready);
    held.wait(20);
    held.probe_for(3, ONE, &gone());
    assert_eq!(held.stops(), [(ONE, Some(Cause::Hung))]);
    held.is_outdated(ONE);
    assert!(
        held.plan()
            .iter()
            .all(|action| !matches!(action, Action::Remove(..) | Action::Create(_)))
    );
}

#[test]
fn a_hold_is_over_when_everything_serves_as_it_is_wanted() {
    let mut scene = Scene::all_ready();
    scene.state.desired = Desired {
        goal: Goal::Hold,
        ..scene.state.desired.clone()
    };
    assert!(scene.state.hold_is_over(scene.now));
    scene.probe(TWO, &broken());
    assert!(!scene.state.hold_is_over(scene.now));
    scene.state.desired.stopped.insert(TWO);
    assert!(
        !scene.state.hold_is_over(scene.now),
        "it is yet to be stopped"
    );
    scene.is(TWO, ended(0));
    assert!(scene.state.hold_is_over(scene.now));
}

/// SQL Server runs anew, and has not served yet.
fn booting(is_data_new: bool) -> Scene {
    let mut scene = Scene::all_ready();
    scene.is(ONE, Run::Created);
    scene.is(TWO, Run::Created);
    scene.is(DB, later_run());
    scene.state.records.durable.is_data_new = is_data_new;
    scene
}

fn log(scene: &mut Scene, lines: &[&str]) {
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let instance = scene.instance(DB);
    scene.state.on_log_read(DB, &instance, &lines, scene.now);
}

#[test]
fn a_refused_login_on_new_data_is_not_believed_while_the_server_may_still_set_it_up() {
    for (is_data_new, believed) in [(true, None), (false, Some(Cause::PasswordRefused))] {
        let mut scene = booting(is_data_new);
        scene.probe_for(120, DB, &refused());
        assert_eq!(cause(&scene, DB), believed);
    }
    let mut scene = booting(true);
    scene.probe_for(601, DB, &refused());
    assert_eq!(
        cause(&scene, DB),
        Some(Cause::PasswordRefused),
        "it stands still"
    );
    let mut scene = booting(true);
    for _ in 0..200 {
        scene.probe_for(5, DB, &refused());
        let line = format!("{:?} upgrading", scene.now);
        log(&mut scene, &[&line, "Login failed for user 'sa'."]);
    }
    assert_eq!(cause(&scene, DB), None, "its log moves");
}

#[test]
fn new_data_is_what_we_made_until_its_server_served() {
    let mut scene = Scene::all_ready();
    assert!(!scene.state.records.durable.is_data_new);
    let data = scene.state.desired.spec.as_ref().unwrap().volumes["sql-data"]
        .source()
        .to_owned();
    scene.change(|seen| assert!(seen.volumes.remove(&data)));
    let create = Action::CreateVolume(data.clone());
    scene.state.begin(&create, scene.now);
    scene.state.end(create, Ok(Outcome::default()), scene.now);
    scene.change(|seen| assert!(seen.volumes.insert(data)));
    assert!(scene.state.records.durable.is_data_new);
    scene.is(DB, later_run());
    scene.probe(DB, &Probe::Ready);
    assert!(!scene.state.records.durable.is_data_new);
}

#[test]
fn a_refused_login_on_old_data_counts_from_when_the_server_says_that_it_is_open() {
    let mut scene = booting(false);
    log(&mut scene, &["Starting up database 'Octopus'."]);
    scene.probe_for(120, DB, &refused());
    assert_eq!(cause(&scene, DB), None, "it recovers its databases");
    scene.state.take_news();
    log(
        &mut scene,
        &["Recovery is complete.", "Error: 18456, Severity: 14"],
    );
    assert!(scene.state.take_news().contains(&News::Ask(DB)));
    scene.probe_for(19, DB, &refused());
    assert_eq!(cause(&scene, DB), None);
    log(&mut scene, &["Recovery is complete.", "something else"]);
    scene.probe_for(2, DB, &refused());
    assert_eq!(cause(&scene, DB), Some(Cause::PasswordRefused));
}

#[test]
fn a_server_that_refuses_a_login_is_not_killed_for_being_stuck() {
    let mut scene = booting(true);
    scene.probe_for(599, DB, &refused());
    scene.wait(2);
    assert_eq!(scene.stops(), []);
    let mut scene = booting(true);
    scene.probe_for(601, DB, &gone());
    assert_eq!(scene.stops(), [(DB, Some(Cause::StuckStarting))]);
}

#[test]
fn a_run_that_runs_is_not_the_one_that_ended() {
    let mut scene = Scene::all_ready();
    scene.is(ONE, ended(0));
    scene.is(ONE, runs());
    let record = scene.state.records.get(ONE).unwrap();
    assert_eq!((record.ended(), record.health().started), (None, false));
}

/// Else a backup or a restore would lose its server.
#[test]
fn sql_server_is_not_replaced_or_restarted_while_the_data_is_in_use() {
    let mut scene = Scene::all_ready();
    scene.is_outdated(DB);
    scene.state.desired.nodes_rest = true;
    scene.state.desired.data_in_use = true;
    for unit in [ONE, TWO] {
        scene.change(|seen| seen.containers.retain(|one| one.unit != unit));
    }
    assert_eq!(scene.stops(), []);
    let run = scene.instance(DB);
    scene.state.desired.restart.insert(DB, run);
    assert_eq!(scene.stops(), []);
    scene.state.desired.data_in_use = false;
    assert_eq!(scene.stops(), [(DB, None)]);
}
