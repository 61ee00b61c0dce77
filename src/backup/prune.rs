//! Lets the sets of a project go that nothing keeps.

use super::directory::Directory;
use super::directory::DirectoryError;
use super::name::SetName;
use super::retention;
use super::retention::Kept;
use crate::config::backup::Keep;
use crate::config::project::ProjectName;

/// Removes what the rules do not keep, oldest first, and gives the names. Sets of other projects in
/// the same directory are neither counted nor touched.
pub fn prune(
    directory: &Directory,
    project: &ProjectName,
    keep: &Keep,
    now_ms: u64,
) -> Result<Vec<SetName>, DirectoryError> {
    if keep.0.is_empty() {
        return Ok(Vec::new());
    }
    let locked = directory.lock(project)?;
    let (sets, _) = directory.list()?;
    let mut kept = Vec::new();
    for set in &sets {
        let is_whole = set.is_whole();
        if let Ok(manifest) = set.manifest.as_ref()
            && manifest.project == *project
        {
            kept.push(Kept {
                name: set.name.to_string(),
                made_ms: manifest.began_ms,
                is_whole,
                is_pinned: manifest.pinned,
            });
        }
    }
    let surplus = retention::surplus(keep, &kept, now_ms);
    let gone: Vec<SetName> = surplus
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in &gone {
        locked.remove(name)?;
    }
    Ok(gone)
}
