//! Sets are written, listed, swept and removed, whatever a killed run or a person left beside them.

use super::*;
use crate::backup::manifest::Kind;
use crate::backup::manifest::tests::manifest;
use crate::backup::part::PartWriter;
use crate::backup::part::Recipients;

fn octo() -> ProjectName {
    ProjectName::given("octo").unwrap()
}

fn name(text: &str) -> SetName {
    text.parse().unwrap()
}

/// Writes a set of small parts.
fn write(locked: &Locked, set: &str) -> Manifest {
    let draft = locked.begin(name(set)).unwrap();
    let mut manifest = manifest();
    manifest.name = name(set);
    for part in &mut manifest.parts {
        let file = draft.create(&part.kind.file(&manifest.encryption)).unwrap();
        let mut writer = PartWriter::new(part.kind, file, &Recipients::default()).unwrap();
        writer.write(part.kind.name().as_bytes()).unwrap();
        *part = writer.finish(None).unwrap();
    }
    draft.commit(&manifest).unwrap();
    manifest
}

#[test]
fn a_set_appears_when_it_is_whole_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path().join("new/one"));
    assert!(directory.list().unwrap().0.is_empty());
    assert!(directory.free().unwrap() > 0);
    let locked = directory.lock(&octo()).unwrap();
    let draft = locked.begin(name("b")).unwrap();
    std::io::Write::write_all(&mut draft.create("database.bak.zst").unwrap(), b"x").unwrap();
    let (sets, leftovers) = directory.list().unwrap();
    assert_eq!((sets.len(), leftovers), (0, 1));
    drop(draft);
    assert_eq!(
        directory.list().unwrap().1,
        0,
        "what failed takes itself away"
    );
    let written = write(&locked, "b");
    let (sets, _) = directory.list().unwrap();
    assert!(sets[0].is_whole());
    assert_eq!(sets[0].manifest.as_ref().unwrap(), &written);
    assert!(matches!(
        locked.begin(name("b")),
        Err(DirectoryError::Taken(_))
    ));
}

#[test]
fn what_a_killed_run_left_is_swept_by_the_next_of_its_project_only() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path().to_owned());
    for left in [
        ".octo.one.partial",
        ".octo.two.removed",
        ".other.one.partial",
        ".git",
        "mine",
    ] {
        fs::create_dir_all(dir.path().join(left).join("deep")).unwrap();
    }
    std::os::unix::fs::symlink("mine", dir.path().join(".octo.link.partial")).unwrap();
    assert_eq!(directory.list().unwrap().1, 3);
    let locked = directory.lock(&octo()).unwrap();
    write(&locked, "whole");
    assert_eq!(locked.sweep().unwrap(), 2);
    assert_eq!(locked.sweep().unwrap(), 0);
    let (sets, leftovers) = directory.list().unwrap();
    assert_eq!((sets.len(), leftovers), (1, 1));
    assert!(dir.path().join("mine/deep").is_dir() && dir.path().join(".git/deep").is_dir());
}

#[test]
fn a_run_killed_at_any_of_its_files_leaves_nothing_that_looks_whole() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path().to_owned());
    let model = write(&directory.lock(&octo()).unwrap(), "model");
    let parts = model.parts.iter();
    let parts = parts.map(|part| part.kind.file(&model.encryption));
    let files: Vec<String> = parts
        .chain([manifest::FILE, SUMS].map(str::to_owned))
        .collect();
    let half = dir.path().join(".octo.next.partial");
    for (count, is_cut) in (0..=files.len()).flat_map(|count| [(count, false), (count, true)]) {
        fs::create_dir(&half).unwrap();
        for file in &files[..count] {
            fs::copy(dir.path().join("model").join(file), half.join(file)).unwrap();
        }
        if let Some(last) = files[..count].last().filter(|_| is_cut) {
            let cut = File::options().write(true).open(half.join(last)).unwrap();
            cut.set_len(cut.metadata().unwrap().len() / 2).unwrap();
        }
        let (sets, leftovers) = directory.list().unwrap();
        assert_eq!((sets.len(), leftovers), (1, 1), "{count} {is_cut}");
        let locked = directory.lock(&octo()).unwrap();
        assert_eq!(locked.sweep().unwrap(), 1);
        write(&locked, "next");
        let (sets, leftovers) = directory.list().unwrap();
        assert!(sets.iter().all(Listed::is_whole) && sets.len() == 2 && leftovers == 0);
        locked.remove(&name("next")).unwrap();
    }
}

#[test]
fn one_run_at_a_time_writes_sets_of_a_project() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path().to_owned());
    let locked = directory.lock(&octo()).unwrap();
    let error = directory.lock(&octo()).unwrap_err().to_string();
    let ours = format!("(process {})", rustix::process::getpid());
    assert!(error.contains(&ours), "{error}");
    directory
        .lock(&ProjectName::given("other").unwrap())
        .unwrap();
    drop(locked);
    directory.lock(&octo()).unwrap();
}

#[test]
fn a_set_is_removed_as_a_whole_and_only_by_its_project() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path().to_owned());
    let locked = directory.lock(&octo()).unwrap();
    write(&locked, "one");
    let other = directory
        .lock(&ProjectName::given("other").unwrap())
        .unwrap();
    assert!(matches!(
        other.remove(&name("one")),
        Err(DirectoryError::Absent { .. })
    ));
    locked.remove(&name("one")).unwrap();
    assert!(directory.list().unwrap().0.is_empty() && !dir.path().join("one").exists());
}

#[test]
fn what_is_wrong_with_a_set_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path().to_owned());
    let locked = directory.lock(&octo()).unwrap();
    for set in ["edited", "linked", "missing", "short"] {
        write(&locked, set);
    }
    let file = |set: &str, file: &str| dir.path().join(set).join(file);
    let text = fs::read_to_string(file("edited", "manifest.json")).unwrap();
    fs::write(
        file("edited", "manifest.json"),
        text.replace("0.1.0", "0.1.1"),
    )
    .unwrap();
    fs::remove_file(file("missing", "database.bak.zst")).unwrap();
    fs::write(file("short", "artifacts.tar.zst"), "").unwrap();
    fs::remove_file(file("linked", "secrets.json.zst")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", file("linked", "secrets.json.zst")).unwrap();
    assert!(directory.open(&name("linked"), "secrets.json.zst").is_err());
    let (sets, _) = directory.list().unwrap();
    let told: Vec<String> = sets
        .into_iter()
        .map(|set| match set.manifest {
            Ok(_) => format!("{}: {}", set.name, set.faults.join(", ")),
            Err(fault) => format!("{}: {fault}", set.name),
        })
        .collect();
    let all = told.join("\n");
    assert_eq!(told.len(), 4, "{all}");
    for words in [
        "edited: its manifest is damaged: manifest.json does not fit its sum",
        "linked: secrets.json.zst is no file",
        "missing: database.bak.zst: No such file",
        "short: artifacts.tar.zst has 0 bytes",
    ] {
        assert!(all.contains(words), "{words} in {all}");
    }
}

#[test]
fn the_sums_are_what_sha256sum_reads() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path().to_owned());
    let manifest = write(&directory.lock(&octo()).unwrap(), "one");
    let sums = fs::read_to_string(dir.path().join("one").join(SUMS)).unwrap();
    assert_eq!(sums.lines().count(), manifest.parts.len() + 1);
    for line in sums.lines() {
        let (sum, file) = line.split_once("  ").unwrap();
        let bytes = fs::read(dir.path().join("one").join(file)).unwrap();
        assert_eq!(hex(&sha2::Sha256::digest(bytes)), sum, "{file}");
    }
    assert!(sums.contains(&Kind::Secrets.file(&manifest.encryption)));
}
