//! Files out of a container and into one, as tar streams. The image needs no tool for it, and the
//! container need not run: the engine mounts its volumes for the call (moby `daemon/archive.go`).
//!
//! Owners, modes, times, symbolic links, hard links within one call, pipes and devices pass as they
//! are, owners by number. Sockets are left out, extended attributes too save for capabilities, and
//! holes of sparse files come as zeros (moby `pkg/archive`).
//!
//! There is no limit on the whole, since volumes are of any size; there is one on silence.

use std::io;
use std::time::Duration;

use bollard::query_parameters::UploadToContainerOptionsBuilder;
use futures_util::Stream;
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Bytes;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::wire::encoded;

/// A stream that brings or takes nothing for this long is given up: a disk that is that slow serves
/// nobody.
pub const ARCHIVE_SILENCE: Duration = Duration::from_secs(120);

/// How far an archive is read.
enum Reading {
    /// Nothing was asked yet: of which container, and of which path.
    Opening(String, String),
    /// It comes.
    Coming(Incoming),
    /// An error was its end.
    Over,
}

impl Reading {
    /// The next piece, and how it goes on; none at the end.
    async fn next(
        self,
        engine: &Engine,
        attempt: &str,
    ) -> Option<(Result<Bytes, EngineError>, Self)> {
        let said = || attempt.to_owned();
        let mut body = match self {
            Self::Over => return None,
            Self::Coming(body) => body,
            Self::Opening(container, path) => {
                let target = format!("/containers/{}/archive", encoded(&container));
                let query = [("path", path.as_str())];
                // Not by the client, whose answers are bounded.
                match engine.stream(said, Method::GET, &target, &query, &[]).await {
                    Ok(body) => body,
                    Err(error) => return Some((Err(error), Self::Over)),
                }
            }
        };
        loop {
            match body.frame().await? {
                Ok(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Some((Ok(bytes), Self::Coming(body)));
                    }
                }
                Err(error) => return Some((Err(engine.error(said(), error.into())), Self::Over)),
            }
        }
    }
}

impl Engine {
    /// What is at a path in a container, as a tar stream. A path ending in `/.` gives a directory's
    /// content, under `./`.
    pub fn archive(
        &self,
        container: &str,
        path: &str,
    ) -> impl Stream<Item = Result<Bytes, EngineError>> + Send + use<> {
        let opening = Reading::Opening(container.to_owned(), path.to_owned());
        let attempt = format!("read {path} of the container");
        let state = (opening, self.clone(), attempt);
        futures_util::stream::unfold(state, |(reading, engine, attempt)| async move {
            let next = reading.next(&engine, &attempt);
            let (item, reading) = tokio::time::timeout(ARCHIVE_SILENCE, next)
                .await
                .unwrap_or_else(|_| Some((Err(silent(attempt.clone())), Reading::Over)))?;
            Some((item, (reading, engine, attempt)))
        })
    }

    /// The first thing of an archive of a path in a container: a directory alone, or a file with the
    /// beginning of its content. None where there is no such path. What comes after it is not waited
    /// for.
    pub async fn first_entry(
        &self,
        container: &str,
        path: &str,
    ) -> Result<Option<Entry>, EngineError> {
        let attempt = || format!("read {path} of the container");
        let reading = async {
            let stream = self.archive(container, path);
            tokio::pin!(stream);
            let mut bytes = Vec::new();
            while let Some(piece) = stream.next().await {
                match piece {
                    Ok(piece) => bytes.extend_from_slice(&piece),
                    Err(error) if error.is_absent() => return Ok(None),
                    Err(error) => return Err(error),
                }
                if let Some(entry) = entry_in(&bytes, false) {
                    return Ok(Some(entry));
                }
            }
            Ok(entry_in(&bytes, true))
        };
        tokio::time::timeout(QUICK, reading)
            .await
            .unwrap_or_else(|_| {
                Err(EngineError::TimedOut {
                    attempt: attempt(),
                    limit: QUICK,
                })
            })
    }

    /// Unpacks a tar stream into a directory that is there. What is in the way is replaced; what is
    /// not in the stream stays. After a failure a part of it may be there.
    pub async fn unpack(
        &self,
        container: &str,
        path: &str,
        tar: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), EngineError> {
        let options = UploadToContainerOptionsBuilder::default()
            .path(path)
            .no_overwrite_dir_non_dir("true")
            .build();
        let (sender, mut moved) = watch::channel(0u64);
        let counted = tar.inspect(move |_| sender.send_modify(|count| *count += 1));
        let body = bollard::body_try_stream(counted);
        let upload = self
            .docker
            .upload_to_container(container, Some(options), body);
        tokio::pin!(upload);
        let attempt = || format!("write {path} of the container");
        loop {
            // Cancel-safe: the upload is pinned, and a change that is missed is seen in the next
            // round. The sender is gone when the stream has ended; the engine then has one silence
            // for the rest.
            tokio::select! {
                done = &mut upload => return done.map_err(|error| self.error(attempt(), error)),
                waited = tokio::time::timeout(ARCHIVE_SILENCE, moved.changed()) => match waited {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => break,
                    Err(_) => return Err(silent(attempt())),
                },
            }
        }
        let last = tokio::time::timeout(ARCHIVE_SILENCE, upload).await;
        last.map_err(|_| silent(attempt()))?
            .map_err(|error| self.error(attempt(), error))
    }
}

/// A thing in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// Its permissions.
    pub mode: u32,
    /// The beginning of its content, for a file.
    pub content: Vec<u8>,
}

/// A header and content come in so many bytes each time.
const BLOCK: usize = 512;
/// So much of a file's content is read.
const CONTENT: usize = 64 * 1024;

/// The first entry in these bytes, once they hold enough of it. Headers that only go before another
/// one (long names, extended attributes) are none.
fn entry_in(bytes: &[u8], is_all: bool) -> Option<Entry> {
    let mut at = 0;
    loop {
        let header = tar::Header::from_byte_slice(bytes.get(at..at + BLOCK)?);
        let size = usize::try_from(header.entry_size().ok()?).ok()?;
        at += BLOCK;
        let kind = header.entry_type();
        let is_before_another = kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions()
            || kind.is_gnu_longname()
            || kind.is_gnu_longlink();
        if is_before_another {
            at = at.checked_add(size.checked_next_multiple_of(BLOCK)?)?;
            continue;
        }
        let wanted = at + size.min(CONTENT);
        if bytes.len() < wanted && !is_all {
            return None;
        }
        return Some(Entry {
            uid: header.uid().ok()?,
            gid: header.gid().ok()?,
            mode: header.mode().ok()?,
            content: bytes[at..wanted.min(bytes.len())].to_vec(),
        });
    }
}

fn silent(attempt: String) -> EngineError {
    EngineError::TimedOut {
        attempt,
        limit: ARCHIVE_SILENCE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_is_read_however_much_comes_behind_it() {
        let mut archive = tar::Builder::new(Vec::new());
        let extended = [("SCHILY.xattr.user.a", "b".as_bytes())];
        archive.append_pax_extensions(extended).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_uid(999);
        header.set_gid(998);
        header.set_mode(0o640);
        header.set_size(4);
        archive
            .append_data(&mut header, "etc/passwd", "root".as_bytes())
            .unwrap();
        header.set_uid(7);
        archive
            .append_data(&mut header, "other", "more".as_bytes())
            .unwrap();
        let bytes = archive.into_inner().unwrap();
        let entry = Entry {
            uid: 999,
            gid: 998,
            mode: 0o640,
            content: b"root".to_vec(),
        };
        assert_eq!(entry_in(&bytes, false), Some(entry.clone()));
        let begun = (0..bytes.len()).find(|&end| entry_in(&bytes[..end], false).is_some());
        assert_eq!(begun, Some(3 * BLOCK + 4), "as soon as it is there");
        assert_eq!(entry_in(&bytes[..BLOCK], true), None);
        for end in 0..bytes.len() {
            let _ = entry_in(&bytes[..end], true);
        }
    }
}
