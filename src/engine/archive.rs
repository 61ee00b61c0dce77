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

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use futures_util::Stream;
use futures_util::StreamExt as _;
use hyper::body::Bytes;
use tokio::sync::watch;

use super::Engine;
use super::EngineError;

/// A stream that brings or takes nothing for this long is given up: a disk that is that slow serves
/// nobody.
pub const ARCHIVE_SILENCE: Duration = Duration::from_secs(120);

impl Engine {
    /// What is at a path in a container, as a tar stream. A path ending in `/.` gives a directory's
    /// content, under `./`.
    pub fn archive(
        &self,
        container: &str,
        path: &str,
    ) -> impl Stream<Item = Result<Bytes, EngineError>> + Send + use<> {
        let options = DownloadFromContainerOptionsBuilder::default()
            .path(path)
            .build();
        let stream = self
            .docker
            .download_from_container(container, Some(options));
        let attempt = format!("read {path} of the container");
        let state = (Box::pin(stream), self.clone(), attempt);
        futures_util::stream::unfold(state, |(mut stream, engine, attempt)| async move {
            let item = match tokio::time::timeout(ARCHIVE_SILENCE, stream.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(bytes))) => Ok(bytes),
                Ok(Some(Err(error))) => Err(engine.error(attempt.clone(), error)),
                Err(_) => Err(silent(attempt.clone())),
            };
            Some((item, (stream, engine, attempt)))
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

fn silent(attempt: String) -> EngineError {
    EngineError::TimedOut {
        attempt,
        limit: ARCHIVE_SILENCE,
    }
}
