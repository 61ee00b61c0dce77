//! The stand-ins' images: archives as `docker load` takes them, with this very program as their one
//! file.

use std::io::Write;

use serde_json::json;
use sha2::Digest as _;

use crate::spec::tentacle;

/// The user of hardened images.
const HARDENED_USER: u64 = 1001;
/// The update of SQL Server 2022 from which on its image ignores SIGTERM.
const DEAF_UPDATE: u32 = 18;

/// What is special about an image of Octopus Server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    /// `/Octopus/Octopus.Server`, as root.
    Standard,
    /// Of tags with `-hardened`: no shell's tools, user 1001 of group 0, a health check of its own.
    Hardened,
    /// Of tags with `-dll`: only `dotnet /Octopus/Octopus.Server.dll`, as older images have.
    Dll,
    /// Of tags with `-noexec`: nothing of the vendor's that could be run in the container.
    NoExec,
}

/// An archive with one image of each. The program must be static: there is nothing else in the
/// image.
pub fn archive(program: &[u8], sql: &str, octopus: &str) -> std::io::Result<Vec<u8>> {
    archive_of(program, &[sql], &[octopus])
}

/// What an image stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SQL Server.
    Sql,
    /// Octopus Server.
    Octopus,
    /// Octopus' Tentacle.
    Tentacle,
}

/// This very program as an image of a kind.
pub fn of_this_program(reference: &str, kind: Kind) -> std::io::Result<Vec<u8>> {
    archive_of_kinds(&own_program()?, &[(kind, reference)])
}

/// The file that this process was started from, also where another one has its name now.
pub fn own_program() -> std::io::Result<Vec<u8>> {
    std::fs::read("/proc/self/exe")
}

/// An archive with all these images of SQL Server and of Octopus Server.
pub fn archive_of(program: &[u8], sql: &[&str], octopus: &[&str]) -> std::io::Result<Vec<u8>> {
    let sql = sql.iter().map(|reference| (Kind::Sql, *reference));
    let octopus = octopus.iter().map(|reference| (Kind::Octopus, *reference));
    archive_of_kinds(program, &sql.chain(octopus).collect::<Vec<_>>())
}

/// An archive with all these images; the program is in it once.
///
/// A tag that begins with a year is a version: an Octopus Server of `2026.2.7` says that it is that,
/// and a SQL Server of `2019-..`, `2022-..` or `2025-..` writes data of its own version, and of
/// `2022-CU18` and later ignores SIGTERM, as the vendor's do. Of other tags the stand-ins' defaults
/// hold. Each tag makes an image of its own id.
pub fn archive_of_kinds(program: &[u8], images: &[(Kind, &str)]) -> std::io::Result<Vec<u8>> {
    let base = layer(program)?;
    let mut archive = tar::Builder::new(Vec::new());
    let base_id = put_layer(&mut archive, &base)?;
    let mut manifest = Vec::new();
    let mut written = vec![base_id.clone()];
    for (kind, reference) in images {
        let mut layers = vec![base_id.clone()];
        let flavour = match kind {
            Kind::Octopus => Some(flavour(tag(reference))),
            Kind::Sql | Kind::Tentacle => None,
        };
        if let Some(flavour) = flavour {
            let links = flavour_layer(flavour)?;
            let id = hex(&links);
            if !written.contains(&id) {
                put_layer(&mut archive, &links)?;
                written.push(id.clone());
            }
            layers.push(id);
        }
        let config = match (kind, flavour) {
            (_, Some(flavour)) => octopus_config(&layers, tag(reference), flavour),
            (Kind::Tentacle, None) => tentacle_config(&layers),
            (Kind::Sql | Kind::Octopus, None) => sql_config(&layers, tag(reference)),
        };
        let config = serde_json::to_vec(&config)?;
        let name = format!("{}.json", hex(&config));
        if !written.contains(&name) {
            put(&mut archive, &name, &config, 0o644)?;
            written.push(name.clone());
        }
        let layers: Vec<String> = layers.iter().map(|id| format!("{id}/layer.tar")).collect();
        manifest.push(json!({ "Config": name, "RepoTags": [reference], "Layers": layers }));
    }
    put(
        &mut archive,
        "manifest.json",
        &serde_json::to_vec(&manifest)?,
        0o644,
    )?;
    archive.into_inner()
}

/// The part of a reference behind its name.
fn tag(reference: &str) -> &str {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.split_once(':').map_or("", |(_, tag)| tag)
}

/// The year that a tag begins with, if it does.
fn year(tag: &str) -> Option<u32> {
    let digits = tag.get(..4)?;
    let year = digits.parse().ok()?;
    let ends = !tag[4..].starts_with(|next: char| next.is_ascii_digit());
    (ends && (2017..2100).contains(&year)).then_some(year)
}

fn flavour(tag: &str) -> Flavour {
    let ends = |suffix| tag.ends_with(suffix);
    match () {
        () if ends("-hardened") => Flavour::Hardened,
        () if ends("-dll") => Flavour::Dll,
        () if ends("-noexec") => Flavour::NoExec,
        () => Flavour::Standard,
    }
}

fn put_layer(archive: &mut tar::Builder<Vec<u8>>, layer: &[u8]) -> std::io::Result<String> {
    let id = hex(layer);
    put(archive, &format!("{id}/layer.tar"), layer, 0o644)?;
    Ok(id)
}

/// The user `octopus` of the vendor's image, and its group.
const OCTOPUS_USER: u64 = 999;

fn layer(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for dir in [
        "etc/",
        "tmp/",
        "opt/",
        "opt/mssql-tools18/",
        "opt/mssql-tools18/bin/",
        "var/",
        "var/opt/",
        "var/opt/mssql/",
    ] {
        let mode = if dir == "tmp/" { 0o1777 } else { 0o755 };
        put_dir(&mut layer, dir, mode, 0)?;
    }
    // New volumes there take the owner over, so that a node can run as that user.
    for dir in [
        "artifacts/",
        "cache/",
        "eventExports/",
        "repository/",
        "taskLogs/",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_uid(OCTOPUS_USER);
        header.set_gid(OCTOPUS_USER);
        header.set_size(0);
        layer.append_data(&mut header, dir, std::io::empty())?;
    }
    let user = format!("octopus:x:{OCTOPUS_USER}:{OCTOPUS_USER}::/tmp:/octo-local\n");
    let group = format!("octopus:x:{OCTOPUS_USER}:\n");
    let root = ("root:x:0:0::/:/octo-local\n", "root:x:0:\n");
    put(
        &mut layer,
        "etc/passwd",
        (root.0.to_owned() + &user).as_bytes(),
        0o644,
    )?;
    put(
        &mut layer,
        "etc/group",
        (root.1.to_owned() + &group).as_bytes(),
        0o644,
    )?;
    put(&mut layer, "octo-local", program, 0o755)?;
    put_link(&mut layer, "opt/mssql-tools18/bin/sqlcmd")?;
    layer.into_inner()
}

/// What an image of Octopus Server has beside the program.
fn flavour_layer(flavour: Flavour) -> std::io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    let owned = [
        "cache/",
        "repository/",
        "artifacts/",
        "taskLogs/",
        "eventExports/",
    ];
    match flavour {
        Flavour::Hardened => {
            // A new volume gets the owner of the directory that it is mounted on.
            for dir in ["Octopus/"].into_iter().chain(owned) {
                put_dir(&mut layer, dir, 0o775, HARDENED_USER)?;
            }
        }
        Flavour::Standard | Flavour::Dll | Flavour::NoExec => {
            put_dir(&mut layer, "Octopus/", 0o755, 0)?;
        }
    }
    match flavour {
        Flavour::Standard | Flavour::Hardened => put_link(&mut layer, "Octopus/Octopus.Server")?,
        Flavour::Dll => {
            put(&mut layer, "Octopus/Octopus.Server.dll", b"MZ", 0o644)?;
            put_dir(&mut layer, "usr/", 0o755, 0)?;
            put_dir(&mut layer, "usr/bin/", 0o755, 0)?;
            put_link(&mut layer, "usr/bin/dotnet")?;
        }
        Flavour::NoExec => {}
    }
    layer.into_inner()
}

fn put_dir(
    layer: &mut tar::Builder<Vec<u8>>,
    dir: &str,
    mode: u32,
    user: u64,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(mode);
    header.set_uid(user);
    header.set_gid(0);
    header.set_size(0);
    layer.append_data(&mut header, dir, std::io::empty())
}

/// A link of the vendor's name to the program.
fn put_link(layer: &mut tar::Builder<Vec<u8>>, name: &str) -> std::io::Result<()> {
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_mode(0o777);
    link.set_size(0);
    layer.append_link(&mut link, name, "/octo-local")
}

fn put(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

fn config(layers: &[String], entrypoint: &[&str], extra: &serde_json::Value) -> serde_json::Value {
    let ids: Vec<String> = layers.iter().map(|id| format!("sha256:{id}")).collect();
    let made = json!({ "created_by": "octo-local", "created": "1970-01-01T00:00:00Z" });
    let history = vec![made; layers.len()];
    let mut config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": entrypoint, "WorkingDir": "/", "Labels": { "octo-local.standin": "Y" } },
        "rootfs": { "type": "layers", "diff_ids": ids },
        "history": history,
    });
    if let (Some(inner), Some(extra)) = (config["config"].as_object_mut(), extra.as_object()) {
        inner.extend(extra.clone());
    }
    config
}

fn sql_config(layers: &[String], tag: &str) -> serde_json::Value {
    let version = match year(tag) {
        Some(2017) => Some(869),
        Some(2019) => Some(904),
        Some(2022) => Some(957),
        Some(2025) => Some(998),
        Some(_) | None => None,
    };
    let update = tag
        .split('-')
        .nth(1)
        .and_then(|part| part.strip_prefix("CU"));
    let update: u32 = update.and_then(|number| number.parse().ok()).unwrap_or(0);
    let deaf = year(tag) == Some(2022) && update >= DEAF_UPDATE;
    let version = version.map(|version| format!("STANDIN_SQL_VERSION={version}"));
    let deaf = deaf.then(|| "STANDIN_SQL_IGNORE_SIGTERM=Y".to_owned());
    let env: Vec<String> = version.into_iter().chain(deaf).collect();
    let extra = json!({ "ExposedPorts": { "1433/tcp": {} }, "Env": env });
    config(layers, &["/octo-local", "standin", "sql"], &extra)
}

/// Like the vendor's image, it declares Docker-in-Docker's store a volume: anonymous ones must go
/// with the container.
fn octopus_config(layers: &[String], tag: &str, flavour: Flavour) -> serde_json::Value {
    let version = year(tag).map(|_| format!("STANDIN_OCTOPUS_VERSION={tag}"));
    let env: Vec<String> = version.into_iter().collect();
    let mut extra = json!({ "ExposedPorts": { "8080/tcp": {} }, "Env": env });
    if flavour == Flavour::Hardened {
        extra["User"] = json!(format!("{HARDENED_USER}:0"));
        extra["Healthcheck"] =
            json!({ "Test": ["CMD", "/Octopus/Octopus.Server", "container-healthcheck"] });
    } else {
        extra["Volumes"] = json!({ "/var/lib/docker": {} });
    }
    config(layers, &["/octo-local", "standin", "octopus"], &extra)
}

/// Like the vendor's image, it declares Docker-in-Docker's store a volume.
fn tentacle_config(layers: &[String]) -> serde_json::Value {
    let port = format!("{}/tcp", tentacle::PORT);
    let extra = json!({
        "ExposedPorts": { port: {} },
        "Volumes": { "/var/lib/docker": {} },
    });
    config(layers, &["/octo-local", "standin", "tentacle"], &extra)
}

fn hex(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_tells_the_version_and_the_flavour() {
        let layers = ["x".to_owned()];
        let env = |tag: &str| octopus_config(&layers, tag, flavour(tag))["config"]["Env"].clone();
        assert_eq!(env("2026.2.7"), json!(["STANDIN_OCTOPUS_VERSION=2026.2.7"]));
        assert_eq!(env("0.1.0-1764404100"), json!([]));
        assert_eq!(env("20260101"), json!([]));
        let sql = |tag: &str| sql_config(&layers, tag)["config"]["Env"].clone();
        assert_eq!(
            sql("2022-CU17-ubuntu-22.04"),
            json!(["STANDIN_SQL_VERSION=957"])
        );
        assert_eq!(
            sql("2022-CU18-ubuntu-22.04"),
            json!(["STANDIN_SQL_VERSION=957", "STANDIN_SQL_IGNORE_SIGTERM=Y"])
        );
        assert_eq!(sql("1"), json!([]));
        assert_eq!(flavour("2026.2.7-hardened"), Flavour::Hardened);
        assert_eq!(flavour(tag("host:5000/a/b:2026.2.7-dll")), Flavour::Dll);
        assert_eq!(tag("host:5000/a/b"), "");
    }

    #[test]
    fn the_program_is_in_the_archive_once() {
        let program = vec![7; 100_000];
        let octopus = [
            "a:2026.1.1",
            "a:2026.2.7",
            "a:2026.2.7-hardened",
            "a:2026.2.7-dll",
        ];
        let archive = archive_of(&program, &["s:1", "s:2022-CU18"], &octopus).unwrap();
        assert!(archive.len() < 200_000, "{}", archive.len());
    }
}
