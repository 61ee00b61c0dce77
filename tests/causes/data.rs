//! Causes that lie in the data: a password, a version or a key that it was not made with, damage,
//! and company.

use octo_local::reconcile::Cause;
use rustix::process::Signal;

use super::fails;
use super::hasty;
use super::stays;
use crate::kit::foreign::Foreign;
use crate::kit::images::TAGS;
use crate::kit::process::wait_until;
use crate::kit::stack::SA_PASSWORD;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";
const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMA==";

#[test]
fn data_of_another_password_version_or_key_is_refused_until_the_env_fits_again() {
    let stack = hasty("data-causes");
    stack.secret(KEY);
    stack.secret(OTHER_KEY);
    stack.set("MASTER_KEY", KEY);
    stack.set("STANDIN_SQL_VERSION", "998");
    // Newer than what runs: what the database says of its versions must not refuse it before.
    stack.set("OCTOPUS_SERVER_TAG", TAGS[1]);
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.0");
    stack.run(&["up"]).ok();
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.1.0");
    fails(
        &stack,
        "octopus-server-1",
        Cause::OctopusDataNewer,
        "schema is newer",
    );
    stack.set("STANDIN_OCTOPUS_VERSION", "2026.2.0");
    stack.unset("STANDIN_SQL_VERSION");
    fails(
        &stack,
        "db",
        Cause::SqlDataNewer,
        "A downgrade path is not supported",
    );
    stack.set("STANDIN_SQL_VERSION", "998");
    stack.set("STANDIN_SQL_FAULT", "suspect=OctopusDeploy");
    fails(
        &stack,
        "db",
        Cause::DatabaseSuspect,
        "Starting up database 'OctopusDeploy'",
    );
    stack.unset("STANDIN_SQL_FAULT");
    stack.run(&["up"]).ok();

    // What octo-local remembers of the data is lost, so that only the data itself can refuse.
    let forget = || {
        stack.run(&["down"]).ok();
        for file in ["state.json", "state.json.copy"] {
            std::fs::remove_file(stack.state().join(file)).unwrap();
        }
    };
    forget();
    stack.unset("MASTER_KEY");
    stack
        .run(&["up"])
        .with(78)
        .says("MASTER_KEY: there is a database, and nothing knows the key");
    stack.set("MASTER_KEY", OTHER_KEY);
    fails(
        &stack,
        "octopus-server-1",
        Cause::MasterKeyWrong,
        "The master key is invalid",
    );
    forget();
    stack.set("MASTER_KEY", KEY);
    stack.set("SA_PASSWORD", "An0ther-password");
    stack.secret("An0ther-password");
    fails(
        &stack,
        "db",
        Cause::PasswordRefused,
        "Login failed for user 'sa'",
    );
    stack.set("SA_PASSWORD", SA_PASSWORD);
    stack.run(&["up"]).ok();
}

#[test]
fn a_volume_that_somebody_else_uses_is_left_alone_and_taken_back_when_it_is_free() {
    let stack = hasty("company");
    stack.run(&["up"]).ok();
    stack.signal_daemon(Signal::STOP);
    stack.witness.kill(&stack.container("db"), "KILL");
    let foreign = Foreign::sql_on(&stack, "sql-data");
    stack.signal_daemon(Signal::CONT);
    let seen = stack.wait_for_unit("db", "failed");
    assert!(
        seen["reason"].as_str().unwrap().contains(foreign.name()),
        "the user of the volume is named: {seen}"
    );
    stays(&stack, "db", Cause::VolumeInUse);
    stack.run(&["up"]).with(1).says(foreign.name());
    assert!(foreign.runs(), "what is not ours is left alone");
    drop(foreign);
    stack.wait_for("ready");
    assert_eq!(stack.unit("db")["cause"], serde_json::Value::Null);
    wait_until("the node serves", || {
        (stack.unit("octopus-server-1")["phase"] == "ready").then_some(())
    });
}
