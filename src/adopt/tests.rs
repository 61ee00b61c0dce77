//! What is recognised of stacks as people have them, and what counts of it.

mod deaths;
mod shapes;

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use self::shapes::SQL;
use self::shapes::article;
use self::shapes::bind;
use self::shapes::found;
use self::shapes::found_in;
use self::shapes::refused;
use self::shapes::relatives;
use self::shapes::seen;
use self::shapes::vendors;
use self::shapes::volume;
use super::found::Found;
use super::found::Whereabouts;
use super::record::OldNetwork;
use super::told;
use super::variables;
use crate::config::Secret;
use crate::config::storage::Place;

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
        ("OCTOPUS_POLLING_PORT_BASE", "11111"),
        ("OCTOPUS_POLLING_BIND_ADDRESS", "0.0.0.0"),
    ] {
        assert_eq!(value(&told, key), expected, "{key}");
    }
    let notes = variables::notes(&found);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("without MASTER_KEY"), "{notes:?}");
}

#[test]
fn what_nobody_will_reach_as_before_is_named() {
    let [db, mut node] = vendors();
    let mut second = node.clone();
    second["Id"] = json!("id-of-second");
    second["Name"] = json!("/shop-octopus-server-2");
    node["HostConfig"]["PortBindings"]["81/tcp"] = json!([{"HostIp": "", "HostPort": "81"}]);
    let polling = |port: &str| json!([{"HostIp": "", "HostPort": port}]);
    let mut notes = |port: &str| {
        second["HostConfig"]["PortBindings"]["10943/tcp"] = polling(port);
        let found = found(&[db.clone(), node.clone(), second.clone()]);
        let notes = variables::notes(&found).into_iter();
        let of_ports = notes.filter(|note| note.contains("port"));
        of_ports.collect::<Vec<_>>().join("\n")
    };
    let kept = notes("11112");
    assert!(kept.contains("port 81") && !kept.contains("poll"), "{kept}");
    let moved = notes("11119");
    assert!(
        moved.contains(
            "poll shop-octopus-server-2 reach it on port 11119, and will reach it on 11112"
        ),
        "{moved}"
    );
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
    assert_eq!(
        value(&told, "EXTRA_MOUNTS"),
        "/srv/octo/certificates:/certificates"
    );
    assert!(!notes.contains("/certificates"), "{notes}");
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
fn further_mounts_host_names_and_limits_come_along_where_they_can_be_said() {
    let [mut db, mut node] = vendors();
    let nameless = "0123456789abcdef".repeat(4);
    let mounts = node["Mounts"].as_array_mut().unwrap();
    let mut certificates = bind("/srv/certs", "/certs");
    certificates["RW"] = json!(false);
    mounts.extend([
        certificates,
        volume("shop_tools", "/opt/tools"),
        volume(&nameless, "/nameless"),
        bind("/srv/etc", "/etc"),
        bind("/a,b", "/comma"),
        bind("/var/run/docker.sock", "/var/run/docker.sock"),
    ]);
    let host = &mut node["HostConfig"];
    host["ExtraHosts"] = json!(["git.example:10.0.0.5", "odd"]);
    host["Memory"] = json!(4_294_967_296_u64);
    (host["CpuQuota"], host["CpuPeriod"]) = (json!(150_000), json!(100_000));
    db["HostConfig"]["NanoCpus"] = json!(2_000_000_000);
    db["Mounts"]
        .as_array_mut()
        .unwrap()
        .push(bind("/srv/sql-backups", "/backups"));
    let of = |db: &Value, nodes: &[Value]| {
        let all = [std::slice::from_ref(db), nodes].concat();
        let found = found(&all);
        (variables::told(&found), variables::notes(&found).join("\n"))
    };
    let (told, notes) = of(&db, &[node.clone()]);
    for (key, expected) in [
        (
            "EXTRA_MOUNTS",
            "/srv/certs:/certs:ro,shop_tools:/opt/tools,/var/run/docker.sock:/var/run/docker.sock",
        ),
        ("EXTRA_HOSTS", "git.example:10.0.0.5"),
        ("OCTOPUS_MEMORY", "4g"),
        ("OCTOPUS_CPUS", "1.5"),
        ("SQL_MEMORY", "-"),
        ("SQL_CPUS", "2"),
    ] {
        assert_eq!(value(&told, key), expected, "{key}");
    }
    for says in [
        "/nameless",
        "mounts /etc,",
        "/comma",
        "mounts /backups",
        "1 more host name",
    ] {
        assert!(notes.contains(says), "{says}: {notes}");
    }
    assert!(!notes.contains("/opt/tools"), "{notes}");

    // Where the nodes differ, only what all have comes along, and Docker-in-Docker has a socket of
    // its own.
    let mut other = node.clone();
    (other["Id"], other["Name"]) = (json!("other"), json!("/shop-octopus-server-2"));
    other["Mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["Destination"] != "/certs");
    other["HostConfig"]["Memory"] = json!(0);
    for node in [&mut node, &mut other] {
        node["HostConfig"]["Privileged"] = json!(true);
    }
    let (told, notes) = of(&db, &[node, other]);
    assert_eq!(value(&told, "EXTRA_MOUNTS"), "shop_tools:/opt/tools");
    for says in ["/certs", "docker.sock", "have other limits"] {
        assert!(notes.contains(says), "{says}: {notes}");
    }
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
