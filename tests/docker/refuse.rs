//! What would destroy or strand data, or touch what is somebody else's, is refused with 78 before
//! anything is touched.

use std::os::unix::fs::PermissionsExt as _;

use super::quick;
use super::running;
use crate::kit::foreign::Foreign;
use crate::kit::process::Ended;
use crate::kit::process::Running;
use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";

/// The command is refused for these words, and nothing of the stack moves.
#[track_caller]
fn refuses(stack: &Stack, words: &[&str], why: &str) {
    let (before, volumes) = (stack.started(), stack.witness.volumes(&stack.label()));
    stack.run(words).with(78).says(why);
    stack.assert_moved(&before, &[]);
    assert_eq!(stack.witness.volumes(&stack.label()), volumes);
}

#[test]
fn a_container_of_somebody_else_with_our_name_is_refused_and_not_touched() {
    let stack = quick("foreign-name", 1);
    let foreign = Foreign::named(&stack, &stack.container(NODE_1));
    stack.witness.start(foreign.name());
    let started = stack.witness.started_at(foreign.name());
    refuses(&stack, &["up"], foreign.name());
    refuses(&stack, &["plan"], foreign.name());
    let told = stack.run(&["status"]).ok().out;
    assert!(told.contains("not octo-local's to look after"), "{told}");
    assert!(told.contains(foreign.name()), "{told}");
    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert_eq!(
        (foreign.runs(), stack.witness.started_at(foreign.name())),
        (true, started)
    );
    assert_eq!(
        stack.witness.networks(&stack.label()),
        Vec::<String>::new(),
        "nothing was made"
    );
    drop(foreign);
    stack.run(&["up"]).ok();
}

/// Fault 64: two servers on one volume destroy it.
#[test]
fn f64_company_on_the_data_volume_is_refused_and_not_touched() {
    let stack = running("foreign-volume", 1);
    stack.run(&["down"]).ok();
    let foreign = Foreign::sql_on(&stack, "sql-data");
    refuses(&stack, &["up"], foreign.name());
    assert!(foreign.runs());
    drop(foreign);
    stack.run(&["up"]).ok();
}

#[test]
fn a_user_that_may_not_write_the_volumes_is_refused_while_nodes_serve() {
    let stack = quick("user", 2);
    stack.set("DISABLE_DIND", "Y");
    stack.run(&["up"]).ok();
    stack.set("CONTAINER_USER", "1000:1000");
    let why = "1000:1000, uid 1000, may not write what is there already: ";
    refuses(&stack, &["plan"], why);
    refuses(&stack, &["up"], why);
    assert_eq!(stack.status()["verdict"], "ready");
    stack.set("CONTAINER_USER", "root");
    stack.run(&["up"]).ok();

    // The same without a node that could be asked: this host shows the volumes' directories.
    stack.run(&["down"]).ok();
    stack.set("CONTAINER_USER", "1000:1000");
    refuses(&stack, &["plan"], why);
    refuses(&stack, &["up"], why);
    assert_eq!(
        stack.witness.containers(&stack.label()),
        Vec::<String>::new()
    );
}

/// The program in another directory of the same name.
fn elsewhere(stack: &Stack, words: &[&str]) -> Ended {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join(&stack.name);
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(stack.dir().join(".env"), dir.join(".env")).unwrap();
    stack.end(Running::spawn(stack.command(words).current_dir(&dir)))
}

#[test]
fn another_directory_of_the_same_name_is_refused_unless_it_is_meant() {
    let stack = running("same-name", 1);
    let before = stack.started();
    let here = stack.dir().display().to_string();
    elsewhere(&stack, &["plan"]).with(78).says(&here);
    elsewhere(&stack, &["up"]).with(78).says(&here);
    stack.kill_daemon();
    elsewhere(&stack, &["up"]).with(78).says(&here);
    stack.assert_moved(&before, &[]);
    elsewhere(&stack, &["-p", &stack.name, "up"]).ok();
    stack.assert_moved(&before, &[]);
}

#[test]
fn a_demo_never_opens_real_data() {
    let stack = running("demo-real", 1);
    refuses(&stack, &["up", "--demo"], "real stack's data");
    stack.kill_daemon();
    refuses(&stack, &["up", "--demo"], "real stack's data");
    stack.run(&["down"]).ok();
    refuses(&stack, &["up", "--demo"], "real stack's data");
    refuses(&stack, &["plan", "--demo"], "real stack's data");
    std::fs::remove_file(stack.state().join("state.json")).unwrap();
    refuses(&stack, &["up", "--demo"], "real stack's data");
    stack.run(&["down", "-v", "--yes"]).ok();
}

#[test]
fn a_real_server_never_opens_a_demos_data() {
    let stack = quick("real-demo", 1);
    stack.run(&["up", "--demo"]).ok();
    refuses(&stack, &["up"], "demo's data");
    stack.run(&["down"]).ok();
    refuses(&stack, &["up"], "demo's data");
    stack.run(&["down", "-v", "--yes"]).ok();
    stack.run(&["up"]).ok();
}

/// Fault 61: SQL Server ignores another password once it has data, so a changed one would lock
/// everybody out.
#[test]
fn f61_a_changed_password_or_key_is_refused_and_the_key_is_made_and_kept() {
    let stack = running("secrets", 1);
    let file = stack.state().join("state.json");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let made = master_key(&stack);
    stack.secret(&made);
    assert!(
        std::fs::read_to_string(&file).unwrap().contains(&made),
        "it is kept"
    );
    stack.set("MASTER_KEY", KEY);
    refuses(&stack, &["up"], "MASTER_KEY");
    stack.unset("MASTER_KEY");
    stack.set("SA_PASSWORD", "An0ther-password");
    refuses(&stack, &["up"], "SA_PASSWORD");
    stack.run(&["down"]).ok();
    refuses(&stack, &["up"], "SA_PASSWORD");
    stack.set("SA_PASSWORD", SA_PASSWORD);
    stack.set("MASTER_KEY", KEY);
    refuses(&stack, &["up"], "MASTER_KEY");
    stack.unset("MASTER_KEY");
    stack.run(&["up"]).ok();
    assert_eq!(master_key(&stack), made, "it is kept over down and up");

    // A lost file costs nothing while its copy is whole.
    stack.kill_daemon();
    std::fs::remove_file(&file).unwrap();
    stack.run(&["down"]).ok();
    stack.run(&["up"]).ok();
    assert_eq!(master_key(&stack), made);

    // The running node still knows the key when the state is lost; once it is gone, nothing does.
    let lose = || {
        std::fs::remove_file(&file).unwrap();
        std::fs::remove_file(stack.state().join("state.json.copy")).unwrap();
    };
    stack.kill_daemon();
    lose();
    let before = stack.started();
    stack.run(&["up"]).ok();
    stack.assert_moved(&before, &[]);
    stack.run(&["down"]).ok();
    lose();
    refuses(&stack, &["up"], "nothing knows the key");
    stack.set("MASTER_KEY", &made);
    stack.run(&["up"]).ok();
}

fn master_key(stack: &Stack) -> String {
    let (code, out) = stack.witness.exec(
        &stack.container(NODE_1),
        &[
            "/Octopus/Octopus.Server",
            "show-master-key",
            "--instance",
            "OctopusServer",
            "--format=text",
        ],
    );
    assert_eq!(code, 0, "{out}");
    let key = out.trim().to_owned();
    assert_eq!(key.len(), 24, "16 bytes in base64");
    key
}
