//! What the stand-in does on disk: it proves that it can write to the shared volumes, and keeps a
//! master key it generated.

use std::fs;
use std::io;
use std::io::ErrorKind;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fatal::Fatal;
use super::node::Node;
use crate::config::Secret;

/// Where a generated master key is kept, beside the vendor's program.
const KEY_FILE: &str = ".standin-master-key";
/// The directories that the nodes share, and the node's own (octopus.com/docs, Linux container).
const DIRS: [&str; 5] = [
    "repository",
    "artifacts",
    "taskLogs",
    "eventExports",
    "cache",
];
/// The bit of `CapEff` that a privileged container has and others lack (linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;

/// Writes a small file into every volume that is mounted: `/repository/<node>.seen` shows the other
/// nodes that it is shared.
pub(super) fn check(node: &Node) -> Result<(), Fatal> {
    for name in DIRS {
        let dir = node.dir(name);
        if dir.is_dir() {
            let file = dir.join(format!("{}.seen", node.settings.node));
            fs::write(&file, seen_line(node)).map_err(|why| refused(&dir, &file, why))?;
        }
    }
    Ok(())
}

fn seen_line(node: &Node) -> String {
    format!(
        "{} of the stand-in for Octopus Server {} could write here\n",
        node.settings.node, node.settings.version
    )
}

fn refused(dir: &Path, file: &Path, why: io::Error) -> Fatal {
    match why.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Fatal::Denied(dir.display().to_string())
        }
        _ => Fatal::Storage {
            path: file.display().to_string(),
            why,
        },
    }
}

/// A key as the vendor makes it: 128 bits in base64.
pub(super) fn new_master_key() -> Secret {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers are always there on Linux");
    Secret::new(STANDARD.encode(bytes))
}

/// Whether a key could be one at all.
pub(super) fn is_base64(key: &Secret) -> bool {
    STANDARD
        .decode(key.expose())
        .is_ok_and(|bytes| !bytes.is_empty())
}

/// Keeps a generated key for `show-master-key`. It is gone with the container, as with the vendor's
/// image.
pub(super) fn keep_master_key(dir: &Path, key: &Secret) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(dir.join(KEY_FILE))?;
    file.write_all(key.expose().as_bytes())
}

/// The key that was kept, if any.
pub(super) fn kept_master_key(dir: &Path) -> Option<Secret> {
    fs::read_to_string(dir.join(KEY_FILE)).ok().map(Secret::new)
}

/// Whether the container is privileged, as Docker-in-Docker needs.
pub(super) fn is_privileged() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    has_capability(&status, CAP_SYS_ADMIN)
}

fn has_capability(status: &str, bit: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn privileges_are_read_from_the_kernel() {
        assert!(has_capability(
            "Name:\tx\nCapEff:\t000001ffffffffff\n",
            CAP_SYS_ADMIN
        ));
        assert!(!has_capability(
            "CapEff:\t00000000a80425fb\n",
            CAP_SYS_ADMIN
        ));
        assert!(!has_capability("", CAP_SYS_ADMIN));
    }

    #[test]
    fn a_generated_key_is_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let (home, key) = (dir.path().join("Octopus"), new_master_key());
        keep_master_key(&home, &key).unwrap();
        assert_eq!(kept_master_key(&home), Some(key.clone()));
        assert_eq!(
            fs::metadata(home.join(KEY_FILE))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert!(is_base64(&key) && key.expose().len() == 24 && !is_base64(&Secret::new("?")));
    }
}
