//! This host's stack handed over to a cluster, and back: the stack and its data are on the real
//! engine, the cluster is a stand-in.

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;

use super::backup::NODE;
use super::backup::get;
use super::backup::odd_files;
use super::backup::put;
use super::quick;
use crate::kit::images::TAGS;
use crate::kit::process::Ended;
use crate::kit::stack::Stack;
use crate::kubernetes::model::Cluster;
use crate::kubernetes::model::Nature;
use crate::kubernetes::standin::Standin;

const API_KEY: &str = "API-0HANDOVER0OF0A0STACK0";

/// A stack of two nodes with files, and a cluster whose nodes are not wished yet.
fn before(name: &str, broken: Option<u32>) -> (Stack, Standin) {
    let stack = quick(name, 2);
    stack.set("STANDIN_OCTOPUS_VERSION", TAGS[0]);
    stack.set("ADMIN_API_KEY", API_KEY);
    stack.secret(API_KEY);
    stack.run(&["up"]).ok();
    put(&stack, NODE, "/artifacts", odd_files());
    let nature = Nature {
        is_parallel: false,
        undrains_itself: true,
        broken,
        missing: None,
    };
    let standin = Standin::new(Cluster::empty(nature));
    standin.state().1.first_image = Some(format!("octopusdeploy/octopusdeploy:{}", TAGS[0]));
    (stack, standin)
}

fn kubernetes(stack: &Stack, standin: &Standin, words: &str) -> Ended {
    let words = format!("kubernetes --namespace octo {words}");
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = stack.command(&words);
    command.env("PATH", standin.path());
    stack.end(crate::kit::process::Running::spawn(&mut command))
}

/// A node in the cluster, as far as its API is asked: what it was asked for, in order.
fn node() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or_default();
            let head = String::from_utf8_lossy(&request[..read]).into_owned();
            let line = head.lines().next().unwrap_or_default().to_owned();
            let body = if line.starts_with("GET /api ") {
                format!(r#"{{"Version":"{}"}}"#, TAGS[0])
            } else if line.contains("/summary") {
                let row =
                    |name: &str| format!(r#"{{"Id":"OctopusServerNodes-{name}","Name":"{name}"}}"#);
                let names = ["octopus-0", "octopus", "octopus-2"].map(row);
                format!(r#"{{"Nodes":[{}]}}"#, names.join(","))
            } else {
                "{}".to_owned()
            };
            let is_known = line.starts_with("GET /api ") || head.contains(API_KEY);
            kept.lock().unwrap().push(format!("{line} {is_known}"));
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    (address, asked)
}

/// The command dies over each of its changes in the cluster; called again and again it ends.
#[test]
fn a_stack_is_handed_over_whatever_the_command_dies_over() {
    let (stack, standin) = before("handover", None);
    let plan = kubernetes(&stack, &standin, "handover --plan").ok().out;
    assert!(plan.contains("octopus, octopus-2 are taken off"), "{plan}");
    assert_eq!(stack.status()["verdict"], "ready");
    let (address, asked) = node();
    standin.state().1.node = Some(address);
    let mut runs = 0;
    loop {
        let mut state = standin.state();
        // What takes several calls gets them in one life at last.
        state.1.faults.dies_at = Some(state.1.changes + 1 + runs % 6);
        drop(state);
        let ended = kubernetes(&stack, &standin, "handover --yes");
        runs += 1;
        if ended.code != -1 {
            ended
                .ok()
                .says("handed over: 2 nodes serve")
                .says("https://203.0.113.7:10943");
            break;
        }
        assert!(runs < 40, "{}", ended.err);
        if stack.state().join("handover.json").exists() {
            stack.run(&["up"]).with(78).says("handover --undo");
        }
    }
    assert!(runs > 8, "{runs}");
    {
        let state = standin.state();
        assert_eq!(state.0.violations, Vec::<String>::new());
        assert_eq!(state.1.files["/artifacts/plain.txt"], b"hello");
        assert!(state.1.helper.is_none() && state.1.sql_files.is_empty());
        assert!(state.1.files.len() > 3, "{:?}", state.1.files.keys());
        let asked = asked.lock().unwrap();
        for name in ["octopus", "octopus-2"] {
            let line =
                format!("DELETE /api/octopusservernodes/OctopusServerNodes-{name} HTTP/1.1 true");
            assert!(asked.contains(&line), "{asked:?}");
        }
        assert!(
            state
                .1
                .calls
                .iter()
                .flatten()
                .all(|word| !word.contains(API_KEY))
        );
    }
    // It is not started here again by mistake, and all that was here is kept.
    stack.run(&["up"]).with(78).says("--again");
    stack.run(&["start"]).with(78);
    stack.run(&["down"]).ok();
    kubernetes(&stack, &standin, "handover --undo --yes")
        .with(78)
        .says("no way back but a backup");
    let shown = kubernetes(&stack, &standin, "status --format json")
        .ok()
        .json();
    assert!(
        shown["handover"]
            .as_str()
            .unwrap()
            .contains("was handed over"),
        "{shown}"
    );
    stack.run(&["up", "--again"]).ok();
    let names: Vec<String> = get(&stack, NODE, "/artifacts/.")
        .into_iter()
        .map(|entry| entry.0)
        .collect();
    assert!(names.iter().any(|name| name == "./plain.txt"), "{names:?}");
}

#[test]
fn a_handover_goes_back_until_all_nodes_serve_there() {
    let (stack, standin) = before("handover-undo", Some(1));
    let nature = standin.state().0.nature;
    // Nothing there is overwritten, and nothing runs there before the data is there.
    standin.state().0.database = Some(crate::kubernetes::model::Database::default());
    standin.state().1.database = Some("OctopusDeploy".to_owned());
    kubernetes(&stack, &standin, "handover --yes")
        .with(78)
        .says("would be overwritten");
    standin.state().0.database = None;
    standin.state().1.sql_pod_is_gone = true;
    kubernetes(&stack, &standin, "handover --yes")
        .with(78)
        .says("SQL Server does not serve there");
    standin.state().1.sql_pod_is_gone = false;
    standin.state().0.wished = 1;
    kubernetes(&stack, &standin, "handover --yes")
        .with(78)
        .says("--for-handover");
    standin.state().0 = Cluster::empty(nature);
    kubernetes(&stack, &standin, "handover --undo")
        .with(1)
        .says("nothing was handed over");
    assert_eq!(stack.status()["verdict"], "ready");
    kubernetes(&stack, &standin, "handover --yes")
        .with(1)
        .says("the first node does not come up");
    assert_eq!(standin.state().1.files["/artifacts/plain.txt"], b"hello");
    stack
        .run(&["up", "--again"])
        .with(78)
        .says("handover --undo");
    kubernetes(&stack, &standin, "handover --undo --yes")
        .ok()
        .says("`octo-local up` brings");
    {
        let state = standin.state();
        assert_eq!(state.0.violations, Vec::<String>::new());
        assert!(state.0.nodes.is_empty() && state.0.wished == 0 && state.1.helper.is_none());
    }
    stack.run(&["up"]).ok();
    let entries = get(&stack, NODE, "/artifacts/.");
    assert!(
        entries.iter().any(|entry| entry.0 == "./plain.txt"),
        "{entries:?}"
    );
}
