//! Networks that people or other programs doubled or used up.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use octo_local::reconcile::Cause;
use rustix::process::Signal;
use serde_json::json;

use super::UNITS;
use super::quick;
use crate::kit::foreign::ForeignNetwork;
use crate::kit::private::PrivateEngine;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

fn up(name: &str) -> Stack {
    let stack = quick(Stack::real(name));
    stack.run(&["up"]).ok();
    stack
}

/// The one network of the stack.
fn network(stack: &Stack) -> String {
    let networks = stack.witness.networks(&stack.label());
    assert_eq!(networks.len(), 1, "{networks:?}");
    networks[0].clone()
}

fn default_network(stack: &Stack) -> String {
    format!("{}_default", stack.name)
}

/// Whether a unit's container is attached to this network, and to no other.
fn is_attached(stack: &Stack, network: &str, unit: &str) -> bool {
    let inspected = stack.witness.inspect(&stack.container(unit)).unwrap();
    let networks = inspected.network_settings.unwrap().networks.unwrap();
    networks.len() == 1
        && networks
            .into_values()
            .all(|endpoint| endpoint.network_id.as_deref() == Some(network))
}

/// A node that is restarted finds SQL Server by its name, and its port on the host leads to it
/// again.
fn serves_by_its_names(stack: &Stack) {
    stack.run(&["restart", "octopus-server-2"]).ok();
    assert_eq!(stack.unit("octopus-server-2")["phase"], "ready");
}

#[test]
fn f39_a_second_network_with_our_name_and_label_goes() {
    let stack = up("doubled");
    let before = stack.started();
    let kept = network(&stack);
    let labels = HashMap::from([("octo-local.project".to_owned(), stack.name.clone())]);
    let name = default_network(&stack);
    let request = NetworkCreateRequest {
        name,
        labels: Some(labels),
        ..NetworkCreateRequest::default()
    };
    // Engines from 25 on refuse it: then there is nothing to clean up.
    if let Ok(second) = stack
        .witness
        .wait(stack.witness.docker().create_network(request))
    {
        let gone = || !stack.witness.networks(&stack.label()).contains(&second.id);
        wait_until("the surplus network is gone", || gone().then_some(()));
    }
    assert_eq!(network(&stack), kept, "the one that is used stays");
    stack.wait_for("ready");
    assert_eq!(stack.started(), before);
}

#[test]
fn f39_a_second_network_with_our_name_of_somebody_else_is_worked_around() {
    let stack = up("doubled-foreign");
    let kept = network(&stack);
    stack.signal_daemon(Signal::STOP);
    let foreign = ForeignNetwork::named(&stack, &default_network(&stack));
    stack.witness.remove(&stack.container("octopus-server-2"));
    stack.signal_daemon(Signal::CONT);
    wait_until("the node is made again", || {
        stack.witness.inspect(&stack.container("octopus-server-2"))
    });
    stack.wait_for_unit("octopus-server-2", "ready");
    assert!(
        is_attached(&stack, &kept, "octopus-server-2"),
        "the network is chosen by its ID"
    );
    serves_by_its_names(&stack);
    stack.run(&["plan"]).with(0);
    stack.run(&["down"]).ok();
    assert!(
        foreign.is_none_or(|foreign| foreign.exists()),
        "what is not labelled as ours is left alone"
    );
}

#[test]
fn f40_an_engine_without_address_ranges_is_a_named_cause_and_over_when_one_is_free() {
    let engine = PrivateEngine::with(&json!({
        "bridge": "none",
        "default-address-pools": [{ "base": "10.213.0.0/28", "size": 28 }],
    }));
    let stack = quick(Stack::real_on(&engine, "no-subnet"));
    let hog = ForeignNetwork::named(&stack, "hog").unwrap();
    stack
        .run(&["up"])
        .with(1)
        .says(Cause::NoSubnet.title())
        .says(Cause::NoSubnet.fix());
    let status = stack.status();
    assert_eq!(status["verdict"], "failed", "{status}");
    assert_eq!(stack.unit("db")["cause"], "NoSubnet", "{status}");
    drop(hog);
    stack.wait_for("ready");
    assert_eq!(stack.starts(stack.since), UNITS);
}
