//! Names that others took, images that are missing or moved, engines of another age.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;

use rustix::process::Signal;
use serde_json::json;

use super::case::Case;
use super::case::OCTOPUS;
use super::case::PROJECT;
use crate::fake::call::Api;
use crate::fake::call::Verb;
use crate::fake::invariants::Allowed;
use crate::fake::node::Conduct;
use crate::fake::script::Fault;
use crate::fake::script::Rule;
use crate::kit::process::Running;
use crate::kit::process::wait_until;

/// A container of somebody else.
fn foreign(case: &Case, name: &str) {
    let options = bollard::query_parameters::CreateContainerOptionsBuilder::default()
        .name(name)
        .build();
    let body = bollard::models::ContainerCreateBody {
        image: Some(format!("{OCTOPUS}:1.0")),
        ..bollard::models::ContainerCreateBody::default()
    };
    let person = case.person();
    person
        .wait(person.docker().create_container(Some(options), body))
        .unwrap();
}

#[test]
fn f34_a_name_that_somebody_took_is_a_named_cause_and_theirs_is_left_alone() {
    let case = Case::up();
    let name = Case::container("octopus-server-2");
    case.kill_daemon();
    case.person().remove(&name);
    foreign(&case, &name);
    case.run(&["up"]).with(78).says(&name);
    let daemon = case.spawn(&["daemon"]);
    let status = case.wait_for("failed");
    assert_eq!(status["units"][2]["cause"], "NameTaken", "{status}");
    assert_eq!(
        status["units"][1]["phase"], "ready",
        "the other node serves"
    );
    case.person().remove(&name);
    case.run(&["start", "octopus-server-2"]).ok();
    case.run(&["plan"]).with(0);
    drop(daemon);
    case.check(&Allowed::default());
}

/// No registry has them: `down --volumes` of another demo may have taken them away.
#[test]
fn the_images_of_a_demo_are_made_again_where_they_are_gone() {
    let case = Case::new();
    case.run(&["up", "--demo", "--nodes", "1"]).ok();
    case.run(&["stop"]).ok();
    for unit in ["db", "octopus-server-1"] {
        case.person().remove(&Case::container(unit));
    }
    // As a person removes them: the engine tells of it.
    let images: Vec<String> = case.engine.world().images.keys().cloned().collect();
    for image in images {
        assert!(case.person().remove_image(&image), "{image}");
    }
    case.run(&["start"]).ok();
    let status = case.wait_for("ready");
    assert_eq!(status["demo"], true, "{status}");
    assert_eq!(case.engine.world().images.len(), 2);
}

/// Any user of the host can take the name that keeps a second daemon out.
#[test]
fn f14_a_name_on_the_host_that_no_daemon_has_keeps_none_out() {
    let case = Case::new();
    let project = octo_local::config::project::normalise(PROJECT).unwrap();
    let engine = octo_local::engine::Endpoint::at(case.engine.url());
    let name = octo_local::daemon::run::name_on_host(&project, &engine);
    let name = rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    let (family, kind) = (
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
    );
    let squatter = rustix::net::socket(family, kind, None).unwrap();
    rustix::net::bind(&squatter, &name).unwrap();
    case.run(&["up"]).ok();
    case.run(&["down"]).ok();
    case.check(&Allowed::default());
}

/// Anybody can listen under a name. Who may not use the engine supervises nothing on it.
#[test]
fn f14_a_stranger_who_listens_under_the_daemons_name_keeps_none_out() {
    let case = Case::new();
    let project = octo_local::config::project::normalise(PROJECT).unwrap();
    let engine = octo_local::engine::Endpoint::at(case.engine.url());
    let mut stranger = std::process::Command::new("/proc/self/exe");
    stranger
        .args(["--ignored", "--exact", "faults::things::a_stranger"])
        .env(
            "NAME",
            octo_local::daemon::run::name_on_host(&project, &engine),
        )
        .uid(65534)
        .gid(65534)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null());
    let mut stranger = stranger.spawn().unwrap();
    wait_until("the stranger listens", || {
        octo_local::daemon::run::holder_of_name(&project, &engine)
    });
    case.run(&["plan"]).with(2);
    case.run(&["up"]).ok();
    case.kill_daemon();
    let status = case.run(&["status"]);
    assert!(!status.out.contains("65534"), "{}", status.out);
    assert!(!status.err.contains("65534"), "{}", status.err);
    case.run(&["down"]).ok();
    case.check(&Allowed::default());
    drop(stranger.stdin.take());
    stranger.wait().unwrap();
}

/// Listens under a name until its input ends.
#[test]
#[ignore = "run by the test above, as a process of somebody else's"]
fn a_stranger() {
    let name = std::env::var_os("NAME").unwrap();
    let name = rustix::net::SocketAddrUnix::new_abstract_name(name.as_encoded_bytes()).unwrap();
    let (family, kind) = (
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
    );
    let squatter = rustix::net::socket(family, kind, None).unwrap();
    rustix::net::bind(&squatter, &name).unwrap();
    rustix::net::listen(&squatter, 8).unwrap();
    let read = std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(read, 0, "nothing is said to it");
}

/// A process of the engine's has a container's port before the list of containers shows it.
#[test]
fn f66_a_port_that_the_list_does_not_show_yet_is_not_told_as_taken() {
    let case = Case::up();
    case.kill_daemon();
    case.set("TASK_CAP", "7");
    // The daemon looks twice before it gathers what speaks against an `up`.
    case.engine
        .fault(Rule::on(Verb::ListContainers, Fault::ShowsNoPorts).times(8));
    case.run(&["up"]).ok();
    assert_eq!(case.engine.hits(), 8, "the list was asked for again");
    // What is held for longer is held by another.
    case.engine
        .fault(Rule::on(Verb::ListContainers, Fault::ShowsNoPorts));
    case.set("TASK_CAP", "8");
    case.run(&["up"]).with(78).says("is taken by");
    case.engine.heal();
    case.check(&Allowed::default());
}

/// What listens for a container on the host is a process of the engine's, which says nothing to
/// people.
#[test]
fn f66_a_port_that_another_container_took_meanwhile_names_that_container() {
    let case = Case::up();
    case.run(&["stop", "octopus-server-2"]).ok();
    let port = case.unit("octopus-server-2")["ports"][0].clone();
    let (address, inside) = port.as_str().unwrap().split_once("->").unwrap();
    let (ip, host) = address.rsplit_once(':').unwrap();
    let binding = bollard::models::PortBinding {
        host_ip: Some(ip.to_owned()),
        host_port: Some(host.to_owned()),
    };
    let published = [(format!("{inside}/tcp"), Some(vec![binding]))].into();
    let body = bollard::models::ContainerCreateBody {
        image: Some("fake-sql:1".to_owned()),
        env: Some(vec![
            "ACCEPT_EULA=Y".to_owned(),
            "MSSQL_SA_PASSWORD=Tests-0f-octo-local".to_owned(),
        ]),
        host_config: Some(bollard::models::HostConfig {
            port_bindings: Some(published),
            ..bollard::models::HostConfig::default()
        }),
        ..bollard::models::ContainerCreateBody::default()
    };
    let options = bollard::query_parameters::CreateContainerOptionsBuilder::default()
        .name("thief")
        .build();
    let person = case.person();
    let docker = person.docker();
    person
        .wait(docker.create_container(Some(options), body))
        .unwrap();
    person.wait(docker.start_container("thief", None)).unwrap();
    case.run(&["start", "octopus-server-2"])
        .with(1)
        .says("container thief has it");
    assert_eq!(case.unit("octopus-server-2")["cause"], "PortTaken");
    person.remove("thief");
    case.wait_for("ready");
    case.check(&Allowed::default());
}

#[test]
fn f41_an_image_that_nobody_has_fails_by_name_and_what_runs_goes_on() {
    let case = Case::up();
    let before = case.engine.running();
    case.set("OCTOPUS_SERVER_TAG", "9.9");
    // The fake engine has no files to back up.
    case.run(&["up", "--no-backup"])
        .with(1)
        .says(&format!("{OCTOPUS}:9.9"));
    assert_eq!(
        case.engine.running(),
        before,
        "nothing is stopped for a version that cannot start"
    );
    case.engine.add_image(&format!("{OCTOPUS}:9.9"));
    case.wait_for("ready");
    case.run(&["plan"]).with(0);
    assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [1, 2, 2]);
    case.check(&Allowed::default());
}

#[test]
fn f41_a_registry_that_is_down_is_tried_again_and_never_needed_for_what_is_there() {
    let case = Case::new();
    case.engine.world().registry.insert(OCTOPUS.to_owned());
    let down =
        "Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host";
    case.engine
        .fault(Rule::on(Verb::Pull, Fault::Refused(500, down)));
    case.run(&["up"]).ok();
    case.set("OCTOPUS_SERVER_TAG", "9.9");
    case.run(&["up"]).with(1).says("no such host");
    case.engine.heal();
    case.wait_for("ready");
    case.check(&Allowed::default());
}

#[test]
fn f41_what_runs_well_needs_no_image() {
    let case = Case::up();
    case.kill_daemon();
    case.engine.world().images.clear();
    case.run(&["up"]).ok();
    case.run(&["plan"]).with(0);
    case.strike("octopus-server-1");
    assert_eq!(
        case.starts().into_values().collect::<Vec<_>>(),
        [1, 2, 1],
        "a container starts again without it"
    );
    case.wait_for("ready");
    case.check(&Allowed::default());
}

#[test]
fn f43_a_tag_that_moved_is_shown_and_applied_to_no_single_node() {
    let case = Case::up();
    let image = |case: &Case| {
        let world = case.engine.world();
        let nodes = world
            .containers
            .values()
            .filter(|one| one.name.contains("octopus"));
        nodes
            .map(|one| one.image_id.clone())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let before = image(&case);
    case.engine.add_image(&format!("{OCTOPUS}:1.0"));
    case.strike("octopus-server-1");
    case.engine.meddle(&Case::container("octopus-server-2"));
    case.person().remove(&Case::container("octopus-server-2"));
    wait_until("the node was made again", || {
        (case.starts()["octopus-server-2"] == 2).then_some(())
    });
    case.wait_for("ready");
    assert_eq!(image(&case), before, "both run what they ran");
    // The fake engine has no files to back up.
    case.run(&["up", "--no-backup"]).ok();
    assert_ne!(image(&case), before, "`up` takes the new one");
    assert_eq!(image(&case).len(), 1, "for all nodes");
    case.check(&Allowed::default());
}

#[test]
fn f44_engines_of_another_age_are_spoken_to_in_their_own_version() {
    for api in [
        Api {
            oldest: 44,
            newest: 52,
        },
        Api {
            oldest: 12,
            newest: 35,
        },
    ] {
        let case = Case::new();
        case.engine.world().api = api;
        case.run(&["up"]).ok();
        case.run(&["down"]).ok();
        case.check(&Allowed::default());
    }
}

#[test]
fn f45_the_engine_of_the_current_context_is_used() {
    let case = Case::new();
    let config = case.state().parent().unwrap().join("docker");
    let digest = <sha2::Sha256 as sha2::Digest>::digest(b"elsewhere");
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let meta = config.join("contexts/meta").join(hash);
    std::fs::create_dir_all(&meta).unwrap();
    let context =
        json!({ "Name": "elsewhere", "Endpoints": { "docker": { "Host": case.engine.url() } } });
    std::fs::write(meta.join("meta.json"), context.to_string()).unwrap();
    std::fs::write(
        config.join("config.json"),
        r#"{"currentContext":"elsewhere"}"#,
    )
    .unwrap();
    let mut command = case.command(&["up"]);
    let ended = crate::kit::process::Running::spawn(
        command
            .env_remove("DOCKER_HOST")
            .env("DOCKER_CONFIG", &config),
    )
    .end();
    ended.ok();
    assert_eq!(case.engine.running().len(), 3);
}

#[test]
fn f52_a_node_that_ends_whenever_it_starts_is_no_storm_and_the_others_serve() {
    let case = Case::up();
    let sick = Case::container("octopus-server-2");
    case.engine.conduct(
        &sick,
        Conduct {
            fails: Some((1, "it cannot go on like this")),
            ..Conduct::default()
        },
    );
    case.engine.strike(&sick, Signal::KILL);
    wait_until("it is in a crash loop", || {
        (case.unit("octopus-server-2")["phase"] == "crash-loop").then_some(())
    });
    assert!(
        case.starts()["octopus-server-2"] <= 12,
        "{:?}",
        case.starts()
    );
    assert_eq!(case.unit("octopus-server-1")["phase"], "ready");
    case.engine.conduct(&sick, Conduct::default());
    case.wait_for("ready");
    assert_eq!(
        (case.starts()["db"], case.starts()["octopus-server-1"]),
        (1, 1)
    );
    case.check(&Allowed::default());
}

#[test]
fn f46_a_struck_node_comes_back_and_nothing_else_moves() {
    let case = Case::up();
    case.strike("octopus-server-1");
    assert_eq!(case.starts().into_values().collect::<Vec<_>>(), [1, 2, 1]);
    case.engine
        .strike(&Case::container("octopus-server-2"), Signal::TERM);
    wait_until("exit code 0 is a failure too", || {
        (case.starts()["octopus-server-2"] == 2).then_some(())
    });
    case.wait_for("ready");
    case.check(&Allowed::default());
}

/// A log whose disk hangs: in its place is a pipe that is full.
#[test]
fn f65_a_log_that_cannot_be_written_keeps_nobody_waiting() {
    use rustix::fs::OFlags;
    let case = Case::new();
    std::fs::create_dir_all(case.state()).unwrap();
    let log = case.state().join("daemon.log");
    let mode = rustix::fs::Mode::from_bits_truncate(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &log, kind, mode, 0).unwrap();
    let open = |flags| rustix::fs::open(&log, flags | OFlags::NONBLOCK, mode).unwrap();
    let (unread, full) = (open(OFlags::RDONLY), open(OFlags::WRONLY));
    while rustix::io::write(&full, &[b'x'; 512]).is_ok() {}
    drop(full);
    case.run(&["up"]).ok();
    case.strike("octopus-server-1");
    case.run(&["down"]).ok();
    case.check(&Allowed::default());
    std::fs::remove_file(&log).unwrap();
    drop(unread);
}

/// The project is named after its directory: in another one it would be another, with an empty
/// database beside the one that is here.
#[test]
fn a_directory_that_was_moved_makes_no_second_stack_beside_its_data() {
    let case = Case::up();
    case.run(&["down"]).ok();
    let root = case.state().ancestors().nth(2).unwrap().to_owned();
    let (before, after) = (root.join(PROJECT), root.join("elsewhere"));
    std::fs::rename(&before, &after).unwrap();
    for words in [["plan"], ["up"]] {
        let mut command = case.command(&words);
        let ended = Running::spawn(command.current_dir(&after)).end();
        ended.with(78).says(PROJECT).says("-p case");
    }
    let volumes: Vec<String> = case.engine.world().volumes.keys().cloned().collect();
    assert!(
        volumes.iter().all(|name| name.starts_with("case_")),
        "{volumes:?}"
    );
    // The way that is told is the way on.
    let mut command = case.command(&["-p", PROJECT, "up"]);
    Running::spawn(command.current_dir(&after)).end().ok();
    let mut command = case.command(&["-p", PROJECT, "down"]);
    Running::spawn(command.current_dir(&after)).end().ok();
    assert!(case.is_gone(), "the data alone is left");
    std::fs::rename(&after, &before).unwrap();
}
