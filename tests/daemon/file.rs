//! The state file: damaged, of a newer form, gone; a state directory that cannot be written.

use octo_local::daemon::store::FORM;
use rustix::process::Signal;

use super::attended;
use crate::kit::process::wait_until;

#[test]
fn f18_a_damaged_state_file_is_set_aside_and_nothing_moves() {
    let (stack, daemon) = attended("damaged", 2);
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
    let before = stack.started();
    let file = stack.state().join("state.json");
    let whole = std::fs::read(&file).unwrap();
    for damaged in [
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
        b"{\"form\":1}".to_vec(),
    ] {
        std::fs::write(&file, damaged).unwrap();
        let daemon = stack.spawn(&["daemon"]);
        let status = stack.wait_for("ready");
        assert!(
            status["notes"]
                .to_string()
                .contains("was damaged and set aside"),
            "{status}"
        );
        assert!(stack.state().join("state.json.corrupt").exists());
        stack.run(&["up", "--demo", "--nodes", "2"]).ok();
        daemon.signal(Signal::QUIT);
        stack.end(daemon).ok();
    }
    assert_eq!(stack.started(), before);
}

#[test]
fn f18_without_any_state_the_stack_is_known_from_its_labels_and_left_as_it_is() {
    let (stack, daemon) = attended("no-state", 1);
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
    let before = stack.started();
    std::fs::remove_file(stack.state().join("state.json.copy")).unwrap();
    std::fs::write(stack.state().join("state.json"), "damaged").unwrap();
    let daemon = stack.spawn(&["daemon"]);
    let status = wait_until("the daemon looked", || {
        let looked = |status: &serde_json::Value| status["units"].as_array().unwrap().len() == 2;
        Some(stack.status()).filter(|status| status["supervised"] == true && looked(status))
    });
    assert!(
        status["notes"]
            .to_string()
            .contains("applies the configuration anew"),
        "{status}"
    );
    assert_eq!(stack.started(), before, "what is not known is not touched");
    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert!(stack.witness.containers(&stack.label()).is_empty());
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
}

#[test]
fn f20_a_state_file_of_a_newer_octo_local_is_obeyed_and_never_written() {
    let (stack, daemon) = attended("newer", 1);
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
    let before = stack.started();
    let file = stack.state().join("state.json");
    let newer = std::fs::read_to_string(&file).unwrap().replacen(
        &format!("\"form\": {FORM}"),
        "\"form\": 99",
        1,
    );
    std::fs::write(&file, &newer).unwrap();
    let daemon = stack.spawn(&["daemon"]);
    let status = stack.wait_for("ready");
    assert!(
        status["notes"]
            .to_string()
            .contains("of a newer octo-local"),
        "{status}"
    );
    stack
        .run(&["up", "--demo"])
        .with(1)
        .says("of a newer octo-local");
    stack
        .witness
        .kill(&stack.container("octopus-server-1"), "KILL");
    wait_until("it is repaired", || {
        (stack.started() != before).then_some(())
    });
    stack.wait_for("ready");
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
}

#[test]
fn f19_a_state_directory_that_is_deleted_costs_no_supervision() {
    let (stack, daemon) = attended("deleted", 1);
    let before = stack.started();
    // Whatever the daemon writes meanwhile goes too.
    wait_until("it is gone", || std::fs::remove_dir_all(stack.state()).ok());
    stack.run(&["stop", "octopus-server-1"]).ok();
    let status = stack.status();
    assert!(
        status["notes"]
            .to_string()
            .contains("the state file cannot be written"),
        "{status}"
    );
    stack.run(&["start", "octopus-server-1"]).ok();
    assert_ne!(stack.started(), before);
    stack.run(&["up", "--demo"]).ok();
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
}

#[test]
fn f16_f17_a_stale_lock_of_another_process_and_a_stale_socket_stop_nobody() {
    let stack = crate::kit::stack::Stack::demo("stale");
    std::fs::create_dir_all(stack.state()).unwrap();
    let runtime = stack
        .state()
        .parent()
        .unwrap()
        .with_file_name("r")
        .join(&stack.name);
    std::fs::create_dir_all(&runtime).unwrap();
    // The number of a process that lives, and is no daemon: only the lock itself counts.
    std::fs::write(
        stack.state().join("daemon.lock"),
        format!("{}\n", std::process::id()),
    )
    .unwrap();
    drop(std::os::unix::net::UnixListener::bind(runtime.join("control.sock")).unwrap());
    assert_eq!(
        stack.status()["supervised"],
        false,
        "nobody listens behind the socket"
    );
    let daemon = stack.spawn(&["daemon"]);
    wait_until("the daemon answers", || {
        (stack.status()["supervised"] == true).then_some(())
    });
    daemon.signal(Signal::TERM);
    stack.end(daemon).ok();
}
