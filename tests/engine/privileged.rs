//! Docker-in-Docker needs privileged containers: they really run where the host can, and where it
//! cannot, a real stack says what to do and a demo goes on without.

use octo_local::reconcile::Cause;

use crate::kit::private::PrivateEngine;
use crate::kit::stack::Stack;

/// What a node's own log and the engine say of its privileges.
fn privileges(stack: &Stack, unit: &str) -> (bool, bool) {
    let log = stack.run(&["logs", unit]).ok().out;
    assert!(log.contains("privileged: "), "{log}");
    let inspected = stack.witness.inspect(&stack.container(unit)).unwrap();
    (
        log.contains("privileged: yes"),
        inspected.host_config.unwrap().privileged.unwrap(),
    )
}

#[test]
fn a_demo_runs_privileged_where_the_host_can() {
    let engine = PrivateEngine::start();
    let stack = Stack::demo_on(&engine, "privileged");
    stack.run(&["up", "--demo", "--nodes", "2"]).ok();
    assert_eq!(
        stack.starts(stack.since),
        ["db", "octopus-server-1", "octopus-server-2"]
    );
    for unit in ["octopus-server-1", "octopus-server-2"] {
        assert_eq!(privileges(&stack, unit), (true, true), "{unit}");
    }
    let status = stack.status();
    assert!(
        !status["notes"].to_string().contains("privileged"),
        "{status}"
    );
    let started = stack.started();
    stack.run(&["up", "--demo", "--nodes", "2"]).ok();
    assert_eq!(stack.started(), started, "a second `up` changes nothing");
    stack.run(&["plan", "--demo", "--nodes", "2"]).with(0);
    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
}

#[test]
fn a_real_configuration_with_docker_in_docker_runs_privileged() {
    let engine = PrivateEngine::start();
    let stack = Stack::real_on(&engine, "dind");
    stack.unset("DISABLE_DIND");
    stack.run(&["up"]).ok();
    assert_eq!(privileges(&stack, "octopus-server-1"), (true, true));
    stack.set("DISABLE_DIND", "Y");
    stack.run(&["up"]).ok().says("privileged");
    assert_eq!(
        privileges(&stack, "octopus-server-1"),
        (false, false),
        "without Docker-in-Docker no privileges are taken"
    );
}

#[test]
fn a_host_without_privileges_is_a_named_cause_and_the_fix_mends_it() {
    let engine = PrivateEngine::that_refuses_privileges();
    let stack = Stack::real_on(&engine, "refused");
    stack.unset("DISABLE_DIND");
    let cause = Cause::PrivilegedRefused;
    stack
        .run(&["up"])
        .with(1)
        .says(cause.title())
        .says(&format!("octopus-server-1: {}", cause.fix()));
    let seen = stack.unit("octopus-server-1");
    assert_eq!(
        (&seen["cause"], &seen["phase"]),
        (&"PrivilegedRefused".into(), &"failed".into()),
        "{seen}"
    );
    assert_eq!(
        stack.unit("db")["phase"],
        "ready",
        "SQL Server needs no privileges"
    );
    stack.set("DISABLE_DIND", "Y");
    stack.run(&["up"]).ok();
    assert_eq!(privileges(&stack, "octopus-server-1"), (false, false));
}

#[test]
fn a_demo_on_a_host_without_privileges_goes_on_and_remembers() {
    let engine = PrivateEngine::that_refuses_privileges();
    let stack = Stack::demo_on(&engine, "demo-refused");
    stack.set("OCTOPUS_NODES", "2");
    stack
        .run(&["up", "--demo"])
        .ok()
        .says("the demo goes on without");
    for unit in ["octopus-server-1", "octopus-server-2"] {
        assert_eq!(privileges(&stack, unit), (false, false), "{unit}");
    }
    let started = stack.started();
    stack.run(&["up", "--demo"]).ok();
    assert_eq!(stack.started(), started, "it is not tried again");
    stack.kill_daemon();
    stack.run(&["up", "--demo"]).ok();
    assert_eq!(stack.started(), started, "the next daemon remembers too");
    stack.run(&["down"]).ok();
    let since = stack.witness.now();
    stack.run(&["up", "--demo"]).ok();
    let created: Vec<String> = stack
        .events(since)
        .into_iter()
        .filter(|told| told.action == "create")
        .map(|told| told.name)
        .collect();
    assert_eq!(
        created.len(),
        3,
        "nothing is made only to be refused: {created:?}"
    );
}
