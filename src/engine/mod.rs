//! The Docker Engine: one call, one conversion, one error each. No policy lives here.
//!
//! bollard 0.21 is wrapped because of what was seen of it: it sends no API version, its time-out
//! ends with the response's headers, and one unknown enum value kills a call. `connect` adds the
//! version, `Engine::call` a deadline of our own.

pub mod apply;
pub mod connect;
pub mod credentials;
pub mod images;
pub mod logs;
pub mod observe;
#[cfg(test)]
mod silence;
pub mod watch;

use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as BollardError;

pub use connect::Endpoint;

/// A call that answers from memory: list, inspect, create.
pub const QUICK: Duration = Duration::from_secs(30);
/// A call that waits for a process or a disk.
pub const SLOW: Duration = Duration::from_secs(60);
/// The start of a container, for which others wait: it takes well under a second. One that comes
/// later is seen all the same.
pub const START: Duration = Duration::from_secs(20);

/// A connection to one engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) docker: Docker,
    /// Where it is.
    pub endpoint: Endpoint,
}

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers.
    #[error("cannot reach the Docker Engine at {endpoint}: {why}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        why: String,
    },
    /// The engine answered with an error.
    #[error("{attempt}: {message}")]
    Refused {
        /// What was attempted.
        attempt: String,
        /// HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// No answer in time. The engine may still do it: look before trying again.
    #[error("{attempt}: no answer within {} s", limit.as_secs())]
    TimedOut {
        /// What was attempted.
        attempt: String,
        /// The deadline.
        limit: Duration,
    },
    /// The connection broke or the answer could not be read.
    #[error("{attempt}: {message}")]
    Broken {
        /// What was attempted.
        attempt: String,
        /// Why.
        message: String,
    },
}

impl EngineError {
    /// Whether the engine said that the thing does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the engine said that something is in the way: a name taken, a removal under way.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// Whether the engine itself cannot be talked to, so that nothing was learnt about the thing.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Broken { .. }
        )
    }
}

impl Engine {
    /// Runs one call under a deadline and names it in the error.
    pub(crate) async fn call<T>(
        &self,
        attempt: impl FnOnce() -> String,
        limit: Duration,
        call: impl Future<Output = Result<T, BollardError>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.error(attempt(), error)),
            Err(_) => Err(EngineError::TimedOut {
                attempt: attempt(),
                limit,
            }),
        }
    }

    pub(crate) fn error(&self, attempt: String, error: BollardError) -> EngineError {
        match error {
            BollardError::DockerResponseServerError {
                status_code,
                message,
            } => EngineError::Refused {
                attempt,
                status: status_code,
                message: message.trim().to_owned(),
            },
            BollardError::DockerStreamError { error } => EngineError::Refused {
                attempt,
                status: 500,
                message: error,
            },
            BollardError::RequestTimeoutError => EngineError::TimedOut {
                attempt,
                limit: SLOW,
            },
            BollardError::HyperLegacyError { err } if err.is_connect() => {
                EngineError::Unreachable {
                    endpoint: self.endpoint.to_string(),
                    why: chain(&err),
                }
            }
            BollardError::SocketNotFoundError(path) => EngineError::Unreachable {
                endpoint: path,
                why: "there is no such socket".to_owned(),
            },
            other => EngineError::Broken {
                attempt,
                message: chain(&other),
            },
        }
    }

    /// Whether the engine answers.
    pub async fn ping(&self) -> Result<(), EngineError> {
        self.call(|| "ping the engine".to_owned(), QUICK, self.docker.ping())
            .await
            .map(|_| ())
    }

    /// Memory in bytes and the processor of the engine's host.
    pub async fn host(&self) -> Result<(u64, String), EngineError> {
        let info = self
            .call(
                || "ask the engine about its host".to_owned(),
                QUICK,
                self.docker.info(),
            )
            .await?;
        let memory = info
            .mem_total
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(u64::MAX);
        Ok((memory, info.architecture.unwrap_or_default()))
    }
}

/// An error with all its sources, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
