//! Files that are written beside their place first, so that they are whole or not there at all. They
//! may hold secrets: what a killed process left unfinished is swept away by the next one.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

/// How each of them is called.
const PREFIX: &str = ".octo-local-unfinished-";
/// No process takes so long over one.
const IS_LEFT_AFTER: Duration = Duration::from_secs(60);

/// A new file beside a place, for its owner only.
pub fn beside(place: &Path) -> std::io::Result<NamedTempFile> {
    let directory = place.parent().unwrap_or(Path::new("."));
    sweep(directory);
    tempfile::Builder::new()
        .prefix(PREFIX)
        .tempfile_in(directory)
}

/// Removes what was left there by a process of this user. What cannot be removed is somebody else's
/// trouble.
fn sweep(directory: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_left = |found: &std::fs::Metadata| {
            let age = found.modified().ok().and_then(|at| at.elapsed().ok());
            found.is_file() && found.uid() == own && age.is_some_and(|age| age >= IS_LEFT_AFTER)
        };
        if is_named && entry.metadata().is_ok_and(|found| is_left(&found)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let old = std::time::SystemTime::now() - Duration::from_secs(120);
        let plant = |name: &str, is_old: bool| {
            let file = std::fs::File::create(at(name)).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        };
        plant(".octo-local-unfinished-left", true);
        plant(".octo-local-unfinished-at-work", false);
        plant(".env", true);
        let made = beside(&at(".env")).unwrap();
        assert!(!at(".octo-local-unfinished-left").exists());
        assert!(at(".octo-local-unfinished-at-work").exists() && at(".env").exists());
        assert_eq!(made.as_file().metadata().unwrap().mode() & 0o777, 0o600);
    }
}
