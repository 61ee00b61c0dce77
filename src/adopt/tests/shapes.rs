//! Stacks as people have them, as `docker inspect` shows them.

use serde_json::Value;
use serde_json::json;

use super::super::found::Found;
use super::super::found::find;
use super::super::seen::Seen;
use crate::config::Problem;

pub(super) const SQL: &str = "mcr.microsoft.com/mssql/server:2022-CU14-ubuntu-22.04";
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

pub(super) fn seen(value: &Value) -> Seen {
    Seen::parse(&serde_json::to_vec(value).unwrap()).unwrap()
}

pub(super) fn volume(name: &str, target: &str) -> Value {
    json!({"Type": "volume", "Name": name, "Source": format!("/x/{name}"), "Destination": target})
}

pub(super) fn bind(source: &str, target: &str) -> Value {
    json!({"Type": "bind", "Source": source, "Destination": target})
}

fn port(inside: &str, host: &str) -> Value {
    json!({inside: [{"HostIp": "", "HostPort": host}]})
}

/// The article's: `db` and `octopus-server`, everything in the containers, by compose's first
/// version.
pub(super) fn article() -> [Value; 2] {
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
pub(super) fn vendors() -> [Value; 2] {
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
pub(super) fn relatives() -> [Value; 2] {
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

pub(super) fn found_in(all: &[Value]) -> Result<Found, Vec<Problem>> {
    let all: Vec<Seen> = all.iter().map(seen).collect();
    find("shop", &all)
}

#[track_caller]
pub(super) fn found(all: &[Value]) -> Found {
    found_in(all).unwrap()
}

/// The problems' words.
pub(super) fn refused(all: &[Value]) -> String {
    let problems = found_in(all).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    told.join("\n")
}
