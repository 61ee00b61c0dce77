//! Which volumes are kept where, and how content passes between directories.

use super::*;
use crate::spec::ContainerSpec;
use crate::spec::UnitId;

fn spec() -> StackSpec {
    let ours = |name: &str| Storage::Ours(format!("p_{name}"));
    let node = ContainerSpec {
        unit: UnitId::Node(1),
        mounts: [
            ("/repository".to_owned(), ours("repository")),
            ("/taskLogs".to_owned(), ours("task-logs")),
            (
                "/artifacts".to_owned(),
                Storage::Directory("/srv".to_owned()),
            ),
        ]
        .into(),
        ..ContainerSpec::default()
    };
    StackSpec {
        volumes: [
            (SQL_DATA.to_owned(), ours(SQL_DATA)),
            ("repository".to_owned(), ours("repository")),
            ("task-logs".to_owned(), ours("task-logs")),
            (
                "artifacts".to_owned(),
                Storage::Directory("/srv".to_owned()),
            ),
        ]
        .into(),
        nodes: vec![node],
        ..StackSpec::default()
    }
}

#[test]
fn only_volumes_of_ours_that_nodes_share_are_kept_and_each_beside_itself() {
    let all = pairs(&spec(), "7", None);
    let names: Vec<_> = all
        .iter()
        .map(|pair| (&*pair.volume, &*pair.keeper))
        .collect();
    assert_eq!(
        names,
        [
            ("p_repository", "p_repository-replaced-7"),
            ("p_task-logs", "p_task-logs-replaced-7")
        ]
    );
    assert_eq!(
        pairs(&spec(), "7", Some(&["task-logs", "artifacts"])),
        all[1..]
    );
    let labels = crate::spec::labels::of_volume(&spec(), "repository-replaced-7");
    let project = &spec().project;
    let name = format!("{project}_repository-replaced-7");
    let labels = labels.into_iter().collect();
    assert!(crate::engine::ours::is_volume(project, &name, &labels));
}

fn directory(path: &Path) -> HostDirectory {
    HostDirectory {
        path: path.to_owned(),
        opened: fs::File::open(path).unwrap(),
        is_volume: true,
    }
}

#[test]
fn content_moves_with_its_roots_mode_and_a_second_try_adds_what_is_left() {
    use std::os::unix::fs::PermissionsExt as _;
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (directory(from.path()), directory(to.path()));
    fs::create_dir(from.path().join("d")).unwrap();
    fs::write(from.path().join("d/a"), "a").unwrap();
    fs::write(from.path().join("late"), "before").unwrap();
    fs::set_permissions(from.path(), fs::Permissions::from_mode(0o751)).unwrap();
    move_content(&here, &there).unwrap();
    // Broken off before: something of it is still in its place.
    fs::write(from.path().join("left"), "b").unwrap();
    move_content(&here, &there).unwrap();
    assert_eq!(fs::read_dir(from.path()).unwrap().count(), 0);
    assert_eq!(fs::read(to.path().join("d/a")).unwrap(), b"a");
    assert_eq!(fs::read(to.path().join("late")).unwrap(), b"before");
    assert_eq!(fs::read(to.path().join("left")).unwrap(), b"b");
    let mode = fs::metadata(to.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o751);
}

#[test]
fn a_directory_that_was_copied_in_part_is_not_moved_over() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for one in [&from, &to] {
        fs::create_dir(one.path().join("d")).unwrap();
        fs::write(one.path().join("d/a"), "a").unwrap();
    }
    // The engine copies it then, which adds.
    assert!(move_content(&directory(from.path()), &directory(to.path())).is_err());
    assert_eq!(fs::read(from.path().join("d/a")).unwrap(), b"a");
}
