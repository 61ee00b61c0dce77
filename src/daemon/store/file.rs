//! The state file on the disk: read and judged, written whole or not at all, and locked.
//!
//! # Forms
//!
//! All that is kept has a default for each of its fields, so a new field needs no new form: an
//! older file means by it what `Default` says. A form is new where something is said in other
//! words; `older` translates. `tests/golden` has a file of each form, which a test reads.
//!
//! # What is never lost
//!
//! The file and its copy are written one after the other, each whole or not at all. A file that is
//! damaged, unreadable or missing costs nothing that its copy holds, and nothing is written over a
//! file that may still hold something.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;

use super::Stored;

/// The form of the file. A daemon that finds a newer one supervises and writes nothing.
pub const FORM: u32 = 2;
/// How the names of files begin that are being written.
const UNFINISHED_FILE: &str = ".state";
/// How many damaged files are kept beside the state file before the last one is replaced.
const SET_ASIDE: u32 = 9;

/// The file: what is kept, and a checksum over it, so that a damaged secret is never taken for a
/// secret.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) form: u32,
    pub(super) check: String,
    pub(super) stored: serde_json::Value,
}

/// How reading went.
#[derive(Debug)]
pub enum Loaded {
    /// There was none, or it was read.
    Fine(Box<Stored>),
    /// It was not what it should be. With it comes its copy, if that is whole.
    Quarantined(String, Option<Box<Stored>>),
    /// Neither it nor its copy could be read, and what they hold may be whole: nothing must be
    /// written over them. With it comes why.
    Unreadable(String),
    /// It is of a newer form: it must not be written. With it comes what of it can be understood.
    Newer(u32, Option<Box<Stored>>),
}

/// One file, as it was found.
enum Found {
    Nothing,
    Whole(Box<Stored>),
    Newer(u32, Option<Box<Stored>>),
    Damaged,
    Unreadable(String),
}

fn find(path: &Path) -> Found {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Found::Nothing,
        // Something else has the name: there is nothing of ours in it.
        Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => return Found::Damaged,
        Err(error) => return Found::Unreadable(format!("{}: {error}", path.display())),
    };
    let form = serde_json::from_slice::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("form")?.as_u64());
    let stored = parse(&text).map(Box::new);
    match (form, stored) {
        (Some(form), stored) if form > u64::from(FORM) => {
            Found::Newer(u32::try_from(form).unwrap_or(u32::MAX), stored)
        }
        (_, Some(stored)) => Found::Whole(stored),
        (_, None) => Found::Damaged,
    }
}

/// Reads what is kept, and touches nothing: the file if it is whole, else its copy.
pub fn read(path: &Path) -> Option<Stored> {
    let whole = |path: &Path| std::fs::read(path).ok().and_then(|text| parse(&text));
    whole(path).or_else(|| whole(&copy_of(path)))
}

/// So many other projects are looked at: one host carries a handful of stacks.
const PROJECTS: usize = 256;

/// What is kept of the other projects whose state is under the same directory.
pub fn others(root: &Path, except: &str) -> Vec<(String, Stored)> {
    let mut names: Vec<String> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != except)
        .collect();
    names.sort_unstable();
    names.truncate(PROJECTS);
    let kept = |name: String| {
        let stored = read(&root.join(&name).join("state.json"))?;
        Some((name, stored))
    };
    names.into_iter().filter_map(kept).collect()
}

/// Reads the state file for the daemon, which holds the project's lock: a damaged file is set
/// aside, and what a killed writer left is swept away, since it holds secrets.
pub fn load(path: &Path) -> Loaded {
    sweep(path);
    judge(path, set_aside)
}

/// Reads the state file as [`load`] does, for one that only wants to know: nothing is moved.
pub fn peek(path: &Path) -> Loaded {
    judge(path, |path| path.display().to_string())
}

/// `set_aside` is given what is no state file, and says where it is then.
fn judge(path: &Path, set_aside: impl Fn(&Path) -> String) -> Loaded {
    let copy_path = copy_of(path);
    let why = match find(path) {
        Found::Whole(stored) => return Loaded::Fine(stored),
        Found::Newer(form, stored) => return Loaded::Newer(form, stored),
        Found::Nothing => None,
        Found::Damaged => Some(None),
        Found::Unreadable(why) => Some(Some(why)),
    };
    let copy = find(&copy_path);
    match (why, copy) {
        (None, Found::Nothing) => Loaded::Fine(Box::default()),
        (_, Found::Newer(form, stored)) => Loaded::Newer(form, stored),
        // Its copy is whole, and the project's own: the file itself can be spared.
        (None, Found::Whole(copy)) if is_of_this_project(path, &copy) => {
            Loaded::Quarantined("(it was missing)".to_owned(), Some(copy))
        }
        (Some(_), Found::Whole(copy)) => Loaded::Quarantined(set_aside(path), Some(copy)),
        (Some(Some(why)), _) | (_, Found::Unreadable(why)) => Loaded::Unreadable(why),
        (Some(None), Found::Nothing) => Loaded::Quarantined(set_aside(path), None),
        (Some(None), Found::Damaged) => {
            set_aside(&copy_path);
            Loaded::Quarantined(set_aside(path), None)
        }
        (None, Found::Damaged | Found::Whole(_)) => {
            Loaded::Quarantined(set_aside(&copy_path), None)
        }
    }
}

/// The directory of a project has its name: a copy that came from elsewhere is not its own.
fn is_of_this_project(path: &Path, copy: &Stored) -> bool {
    let directory = path.parent().and_then(Path::file_name);
    let project = copy.spec.as_ref().map(|spec| spec.project.as_str());
    project.is_none_or(|project| directory.is_none_or(|name| name == project))
}

/// Gives what is no state file another name, and tells it. What was set aside before stays.
fn set_aside(path: &Path) -> String {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(".corrupt");
        if number > 1 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let is_free = |aside: &PathBuf| std::fs::symlink_metadata(aside).is_err();
    let aside = (1..=SET_ASIDE).map(named).find(is_free);
    let aside = aside.unwrap_or_else(|| named(SET_ASIDE));
    let moved = std::fs::rename(path, &aside);
    moved.map_or_else(|error| error.to_string(), |()| aside.display().to_string())
}

/// Removes files that a writer had not finished when it was killed.
fn sweep(path: &Path) {
    let dir = path.parent().unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_unfinished = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(UNFINISHED_FILE));
        if is_unfinished && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(super) fn parse(text: &[u8]) -> Option<Stored> {
    let envelope: Envelope = serde_json::from_slice(text).ok()?;
    if check(&envelope.stored) != envelope.check {
        return None;
    }
    let mut stored: Stored = serde_json::from_value(envelope.stored.clone()).ok()?;
    if envelope.form < 2 {
        let form_1: super::older::Form1 = serde_json::from_value(envelope.stored).ok()?;
        form_1.translate(&mut stored);
    }
    Some(stored)
}

pub(super) fn check(stored: &serde_json::Value) -> String {
    let hash = sha2::Sha256::digest(stored.to_string());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The second file of the same content, for when the first is damaged.
pub(super) fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("json.copy")
}

/// Writes the state file and its copy: each whole or not at all, also when the power goes.
pub fn save(path: &Path, stored: &Stored) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let stored = serde_json::to_value(stored)?;
    let text = serde_json::to_vec_pretty(&Envelope {
        form: FORM,
        check: check(&stored),
        stored,
    })?;
    for target in [copy_of(path), path.to_owned()] {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED_FILE)
            .permissions(std::fs::Permissions::from_mode(0o600))
            .tempfile_in(dir)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(target).map_err(|error| error.error)?;
    }
    File::open(dir)?.sync_all()
}

/// Takes the project's lock, or says who holds it. The kernel frees it when the holder dies,
/// however it dies.
pub fn lock(path: &Path) -> std::io::Result<Result<File, String>> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {
            // The name of its holder is for people: a full disk must not end the daemon.
            let _ = file.set_len(0);
            let _ = (&file).write_all(format!("{}\n", std::process::id()).as_bytes());
            Ok(Ok(file))
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            Ok(Err(std::fs::read_to_string(path)?.trim().to_owned()))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}
