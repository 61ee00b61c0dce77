//! What a volume may hold goes into an archive and comes back as it was, and nothing leaves its place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use super::*;
use crate::backup::tar_stream::TarStream;

/// What can be seen of everything below a directory, its own root among it.
fn seen(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_file() {
            format!("{} {:?}", metadata.nlink(), fs::read(&path).unwrap())
        } else {
            String::new()
        };
        let changed = metadata.mtime();
        all.push(format!(
            "{} {:o} {}:{} {changed} {content}",
            path.strip_prefix(root).unwrap().display(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
        ));
        if kind.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    all.sort();
    all
}

fn tar_of(root: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    write(&File::open(root).unwrap(), &mut tar).unwrap();
    tar
}

/// Everything that a volume of these servers may have.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("a/b/file"), vec![7; 300_000]).unwrap();
    fs::write(at("none"), "").unwrap();
    let long = "x".repeat(120);
    fs::create_dir(at(&long)).unwrap();
    fs::write(at(&format!("{long}/{long}")), "long").unwrap();
    symlink("../nowhere", at("a/link")).unwrap();
    symlink("/etc", at("outside")).unwrap();
    symlink("y".repeat(130), at("far")).unwrap();
    fs::hard_link(at("none"), at("z-other-name")).unwrap();
    fs::set_permissions(at("a/b/file"), PermissionsExt::from_mode(0o4750)).unwrap();
    fs::set_permissions(at("a"), PermissionsExt::from_mode(0o500)).unwrap();
    let old = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["a/b/file", "a/b", "a", "."] {
        File::open(at(name)).unwrap().set_modified(old).unwrap();
    }
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o2751)).unwrap();
    dir
}

#[test]
fn a_directory_comes_back_as_it_was() {
    let from = filled();
    let tar = tar_of(from.path());
    let to = tempfile::tempdir().unwrap();
    fs::write(to.path().join("none"), "in the way").unwrap();
    unpack(&File::open(to.path()).unwrap(), tar.as_slice()).unwrap();
    let (was, is) = (seen(from.path()), seen(to.path()));
    assert_eq!(was, is);
    assert!(is.len() > 10 && is[0].contains("2751"), "{is:?}");
}

#[test]
fn it_is_an_archive_to_its_end_with_all_its_entries() {
    let from = filled();
    let mut tar = Vec::new();
    let entries = write(&File::open(from.path()).unwrap(), &mut tar).unwrap();
    let mut stream = TarStream::default();
    stream.feed(&tar, |_| {}).unwrap();
    stream.finish().unwrap();
    assert_eq!(
        (stream.entries, stream.entries),
        (entries, seen(from.path()).len() as u64)
    );
}

#[test]
fn no_link_is_followed_and_a_socket_is_left_out() {
    let from = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).unwrap();
    symlink("/etc", from.path().join("etc")).unwrap();
    let tar = tar_of(from.path());
    let mut archive = tar::Archive::new(tar.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (
            entry.header().entry_type(),
            entry.path().unwrap().into_owned(),
        )
    });
    let entries: Vec<_> = entries.collect();
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_eq!(entries[1], (EntryType::Symlink, PathBuf::from("./etc")));
}

#[test]
fn a_file_that_grows_is_written_as_it_was_and_one_that_shrinks_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for (now, promised, is_whole) in [(5, 3, true), (3, 3, true), (2, 3, false)] {
        fs::write(&path, vec![1; now]).unwrap();
        let mut content = Exactly {
            file: File::open(&path).unwrap(),
            left: promised,
        };
        let mut read = Vec::new();
        assert_eq!(content.read_to_end(&mut read).is_ok(), is_whole);
        assert!(!is_whole || read.len() as u64 == promised);
    }
}

#[test]
fn nothing_is_laid_down_outside_and_what_only_the_engine_makes_is_named() {
    let to = tempfile::tempdir().unwrap();
    let inside = to.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let inside = File::open(inside).unwrap();
    let archive = |path: &str, kind: EntryType, target: Option<&str>| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(target) = target {
            header.set_link_name(target).unwrap();
        }
        header.set_cksum();
        tar.append(&header, io::empty()).unwrap();
        tar.into_inner().unwrap()
    };
    let error = unpack(
        &inside,
        archive("../out", EntryType::Regular, None).as_slice(),
    );
    assert!(matches!(error, Err(UnpackError::Io(_))), "{error:?}");
    // A link that leads out, and a file through it.
    let mut tar = archive("way", EntryType::Symlink, Some(to.path().to_str().unwrap()));
    tar.truncate(512);
    tar.extend(archive("way/out", EntryType::Regular, None));
    assert!(unpack(&inside, tar.as_slice()).is_err());
    assert!(!to.path().join("out").exists());
    let error = unpack(&inside, archive("pipe", EntryType::Fifo, None).as_slice());
    assert!(matches!(error, Err(UnpackError::Unfit(_))), "{error:?}");
}
