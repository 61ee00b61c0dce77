//! Another password of `sa` on the real engine: SQL Server, the variables and the containers have it
//! together, whoever dies meanwhile.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use octo_local::config::Secret;
use octo_local::spec::DatabaseTarget;
use octo_local::sql;
use rustix::process::Signal;
use serde_json::Value;

use super::quick;
use super::running;
use crate::kit::process::Ended;
use crate::kit::process::Running;
use crate::kit::process::wait_until;
use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;

const ROTATE: [&str; 3] = ["sa-password", "rotate", "--yes"];

fn server(stack: &Stack, password: &str) -> DatabaseTarget {
    DatabaseTarget {
        host: "127.0.0.1".to_owned(),
        port: stack.port("db"),
        user: "sa".to_owned(),
        password: Secret::new(password),
        database: "OctopusDeploy".to_owned(),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn logs_in(stack: &Stack, password: &str) -> bool {
    let target = server(stack, password);
    block_on(sql::login(&target, "master", Duration::from_secs(10))).is_ok()
}

fn env_of(stack: &Stack) -> String {
    std::fs::read_to_string(stack.dir().join(".env")).unwrap()
}

fn kept(stack: &Stack) -> Value {
    let text = std::fs::read_to_string(stack.state().join("state.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["stored"].clone()
}

/// The new password, as soon as it is kept; it must be shown nowhere.
fn new_password(stack: &Stack) -> String {
    let new = wait_until("a new password is kept", || {
        kept(stack)["sa_password_change"]["to"]
            .as_str()
            .map(str::to_owned)
    });
    stack.secret(&new);
    new
}

/// All of it is true: one password, everywhere.
#[track_caller]
fn has_everywhere(stack: &Stack, new: &str) {
    assert!(logs_in(stack, new) && !logs_in(stack, SA_PASSWORD));
    assert!(env_of(stack).contains(new) && !env_of(stack).contains(SA_PASSWORD));
    let state = kept(stack);
    assert_eq!(state["sa_password"], new);
    assert!(state["sa_password_change"].is_null() && !state.to_string().contains(SA_PASSWORD));
    for unit in ["db", "octopus-server-1"] {
        let shown = stack.witness.inspect(&stack.container(unit)).unwrap();
        let environment = shown.config.unwrap().env.unwrap().join(" ");
        assert!(
            environment.contains(new) && !environment.contains(SA_PASSWORD),
            "{unit}"
        );
    }
    stack.run(&["plan"]).with(0);
    let status = stack.status();
    assert_eq!(
        (&status["verdict"], &status["notes"]),
        (&"ready".into(), &serde_json::json!([]))
    );
}

/// What standard input says.
fn given(stack: &Stack, words: &[&str], says: &str) -> Ended {
    let mut command = stack.command(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(says.as_bytes())
        .unwrap();
    stack.end(Running::of(child))
}

#[track_caller]
fn refuses_bad_passwords(stack: &Stack) {
    stack.run(&["sa-password", "rotate"]).with(64).says("--yes");
    for (weak, why) in [
        ("short\n", "fewer than 8"),
        (SA_PASSWORD, "the present one"),
        ("", "fewer than 8"),
    ] {
        given(stack, &["sa-password", "rotate", "--stdin", "--yes"], weak)
            .with(64)
            .says(why);
    }
}

#[test]
fn a_new_password_is_everywhere_and_every_other_byte_stays() {
    let stack = quick("sa-password", 2);
    stack.set("DRAIN_TIMEOUT", "20s");
    stack.run(&["up"]).ok();
    let string = "Server=db;Database=OctopusDeploy;User Id=sa;Password=\"";
    let text = format!(
        "# mine\n{}\nDB_CONNECTION_STRING='{string}{SA_PASSWORD}\"'  # how\n",
        env_of(&stack)
    );
    std::fs::write(stack.dir().join(".env"), &text).unwrap();
    stack
        .run(&ROTATE)
        .with(78)
        .says("not applied (DB_CONNECTION_STRING)");
    stack.run(&["up"]).ok();

    refuses_bad_passwords(&stack);
    let since = stack.witness.now();
    let odd = "It's; a \"n3w\" $one # \\";
    stack.secret(odd);
    let line = format!("{odd}\n");
    let done = given(
        &stack,
        &["sa-password", "rotate", "--stdin", "--yes"],
        &line,
    )
    .ok();
    done.says("has the new password now");
    assert!(logs_in(&stack, odd) && !logs_in(&stack, SA_PASSWORD));
    let now = env_of(&stack);
    assert!(
        now.starts_with("# mine\n") && now.ends_with("  # how\n"),
        "{now}"
    );
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(&text), lines(&now));
    let changed = before
        .iter()
        .zip(&after)
        .filter(|(one, other)| one != other)
        .count();
    assert_eq!((changed, before.len()), (2, after.len()));
    stack.run(&["plan"]).with(0);
    let told = stack.events(since);
    let of = |action: &str| {
        let of = told
            .iter()
            .filter(|told| told.action == action && told.name != "db");
        of.map(|told| told.at).collect::<Vec<_>>()
    };
    assert!(
        of("die").iter().max() < of("start").iter().min(),
        "{told:#?}"
    );
    stack.assert_no_violation();

    stack.run(&ROTATE).ok();
    assert!(!logs_in(&stack, odd));
    let shown = stack
        .run(&["secrets", "SA_PASSWORD"])
        .ok()
        .out
        .trim()
        .to_owned();
    assert!(logs_in(&stack, &shown));
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn whoever_dies_while_it_changes_somebody_knows_the_password_and_goes_on() {
    let stack = running("sa-password-killed", 1);
    let mut last = SA_PASSWORD.to_owned();
    let told = |what: &str| {
        stack
            .history()
            .iter()
            .filter(|(_, told)| told.contains(what))
            .count()
    };
    for at in [
        "nodes stop",
        "SQL Server gets the new password",
        "SQL Server has the new password",
    ] {
        let before = told(at);
        let rotate = stack.spawn(&ROTATE);
        let new = new_password(&stack);
        wait_until(at, || (told(at) > before).then_some(()));
        // Another daemon goes on at once, and the command follows it.
        stack.signal_daemon(Signal::KILL);
        stack.end(rotate).ok();
        assert!(
            logs_in(&stack, &new) && !logs_in(&stack, &last),
            "killed when {at}"
        );
        assert!(env_of(&stack).contains(&new), "killed when {at}");
        last = new;
    }
    let new = last;
    has_everywhere(&stack, &new);
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn a_statement_that_nobody_heard_of_is_found_out_by_login_and_the_file_is_written_by_the_next_up() {
    let stack = running("sa-password-unheard", 1);
    stack.set("STANDIN_OCTOPUS_STOP_MS", "1500");
    stack.run(&["up"]).ok();
    let rotate = stack.spawn(&ROTATE);
    let new = new_password(&stack);
    rotate.signal(Signal::KILL);
    stack.end(rotate);
    stack.kill_daemon();
    assert!(kept(&stack)["sa_password_change"]["is_made"] == false);
    // The daemon died after SQL Server had taken it, and before it could say so.
    let (from, to) = (Secret::new(SA_PASSWORD), Secret::new(&new));
    let server = server(&stack, SA_PASSWORD);
    block_on(sql::password::change(
        &server,
        &from,
        &to,
        Duration::from_secs(10),
    ))
    .unwrap();

    stack.run(&["down"]).ok();
    assert!(env_of(&stack).contains(SA_PASSWORD));
    stack.set("ADMIN_EMAIL", "other@example.com");
    // What is found out while it waits is written by the same one.
    stack.run(&["up"]).ok().says("has the new password now");
    has_everywhere(&stack, &new);
    stack.assert_no_violation();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

#[test]
fn what_cannot_be_changed_here_is_said_before_anything_is() {
    let stack = quick("sa-password-refused", 1);
    stack.run(&ROTATE).with(1).says("not up");
    stack.run(&["up"]).ok();
    let before = env_of(&stack);
    std::fs::write(
        stack.dir().join(".env"),
        format!("{before}OTHER=${{SA_PASSWORD}}\n"),
    )
    .unwrap();
    stack
        .run(&ROTATE)
        .with(78)
        .says("without changing another variable");
    std::fs::write(stack.dir().join(".env"), &before).unwrap();
    let mut command = stack.command(&ROTATE);
    command.env("SA_PASSWORD", SA_PASSWORD);
    stack
        .end(Running::spawn(&mut command))
        .with(78)
        .says("the environment sets SA_PASSWORD");
    stack.set("STANDIN_SQL_FAULT", "not-sysadmin");
    stack.run(&["up"]).ok();
    stack.run(&ROTATE).with(1).says("was not changed");
    assert!(logs_in(&stack, SA_PASSWORD) && env_of(&stack).contains(SA_PASSWORD));
    stack.wait_for("ready");
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
