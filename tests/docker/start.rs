//! `up`: the order of starts, doing nothing when nothing is to be done, and `down`.

use crate::kit::stack::Stack;

#[test]
fn a_demo_starts_in_order_and_goes_without_a_trace() {
    let stack = Stack::demo("order");
    stack.run(&["up", "--demo", "--nodes", "3"]).ok();
    assert_eq!(stack.starts(stack.since), ["db", "octopus-server-1", "octopus-server-2", "octopus-server-3"]);
    let started = stack.started();
    stack.run(&["up", "--demo", "--nodes", "3"]).ok();
    assert_eq!(stack.started(), started, "a second `up` changes nothing");
    stack.run(&["down"]).ok();
    assert_eq!(stack.witness.containers(&stack.label()), Vec::<String>::new());
    assert_eq!(stack.witness.networks(&stack.label()), Vec::<String>::new());
    assert!(!stack.witness.volumes(&stack.label()).is_empty(), "the data stays");
    assert!(stack.daemon().is_none(), "the daemon that `up` started ends");
    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
}

#[test]
fn a_real_configuration_on_stand_in_images_starts_in_order() {
    let stack = Stack::real("real");
    stack.set("OCTOPUS_NODES", "2");
    stack.run(&["up"]).ok();
    assert_eq!(stack.starts(stack.since), ["db", "octopus-server-1", "octopus-server-2"]);
    stack.run(&["plan"]).with(0);
    stack.run(&["down", "-v", "--yes"]).ok();
}

#[test]
fn an_edited_env_recreates_only_what_differs_and_only_when_asked() {
    let stack = Stack::real("edit");
    stack.set("OCTOPUS_NODES", "2");
    stack.set("TASK_CAP", "7");
    stack.run(&["up"]).ok();
    let before = stack.started();
    stack.unset("TASK_CAP");
    stack.run(&["plan"]).with(2);
    assert_eq!(stack.started(), before, "an edited file changes nothing by itself");
    stack.run(&["up"]).ok().says("TASK_CAP removed");
    let after = stack.started();
    assert_eq!(before[&stack.container("db")], after[&stack.container("db")]);
    assert_ne!(before[&stack.container("octopus-server-1")], after[&stack.container("octopus-server-1")]);
    stack.run(&["plan"]).with(0);
}
