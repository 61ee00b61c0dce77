//! The file with what is kept of a handover to a cluster. While it is there, nothing of the stack is
//! started on this host.

use std::path::Path;

use crate::cli::adopted;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::kubernetes::handover::FORM;
use crate::kubernetes::handover::Handover;

/// Reads it; none where nothing was handed over. It is never taken for nothing where it cannot be
/// read: two servers on one identity would run.
pub fn read(path: &Path) -> Result<Option<Handover>, String> {
    let failed = |why: &dyn std::fmt::Display| {
        format!(
            "{} says whether a cluster has this stack, and cannot be read: {why}",
            path.display()
        )
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // Others may not look into the state of root's projects; what they may do there says why.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let kept: Handover = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    if kept.form > FORM {
        return Err(failed(&"a newer octo-local wrote it: use that one"));
    }
    Ok(Some(kept))
}

/// Writes it, whole or not at all.
pub fn write(path: &Path, kept: &Handover) -> Outcome {
    let written = adopted::write(path, kept);
    written.map_err(|error| Failure::new(FAILED, format!("write {}: {error}", path.display())))
}

/// Removes it: the stack is this host's.
pub fn remove(path: &Path) -> Outcome {
    let removed = adopted::remove(path);
    removed.map_err(|error| Failure::new(FAILED, format!("remove {}: {error}", path.display())))
}
