//! The `.env` as it is now and as it was applied; commands that must work whatever it is; a
//! directory of the same name.

use std::process::Command;

use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;

/// A real stack's project whose servers start at once.
fn quick(name: &str) -> Stack {
    let stack = Stack::real(name);
    for key in [
        "STANDIN_SQL_START_DELAY_MS",
        "STANDIN_SQL_LOGIN_DELAY_MS",
        "STANDIN_OCTOPUS_MIGRATE_MS",
    ] {
        stack.set(key, "0");
    }
    stack
}

fn told(stack: &Stack) -> String {
    let table = stack.run(&["status"]).ok().out;
    table
        .lines()
        .find(|line| line.starts_with("drift"))
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn status_names_what_the_env_says_otherwise_than_what_is_applied() {
    let stack = quick("cli-drift");
    stack.run(&["up"]).ok();
    assert_eq!(stack.status()["drift"]["keys"], serde_json::json!([]));
    assert_eq!(told(&stack), "");
    stack.set("SA_PASSWORD", "An0ther-of-octo-local");
    stack.secret("An0ther-of-octo-local");
    stack.set("TASK_CAP", "7");
    stack.set("NOTHING_OF_OURS", "x");
    assert_eq!(
        stack.status()["drift"]["keys"],
        serde_json::json!(["SA_PASSWORD", "TASK_CAP"])
    );
    assert!(
        told(&stack).starts_with("drift: SA_PASSWORD, TASK_CAP: "),
        "{}",
        told(&stack)
    );
    stack.set("SA_PASSWORD", SA_PASSWORD);
    stack.set("OCTOPUS_PORT", "no port");
    assert!(
        told(&stack).contains("OCTOPUS_PORT cannot be applied"),
        "{}",
        told(&stack)
    );
    broken(&stack);
    other_directory(&stack);
}

/// A `.env` with a mistake, then none at all.
fn broken(stack: &Stack) {
    let path = stack.dir().join(".env");
    std::fs::write(&path, "A=1\nNOT A LINE\n").unwrap();
    let line = told(stack);
    assert!(
        line.contains(".env: line 2") && line.contains("what was applied goes on"),
        "{line}"
    );
    assert!(stack.status()["drift"]["problem"].is_string());
    let logs = stack.run(&["logs", "-n", "1", "db"]).ok();
    assert_eq!(logs.out.lines().count() + logs.err.lines().count(), 1);
    stack.run(&["events"]).ok();
    stack.run(&["explain"]).ok();
    stack.run(&["up"]).with(78).says(".env: line 2");
    std::fs::remove_file(&path).unwrap();
    assert!(told(stack).contains("there is no .env"), "{}", told(stack));
    std::fs::write(&path, "A='open\n").unwrap();
    stack.run(&["stop", "octopus-server-1"]).ok();
    stack.run(&["start"]).ok();
}

/// Another directory of the same name: nothing is touched from there unless the name is given on
/// purpose.
fn other_directory(stack: &Stack) {
    let other = stack.dir().join(&stack.name);
    std::fs::create_dir(&other).unwrap();
    let from_there = |words: &[&str]| {
        let mut command: Command = stack.command(words);
        stack.end(crate::kit::process::Running::spawn(
            command.current_dir(&other),
        ))
    };
    let before = stack.started();
    for words in [
        &["down"][..],
        &["down", "-v", "--yes"],
        &["stop", "db"],
        &["restart"],
    ] {
        from_there(words)
            .with(78)
            .says(&format!("-p {}", stack.name));
    }
    from_there(&["up", "--demo"]).with(78).says("made from");
    assert!(from_there(&["status"]).ok().out.contains("not from here"));
    assert_eq!(stack.started(), before);
    from_there(&[
        "-p",
        &stack.name,
        "down",
        "-t",
        "5",
        "-v",
        "--yes",
        "--remove-orphans",
    ])
    .ok();
    assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
}
