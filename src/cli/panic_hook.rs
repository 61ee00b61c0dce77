//! A panic is a mistake of octo-local's own: one sentence that says where, and exit code 70.

use std::panic::AssertUnwindSafe;
use std::panic::PanicHookInfo;

use crate::cli::outcome::BUG;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::daemon::guard;

/// Says where it was. Not what: the words of a panic may hold a value that is secret.
fn say(panic: &PanicHookInfo<'_>) {
    let place = guard::note(panic);
    print::tell(format_args!(
        "octo-local {} made a mistake of its own{place}; please report this line. Containers are left as they are.",
        env!("CARGO_PKG_VERSION")
    ));
}

/// Runs something; its panic is its failure.
pub fn guard(run: impl FnOnce() -> Outcome) -> Outcome {
    std::panic::set_hook(Box::new(say));
    // Nothing is used after a panic: the process ends.
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(Failure::quiet(BUG)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const SECRET: &str = "S3cr3tMarker";

    #[test]
    fn a_panic_becomes_exit_code_70_and_shows_no_value() {
        let this = std::env::current_exe().unwrap();
        let child = [
            "--exact",
            "cli::panic_hook::tests::panics",
            "--ignored",
            "--nocapture",
        ];
        let ended = Command::new(this).args(child).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(i32::from(BUG)), "{said}");
        assert!(
            said.contains("made a mistake of its own at src/cli/panic_hook.rs:"),
            "{said}"
        );
        assert!(!said.contains(SECRET), "{said}");
    }

    #[test]
    #[ignore = "run by the test above, as a process of its own"]
    fn panics() {
        let failure = guard(|| panic!("the password is {SECRET}")).unwrap_err();
        #[expect(clippy::exit, reason = "the exit code is what is tested")]
        std::process::exit(i32::from(failure.code))
    }
}
