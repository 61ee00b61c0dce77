//! Stacks as people have them, from what an engine shows to what is adopted, and every death on the
//! way there and back.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::found::Found;
use super::found::Whereabouts;
use super::found::find;
use super::record::OldNetwork;
use super::record::Record;
use super::seen::Restart;
use super::seen::Seen;
use super::steps::Back;
use super::steps::Step;
use super::steps::Stuck;
use super::steps::World;
use super::steps::back;
use super::steps::next;
use super::told;
use super::variables;
use crate::config::Problem;
use crate::config::Secret;
use crate::config::storage::Place;

const SQL: &str = "mcr.microsoft.com/mssql/server:2022-CU14-ubuntu-22.04";
const OCTOPUS: &str = "octopusdeploy/octopusdeploy:2025.3.14";

/// What `docker inspect` shows of a container of compose's, as far as it matters.
fn inspected(name: &str, image: &str, env: &[&str], mounts: &Value, ports: &Value) -> Value {
    json!({
        "Id": format!("id-of-{name}"),
        "Name": format!("/{name}"),
        "Image": "sha256:0123",
        "State": {"Status": "running", "Running": true, "Paused": false},
        "Config": {
            "Image": image,
            "Env": env,
            "User": "",
            "Labels": {
                "com.docker.compose.project": "shop",
                "com.docker.compose.oneoff": "False",
            },
        },
        "HostConfig": {
            "PortBindings": ports,
            "Privileged": true,
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
        },
        "Mounts": mounts,
        "NetworkSettings": {"Networks": {"shop_default": {
            "NetworkID": "net-1",
            "Aliases": ["db", "0123456789ab"],
        }}},
    })
}

fn seen(value: &Value) -> Seen {
    Seen::parse(&serde_json::to_vec(value).unwrap()).unwrap()
}

fn volume(name: &str, target: &str) -> Value {
    json!({"Type": "volume", "Name": name, "Source": format!("/x/{name}"), "Destination": target})
}

fn bind(source: &str, target: &str) -> Value {
    json!({"Type": "bind", "Source": source, "Destination": target})
}

fn port(inside: &str, host: &str) -> Value {
    json!({inside: [{"HostIp": "", "HostPort": host}]})
}

/// The article's: `db` and `octopus-server`, everything in the containers, by compose's first
/// version.
fn article() -> [Value; 2] {
    [
        inspected(
            "shop_db_1",
            SQL,
            &["SA_PASSWORD=Str0ng-enough", "ACCEPT_EULA=Y", "PATH=/bin"],
            &json!([]),
            &port("1433/tcp", "1401"),
        ),
        inspected(
            "shop_octopus-server_1",
            OCTOPUS,
            &[
                "ADMIN_USERNAME=ann",
                "ADMIN_PASSWORD=whatever-1",
                "ACCEPT_EULA=Y",
                "OCTOPUS_SERVER_NODE_NAME=octo",
                "DB_CONNECTION_STRING=Server=db,1433;Database=OctopusDeploy;User=sa;Password=Str0ng-enough",
                "ADMIN_API_KEY=",
            ],
            &json!([]),
            &port("8080/tcp", "8080"),
        ),
    ]
}

/// The vendor's later one: named volumes, a user, no privileges, the port of polling Tentacles.
fn vendors() -> [Value; 2] {
    let [mut db, mut node] = article();
    db["Name"] = json!("/shop-db-1");
    db["Mounts"] = json!([volume("shop_sqlvolume", "/var/opt/mssql")]);
    node["Name"] = json!("/shop-octopus-server-1");
    node["Mounts"] = json!([
        volume("shop_repository", "/repository"),
        volume("shop_artifacts", "/artifacts"),
        volume("shop_taskLogs", "/taskLogs/"),
        volume("shop_eventExports", "/eventExports"),
        volume("shop_cache", "/cache"),
        volume("shop_import", "/import"),
        volume("0f0f", "/var/lib/docker"),
    ]);
    node["HostConfig"]["Privileged"] = json!(false);
    node["HostConfig"]["PortBindings"] = json!({
        "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "80"}],
        "10943/tcp": [{"HostIp": "", "HostPort": "11111"}],
        "53/udp": [{"HostIp": "", "HostPort": "53"}],
    });
    node["Config"]["User"] = json!("octopus");
    [db, node]
}

/// Somebody's own: other services, a mirrored image, directories, another name of everything.
fn relatives() -> [Value; 2] {
    let [mut db, mut node] = article();
    db["Name"] = json!("/database");
    db["Config"]["Image"] = json!("registry.example:5000/mirror/mssql/server@sha256:00");
    db["Mounts"] = json!([volume("mssql_data", "/var/opt/mssql")]);
    node["Name"] = json!("/octo");
    node["Config"]["Image"] = json!("registry.example/ours:2025.3.14");
    node["Config"]["Env"][4] =
        json!("DB_CONNECTION_STRING=Server=database;Database=Octo;User=sa;Password=Str0ng-enough");
    node["Mounts"] = json!([
        bind("/srv/octo/repository", "/repository"),
        bind("/srv/octo/artifacts", "/artifacts"),
        bind("/srv/octo/certificates", "/certificates"),
    ]);
    node["NetworkSettings"]["Networks"]["proxy"] = json!({"NetworkID": "net-2"});
    [db, node]
}

fn found_in(all: &[Value]) -> Result<Found, Vec<Problem>> {
    let all: Vec<Seen> = all.iter().map(seen).collect();
    find("shop", &all)
}

#[track_caller]
fn found(all: &[Value]) -> Found {
    found_in(all).unwrap()
}

/// The problems' words.
fn refused(all: &[Value]) -> String {
    let problems = found_in(all).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    told.join("\n")
}

fn place(found: &Found, key: &str) -> String {
    match found.data.get(key) {
        Some(Whereabouts::Mounted(Place::Volume(name))) => format!("volume {name}"),
        Some(Whereabouts::Mounted(Place::Directory(path))) => format!("directory {path}"),
        Some(Whereabouts::Inside { container, path }) => format!("{path} of {container}"),
        None => "nowhere".to_owned(),
    }
}

fn value<'a>(told: &'a variables::Variables, key: &str) -> &'a str {
    told.get(key).map_or("-", Secret::expose)
}

#[test]
fn the_articles_stack_has_its_data_inside() {
    let found = found(&article());
    assert_eq!(
        (found.sql.name.as_str(), found.nodes[0].name.as_str()),
        ("shop_db_1", "shop_octopus-server_1")
    );
    assert_eq!(
        place(&found, "sql-data"),
        "/var/opt/mssql of id-of-shop_db_1"
    );
    assert_eq!(
        place(&found, "task-logs"),
        "/taskLogs of id-of-shop_octopus-server_1"
    );
    assert_eq!(place(&found, "import"), "nowhere");
    assert_eq!(found.inside().count(), 5);
    let told = variables::told(&found);
    for (key, expected) in [
        ("SA_PASSWORD", "Str0ng-enough"),
        ("ACCEPT_EULA", "Y"),
        ("ACCEPT_OCTOPUS_EULA", "Y"),
        ("SQL_IMAGE", SQL),
        ("OCTOPUS_IMAGE", "octopusdeploy/octopusdeploy"),
        ("OCTOPUS_SERVER_TAG", "2025.3.14"),
        ("OCTOPUS_SERVER_NODE_NAME", "octo"),
        ("ADMIN_USERNAME", "ann"),
        ("OCTOPUS_PORT", "8080"),
        ("BIND_ADDRESS", "0.0.0.0"),
        ("SQL_PORT", "1401"),
        ("SQL_DATA", "-"),
        ("ADMIN_API_KEY", "-"),
        ("DISABLE_DIND", "-"),
        ("OCTOPUS_NODES", "-"),
        ("EXTRA_NETWORKS", "-"),
    ] {
        assert_eq!(value(&told, key), expected, "{key}");
    }
}

#[test]
fn the_vendors_volumes_are_used_as_they_are() {
    let found = found(&vendors());
    for (key, expected) in [
        ("sql-data", "volume shop_sqlvolume"),
        ("repository", "volume shop_repository"),
        ("artifacts", "volume shop_artifacts"),
        ("task-logs", "volume shop_taskLogs"),
        ("event-exports", "volume shop_eventExports"),
        ("import", "volume shop_import"),
    ] {
        assert_eq!(place(&found, key), expected);
    }
    let told = variables::told(&found);
    for (key, expected) in [
        ("SQL_DATA", "shop_sqlvolume"),
        ("IMPORT", "shop_import"),
        ("DISABLE_DIND", "Y"),
        ("CONTAINER_USER", "octopus"),
        ("OCTOPUS_PORT", "80"),
        ("BIND_ADDRESS", "127.0.0.1"),
    ] {
        assert_eq!(value(&told, key), expected, "{key}");
    }
    let notes = variables::notes(&found);
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("port 10943 (polling Tentacles)"),
        "{notes:?}"
    );
    assert!(notes[1].contains("without MASTER_KEY"), "{notes:?}");
}

#[test]
fn relatives_are_recognised_by_image_mounts_and_environment() {
    let found = found(&relatives());
    assert_eq!(place(&found, "sql-data"), "volume mssql_data");
    assert_eq!(
        place(&found, "repository"),
        "directory /srv/octo/repository"
    );
    assert_eq!(
        place(&found, "task-logs"),
        "/taskLogs of id-of-shop_octopus-server_1"
    );
    let told = variables::told(&found);
    assert_eq!(value(&told, "EXTRA_NETWORKS"), "proxy");
    assert_eq!(value(&told, "OCTOPUS_IMAGE"), "registry.example/ours");
    let notes = variables::notes(&found).join("\n");
    assert!(
        notes.contains("mounts /certificates, which is not taken along"),
        "{notes}"
    );
    // An image of any name, by what is mounted or set in it.
    let [mut db, mut node] = relatives();
    db["Config"]["Image"] = json!("sql:1");
    db["Config"]["Env"] = json!([]);
    node["Config"]["Env"] = json!([]);
    let found = super::found::find("shop", &[seen(&db), seen(&node)]).unwrap();
    assert_eq!(found.nodes[0].name, "octo");
    // Made by hand, without labels, as compose names its own.
    let [mut db, mut node] = article();
    (db["Config"]["Labels"], node["Config"]["Labels"]) = (json!({}), json!(null));
    assert_eq!(
        found_in(&[db.clone(), node.clone()]).map(|found| found.from),
        Ok("shop".to_owned())
    );
    db["Name"] = json!("/shopping_db_1");
    assert!(refused(&[db, node]).contains("none of its containers is a SQL Server"));
}

#[test]
fn a_mount_inside_of_the_data_is_copied_together_with_what_is_around_it() {
    let [mut db, node] = article();
    for mounts in [
        json!([volume("mssql_data", "/var/opt/mssql/data")]),
        json!([
            volume("all", "/var/opt/mssql"),
            bind("/srv/log", "/var/opt/mssql/log"),
        ]),
    ] {
        db["Mounts"] = mounts;
        let found = found(&[db.clone(), node.clone()]);
        assert_eq!(
            place(&found, "sql-data"),
            "/var/opt/mssql of id-of-shop_db_1"
        );
        assert_eq!(variables::notes(&found).len(), 1, "nothing is left behind");
    }
}

#[test]
fn what_cannot_be_taken_along_is_refused_with_the_reason() {
    let [db, node] = vendors();
    let changed = |value: &Value, pointer: &str, to: Value| {
        let mut value = value.clone();
        *value.pointer_mut(pointer).unwrap() = to;
        value
    };
    let foreign = |value: &Value| {
        changed(
            value,
            "/Config/Labels",
            json!({"com.docker.compose.project": "other"}),
        )
    };
    let second = |value: &Value, name: &str| {
        let value = changed(value, "/Id", json!(name));
        changed(&value, "/Name", json!(format!("/{name}")))
    };
    let ours = json!({"com.docker.compose.project": "shop", "octo-local.project": "shop"});
    let one_off =
        json!({"com.docker.compose.project": "shop", "com.docker.compose.oneoff": "True"});
    let own = second(
        &changed(&node, "/Mounts", json!([])),
        "shop-octopus-server-2",
    );
    let memory = json!([{"Type": "tmpfs", "Destination": "/var/opt/mssql"}]);
    let elsewhere = json!(["MSSQL_SA_PASSWORD=x", "MSSQL_DATA_DIR=/data"]);
    for (all, says) in [
        (vec![], "no container of a compose project of this name"),
        (vec![foreign(&db), foreign(&node)], "--no-start"),
        (
            vec![db.clone()],
            "none of its containers is an Octopus Server",
        ),
        (vec![node.clone()], "none of its containers is a SQL Server"),
        (
            vec![db.clone(), second(&db, "other"), node.clone()],
            "several of its containers are SQL Servers",
        ),
        (
            vec![changed(&db, "/Config/Labels", ours), node.clone()],
            "none of its containers is a SQL Server",
        ),
        (
            vec![changed(&db, "/Config/Labels", one_off), node.clone()],
            "none of its containers is a SQL Server",
        ),
        (
            vec![changed(&db, "/Mounts", memory), node.clone()],
            "is in memory",
        ),
        (
            vec![changed(&db, "/Config/Env", elsewhere), node.clone()],
            "keeps data at /data",
        ),
        (vec![db.clone(), node.clone(), own], "do not share it"),
    ] {
        let words = refused(&all);
        assert!(words.contains(says), "{says}: {words}");
    }
}

#[test]
fn several_nodes_on_the_same_volumes_are_several_nodes() {
    let [db, node] = vendors();
    let mut other = node.clone();
    other["Id"] = json!("other");
    other["Name"] = json!("/shop-octopus-server-2");
    let found = found(&[other.clone(), db.clone(), node.clone()]);
    assert_eq!(found.nodes[0].name, "shop-octopus-server-1");
    assert_eq!(value(&variables::told(&found), "OCTOPUS_NODES"), "2");
    let notes = variables::notes(&found).join("\n");
    assert!(notes.contains("is called octo-2 from then on"), "{notes}");
    // Files in each one's own layer cannot be one volume.
    let [mut one, mut two] = [node, other];
    (one["Mounts"], two["Mounts"]) = (json!([]), json!([]));
    let words = refused(&[db, one, two]);
    assert!(
        words.contains("each of several nodes") || words.contains("do not share"),
        "{words}"
    );
}

#[test]
fn what_the_env_says_counts_and_what_contradicts_the_data_is_refused() {
    let found = found(&vendors());
    let mut told = variables::told(&found);
    told.insert("MASTER_KEY".to_owned(), Secret::new("right"));
    let given = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    };
    let missing = variables::missing(
        &told,
        &given(&[
            ("OCTOPUS_PORT", "9000"),
            ("ADMIN_USERNAME", ""),
            ("MSSQL_SA_PASSWORD", "x"),
            ("SQL_IMAGE", ""),
        ]),
    );
    for key in ["OCTOPUS_PORT", "SA_PASSWORD", "SQL_IMAGE"] {
        assert_eq!(value(&missing, key), "-", "{key}");
    }
    assert_eq!(value(&missing, "ADMIN_USERNAME"), "ann");
    let shown: Vec<String> = variables::shown(&missing).collect();
    assert!(shown.contains(&"MASTER_KEY=***".to_owned()), "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains("whatever-1")));

    let conflicts = |pairs: &[(&str, &str)]| {
        let problems = variables::conflicts(&found, &told, &given(pairs));
        problems.into_iter().map(|one| one.key).collect::<Vec<_>>()
    };
    let same = "Server=db;Database=octopusdeploy;User=sa;Password=x";
    let other = "Server=db;Database=Other;User=sa;Password=x";
    let none: [&str; 0] = [];
    assert_eq!(conflicts(&[]), none);
    assert_eq!(
        conflicts(&[
            ("DB_CONNECTION_STRING", same),
            ("MASTER_KEY", "right"),
            ("OCTOPUS_SERVER_TAG", "2025.3.14"),
            ("OCTOPUS_IMAGE", "docker.io/octopusdeploy/octopusdeploy"),
            ("SQL_IMAGE", SQL),
            ("SQL_DATA", "shop_sqlvolume"),
        ]),
        none
    );
    for (key, value) in [
        ("DB_CONNECTION_STRING", other),
        ("MASTER_KEY", "wrong"),
        ("OCTOPUS_SERVER_TAG", "2026.1.1"),
        ("SQL_IMAGE", "mcr.microsoft.com/mssql/server:2025-latest"),
        ("SQL_DATA", "/srv/sql"),
    ] {
        assert_eq!(conflicts(&[(key, value)]), [key], "{key}={value}");
    }
    assert_eq!(
        conflicts(&[("OCTOPUS_IMAGE", "ours")]),
        ["OCTOPUS_SERVER_TAG"]
    );
}

#[test]
fn a_person_is_told_what_was_found_and_what_will_be_done() {
    let found = found(&article());
    let network = OldNetwork {
        name: "shop_default".to_owned(),
        ..OldNetwork::default()
    };
    let told_variables = variables::told(&found);
    let lines = told::lines(&found, "shop", &told_variables, Some(&network), true).join("\n");
    for says in [
        "SQL Server: container shop_db_1 of mcr.microsoft.com/mssql/server",
        "/var/opt/mssql: in the container itself; it is copied into the new volume shop_sql-data",
        "SA_PASSWORD=***",
        "backup    a set",
        "stop      shop_octopus-server_1, then shop_db_1 by SHUTDOWN",
        "remove    the network shop_default",
    ] {
        assert!(lines.contains(says), "{says}: {lines}");
    }
    assert!(!lines.contains("Str0ng-enough") && !lines.contains("whatever-1"));
    let without = told::lines(&found, "new", &told_variables, None, false).join("\n");
    assert!(
        !without.contains("remove ") && !without.contains("backup "),
        "{without}"
    );
}

/// What the engine does when it is asked for a step.
fn take(step: &Step, record: &mut Record, world: &mut World) {
    match step {
        Step::Disarm(id) => world.containers.get_mut(id).unwrap().restart = Restart::default(),
        Step::StopNode(id) | Step::StopSql(id) => {
            world.containers.get_mut(id).unwrap().running = false;
        }
        Step::Copy(number) => record.copies[*number].done = true,
        Step::Rename { id, to } => world.containers.get_mut(id).unwrap().name.clone_from(to),
        Step::RemoveNetwork(_) => world.network = None,
    }
}

fn take_back(step: &Back, record: &Record, world: &mut World) {
    match step {
        Back::MakeNetwork => world.network = Some("net-9".to_owned()),
        Back::Join { id, network } => {
            let networks = &mut world.containers.get_mut(id).unwrap().networks;
            networks
                .get_mut("shop_default")
                .unwrap()
                .id
                .clone_from(network);
        }
        Back::Rename { id, to } => world.containers.get_mut(id).unwrap().name.clone_from(to),
        Back::Start(id) => world.containers.get_mut(id).unwrap().running = true,
        Back::Arm(id) => {
            let old = record.old.iter().find(|old| old.id == *id).unwrap();
            world.containers.get_mut(id).unwrap().restart = old.restart.clone();
        }
    }
}

fn begun(all: &[Value]) -> (Record, World) {
    let found = found(all);
    let network = OldNetwork {
        name: "shop_default".to_owned(),
        ..OldNetwork::default()
    };
    let world = World {
        containers: found
            .containers()
            .map(|one| (one.id.clone(), one.clone()))
            .collect(),
        network: Some("net-1".to_owned()),
    };
    let record = Record::begin(&found, variables::told(&found), Some(network));
    (record, world)
}

/// So many steps are taken, and the command dies.
fn after(steps: usize, record: &mut Record, world: &mut World) -> Vec<Step> {
    let mut taken = Vec::new();
    while taken.len() < steps
        && let Some(step) = next(record, world).unwrap()
    {
        take(&step, record, world);
        taken.push(step);
    }
    taken
}

#[test]
fn nodes_stop_before_their_database_and_nothing_is_copied_or_renamed_while_it_runs() {
    let (mut record, mut world) = begun(&article());
    let steps = after(100, &mut record, &mut world);
    let words: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
    let at = |word: &str| words.iter().position(|step| step.contains(word)).unwrap();
    let last = |word: &str| words.iter().rposition(|step| step.contains(word)).unwrap();
    assert!(
        last("Disarm") < at("StopNode") && at("StopNode") < at("StopSql"),
        "{words:?}"
    );
    assert!(
        at("StopSql") < at("Copy") && last("Copy") < at("Rename"),
        "{words:?}"
    );
    assert_eq!(last("RemoveNetwork"), words.len() - 1);
    assert_eq!(
        steps
            .iter()
            .filter(|step| matches!(step, Step::Copy(_)))
            .count(),
        5
    );
}

#[test]
fn whoever_comes_after_a_death_at_any_step_goes_on_to_the_same_end_or_back_to_the_beginning() {
    for shape in [article(), vendors(), relatives()] {
        let (record, world) = begun(&shape);
        let (mut whole, mut end) = (record.clone(), world.clone());
        let steps = after(100, &mut whole, &mut end).len();
        for died in 0..=steps {
            let (mut record, mut at) = (record.clone(), world.clone());
            after(died, &mut record, &mut at);
            // What is kept was written; the rest is seen.
            let kept = serde_json::to_vec(&record).unwrap();
            let mut read: Record = serde_json::from_slice(&kept).unwrap();
            assert_eq!(read, record);
            let (mut on, mut forward) = (read.clone(), at.clone());
            after(100, &mut on, &mut forward);
            assert_eq!((&on, &forward), (&whole, &end), "died after {died}");
            back_from(&mut read, at, &world, died);
        }
        // It is no longer the same network, and all else is.
        let mut again = whole.clone();
        back_from(&mut again, end, &world, steps);
    }
}

/// Goes back, dying after each step once.
#[track_caller]
fn back_from(record: &mut Record, mut at: World, begin: &World, died: usize) {
    let mut taken = Vec::new();
    while let Some(step) = back(record, &at).unwrap() {
        take_back(&step, record, &mut at);
        taken.push(step);
        assert!(taken.len() < 20, "{taken:?}");
    }
    if at.network != begin.network {
        assert_eq!(at.network.as_deref(), Some("net-9"));
        at.network.clone_from(&begin.network);
        for one in at.containers.values_mut() {
            let attached = one.networks.get_mut("shop_default").unwrap();
            assert_eq!(attached.id, "net-9");
            attached.id = "net-1".to_owned();
        }
    }
    assert_eq!(at, *begin, "died after {died}, then {taken:?}");
    let starts: Vec<&Back> = taken
        .iter()
        .filter(|step| matches!(step, Back::Start(_)))
        .collect();
    if let [first, ..] = starts[..]
        && starts.len() == 2
    {
        assert_eq!(*first, Back::Start("id-of-shop_db_1".to_owned()));
    }
}

#[test]
fn what_did_not_run_is_not_started_on_the_way_back() {
    let [mut db, mut node] = vendors();
    for one in [&mut db, &mut node] {
        one["State"] = json!({"Status": "exited", "Running": false});
    }
    let (mut record, mut world) = begun(&[db, node]);
    let steps = after(100, &mut record, &mut world);
    assert!(
        !steps
            .iter()
            .any(|step| matches!(step, Step::StopSql(_) | Step::StopNode(_)))
    );
    while let Some(step) = back(&record, &world).unwrap() {
        assert!(!matches!(step, Back::Start(_)));
        take_back(&step, &record, &mut world);
    }
}

#[test]
fn a_container_that_is_gone_stops_what_needs_it_and_nothing_else() {
    let (mut record, mut world) = begun(&article());
    after(4, &mut record, &mut world);
    world.containers.remove("id-of-shop_db_1");
    let gone = Stuck::DataGone("shop_db_1".to_owned());
    let mut last = next(&record, &world);
    while let Ok(Some(step)) = &last {
        take(&step.clone(), &mut record, &mut world);
        last = next(&record, &world);
    }
    assert_eq!(last, Err(gone));
    assert_eq!(
        back(&record, &world),
        Err(Stuck::Gone("shop_db_1".to_owned()))
    );
    // Data in volumes needs no old container.
    let (mut record, mut world) = begun(&vendors());
    world.containers.clear();
    after(100, &mut record, &mut world);
    assert_eq!(next(&record, &world), Ok(None));
}
