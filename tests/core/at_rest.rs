//! A stack that is well costs little: its units are asked together with the look at the engine, and
//! one more good answer is nothing to decide by.

use std::time::Duration;

use octo_local::daemon::message::Effect;
use octo_local::reconcile::Mono;
use octo_local::reconcile::health::Miss;
use octo_local::reconcile::health::Probe;
use octo_local::spec::UnitId;

use super::Bench;
use super::known::answer;
use super::known::ready_with;

/// What was asked in a minute, and at how many times.
struct Minute {
    probes: usize,
    looks: usize,
    wakes: usize,
}

/// SQL Server and four nodes, of which each first answered at a time of its own.
fn well() -> Bench {
    let mut bench = ready_with(&[("OCTOPUS_NODES", "4")]);
    let mut begun = 0;
    while begun < 12 {
        begun += 1;
        bench.now += Duration::from_millis(370);
        bench.settle();
        let unit = UnitId::Node(1 + begun % 4);
        answer(&mut bench, |of, _| (of == unit).then_some(Probe::Ready));
    }
    answer(&mut bench, |_, _| Some(Probe::Ready));
    bench
}

fn minute(bench: &mut Bench) -> Minute {
    let (until, looks) = (bench.now + Duration::from_secs(60), bench.looks.len());
    let (mut probes, mut wakes) = (0, 0);
    loop {
        // The engine and the units take a while.
        let wake = bench.core.wake_at().0;
        bench.now = wake.max(bench.now + Duration::from_millis(1));
        if bench.now >= until {
            break;
        }
        wakes += 1;
        bench.settle();
        bench.now += Duration::from_millis(3);
        probes += answer(bench, |_, _| Some(Probe::Ready));
    }
    Minute {
        probes,
        looks: bench.looks.len() - looks,
        wakes,
    }
}

#[test]
fn units_that_are_well_are_asked_together_with_the_look_at_the_engine() {
    let mut bench = well();
    minute(&mut bench);
    let calm = minute(&mut bench);
    assert!((55..=65).contains(&calm.probes), "{} probes", calm.probes);
    assert!((11..=13).contains(&calm.looks), "{} looks", calm.looks);
    assert!(calm.wakes <= 14, "{} wake-ups", calm.wakes);
}

#[test]
fn one_more_good_answer_is_nothing_to_decide_by_and_anything_else_is() {
    let mut bench = well();
    minute(&mut bench);
    bench.now = bench.core.wake_at().0;
    bench.settle();
    let has_to_decide = |bench: &Bench| bench.core.has_to_decide(Mono(bench.now));
    let is_probe = |effect: &&Effect| matches!(effect, Effect::Probe { .. });
    assert_eq!(bench.effects.iter().filter(is_probe).count(), 5);
    assert!(!has_to_decide(&bench));
    let asked = bench.effects.clone();
    let mut told = asked.iter().filter_map(|effect| match effect {
        Effect::Probe {
            number,
            unit,
            instance,
            ..
        } => Some((*number, *unit, instance.clone())),
        _ => None,
    });
    let mut absorb = |bench: &mut Bench, probe: Probe| {
        let (number, unit, instance) = told.next().unwrap();
        let event = octo_local::daemon::message::Event::Probed {
            number,
            unit,
            instance,
            probe,
        };
        bench.core.absorb(event, super::moment(bench.now));
        has_to_decide(bench)
    };
    assert!(!absorb(&mut bench, Probe::Ready));
    assert!(!absorb(&mut bench, Probe::Ready));
    let gone = Probe::Failure(Miss::Gone, "refused".to_owned());
    assert!(absorb(&mut bench, gone), "it is asked again, and soon");
    assert!(
        absorb(&mut bench, Probe::Ready),
        "beside one that fails every answer counts"
    );
}
