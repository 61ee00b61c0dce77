//! What a reference to an image stands for, and an upgrade that fails.

use octo_local::reconcile::Cause;

use crate::kit::images::Images;
use crate::kit::images::ScratchImage;
use crate::kit::images::TAGS;
use crate::kit::process::PROGRAM;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

#[test]
fn f43_a_tag_that_moves_is_shown_and_changes_nothing_before_the_next_up() {
    let stack = Stack::real("moved-tag");
    let name = format!("{}-moving:1", stack.name);
    let moving = ScratchImage::tagged(&Images::sql(), &name);
    stack.set("SQL_IMAGE", &name);
    stack.run(&["up"]).ok();
    let image_of = || {
        stack
            .witness
            .inspect(&stack.container("db"))
            .and_then(|db| db.image)
    };
    let (before, first) = (stack.started(), image_of());

    // Another build of the same program: only its end differs.
    let mut program = std::fs::read(PROGRAM).unwrap();
    program.extend_from_slice(b"another build");
    let other = ScratchImage::of_program(&program);
    let _moved = ScratchImage::tagged(other.name(), &name);
    wait_until("the status says so", || {
        stack.status()["notes"]
            .to_string()
            .contains("stands for another image now")
            .then_some(())
    });
    stack.run(&["plan"]).with(2);
    assert_eq!(stack.started(), before, "nothing moves unasked");

    stack.witness.remove(&stack.container("db"));
    wait_until("the container is made anew", || {
        (image_of().is_some() && image_of() == first).then_some(())
    });
    stack.wait_for("ready");
    assert_eq!(
        image_of(),
        first,
        "what is made anew between two `up`s is of the image that ran"
    );

    stack.run(&["up"]).ok().says("stands for another image now");
    assert_ne!(image_of(), first);
    stack.run(&["plan"]).with(0);
    stack.run(&["down", "--volumes", "--yes"]).ok();
    drop(moving);
}

#[test]
fn f54_an_upgrade_that_fails_stops_at_the_first_node() {
    let stack = Stack::real("bad-upgrade");
    for (key, value) in [
        ("OCTOPUS_NODES", "3"),
        ("RESTART_BACKOFF_FIRST", "10ms"),
        ("RESTART_BACKOFF_MAX", "50ms"),
    ] {
        stack.set(key, value);
    }
    stack.run(&["up"]).ok();
    stack.set("OCTOPUS_SERVER_TAG", TAGS[1]);
    stack.set("STANDIN_OCTOPUS_FAULT", "crash-at-start");
    let since = stack.witness.now();
    stack
        .run(&["up"])
        .with(1)
        .says(&format!("octopus-server-1: {}", Cause::Crashed.fix()));
    let starts = stack.starts(since);
    assert!(
        starts.len() == 5 && starts.iter().all(|unit| unit == "octopus-server-1"),
        "{starts:?}"
    );
    assert_eq!(stack.unit("octopus-server-1")["cause"], "Crashed");
    stack.set("OCTOPUS_SERVER_TAG", TAGS[0]);
    stack
        .run(&["up"])
        .with(78)
        .says("a database cannot go back");
    stack.set("OCTOPUS_SERVER_TAG", TAGS[1]);
    stack.unset("STANDIN_OCTOPUS_FAULT");
    stack.run(&["up"]).ok();
    assert_eq!(
        stack
            .starts(since)
            .iter()
            .filter(|unit| *unit == "octopus-server-3")
            .count(),
        1
    );
}

#[test]
fn pull_always_fetches_at_every_up_and_uses_what_is_there_when_it_cannot() {
    let stack = Stack::real("pull-always");
    stack.run(&["up"]).ok();
    let before = stack.started();
    stack.run(&["up", "--pull", "always"]).ok();
    assert_eq!(
        stack.started(),
        before,
        "an image that cannot be fetched again is used as it is"
    );
    let said = stack.run(&["events"]).ok().out;
    assert!(
        said.contains("could not be fetched again and is used as it is"),
        "{said}"
    );
    stack.run(&["up"]).ok();
    assert_eq!(stack.started(), before);
}

#[test]
fn a_tag_that_does_not_exist_costs_no_running_stack() {
    let stack = Stack::real("no-such-tag");
    stack.set("OCTOPUS_NODES", "2");
    stack.run(&["up"]).ok();
    let before = stack.started();
    stack.set("OCTOPUS_SERVER_TAG", "2027.9.9");
    stack.run(&["up"]).with(1).says(Cause::ImageMissing.fix());
    assert_eq!(stack.started(), before, "what cannot be replaced goes on");
    stack.set("OCTOPUS_SERVER_TAG", TAGS[0]);
    stack.run(&["up"]).ok();
    assert_eq!(stack.started(), before);
}
