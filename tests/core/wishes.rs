//! What a wish does and what is not taken for one.

use std::time::Duration;

use octo_local::daemon::core::Duty;
use octo_local::daemon::message::About;
use octo_local::daemon::message::Answer;
use octo_local::daemon::message::Denied;
use octo_local::daemon::message::Effect;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::Request;
use octo_local::daemon::store::Loaded;
use octo_local::daemon::store::Stored;
use octo_local::engine::Endpoint;
use octo_local::reconcile::action::Trouble;
use octo_local::spec::UnitId;

use super::Bench;
use super::applied;
use super::down;
use super::known::ready_with;
use super::up;

const NODE: UnitId = UnitId::Node(1);

#[test]
fn what_was_applied_on_another_engine_takes_no_wish_here() {
    let elsewhere = Stored {
        endpoint: Some(Endpoint::at("unix:///elsewhere")),
        ..applied().core.stored().clone()
    };
    for request in [
        down(true),
        Request::Units(About::Stop, Vec::new(), None),
        Request::Units(About::Start, Vec::new(), None),
    ] {
        let mut bench = Bench::awake(elsewhere.clone());
        let id = bench.ask(request);
        let Some(Answer::Wished(Err(Denied::Problems(problems)))) = bench.answers.get(&id) else {
            panic!("{:?}", bench.answers);
        };
        assert!(
            problems[0].to_string().contains("unix:///elsewhere"),
            "{problems:?}"
        );
        assert!(bench.acts().is_empty());
        assert_eq!(bench.core.stored().wish, elsewhere.wish);
    }
}

#[test]
fn the_disk_is_given_one_thing_at_a_time() {
    let mut bench = applied();
    bench.effects.clear();
    bench.disk_takes_its_time = true;
    // Something is kept that is no wish, and a wish comes before the disk has it.
    bench.ask(Request::Cancel(1));
    let given = |effect: &Effect| match effect {
        Effect::Save { number, .. } => Some(*number),
        _ => None,
    };
    let first: Vec<u64> = bench.effects.iter().filter_map(given).collect();
    assert_eq!(first.len(), 1);
    let id = bench.ask(Request::Units(About::Stop, vec![NODE], None));
    let second: Vec<u64> = bench.effects.iter().filter_map(given).collect();
    assert_eq!(second, first);
    bench.on(Event::Saved {
        number: first[0],
        result: Ok(()),
    });
    let third: Vec<u64> = bench.effects.iter().filter_map(given).collect();
    assert!(third.len() == 2 && !bench.is_taken(id));
    bench.on(Event::Saved {
        number: third[1],
        result: Ok(()),
    });
    assert!(bench.is_taken(id));
}

#[test]
fn who_asks_for_a_start_has_what_failed_tried_again_at_once() {
    let mut bench = applied();
    let mut refused = 0;
    for effect in std::mem::take(&mut bench.effects) {
        if let Effect::Act(action, _) = effect {
            refused += 1;
            bench.on(Event::Done(action, Err(Trouble::refused("no"))));
        }
    }
    bench.settle();
    assert!(refused > 0 && bench.acts().is_empty(), "{:?}", bench.acts());
    let id = bench.ask(Request::Units(About::Start, Vec::new(), None));
    assert!(bench.is_taken(id));
    assert_eq!(bench.acts().len(), refused);
}

#[test]
fn nobody_is_drained_while_the_stack_is_not_up() {
    let mut bench = applied();
    bench.ask(down(false));
    let id = bench.ask(Request::Units(About::Drain, Vec::new(), None));
    let answer = format!("{:?}", bench.answers.get(&id));
    assert!(answer.contains("not up"), "{answer}");
    assert!(bench.core.stored().drains.drained.is_empty());
    let again = bench.ask(Request::Units(About::Undrain, Vec::new(), None));
    assert!(
        bench.is_taken(again),
        "what was wished before can be taken back"
    );
}

#[test]
fn nothing_is_applied_over_a_state_file_that_must_not_be_written() {
    let unreadable = || Loaded::Unreadable("input/output error".to_owned());
    for (loaded, words) in [
        (unreadable(), "input/output error"),
        (Loaded::Newer(99, None), "99"),
    ] {
        let mut bench = Bench::loaded(Duration::ZERO, loaded, Duty::Supervise);
        bench.settle();
        let one = bench.ask(Request::Up(up(&[])));
        let other = bench.ask(Request::Plan(up(&[])));
        for id in [one, other] {
            let denied = match bench.answers.get(&id) {
                Some(Answer::Up(Err(denied)) | Answer::Plan(Err(denied))) => denied,
                other => panic!("{other:?}"),
            };
            assert!(format!("{denied:?}").contains(words), "{denied:?}");
        }
        assert_eq!((bench.writes, bench.acts().len()), (0, 0));
    }
}

/// The password of `sa` shuts SQL Server down; another login says nothing of it.
#[test]
fn a_password_is_known_to_be_right_once_it_was_let_in_itself() {
    let other = "Server=db;Database=O;User Id=octopus;Password=An0ther-one";
    for (string, is_known) in [(None, true), (Some(other), false)] {
        let more: Vec<(&str, &str)> = string
            .map(|text| ("DB_CONNECTION_STRING", text))
            .into_iter()
            .collect();
        let bench = ready_with(&more);
        let known = bench.core.stored().sa.known.is_some();
        assert_eq!(known, is_known, "{string:?}");
    }
}

#[test]
fn an_engine_that_goes_away_while_facts_are_gathered_is_asked_again_for_two_seconds() {
    let gathers = |bench: &Bench| {
        let is_it = |effect: &&Effect| matches!(effect, Effect::Gather(..));
        bench.effects.iter().filter(is_it).count()
    };
    let broken = |bench: &mut Bench, id| {
        bench.effects.clear();
        bench.on(Event::Gathered {
            id,
            asker_left: false,
            found: Err(Denied::Engine("it does not answer any more".to_owned())),
        });
        assert!(!bench.is_taken(id));
    };
    let mut bench = Bench::awake(Stored::default());
    let id = bench.ask(Request::Up(up(&[])));
    broken(&mut bench, id);
    assert!(!bench.answers.contains_key(&id), "{:?}", bench.answers);
    bench.now += Duration::from_millis(200);
    bench.settle();
    assert_eq!(gathers(&bench), 1, "{:?}", bench.effects);
    bench.gathered(id, "AAAAAAAAAAAAAAAAAAAAAA==");
    assert!(bench.is_taken(id), "{:?}", bench.answers);

    let id = bench.ask(Request::Plan(up(&[("OCTOPUS_NODES", "2")])));
    bench.now += Duration::from_secs(3);
    broken(&mut bench, id);
    let told = format!("{:?}", bench.answers[&id]);
    assert!(told.contains("it does not answer any more"), "{told}");
}
