//! The master key, shown and held against the data.

use super::running;
use crate::kit::stack::Stack;

const VERIFY: [&str; 2] = ["master-key", "verify"];

fn kept(stack: &Stack) -> String {
    let text = std::fs::read_to_string(stack.state().join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let key = &state["stored"]["keys"]["current"]["key"];
    key.as_str().unwrap().to_owned()
}

#[test]
fn the_key_is_shown_also_while_the_stack_is_down_and_a_node_that_serves_proves_it() {
    let stack = running("master-key", 1);
    let key = kept(&stack);
    let shown = stack.run(&["master-key", "show"]).ok();
    assert_eq!(shown.out, format!("{key}\n"));
    assert!(shown.err.contains("the master key of") && !shown.err.contains(&key));
    stack
        .run(&VERIFY)
        .ok()
        .says("it is that of octopus-server-1, which came up with it");
    let told = stack
        .run(&["master-key", "verify", "--format", "json"])
        .ok()
        .json();
    assert_eq!(
        (&told["schema"], &told["fits"], &told["proof"]),
        (&1.into(), &true.into(), &"serves".into())
    );
    assert_eq!(
        told["nodes"],
        serde_json::json!([{"unit": "octopus-server-1", "told": "same"}])
    );

    stack.run(&["stop", "octopus-server"]).ok();
    stack
        .run(&VERIFY)
        .ok()
        .says("a node came up with it there before");
    stack.run(&["down"]).ok();
    let shown = stack
        .run(&["master-key", "show", "--format", "json"])
        .ok()
        .json();
    assert_eq!(
        (&shown["master_key"], &shown["made_here"]),
        (&key.as_str().into(), &true.into())
    );
    stack.run(&["down", "--volumes", "--yes"]).ok();
    // It outlives its data for the sake of backups, and fits no other.
    stack.run(&VERIFY).with(1).says("nothing shows");
}
