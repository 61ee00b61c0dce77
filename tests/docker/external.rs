//! A database of somebody else (`SQL_IMAGE=` empty): the same gate, and nothing there is ever
//! stopped or removed.

use super::quick;
use crate::kit::foreign::Foreign;
use crate::kit::foreign::ForeignNetwork;
use crate::kit::images::TAGS;
use crate::kit::process::wait_until;
use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;

const NODE_1: &str = "octopus-server-1";
const NODE_2: &str = "octopus-server-2";

/// A stack of two nodes on a server that it does not run.
pub(super) fn stack(name: &str) -> (Stack, Foreign) {
    let stack = quick(name, 2);
    let port = stack.port("db");
    let (foreign, gateway) = Foreign::sql_at(&stack, port);
    stack.set("SQL_IMAGE", "");
    stack.set("PROBE_INTERVAL", "200ms");
    let target =
        format!("Server={gateway},{port};Database=OctopusDeploy;User Id=sa;Password={SA_PASSWORD}");
    stack.set("DB_CONNECTION_STRING", &target);
    (stack, foreign)
}

#[track_caller]
pub(super) fn start(stack: &Stack, foreign: &Foreign) {
    stack.witness.start(foreign.name());
    wait_until("it serves", || {
        stack
            .witness
            .said_at(foreign.name(), "Recovery is complete")
    });
}

#[test]
fn an_external_database_is_never_stopped_and_its_key_is_kept() {
    let (stack, foreign) = stack("external");
    stack
        .run(&["up"])
        .with(78)
        .says("MASTER_KEY: the external database does not answer");
    start(&stack, &foreign);
    let started = stack.witness.started_at(foreign.name());
    stack.run(&["up"]).ok().says("a master key was made");
    assert_eq!(stack.starts(stack.since), [NODE_1, NODE_2]);
    stack.assert_gated(stack.since, &[NODE_1, NODE_2]);
    let kept = || std::fs::read_to_string(stack.state().join("state.json")).unwrap();
    let key = serde_json::from_str::<serde_json::Value>(&kept()).unwrap()["stored"]["keys"]["current"]["key"]
        .as_str()
        .unwrap()
        .to_owned();
    stack.secret(&key);
    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
    assert!(kept().contains(&key), "it always stays");
    stack.run(&["up"]).ok();
    stack.assert_no_violation();
    stack.run(&["down"]).ok();
    assert_eq!(
        (foreign.runs(), stack.witness.started_at(foreign.name())),
        (true, started)
    );
}

/// The vendor keeps in the database which versions were installed on it: a host that knows nothing of
/// the past goes by that.
#[test]
fn a_database_that_a_newer_version_had_takes_no_older_one_from_a_host_that_never_saw_it() {
    let (stack, foreign) = stack("external-newer");
    stack.set("OCTOPUS_NODES", "1");
    stack.set("MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAA==");
    let [older, newer, _] = TAGS;
    let version = |version: &str| {
        stack.set("OCTOPUS_SERVER_TAG", version);
        stack.set("STANDIN_OCTOPUS_VERSION", version);
    };
    start(&stack, &foreign);
    version(newer);
    stack.run(&["up"]).ok();
    stack.run(&["down"]).ok();
    for file in std::fs::read_dir(stack.state()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    version(older);
    for command in ["plan", "up"] {
        stack
            .run(&[command])
            .with(78)
            .says(&format!("{older} is older than {newer}"));
    }
    assert_eq!(stack.starts(stack.since), [NODE_1], "the first one's");
    version(newer);
    stack.run(&["up"]).ok();
    stack.assert_no_violation();
}

#[test]
fn a_server_on_the_docker_host_and_networks_of_others_are_reached_by_name() {
    let (stack, foreign) = stack("external-host");
    start(&stack, &foreign);
    let port = stack.port("db");
    stack.set("OCTOPUS_NODES", "1");
    let target = format!(
        "Server=host.docker.internal,{port};Database=OctopusDeploy;User Id=sa;Password={SA_PASSWORD}"
    );
    stack.set("DB_CONNECTION_STRING", &target);
    let others = format!("{}-others", stack.name);
    stack.set("EXTRA_NETWORKS", &others);
    for command in ["plan", "up"] {
        stack.run(&[command]).with(78).says(&others);
    }
    let _network = ForeignNetwork::named(&stack, &others).unwrap();
    stack.run(&["up"]).ok();
    let node = stack.witness.inspect(&stack.container(NODE_1)).unwrap();
    let hosts = node.host_config.unwrap().extra_hosts.unwrap();
    assert_eq!(hosts, ["host.docker.internal:host-gateway"]);
    let networks = node.network_settings.unwrap().networks.unwrap();
    assert!(networks.contains_key(&others), "{networks:?}");
    stack.run(&["down"]).ok();
}

/// Fault 55, where the database is not ours to repair: its nodes are not judged without it, and a
/// dead one waits for it.
#[test]
fn f55_an_external_database_gates_the_nodes() {
    let (stack, foreign) = stack("external-gate");
    start(&stack, &foreign);
    stack.run(&["up"]).ok();
    let before = stack.started();
    stack.witness.stop(foreign.name());
    wait_until("its absence is seen", || {
        (stack.unit("db")["phase"] == "unready").then_some(())
    });
    stack.wait_for_unit(NODE_1, "unready");
    stack.witness.kill(&stack.container(NODE_2), "KILL");
    wait_until("its death is seen", || {
        (stack.recorded(NODE_2, "it crashed") > 0).then_some(())
    });
    let since = stack.witness.now();
    stack.witness.start(foreign.name());
    stack.wait_for("ready");
    assert_eq!(stack.starts(since), [NODE_2], "it waited for its database");
    stack.assert_moved(&before, &[NODE_2]);
    stack.assert_no_violation();
}
