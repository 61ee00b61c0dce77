//! Backups that are made by themselves: when one is begun, and what is kept of it.

use octo_local::daemon::core::Duty;
use octo_local::daemon::message::BackedUp;
use octo_local::daemon::message::BackupFor;
use octo_local::daemon::store::Upgrading;
use octo_local::reconcile::status::Note;

use super::known::answer;
use super::known::ready;
use super::*;

const HOUR: u64 = 3_600;
/// Three o'clock of every day.
const AT_THREE: &str = "0 3 * * *";

/// A stack that serves since midnight, with this schedule.
fn scheduled(pattern: &str) -> Bench {
    go_on_with(&ready(), pattern)
}

/// The next daemon of a stack whose configuration has another schedule.
fn go_on_with(before: &Bench, pattern: &str) -> Bench {
    let stored = Stored {
        config: Some(config(&[("BACKUP_SCHEDULE", pattern)])),
        ..before.core.stored().clone()
    };
    let mut bench = Bench::new(stored, Duty::Supervise);
    bench.seen = before.seen.clone();
    bench.now = before.now;
    bench.settle();
    answer_but_backups(&mut bench);
    bench
}

fn at(bench: &mut Bench, hours: u64) {
    bench.now = Duration::from_secs(hours * HOUR);
    bench.settle();
    answer_but_backups(bench);
}

/// Answers probes, and leaves backups where they are.
fn answer_but_backups(bench: &mut Bench) {
    let is_backup = |effect: &Effect| matches!(effect, Effect::BackUp(..));
    let (backups, others) = std::mem::take(&mut bench.effects)
        .into_iter()
        .partition(is_backup);
    bench.effects = others;
    answer(bench, |_, _| Some(Probe::Ready));
    bench.effects.extend::<Vec<Effect>>(backups);
}

/// How many backups were begun since this was asked last.
fn begun(bench: &mut Bench) -> usize {
    let before = bench.effects.len();
    bench
        .effects
        .retain(|effect| !matches!(effect, Effect::BackUp(..)));
    before - bench.effects.len()
}

fn made() -> Event {
    Event::BackedUp(
        BackupFor::Schedule,
        Ok(BackedUp {
            name: "p-1".to_owned(),
            removed: vec!["p-0".to_owned()],
        }),
    )
}

#[test]
fn one_is_begun_when_it_is_due_and_the_next_only_after_it() {
    let mut bench = scheduled(AT_THREE);
    at(&mut bench, 2);
    assert_eq!(begun(&mut bench), 0);
    assert!(bench.core.wake_at() <= Mono(Duration::from_secs(3 * HOUR)));
    at(&mut bench, 3);
    assert_eq!(begun(&mut bench), 1);
    at(&mut bench, 30);
    assert_eq!(begun(&mut bench), 0, "one goes on");
    bench.on(made());
    assert_eq!(begun(&mut bench), 0, "what was missed meanwhile is over");
    at(&mut bench, 51);
    assert_eq!(begun(&mut bench), 1);
}

#[test]
fn what_was_missed_is_made_up_for_once_also_by_another_daemon() {
    let bench = scheduled(AT_THREE);
    let mut next = Bench::new(bench.core.stored().clone(), Duty::Supervise);
    next.seen = bench.seen.clone();
    next.now = Duration::from_secs(10 * 24 * HOUR);
    next.settle();
    assert_eq!(begun(&mut next), 0, "its database was not asked yet");
    answer_but_backups(&mut next);
    next.settle();
    assert_eq!(begun(&mut next), 1);
    next.on(made());
    next.settle();
    assert_eq!(begun(&mut next), 0);
}

#[test]
fn none_is_begun_of_a_database_that_is_migrated_in_part() {
    let bench = scheduled(AT_THREE);
    let mut stored = bench.core.stored().clone();
    stored.backups.upgrades.upgrading = Some(Upgrading::default());
    let mut next = go_on_with(
        &Bench {
            core: Bench::new(stored, Duty::Supervise).core,
            ..bench
        },
        AT_THREE,
    );
    at(&mut next, 10);
    assert_eq!(begun(&mut next), 0);
}

#[test]
fn a_failure_is_told_until_one_succeeds() {
    let mut bench = scheduled(AT_THREE);
    let note = Note::BackupFailed {
        why: "the disk is full".to_owned(),
    };
    let notes = |bench: &Bench| bench.core.status(Mono(bench.now)).notes;
    at(&mut bench, 3);
    bench.on(Event::BackedUp(
        BackupFor::Schedule,
        Err("the disk is full".to_owned()),
    ));
    assert!(notes(&bench).contains(&note));
    at(&mut bench, 4);
    assert_eq!(
        begun(&mut bench),
        1,
        "the first one alone: no storm of tries"
    );
    at(&mut bench, 27);
    assert_eq!(begun(&mut bench), 1);
    assert!(notes(&bench).contains(&note));
    bench.on(made());
    assert!(!notes(&bench).contains(&note));
}

#[test]
fn nothing_is_backed_up_that_is_not_wished_to_run_or_is_being_restored() {
    let mut bench = scheduled(AT_THREE);
    let begin = octo_local::daemon::message::RestoreStep::Begin {
        set: "one".to_owned(),
        keep_as: Some("1".to_owned()),
    };
    bench.ask(Request::Restore(begin, None));
    at(&mut bench, 3);
    assert_eq!(begun(&mut bench), 0);
    let mut bench = scheduled(AT_THREE);
    bench.ask(down(false));
    at(&mut bench, 3);
    assert_eq!(begun(&mut bench), 0);
}

#[test]
fn a_schedule_that_is_changed_or_taken_away_counts_from_then() {
    let mut bench = scheduled(AT_THREE);
    at(&mut bench, 2);
    let mut bench = go_on_with(&bench, "0 5 * * *");
    at(&mut bench, 4);
    assert_eq!(begun(&mut bench), 0);
    at(&mut bench, 5);
    assert_eq!(begun(&mut bench), 1);
    bench.on(made());
    let mut bench = go_on_with(&bench, "");
    at(&mut bench, 100);
    assert_eq!(begun(&mut bench), 0);
    assert_eq!(bench.core.stored().backups.schedule.pattern, "");
}
