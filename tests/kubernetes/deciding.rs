//! Single decisions that a simulation would only come to by a rare chance, or that others make good.

use std::collections::BTreeSet;
use std::time::Duration;

use octo_local::kubernetes::Record;
use octo_local::kubernetes::Seen;
use octo_local::kubernetes::Stage;
use octo_local::kubernetes::handover;
use octo_local::kubernetes::handover::Handover;
use octo_local::kubernetes::handover::Here;
use octo_local::kubernetes::nodes::Wait;
use octo_local::kubernetes::nodes::fault;
use octo_local::kubernetes::record::FORM;
use octo_local::kubernetes::seen::Life;
use octo_local::kubernetes::seen::Pod;
use octo_local::kubernetes::upgrade;
use octo_local::kubernetes::upgrade::Known;
use octo_local::kubernetes::upgrade::Step;
use octo_local::kubernetes::upgrade::Stuck;

use super::model::Cluster;
use super::model::Nature;
use super::model::image;

const WELL: Nature = Nature {
    is_parallel: false,
    undrains_itself: true,
    broken: None,
    missing: None,
};

fn record(stage: Stage) -> Record {
    Record {
        form: FORM,
        from: image(1),
        to: image(2),
        nodes: 2,
        database: Some("Octopus".to_owned()),
        stage,
    }
}

fn next(stage: Stage, seen: &Seen) -> Result<Step, Stuck> {
    upgrade::next(&record(stage), seen, Known::default())
}

#[test]
fn a_backup_counts_only_while_nothing_was_wished_since() {
    let empty = Cluster::empty(WELL).seen();
    let backed_up = |generation| Stage::BackedUp {
        file: "/b".to_owned(),
        generation,
    };
    let generation = empty.set.generation;
    let step = next(backed_up(generation), &empty).unwrap();
    assert!(matches!(step, Step::Change { .. }), "{step:?}");
    // Scaled up and down again: a node may have run.
    let again = Step::Keep(Box::new(record(Stage::Ending)));
    assert_eq!(next(backed_up(generation - 2), &empty).unwrap(), again);
    let mut running = Cluster::serving(WELL, 1).seen();
    running.set.generation = generation;
    assert_eq!(next(backed_up(generation), &running).unwrap(), again);
}

#[test]
fn no_node_starts_before_the_controller_has_taken_the_new_image() {
    let mut cluster = Cluster::empty(WELL);
    cluster.template = 2;
    cluster.update = 2;
    let changed = || Stage::Changed {
        file: Some("/b".to_owned()),
    };
    let step = next(changed(), &cluster.seen()).unwrap();
    assert_eq!(step, Step::Wait(Wait::Revision));
    cluster.observed -= 1;
    let step = next(changed(), &cluster.seen()).unwrap();
    assert_eq!(step, Step::Wait(Wait::Controller));
    cluster.observed += 1;
    cluster.current = 2;
    assert_eq!(next(changed(), &cluster.seen()).unwrap(), Step::Scale(1));
    // Somebody applied the old manifests.
    cluster.template = 1;
    let stuck = next(changed(), &cluster.seen()).unwrap_err();
    assert!(matches!(stuck, Stuck::OtherImage { .. }), "{stuck}");
}

#[test]
fn nothing_is_taken_away_while_a_pod_ends_that_the_list_does_not_have() {
    let mut cluster = Cluster::empty(WELL);
    cluster.existing = 1;
    let step = next(Stage::Ending, &cluster.seen()).unwrap();
    assert_eq!(step, Step::Wait(Wait::Ending { pods: Vec::new() }));
    cluster.existing = 0;
    assert_eq!(next(Stage::Ending, &cluster.seen()).unwrap(), Step::BackUp);
}

#[test]
fn a_node_that_runs_is_never_judged() {
    let long = Duration::from_secs(86_400);
    let of = |life: Life, restarts| Pod {
        life,
        restarts,
        ..Pod::default()
    };
    let running = || Life::Running { is_started: false };
    for life in [
        running(),
        Life::Unknown,
        Life::Unplaced {
            why: "no room".to_owned(),
        },
    ] {
        assert_eq!(fault(&of(life, 0), long), None);
    }
    // Restarted by its own probe after half an hour, and changing the database again.
    assert_eq!(fault(&of(running(), 2), long), None);
    let waiting = |reason: &str| Life::Waiting {
        reason: reason.to_owned(),
        message: "words".to_owned(),
    };
    // A registry that is away for a moment is no reason to go back.
    let pull = of(waiting("ImagePullBackOff"), 0);
    assert_eq!(fault(&pull, Duration::from_secs(20)), None);
    assert_eq!(
        fault(&pull, long).as_deref(),
        Some("ImagePullBackOff: words")
    );
    assert_eq!(fault(&of(waiting("ContainerCreating"), 0), long), None);
    assert_eq!(fault(&of(waiting("CrashLoopBackOff"), 1), long), None);
    assert!(fault(&of(waiting("CrashLoopBackOff"), 3), Duration::ZERO).is_some());
}

#[test]
fn what_runs_on_both_sides_stops_a_handover() {
    let kept = Handover {
        form: handover::FORM,
        stage: handover::Stage::Alone,
        context: None,
        namespace: "octo".to_owned(),
        image: image(1),
        nodes: 2,
        old_names: Vec::new(),
        database: "Octopus".to_owned(),
        set: Some("set".to_owned()),
        copied: BTreeSet::new(),
    };
    let here = Here {
        nodes_run: false,
        is_there: true,
    };
    let there = Cluster::serving(WELL, 1).seen();
    let next = |kept: &Handover, here, seen: &Seen| {
        handover::next(kept, here, seen, false, Duration::ZERO)
    };
    assert_eq!(next(&kept, here, &there), Err(handover::Stuck::RunsHere));
    let before = Handover {
        stage: handover::Stage::Restoring,
        ..kept
    };
    let stuck = next(&before, Here::default(), &there).unwrap_err();
    assert!(matches!(stuck, handover::Stuck::RunsThere(_)), "{stuck}");
    // A node here that was started again wrote what no set has.
    let empty = Cluster::empty(WELL).seen();
    let again = Here {
        nodes_run: true,
        is_there: true,
    };
    assert_eq!(next(&before, again, &empty), Ok(handover::Step::BeginAgain));
    let begun = before.again();
    assert_eq!((begun.set, begun.stage), (None, handover::Stage::Leaving));
}

#[test]
fn tags_become_images_of_the_same_repository_and_flavour() {
    let to = |from: &str, tag: &str| upgrade::target(from, tag).map_err(|(why, _)| why);
    let ok = |from: &str, tag: &str| to(from, tag).unwrap();
    assert_eq!(ok("o/o:2026.1.1", "2026.2.7"), "o/o:2026.2.7");
    assert_eq!(ok("r:5000/o/o:2026.1.1", "2026.2.7"), "r:5000/o/o:2026.2.7");
    assert_eq!(ok("o/o:1.0.0@sha256:00", "1.0.1"), "o/o:1.0.1");
    assert_eq!(ok("o/o:1.0.0-hardened", "1.0.1"), "o/o:1.0.1-hardened");
    assert_eq!(ok("o/o:2026.9.1", "2026.10.1"), "o/o:2026.10.1");
    assert!(
        to("o/o:2026.10.1", "2026.9.1")
            .unwrap_err()
            .contains("older")
    );
    assert!(
        to("o/o:1.0.0", "1.0.1-hardened")
            .unwrap_err()
            .contains("without a shell")
    );
    assert!(to("o/o:1.0.0", "no tag").unwrap_err().contains("no tag"));
}
