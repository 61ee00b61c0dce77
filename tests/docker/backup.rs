//! Backups of a stack on the real engine: what the volumes hold is what a set holds, and what comes
//! back.

use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use futures_util::StreamExt as _;
use octo_local::backup::Directory;
use octo_local::backup::Progress;
use octo_local::backup::manifest::Database;
use octo_local::backup::manifest::Kind;
use octo_local::backup::part;
use octo_local::backup::part::Identities;
use octo_local::backup::part::PartFile;
use octo_local::backup::part::Sums;
use octo_local::backup::restore;
use tar::EntryType;

use super::external;
use crate::kit::process::wait_until;
use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;

pub(super) const NODE: &str = "octopus-server-1";

/// What a file of a volume is: name, kind, owner, group, mode, time, link, content.
pub(super) type Entry = (String, u8, u64, u64, u32, u64, String, Vec<u8>);

/// Files as Octopus may have them, and as nobody thinks of them.
pub(super) fn odd_files() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let long = format!("{}/{}.nupkg", "d".repeat(90), "n".repeat(150));
    let files = [
        ("plain.txt", 0o644, b"hello".to_vec()),
        (long.as_str(), 0o600, vec![9; 70_000]),
        ("suid", 0o4755, Vec::new()),
        ("über – name", 0o640, vec![0; 3_000_000]),
    ];
    for (name, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(999);
        header.set_gid(12_345);
        header.set_mtime(1_600_000_000);
        tar.append_data(&mut header, name, content.as_slice())
            .unwrap();
    }
    let links = [
        (EntryType::Symlink, "link", "plain.txt"),
        (EntryType::Symlink, "dangling", "/nowhere/at all"),
        (EntryType::Link, "twin", "plain.txt"),
    ];
    for (kind, name, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_uid(999);
        header.set_mtime(1_600_000_000);
        tar.append_link(&mut header, name, target).unwrap();
    }
    for (kind, name) in [(EntryType::Fifo, "pipe"), (EntryType::Directory, "empty/")] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o1777);
        header.set_uid(5);
        header.set_mtime(1_600_000_000);
        tar.append_data(&mut header, name, std::io::empty())
            .unwrap();
    }
    tar.into_inner().unwrap()
}

pub(super) fn put(stack: &Stack, unit: &str, path: &str, tar: Vec<u8>) {
    put_into(stack, &stack.container(unit), path, tar);
}

/// The same by the container's name.
pub(super) fn put_into(stack: &Stack, name: &str, path: &str, tar: Vec<u8>) {
    let docker = stack.witness.docker();
    let options = UploadToContainerOptionsBuilder::default()
        .path(path)
        .build();
    let body = bollard::body_full(tar.into());
    let call = docker.upload_to_container(name, Some(options), body);
    stack.witness.wait(call).unwrap();
}

/// A directory of a container, read past the product.
pub(super) fn get(stack: &Stack, unit: &str, path: &str) -> Vec<Entry> {
    get_out_of(stack, &stack.container(unit), path)
}

/// The same by the container's name.
pub(super) fn get_out_of(stack: &Stack, name: &str, path: &str) -> Vec<Entry> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(path)
        .build();
    let docker = stack.witness.docker();
    let mut stream = docker.download_from_container(name, Some(options));
    let bytes = stack.witness.wait(async {
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        bytes
    });
    entries(&bytes)
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(bytes);
    let mut all: Vec<Entry> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let text = |path: &Path| path.display().to_string();
            let link = entry.link_name().unwrap().map(|path| text(&path));
            let header = entry.header();
            (
                text(&entry.path().unwrap()),
                header.entry_type().as_byte(),
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mode().unwrap(),
                header.mtime().unwrap(),
                link.unwrap_or_default(),
                content,
            )
        })
        .collect();
    // The engine makes files in the place that a volume is mounted on, and so changes its time.
    let root = all.iter_mut().find(|entry| entry.0 == "./");
    root.expect("the directory itself").5 = 0;
    all.sort();
    all
}

/// The content of a part of a set.
fn content(directory: &Directory, set: &str, kind: Kind) -> Vec<u8> {
    let name = set.parse().unwrap();
    let manifest = directory.manifest(&name).unwrap();
    let file = kind.file(&manifest.encryption);
    let opened = directory.open(&name, &file).unwrap();
    let mut all = Vec::new();
    let from = PartFile {
        part: manifest.part(kind).unwrap().clone(),
        name: file,
        file: opened,
        identities: Identities::default(),
    };
    part::read_plain(&from, Sums::Both, |bytes: &[u8]| {
        all.extend_from_slice(bytes);
        true
    })
    .unwrap();
    all
}

fn sets(stack: &Stack) -> (Directory, PathBuf) {
    let path = stack.dir().join("sets");
    (Directory::at(path.clone()), path)
}

/// Everything that a tar stream can carry passes, owners by number, from a node that serves and
/// from one that is stopped.
#[test]
fn a_backup_holds_what_the_volumes_hold_whether_nodes_serve_or_not() {
    let (stack, foreign) = external::stack("backup");
    external::start(&stack, &foreign);
    stack.set("BACKUP_DIR", "sets");
    stack.set("BACKUP_KEEP", "1");
    stack.run(&["up"]).ok();
    put(&stack, NODE, "/artifacts", odd_files());
    let there = get(&stack, NODE, "/artifacts/.");
    assert!(there.len() >= 10, "{}", there.len());
    let (directory, path) = sets(&stack);

    // What is to be encrypted is not written in clear because that was not applied yet.
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    stack.set("BACKUP_RECIPIENT", &recipient);
    stack
        .run(&["backup", "--name", "one"])
        .with(78)
        .says("BACKUP_RECIPIENT")
        .says("`octo-local up`");
    assert!(directory.list().unwrap().0.is_empty());
    stack.unset("BACKUP_RECIPIENT");

    let told = stack
        .run(&["backup", "--name", "one"])
        .ok()
        .says("is made and checked");
    assert_eq!(told.out, "one\n");
    let manifest = directory.manifest(&"one".parse().unwrap()).unwrap();
    assert!(!manifest.quiesced && manifest.has_secrets && manifest.pinned);
    assert!(
        matches!(&manifest.database, Database::Missing { why } if why.contains("somebody else's"))
    );
    assert_eq!(entries(&content(&directory, "one", Kind::Artifacts)), there);
    stack
        .run(&["backup", "verify", "one"])
        .ok()
        .says("every byte");

    let open = content(&directory, "one", Kind::Configuration);
    let open = String::from_utf8(open).unwrap();
    assert!(
        open.contains("OCTOPUS_SERVER_TAG") && !open.contains(SA_PASSWORD),
        "{open}"
    );
    let secret = content(&directory, "one", Kind::Secrets);
    assert!(String::from_utf8(secret).unwrap().contains(SA_PASSWORD));

    stack.run(&["stop", "octopus-server"]).ok();
    std::fs::create_dir(path.join(format!(".{}.dead.partial", stack.name))).unwrap();
    let second = stack.run(&["backup", "--without-secrets"]).ok();
    let second = second.out.trim();
    let manifest = directory.manifest(&second.parse().unwrap()).unwrap();
    assert!(manifest.quiesced && !manifest.has_secrets && !manifest.pinned);
    assert_eq!(
        entries(&content(&directory, second, Kind::Artifacts)),
        there
    );

    // One second later the next has another name; what BACKUP_KEEP does not keep goes, and what a
    // person named stays.
    let made = manifest.began_ms / 1_000;
    wait_until("the second of the other's name is over", || {
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        (now.cast_unsigned() > made).then_some(())
    });
    let third = stack.run(&["backup"]).ok();
    let (listed, leftovers) = directory.list().unwrap();
    let names: Vec<String> = listed.iter().map(|set| set.name.to_string()).collect();
    assert_eq!(
        (names, leftovers),
        (vec![third.out.trim().to_owned(), "one".to_owned()], 0)
    );
    stack
        .run(&["backup", "--name", "one"])
        .with(1)
        .says("choose another name");
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// A set comes back into volumes that are new, through a node that is stopped; one with a flipped
/// byte touches nothing.
#[test]
fn a_set_comes_back_into_empty_volumes_and_a_damaged_one_touches_nothing() {
    let (stack, foreign) = external::stack("restore");
    external::start(&stack, &foreign);
    stack.set("BACKUP_DIR", "sets");
    stack.run(&["up"]).ok();
    put(&stack, NODE, "/artifacts", odd_files());
    let there = get(&stack, NODE, "/artifacts/.");
    for name in ["good", "bad"] {
        stack.run(&["backup", "--name", name]).ok();
    }
    stack.run(&["down", "--volumes", "--yes"]).ok();
    stack.run(&["up"]).ok();
    stack.run(&["stop", "octopus-server"]).ok();
    let empty = get(&stack, NODE, "/artifacts/.");
    assert!(empty.len() < there.len());
    let path = sets(&stack).1.join("bad/task-logs.tar.zst");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let refused = restore(&stack, "bad").unwrap_err();
    assert!(
        refused.contains("nothing was touched") && refused.contains("task-logs"),
        "{refused}"
    );
    assert_eq!(get(&stack, NODE, "/artifacts/."), empty);
    restore(&stack, "good").unwrap();
    assert_eq!(get(&stack, NODE, "/artifacts/."), there);
    stack.run(&["start"]).ok();
    stack.run(&["down", "--volumes", "--yes"]).ok();
}

/// Restores a set by the library.
fn restore(stack: &Stack, name: &str) -> Result<(), String> {
    let state = std::fs::read_to_string(stack.state().join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let spec = serde_json::from_value(state["stored"]["spec"].clone()).unwrap();
    let (directory, _) = sets(stack);
    let name: octo_local::backup::SetName = name.parse().unwrap();
    let manifest = directory.manifest(&name).unwrap();
    let identities = Identities::default();
    let set = restore::Opened {
        directory,
        name,
        manifest,
        identities,
    };
    stack.witness.wait(async {
        let endpoint = octo_local::engine::Endpoint::at(stack.engine());
        let engine = octo_local::engine::Engine::connect(endpoint).await.unwrap();
        let files = stack.container(NODE);
        let target = restore::Target {
            engine: &engine,
            spec: &spec,
            sql: None,
            files: &files,
        };
        let (progress, told) = tokio::sync::watch::channel(Progress::default());
        let restored = restore::run(&set, &target, &progress).await;
        let told = told.borrow();
        assert!(
            restored.is_err() || Some(told.done) == told.total,
            "{told:?}"
        );
        restored.map_err(|error| error.to_string())
    })
}
