//! `up`: the order of starts, and doing nothing when nothing is to be done.

use crate::kit::stack::Stack;

const UNITS: [&str; 4] = [
    "db",
    "octopus-server-1",
    "octopus-server-2",
    "octopus-server-3",
];

#[test]
fn a_demo_starts_one_unit_after_another_and_a_second_up_does_nothing() {
    let stack = Stack::demo("order");
    stack.run(&["up", "--demo", "--nodes", "3"]).ok();
    assert_eq!(stack.starts(stack.since), UNITS);
    stack.assert_gated(stack.since, &UNITS);
    for pair in UNITS.windows(2) {
        let created = stack.told_at(stack.since, "create", pair[1]);
        assert!(
            created < stack.ready_at(pair[0]),
            "{} is created while {} starts",
            pair[1],
            pair[0]
        );
    }
    stack.assert_no_violation();
    let as_compose = stack
        .witness
        .containers(&format!("com.docker.compose.project={}", stack.name));
    assert_eq!(
        as_compose,
        UNITS.map(|unit| stack.container(unit)),
        "other tools see the stack"
    );
    let started = stack.started();
    stack.run(&["up", "--demo", "--nodes", "3"]).ok();
    stack.assert_moved(&started, &[]);
}

#[test]
fn a_real_configuration_on_stand_in_images_starts_in_order() {
    let stack = Stack::real("real");
    stack.set("OCTOPUS_NODES", "2");
    stack.run(&["up"]).ok();
    assert_eq!(stack.starts(stack.since), UNITS[..3]);
    stack.assert_gated(stack.since, &UNITS[..3]);
    stack.run(&["plan"]).with(0);
}
