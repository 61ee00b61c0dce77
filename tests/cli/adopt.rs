//! `adopt` where there is nothing to adopt, nothing to go back to, and a record that says that
//! something is half done.

use super::Place;
use crate::kit::stack::Stack;

#[test]
fn there_is_one_direction_at_a_time_and_an_engine_is_needed() {
    let place = Place::new();
    for words in [
        &["adopt", "--undo", "--forget"][..],
        &["adopt", "--undo", "--plan"],
        &["adopt", "--forget", "--from", "shop"],
    ] {
        place.run(words).with(64);
    }
    place
        .run(&["adopt", "--plan"])
        .with(69)
        .says("/nowhere.sock");
}

#[test]
fn nothing_to_adopt_or_to_go_back_to_is_told() {
    let stack = Stack::real("adopt-nothing");
    stack
        .run(&["adopt", "--plan"])
        .with(78)
        .says("no container of a compose project of this name")
        .says("--from");
    for way in ["--undo", "--forget"] {
        stack
            .run(&["adopt", way, "--yes"])
            .with(1)
            .says("adopted nothing");
    }
    assert!(!stack.state().exists(), "nothing is left behind");
}

#[test]
fn a_half_done_adoption_lets_nothing_start_and_a_damaged_record_is_never_taken_for_none() {
    let stack = Stack::real("adopt-record");
    std::fs::create_dir_all(stack.state()).unwrap();
    let record = stack.state().join("adopted.json");
    for (stage, way) in [
        ("begun", "`octo-local adopt` goes on"),
        ("undoing", "--undo` goes on"),
    ] {
        let text = format!("{{\"stage\": \"{stage}\", \"from\": \"shop\"}}");
        std::fs::write(&record, text).unwrap();
        for words in [
            &["up"][..],
            &["plan"],
            &["start"],
            &["restart"],
            &["backup"],
        ] {
            stack.run(words).with(78).says(way).says("shop");
        }
        stack.run(&["down"]).ok();
    }
    // What it says counts below the `.env`, and is shown as what counts.
    std::fs::write(
        &record,
        r#"{"stage": "done", "from": "shop", "variables": {"TASK_CAP": "7", "SA_PASSWORD": "Never-shown-1"}}"#,
    )
    .unwrap();
    stack.secret("Never-shown-1");
    let shown = stack.run(&["config"]).ok().out;
    assert!(shown.contains("TASK_CAP=7"), "{shown}");
    std::fs::write(&record, "{").unwrap();
    stack
        .run(&["up"])
        .with(1)
        .says("where this project's data is");
    std::fs::remove_file(&record).unwrap();
}
