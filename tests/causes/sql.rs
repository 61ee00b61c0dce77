//! Causes that SQL Server ends with, or answers with.

use octo_local::reconcile::Cause;

use super::fails;
use super::hasty;

#[test]
fn what_sql_server_says_when_it_ends_is_the_cause_and_a_changed_env_is_another_try() {
    let stack = hasty("sql-causes");
    for (fault, cause, words) in [
        ("eula", Cause::Eula, "End-User License Agreement"),
        (
            "password-policy",
            Cause::PasswordTooWeak,
            "Password validation failed",
        ),
        ("memory", Cause::NotEnoughMemory, "at least 2000 megabytes"),
        ("permission", Cause::VolumePermissions, "Permission denied"),
        (
            "newer-data",
            Cause::SqlDataNewer,
            "A downgrade path is not supported",
        ),
        ("sigabrt", Cause::KernelTooNew, "SIGABRT"),
    ] {
        stack.set("STANDIN_SQL_FAULT", fault);
        fails(&stack, "db", cause, words);
    }
    stack.unset("STANDIN_SQL_FAULT");
    stack.run(&["up"]).ok();
}
