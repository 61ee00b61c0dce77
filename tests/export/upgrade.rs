//! `upgrade.sh`, with a kubectl that only writes down what it is asked: the order of its steps is
//! what keeps two versions apart.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use super::configurations::Tried;
use super::configurations::config;
use super::configurations::has_ending;

/// Writes the scripts and a kubectl whose StatefulSet has this partition, and runs the upgrade.
fn upgrade(dir: &Path, words: &str, kubectl: &str) -> Output {
    let two = config(&[("OCTOPUS_NODES", "2")]);
    let tried = Tried::new(two, &format!("--storage-class files {words}"));
    for (path, file) in &tried.files {
        if has_ending(path, "sh") && !path.contains('/') {
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

/// Every script of a hook or a probe, and every file that is one.
#[test]
fn bash_can_read_every_script() {
    let mut scripts = Vec::new();
    for words in [
        "",
        "--format yaml --image-flavour hardened",
        "--format helm-values",
    ] {
        let tried = Tried::new(config(&[]), words);
        let files = tried
            .files
            .values()
            .filter(|file| has_ending(&file.path, "sh"));
        scripts.extend(files.map(|file| file.contents.expose().to_owned()));
        for set in tried
            .objects()
            .iter()
            .filter(|it| it["kind"] == "StatefulSet")
        {
            let container = &set["spec"]["template"]["spec"]["containers"][0];
            let places = [
                "/lifecycle/postStart",
                "/lifecycle/preStop",
                "/startupProbe",
                "/livenessProbe",
                "/readinessProbe",
            ];
            let commands =
                places.map(|place| container.pointer(&format!("{place}/exec/command")).cloned());
            let of_bash = commands
                .into_iter()
                .flatten()
                .filter(|command| command[0] == "/bin/bash");
            scripts.extend(of_bash.map(|command| command[2].as_str().unwrap().to_owned()));
        }
    }
    assert!(scripts.len() > 10, "{scripts:?}");
    for script in scripts {
        let ended = Command::new("bash")
            .args(["-n", "-c", &script])
            .output()
            .unwrap();
        assert!(
            ended.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&ended.stderr)
        );
    }
}

/// The hook of a new pod lets a node that was drained serve again, and ends once it does; it returns
/// at once, since no probe runs before.
#[test]
fn a_node_that_was_drained_is_let_serve_again() {
    let tried = Tried::new(config(&[]), "");
    let set = tried.object("StatefulSet", "octopus").unwrap();
    let hook = &set["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["postStart"];
    let script = hook["exec"]["command"][2].as_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display().to_string();
    // 000 while it starts, 418 while it is drained, then 200.
    write(
        dir.path(),
        "curl",
        "#!/bin/bash\necho >>asked\ncase $(wc -l <asked) in 1) echo 000;; 2) echo 418;; *) echo 200;; esac\n",
    );
    write(dir.path(), "server", "#!/bin/bash\necho \"$*\" >>told\n");
    write(dir.path(), "sleep", "#!/bin/bash\n");
    let script = script
        .replace("/Octopus/Octopus.Server", &format!("{here}/server"))
        .replace("/proc/1/fd/1", "out")
        .replace("/tmp/ending", "ending");
    let ended = Command::new("bash")
        .args(["-c", &format!("{script} wait")])
        .current_dir(dir.path())
        .env("PATH", format!("{here}:/usr/bin:/bin"))
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let told = std::fs::read_to_string(dir.path().join("told")).unwrap();
    assert_eq!(told, "node --instance=OctopusServer --drain=false\n");
    assert_eq!(
        std::fs::read_to_string(dir.path().join("asked"))
            .unwrap()
            .len(),
        3
    );
}
