//! The one small state file: what was applied, what the operator wishes, and generated secrets. Docker has the rest.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::config::Config;
use crate::config::Secret;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// The form of the file. A daemon that finds a newer one supervises and writes nothing.
pub const FORM: u32 = 1;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The form this was written in.
    pub form: u32,
    /// Whether the stack is wished to run.
    pub up: bool,
    /// The last applied configuration.
    pub config: Option<Config>,
    /// The last applied desired state.
    pub spec: Option<StackSpec>,
    /// The master key of the data, generated or given.
    pub master_key: Option<Secret>,
    /// Whether octo-local made the master key itself.
    pub master_key_is_ours: bool,
    /// The `sa` password that the data knows, since it was last accepted.
    pub sa_password: Option<Secret>,
    /// Passwords generated for a demo: sa, then the first user.
    pub generated: Option<(Secret, Secret)>,
    /// The host refused full privileges to this demo.
    pub unprivileged: bool,
    /// The tag of Octopus Server that last ran on the data.
    pub ran_tag: Option<String>,
    /// Units that the operator stopped on purpose.
    #[serde(default)]
    pub stopped: BTreeSet<UnitId>,
}

/// How reading went.
#[derive(Debug)]
pub enum Loaded {
    /// There was none, or it was read.
    Fine(Box<Stored>),
    /// It could not be read as what it should be, and was set aside under this name.
    Quarantined(String),
    /// It is of a newer form: it must not be written.
    Newer(u32),
}

/// Reads the state file.
pub fn load(path: &Path) -> Loaded {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Loaded::Fine(Box::default()),
        Err(error) => return Loaded::Quarantined(error.to_string()),
    };
    let form = serde_json::from_slice::<serde_json::Value>(&text).ok().and_then(|value| value.get("form")?.as_u64());
    if let Some(form) = form.filter(|form| *form > u64::from(FORM)) {
        return Loaded::Newer(form as u32);
    }
    match serde_json::from_slice(&text) {
        Ok(stored) => Loaded::Fine(Box::new(stored)),
        Err(_) => {
            let aside = path.with_extension("json.corrupt");
            let moved = std::fs::rename(path, &aside);
            Loaded::Quarantined(moved.map_or_else(|error| error.to_string(), |()| aside.display().to_string()))
        }
    }
}

/// Writes the state file: whole or not at all, also when the power goes.
pub fn save(path: &Path, stored: &Stored) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".state")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)?;
    let stored = Stored { form: FORM, ..stored.clone() };
    file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Takes the project's lock, or says who holds it. The kernel frees it when the holder dies, however it dies.
pub fn lock(path: &Path) -> std::io::Result<Result<File, String>> {
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            (&file).write_all(format!("{}\n", std::process::id()).as_bytes())?;
            Ok(Ok(file))
        }
        Err(std::fs::TryLockError::WouldBlock) => Ok(Err(std::fs::read_to_string(path)?.trim().to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_and_only_its_owner_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let stored = Stored { form: FORM, up: true, master_key: Some(Secret::new("k")), ..Stored::default() };
        save(&path, &stored).unwrap();
        assert!(matches!(load(&path), Loaded::Fine(read) if *read == stored));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_file_is_set_aside_and_a_newer_one_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for broken in ["", "{\"form\":1,\"up\":tru", "[]", "\0\0\0"] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(load(&path), Loaded::Quarantined(_)), "{broken:?}");
            assert!(!path.exists());
        }
        std::fs::write(&path, "{\"form\":99}").unwrap();
        assert!(matches!(load(&path), Loaded::Newer(99)));
        assert!(path.exists());
    }

    #[test]
    fn the_second_lock_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap().unwrap();
        assert_eq!(lock(&path).unwrap().unwrap_err(), std::process::id().to_string());
        drop(held);
        assert!(lock(&path).unwrap().is_ok());
    }
}
