//! What else of the host a person hands to the containers: directories, host names, limits.

use super::quick;
use crate::kit::foreign::ForeignVolume;
use crate::kit::stack::Stack;

const NODE: &str = "octopus-server-1";
/// Far more than the stand-ins need.
const MEMORY: (&str, i64) = ("512m", 512 << 20);

fn id(stack: &Stack, unit: &str) -> Option<String> {
    stack.witness.inspect(&stack.container(unit))?.id
}

#[test]
fn mounts_host_names_and_limits_reach_the_nodes_and_change_one_by_one() {
    let stack = quick("more-of-host", 1);
    let theirs = ForeignVolume::create(&format!("{}-tools", stack.name));
    stack.run(&["up"]).ok();
    let before = id(&stack, NODE);
    let tools = stack.dir().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::fs::write(tools.join("tool"), "of the host").unwrap();
    let mounts = format!(
        "./tools:/tools:ro,./tools/tool:/tool,{}:/theirs",
        theirs.name()
    );
    stack.set("EXTRA_MOUNTS", &mounts);
    stack.set("EXTRA_HOSTS", "git.example:10.0.0.5,me:host-gateway");
    stack.set("OCTOPUS_MEMORY", MEMORY.0);
    stack.set("OCTOPUS_CPUS", "0.5");
    let planned = stack.run(&["plan"]).with(2).out;
    for says in [
        "extra mounts changed",
        "extra host names changed",
        "memory limit none -> 512m",
        "processor limit none -> 0.5",
    ] {
        assert!(planned.contains(says), "{says}: {planned}");
    }
    let drift = stack.status()["drift"]["keys"].clone();
    let keys = [
        "EXTRA_HOSTS",
        "EXTRA_MOUNTS",
        "OCTOPUS_CPUS",
        "OCTOPUS_MEMORY",
    ];
    assert_eq!(drift, serde_json::json!(keys));
    let database = id(&stack, "db");
    stack.run(&["up"]).ok();
    stack.run(&["plan"]).ok();
    assert_ne!(id(&stack, NODE), before);
    assert_eq!(id(&stack, "db"), database, "it is not its definition");
    let node = stack.witness.inspect(&stack.container(NODE)).unwrap();
    let host = node.host_config.unwrap();
    assert_eq!(
        (host.memory, host.nano_cpus),
        (Some(MEMORY.1), Some(500_000_000))
    );
    assert_eq!(
        host.extra_hosts.unwrap(),
        ["git.example:10.0.0.5", "me:host-gateway"]
    );
    let mounted = |target: &str| {
        let mounts = node.mounts.iter().flatten();
        let mut found = mounts.filter(|mount| mount.destination.as_deref() == Some(target));
        found
            .next()
            .map(|mount| (mount.source.clone(), mount.name.clone(), mount.rw))
    };
    let path = |path: &std::path::Path| Some(path.display().to_string());
    assert_eq!(mounted("/tools"), Some((path(&tools), None, Some(false))));
    assert_eq!(
        mounted("/tool"),
        Some((path(&tools.join("tool")), None, Some(true)))
    );
    assert_eq!(
        mounted("/theirs").unwrap().1.as_deref(),
        Some(theirs.name())
    );

    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert_eq!(
        std::fs::read_to_string(tools.join("tool")).unwrap(),
        "of the host"
    );
    assert!(theirs.exists() && theirs.labels().is_empty());
}

#[test]
fn what_is_not_there_is_refused_before_anything_is_made_and_nothing_is_made_in_its_place() {
    let stack = quick("less-of-host", 1);
    let (tools, volume) = (stack.dir().join("tools"), format!("{}-gone", stack.name));
    stack.set("EXTRA_MOUNTS", &format!("./tools:/tools,{volume}:/theirs"));
    stack.set("SQL_CPUS", "4000");
    for command in ["plan", "up"] {
        let refused = stack.run(&[command]).with(78);
        for says in [
            &format!(
                "EXTRA_MOUNTS={}: there is nothing at this path",
                tools.display()
            ),
            &format!("EXTRA_MOUNTS={volume}: there is no volume of this name"),
            "SQL_CPUS=4000: the Docker host has",
        ] {
            assert!(refused.err.contains(says), "{says}: {}", refused.err);
        }
    }
    assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
    assert!(!tools.exists());

    // A directory that goes while the stack runs is named, and nothing is made in its place.
    stack.unset("SQL_CPUS");
    stack.set("EXTRA_MOUNTS", "./tools:/tools");
    std::fs::create_dir(&tools).unwrap();
    stack.run(&["up"]).ok();
    stack.run(&["stop", NODE]).ok();
    std::fs::remove_dir(&tools).unwrap();
    stack
        .run(&["start", NODE])
        .with(1)
        .says("that is to be mounted is not there");
    assert!(!tools.exists());
    std::fs::create_dir(&tools).unwrap();
    stack.run(&["start", NODE]).ok();
    stack.wait_for_unit(NODE, "ready");
}
