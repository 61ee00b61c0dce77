//! Causes that an Octopus node ends with.

use octo_local::reconcile::Cause;

use super::fails;
use super::hasty;

#[test]
fn what_a_node_says_when_it_ends_is_the_cause_and_a_changed_env_is_another_try() {
    let stack = hasty("node-causes");
    for (fault, cause, words) in [
        ("eula", Cause::Eula, "You must accept the EULA"),
        (
            "permission",
            Cause::VolumePermissions,
            "'/repository' is denied",
        ),
        ("wrong-host", Cause::WrongHost, "Name or service not known"),
        ("master-key", Cause::MasterKeyWrong, "master key is invalid"),
        (
            "license-expired",
            Cause::LicenceExpired,
            "compliant with your license",
        ),
    ] {
        stack.set("STANDIN_OCTOPUS_FAULT", fault);
        fails(&stack, "octopus-server-1", cause, words);
        assert_eq!(stack.unit("db")["phase"], "ready", "SQL Server serves on");
    }
    stack.unset("STANDIN_OCTOPUS_FAULT");
    stack.run(&["up"]).ok();
}
