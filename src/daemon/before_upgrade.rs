//! Looks at what the backup before an upgrade will need, and at nodes that it would wait for. It leaves
//! nothing behind: `plan` asks too.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::admit::LastSet;
use super::admit::Online;
use super::admit::Saving;
use crate::backup::Directory;
use crate::backup::Manifest;
use crate::backup::manifest::Kind;
use crate::config::Secret;
use crate::config::project::ProjectName;
use crate::octopus::drain::Api;
use crate::spec::DatabaseTarget;
use crate::sql;

/// How long Octopus Server may take to list its nodes when a request waits for it.
const API_LIMIT: Duration = Duration::from_secs(3);

/// What is known of the backup that would be made into this directory.
pub(super) async fn saving(
    directory: PathBuf,
    project: ProjectName,
    database: Option<&DatabaseTarget>,
) -> Saving {
    let place = directory.display().to_string();
    let reading = tokio::task::spawn_blocking(move || {
        let unwritable = tempfile::tempfile_in(existing(&directory)).err();
        let directory = Directory::at(directory);
        let last = newest(&directory, &project);
        let free = directory.free().ok();
        (unwritable.map(|error| error.to_string()), last, free)
    });
    let (unwritable, last, free) = reading.await.unwrap_or_default();
    let (mut size, mut server_free) = (None, None);
    if let Some(target) = database {
        size = sql::backup::size(target).await;
        server_free = sql::backup::free(target).await;
    }
    Saving {
        place,
        unwritable,
        free,
        database: size,
        server_free,
        last,
    }
}

/// The directory, or what of the way to it is there.
fn existing(directory: &Path) -> &Path {
    let there = |path: &&Path| path.symlink_metadata().is_ok();
    directory.ancestors().find(there).unwrap_or(directory)
}

fn newest(directory: &Directory, project: &ProjectName) -> Option<LastSet> {
    let (sets, _) = directory.list().ok()?;
    let whole = sets
        .into_iter()
        .filter(crate::backup::directory::Listed::is_whole);
    let mut whole = whole.filter_map(|set| set.manifest.ok());
    let last: Manifest = whole.find(|manifest| manifest.project == *project)?;
    Some(LastSet {
        stored: last.stored_size(),
        plain: last.plain_size(),
        database: last.part(Kind::Database).map_or(0, |part| part.plain_size),
    })
}

/// The nodes that Octopus Server says run; none where it cannot be asked.
pub(super) async fn online(address: std::net::SocketAddr, key: &Secret) -> Vec<Online> {
    let api = Api {
        address,
        key,
        name: "",
        limit: API_LIMIT,
    };
    let names = api.online().await.unwrap_or_default().into_iter();
    names.map(|name| Online { name }).collect()
}
