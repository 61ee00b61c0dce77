//! Every cause that stops or delays the retrying, provoked through a stand-in or the engine: named,
//! with its fix, without a restart storm, and over when the configuration changes or the host is
//! well again.

mod data;
mod host;
mod nodes;
mod sql;

use octo_local::reconcile::Cause;

use crate::kit::process::Ended;
use crate::kit::stack::Stack;

/// With the short waits of [`hasty`], a unit that is retried shows within this many looks.
const LOOKS: usize = 20;

/// A real stack that would restart what fails at once, again and again.
fn hasty(name: &str) -> Stack {
    let stack = Stack::real(name);
    for (key, value) in [
        ("RESTART_BACKOFF_FIRST", "10ms"),
        ("RESTART_BACKOFF_MAX", "50ms"),
        ("SQL_REFUSED_GRACE", "500ms"),
        ("STANDIN_SQL_START_DELAY_MS", "0"),
        ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
        ("STANDIN_OCTOPUS_MIGRATE_MS", "0"),
        ("STANDIN_OCTOPUS_STOP_MS", "0"),
    ] {
        stack.set(key, value);
    }
    stack
}

/// `up` fails for a cause: it says so with the fix and these words of the log, `status` names it,
/// and nothing is retried.
#[track_caller]
fn fails(stack: &Stack, unit: &str, cause: Cause, words: &str) {
    let ended = stack.run(&["up"]);
    tells(ended, unit, cause, words);
    stays(stack, unit, cause);
}

#[track_caller]
fn tells(ended: Ended, unit: &str, cause: Cause, words: &str) {
    let ended = ended.with(1).says(&format!("{unit}: {}", cause.fix()));
    let quoted = ended
        .err
        .lines()
        .any(|line| line.contains(&format!("{unit} | ")) && line.contains(words));
    assert!(
        words.is_empty() || quoted,
        "no log line with `{words}` in\n{}",
        ended.err
    );
}

/// The unit stays failed, and is not started again.
#[track_caller]
fn stays(stack: &Stack, unit: &str, cause: Cause) {
    let started = stack.started();
    for _ in 0..LOOKS {
        let seen = stack.unit(unit);
        assert_eq!(
            (&seen["cause"], &seen["phase"]),
            (&format!("{cause:?}").into(), &"failed".into()),
            "{seen}"
        );
        assert!(
            seen["fix"].as_str().unwrap().contains(cause.fix()),
            "{seen}"
        );
    }
    assert_eq!(stack.started(), started, "nothing is retried");
}
