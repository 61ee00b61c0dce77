//! Volumes of the engine's that this host has as directories, and that we may read as such: a
//! hundred thousand calls less for each gigabyte than what goes through the engine.
//!
//! The engine names a volume's directory as it sees it. It may run in another place than we do (in a
//! container, in a machine of its own, as another user), where that name means nothing or something
//! else. So a directory counts only when the engine's own word about it fits: the time of its last
//! change to the nanosecond, its owner and its mode; and one that is written to, when what we lay
//! down there is what the engine finds in the container.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Engine;
use super::EngineError;
use super::wire;

/// What the engine says of a path in a container (moby `api/types`, `ContainerPathStat`).
#[derive(Debug, Deserialize)]
struct PathStat {
    mtime: String,
}

/// The header that has it, in base64.
const PATH_STAT: &str = "x-docker-container-path-stat";
/// The bits of a mode that are permissions, set-ID bits among them.
const PERMISSIONS: u32 = 0o7777;

/// A directory of this host that is a volume of a container.
#[derive(Debug)]
pub struct HostDirectory {
    /// Its name here.
    pub path: PathBuf,
    /// It, held open.
    pub opened: File,
    /// Whether nobody but the engine keeps it: a volume, and no directory of a person's.
    pub is_volume: bool,
}

impl Engine {
    /// The directory of this host that is mounted at a path of a container, which need not run; none
    /// where there is none that we may read and are sure of.
    pub async fn on_host(&self, container: &str, path: &str) -> Option<HostDirectory> {
        let found = self.found_on_host(container, path).await;
        found.unwrap_or_else(|error| {
            tracing::debug!(%error, path, "a volume is not read on this host");
            None
        })
    }

    async fn found_on_host(
        &self,
        container: &str,
        path: &str,
    ) -> Result<Option<HostDirectory>, EngineError> {
        // Whoever is not root may see the directory and not read all that is in it.
        if !self.endpoint.url().starts_with("unix://") || !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let mounts = self.inspected(container).await?.mounts;
        let Some(mount) = mounts.into_iter().find(|mount| mount.destination == path) else {
            return Ok(None);
        };
        let Ok(opened) = open_directory(Path::new(&mount.source)) else {
            return Ok(None);
        };
        let inside = self.first_entry(container, &format!("{path}/.")).await?;
        let changed = self.changed(container, path).await?;
        let (Some(inside), Some(changed), Ok(here)) = (inside, changed, opened.metadata()) else {
            return Ok(None);
        };
        // An engine that gives containers other user numbers shows other owners.
        let is_it = changed == changed_of(&here)
            && (inside.uid, inside.gid) == (here.uid().into(), here.gid().into())
            && inside.mode & PERMISSIONS == here.mode() & PERMISSIONS;
        Ok(is_it.then(|| HostDirectory {
            path: mount.source.into(),
            opened,
            is_volume: mount.r#type == "volume",
        }))
    }

    /// Whether what is laid down in a directory of this host is at this path of a container.
    pub async fn is_on_host(&self, container: &str, path: &str, here: &HostDirectory) -> bool {
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            return false;
        }
        let name = format!(".octo-local-{:032x}", u128::from_ne_bytes(random));
        let mark = here.path.join(&name);
        if File::create_new(&mark).is_err() {
            return false;
        }
        let changed = self.changed(container, &format!("{path}/{name}")).await;
        let is_there = fs::metadata(&mark)
            .is_ok_and(|mark| changed.is_ok_and(|changed| changed == Some(changed_of(&mark))));
        fs::remove_file(&mark).is_ok() && is_there
    }

    /// When the engine says that something in a container was changed last.
    async fn changed(
        &self,
        container: &str,
        path: &str,
    ) -> Result<Option<OffsetDateTime>, EngineError> {
        let attempt = || format!("look at {path} of the container");
        let target = format!("/containers/{}/archive", wire::encoded(container));
        let headers = self.head(attempt, &target, &[("path", path)]).await?;
        let stat = headers.get(PATH_STAT);
        Ok(stat.and_then(|stat| changed_in(stat.as_bytes())))
    }
}

/// Opens a directory, and nothing else that has its name.
fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn changed_of(metadata: &fs::Metadata) -> OffsetDateTime {
    metadata
        .modified()
        .map_or(OffsetDateTime::UNIX_EPOCH, OffsetDateTime::from)
}

fn changed_in(header: &[u8]) -> Option<OffsetDateTime> {
    let json = STANDARD.decode(header).ok()?;
    let stat: PathStat = serde_json::from_slice(&json).ok()?;
    OffsetDateTime::parse(&stat.mtime, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_word_has_nanoseconds() {
        let said = STANDARD.encode(
            r#"{"name":"x","size":4096,"mode":2147484141,"mtime":"2026-11-30T01:02:03.123456789+01:00","linkTarget":""}"#,
        );
        let changed = changed_in(said.as_bytes()).unwrap();
        assert_eq!(changed.nanosecond(), 123_456_789);
        assert_eq!(changed.unix_timestamp() % 3_600, 2 * 60 + 3);
        assert!(changed_in(b"?").is_none());
    }

    /// An engine whose one container has a volume at `/data`. It says that this directory is the
    /// volume, and of a path in the container what it finds below `inside`.
    async fn engine(named: &Path, inside: &Path) -> (Engine, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (named, inside) = (named.to_owned(), inside.to_owned());
        let answer = move |request: axum::extract::Request| {
            let target = request.uri().to_string();
            let below = target.split("path=%2Fdata").nth(1).map(|rest| {
                let name = rest.trim_start_matches("%2F").replace("%2E", ".");
                inside.join(name.trim_end_matches('.'))
            });
            let (named, inside, method) = (named.clone(), inside.clone(), request.method().clone());
            async move {
                let Some(below) = below else {
                    let shown = if target.ends_with("/version") {
                        r#"{"ApiVersion":"1.41"}"#.to_owned()
                    } else {
                        let mount = format!(
                            r#"{{"Type":"volume","Source":"{}","Destination":"/data"}}"#,
                            named.display()
                        );
                        format!(r#"{{"Id":"one","Mounts":[{mount}]}}"#)
                    };
                    return axum::http::Response::new(shown.into());
                };
                if method == hyper::Method::GET {
                    let mut tar = tar::Builder::new(Vec::new());
                    tar.append_dir(".", &inside).unwrap();
                    return axum::http::Response::new(tar.into_inner().unwrap().into());
                }
                let Ok(found) = fs::metadata(&below) else {
                    let mut gone = axum::http::Response::new(axum::body::Body::empty());
                    *gone.status_mut() = axum::http::StatusCode::NOT_FOUND;
                    return gone;
                };
                let changed = changed_of(&found).format(&Rfc3339).unwrap();
                let stat = STANDARD.encode(format!(r#"{{"mtime":"{changed}"}}"#));
                let answer = axum::http::Response::builder().header(PATH_STAT, stat);
                answer.body(axum::body::Body::empty()).unwrap()
            }
        };
        let app = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let endpoint = super::super::Endpoint::at(format!("unix://{}", socket.display()));
        (Engine::connect(endpoint).await.unwrap(), dir)
    }

    #[tokio::test]
    async fn a_directory_counts_only_when_the_engine_means_the_same_one() {
        let (volume, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (same, _socket) = engine(volume.path(), volume.path()).await;
        if !rustix::process::geteuid().is_root() {
            assert!(same.on_host("one", "/data").await.is_none());
            return;
        }
        let found = same.on_host("one", "/data").await.expect("it is the same");
        assert!(found.is_volume && found.path == volume.path());
        assert!(same.is_on_host("one", "/data", &found).await);
        assert_eq!(
            fs::read_dir(volume.path()).unwrap().count(),
            0,
            "no mark stays"
        );
        assert!(same.on_host("one", "/elsewhere").await.is_none());
        // The engine runs in a place of its own, where the name means something else.
        let (elsewhere, _socket) = engine(volume.path(), other.path()).await;
        assert!(elsewhere.on_host("one", "/data").await.is_none());
        assert!(!elsewhere.is_on_host("one", "/data", &found).await);
        let (nowhere, _socket) = engine(Path::new("/nowhere/at/all"), other.path()).await;
        assert!(nowhere.on_host("one", "/data").await.is_none());
    }

    #[test]
    fn a_link_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(open_directory(dir.path()).is_ok() && open_directory(&link).is_err());
    }
}
