//! `upgrade.sh`, with a kubectl that only writes down what it is asked: the order of its steps is
//! what keeps two versions apart.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use super::configurations::Tried;
use super::configurations::config;

/// Writes the scripts and a kubectl whose StatefulSet has this partition, and runs the upgrade.
fn upgrade(dir: &Path, words: &str, kubectl: &str) -> Output {
    let two = config(&[("OCTOPUS_NODES", "2")]);
    let tried = Tried::new(two, &format!("--storage-class files {words}"));
    for (path, file) in &tried.files {
        if path.ends_with(".sh") && !path.contains('/') {
            write(dir, path, file.contents.expose());
        }
    }
    write(
        dir,
        "kubectl",
        &format!("#!/bin/bash\necho \"$*\" >>\"${{0%/*}}/calls\"\n{kubectl}\n"),
    );
    Command::new("bash")
        .arg("upgrade.sh")
        .arg("octopusdeploy/octopusdeploy:2026.3.1")
        .current_dir(dir)
        .env("PATH", format!("{}:/usr/bin:/bin", dir.display()))
        .output()
        .unwrap()
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn calls(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("calls")).unwrap();
    let verbs = ["scale", "delete", "set image", "exec"];
    text.lines()
        .map(|line| line.trim_start_matches("--namespace my-shop ").to_owned())
        .filter(|line| verbs.iter().any(|verb| line.starts_with(verb)))
        .collect()
}

const WELL: &str = "case \"$*\" in *partition*) echo 1000;; *generation*) echo 5;; esac";

#[test]
fn an_upgrade_ends_all_nodes_before_the_image_changes_and_starts_one_first() {
    let dir = tempfile::tempdir().unwrap();
    let ended = upgrade(dir.path(), "", WELL);
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let calls = calls(dir.path());
    let selector = "app.kubernetes.io/instance=my-shop,app.kubernetes.io/name=octopus";
    assert_eq!(
        calls,
        [
            "scale statefulset/octopus --replicas=0",
            &format!("delete pod -l {selector} --ignore-not-found --wait=false"),
            "set image statefulset/octopus octopus=octopusdeploy/octopusdeploy:2026.3.1",
            "scale statefulset/octopus --replicas=1",
            "scale statefulset/octopus --replicas=2",
        ]
    );
}

#[test]
fn nodes_of_the_hardened_image_are_told_to_serve_again() {
    let dir = tempfile::tempdir().unwrap();
    let ended = upgrade(dir.path(), "--image-flavour hardened", WELL);
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let calls = calls(dir.path());
    let told: Vec<&String> = calls
        .iter()
        .filter(|call| call.starts_with("exec"))
        .collect();
    assert_eq!(told.len(), 2, "{calls:?}");
    assert!(told[0].starts_with("exec octopus-0 -- ") && told[1].starts_with("exec octopus-1 -- "));
}

#[test]
fn nothing_is_upgraded_while_a_node_is_left_or_versions_would_mix() {
    let left = "case \"$*\" in *partition*) echo 1000;; *generation*) echo 5;; *'-o name') echo pod/octopus-1;; esac";
    let mixing = "case \"$*\" in *partition*) echo 0;; *generation*) echo 5;; esac";
    for (kubectl, why) in [(left, "there are still nodes"), (mixing, "mix versions")] {
        let dir = tempfile::tempdir().unwrap();
        let ended = upgrade(dir.path(), "", kubectl);
        assert_eq!(ended.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&ended.stderr).contains(why));
        assert!(
            !calls(dir.path())
                .iter()
                .any(|call| call.starts_with("set image"))
        );
    }
}
