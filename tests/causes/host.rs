//! Causes that lie in the host or the engine: most are over by themselves as soon as the host is
//! well again.

use std::net::TcpListener;

use bollard::models::ContainerUpdateBody;
use octo_local::reconcile::Cause;
use rustix::process::Signal;

use super::fails;
use super::hasty;
use super::stays;
use super::tells;
use crate::kit::foreign::Foreign;
use crate::kit::images::Images;
use crate::kit::images::ScratchImage;
use crate::kit::images::TAGS;

#[test]
fn a_port_that_was_stolen_is_waited_for_and_its_holder_named() {
    let stack = hasty("port-taken");
    stack.set("OCTOPUS_NODES", "2");
    stack.run(&["up"]).ok();
    let before = stack.started();
    stack.run(&["stop", "octopus-server-2"]).ok();
    let thief = TcpListener::bind(("127.0.0.1", stack.port("octopus-server-2"))).unwrap();
    stack
        .run(&["start", "octopus-server-2"])
        .with(1)
        .says(&format!("({}) has it", std::process::id()));
    tells(stack.run(&["up"]), "octopus-server-2", Cause::PortTaken, "");
    stays(&stack, "octopus-server-2", Cause::PortTaken);
    assert_eq!(
        stack.unit("octopus-server-1")["phase"],
        "ready",
        "the other node serves on"
    );
    drop(thief);
    stack.wait_for("ready");
    let after = stack.started();
    for unit in ["db", "octopus-server-1"] {
        assert_eq!(
            before[&stack.container(unit)],
            after[&stack.container(unit)],
            "{unit} was spared"
        );
    }
}

#[test]
fn a_missing_image_is_waited_for() {
    let stack = hasty("image-missing");
    stack.set("PULL", "never");
    stack.set("OCTOPUS_SERVER_TAG", "2026.3.1");
    let ended = stack.run(&["up"]);
    let image = format!("image {}:2026.3.1", Images::octopus());
    tells(ended, &image, Cause::ImageMissing, "");
    let seen = stack.unit("octopus-server-1");
    assert_eq!(
        (&seen["cause"], &seen["phase"]),
        (&"ImageMissing".into(), &"absent".into()),
        "{seen}"
    );
    stack.wait_for_unit("db", "ready");
    let _image = ScratchImage::tagged(
        &format!("{}:{}", Images::octopus(), TAGS[0]),
        &format!("{}:2026.3.1", Images::octopus()),
    );
    stack.wait_for("ready");
}

#[test]
fn a_program_for_another_processor_is_not_tried_again() {
    let stack = hasty("processor");
    let image = ScratchImage::of_program(b"\x7fELF\x02\x01\x01 for some other processor");
    let right = Images::sql();
    stack.set("SQL_IMAGE", image.name());
    fails(&stack, "db", Cause::WrongArchitecture, "exec format error");
    stack.set("SQL_IMAGE", &right);
    stack.run(&["up"]).ok();
}

#[test]
fn a_name_that_somebody_else_took_is_not_fought_for() {
    let stack = hasty("name-taken");
    stack.run(&["up"]).ok();
    stack.signal_daemon(Signal::STOP);
    stack.witness.remove(&stack.container("octopus-server-1"));
    let foreign = Foreign::named(&stack, &stack.container("octopus-server-1"));
    stack.signal_daemon(Signal::CONT);
    stack.wait_for_unit("octopus-server-1", "failed");
    stays(&stack, "octopus-server-1", Cause::NameTaken);
    assert_eq!(stack.unit("db")["phase"], "ready", "SQL Server serves on");
    tells(stack.run(&["up"]), "octopus-server-1", Cause::NameTaken, "");
    drop(foreign);
    stack.run(&["up"]).ok();
}

#[test]
fn f47_a_node_that_the_kernel_kills_for_memory_is_named_and_tried_again() {
    let stack = hasty("oom");
    stack.set("STANDIN_SQL_START_DELAY_MS", "1500");
    stack.set("STANDIN_OCTOPUS_FAULT", "oom=400");
    let up = stack.spawn(&["up"]);
    let node = stack.container("octopus-server-1");
    crate::kit::process::wait_until("the node waits for its turn", || {
        stack.witness.inspect(&node)
    });
    let limit = Some(64 * 1024 * 1024);
    let body = ContainerUpdateBody {
        memory: limit,
        memory_swap: limit,
        ..ContainerUpdateBody::default()
    };
    stack
        .witness
        .wait(stack.witness.docker().update_container(&node, body))
        .unwrap();
    tells(stack.end(up), "octopus-server-1", Cause::OutOfMemory, "");
    assert_eq!(stack.unit("octopus-server-1")["cause"], "OutOfMemory");
    assert!(
        stack.unit("octopus-server-1")["restarts"].as_u64().unwrap() > 0,
        "memory may be there the next time"
    );
}
