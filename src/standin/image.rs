//! The stand-ins' images: archives as `docker load` takes them, with this very program as their one
//! file.

use std::io::Write;

use serde_json::json;
use sha2::Digest as _;

/// An archive with both images. The program must be static: there is nothing else in the image.
pub fn archive(program: &[u8], sql: &str, octopus: &str) -> std::io::Result<Vec<u8>> {
    let layer = layer(program)?;
    let layer_id = hex(&layer);
    let mut archive = tar::Builder::new(Vec::new());
    put(
        &mut archive,
        &format!("{layer_id}/layer.tar"),
        &layer,
        0o644,
    )?;
    let mut manifest = Vec::new();
    for (reference, config) in [
        (sql, sql_config(&layer_id)),
        (octopus, octopus_config(&layer_id)),
    ] {
        let config = serde_json::to_vec(&config)?;
        let name = format!("{}.json", hex(&config));
        put(&mut archive, &name, &config, 0o644)?;
        manifest.push(json!({ "Config": name, "RepoTags": [reference], "Layers": [format!("{layer_id}/layer.tar")] }));
    }
    put(
        &mut archive,
        "manifest.json",
        &serde_json::to_vec(&manifest)?,
        0o644,
    )?;
    archive.into_inner()
}

fn layer(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for dir in [
        "tmp/",
        "Octopus/",
        "opt/",
        "opt/mssql-tools18/",
        "opt/mssql-tools18/bin/",
        "var/",
        "var/opt/",
        "var/opt/mssql/",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if dir == "tmp/" { 0o1777 } else { 0o755 });
        header.set_size(0);
        layer.append_data(&mut header, dir, std::io::empty())?;
    }
    put(&mut layer, "octo-local", program, 0o755)?;
    for name in ["Octopus/Octopus.Server", "opt/mssql-tools18/bin/sqlcmd"] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_mode(0o777);
        link.set_size(0);
        layer.append_link(&mut link, name, "/octo-local")?;
    }
    layer.into_inner()
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

fn config(layer_id: &str, entrypoint: &[&str], extra: &serde_json::Value) -> serde_json::Value {
    let mut config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": entrypoint, "WorkingDir": "/", "Labels": { "octo-local.standin": "Y" } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_id}")] },
        "history": [{ "created_by": "octo-local", "created": "1970-01-01T00:00:00Z" }],
    });
    if let (Some(inner), Some(extra)) = (config["config"].as_object_mut(), extra.as_object()) {
        inner.extend(extra.clone());
    }
    config
}

fn sql_config(layer_id: &str) -> serde_json::Value {
    let extra = json!({ "ExposedPorts": { "1433/tcp": {} } });
    config(layer_id, &["/octo-local", "standin", "sql"], &extra)
}

/// Like the vendor's image, it declares Docker-in-Docker's store a volume: anonymous ones must go
/// with the container.
fn octopus_config(layer_id: &str) -> serde_json::Value {
    let extra = json!({ "ExposedPorts": { "8080/tcp": {} }, "Volumes": { "/var/lib/docker": {} } });
    config(layer_id, &["/octo-local", "standin", "octopus"], &extra)
}

fn hex(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
