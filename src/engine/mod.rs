//! The Docker Engine: one call, one conversion, one error each. No policy lives here.
//!
//! bollard 0.21 is wrapped because of what was seen of it: it sends no API version, its time-out
//! ends with the response's headers, it reads answers of any size, and one unknown enum value kills
//! a call. `wire` adds the version and bounds what is read, `Engine::call` adds a deadline of our
//! own, and `shown` reads with patience what people's containers may look like.

pub mod apply;
pub mod archive;
pub mod carrier;
pub mod commands;
pub mod connect;
pub mod copy;
pub mod credentials;
pub mod exec;
pub mod holders;
#[cfg(test)]
mod hostile;
pub mod images;
pub mod inventory;
pub mod lease;
pub mod logs;
pub mod observe;
pub mod on_host;
pub mod ours;
pub mod registry;
mod shown;
#[cfg(test)]
mod silence;
pub mod theirs;
pub mod watch;
mod wire;

use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as BollardError;

pub use connect::Endpoint;
pub use registry::PullTrouble;

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
    wire: wire::Wire,
    /// Where it is.
    pub endpoint: Endpoint,
}

/// The longest words of the engine that are handed on, in bytes. Its own are some hundred.
const WORDS_LIMIT: usize = 4096;

/// What an error comes from, whatever it is.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong with a call. The sentence of each is whole; what it comes from is its source.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers.
    #[error("cannot reach the Docker Engine at {endpoint}: {why}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        why: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Octo-local does not work with what is there: a setting is to be changed.
    #[error("{endpoint}: {why}")]
    Unsupported {
        /// Where.
        endpoint: String,
        /// Why, and what to use.
        why: String,
    },
    /// An image could not be fetched.
    #[error("pull image {image}: {trouble}: {message}")]
    Pull {
        /// The reference.
        image: String,
        /// What that comes from.
        trouble: PullTrouble,
        /// The engine's words.
        message: String,
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
    #[error("{attempt}: {}", bounded(&chain(&**source)))]
    Broken {
        /// What was attempted.
        attempt: String,
        /// Why.
        source: AnyError,
    },
}

impl EngineError {
    /// Whether the engine said that the thing does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the engine refused the request itself (HTTP 4xx): what it names is not there, or can
    /// be no name of anything.
    pub fn blames_the_request(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if (400..500).contains(status))
    }

    /// Whether the engine said that something is in the way: a name taken, a removal under way.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// Whether this says something about the one thing that was asked for, and not about the
    /// engine: an answer came, be it a refusal or one that makes no sense.
    pub fn is_about_one_thing(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Broken { .. } | Self::Pull { .. }
        )
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
                message: bounded(message.trim()),
            },
            BollardError::DockerStreamError { error } => EngineError::Refused {
                attempt,
                status: 500,
                message: bounded(&error),
            },
            BollardError::RequestTimeoutError => EngineError::TimedOut {
                attempt,
                limit: SLOW,
            },
            BollardError::IOError { err } => match wire::not_connected(&err) {
                Some(refused) => {
                    let why = connect::why_unreachable(refused);
                    connect::unreachable(&self.endpoint, why, err)
                }
                None => EngineError::Broken {
                    attempt,
                    source: err.into(),
                },
            },
            other => EngineError::Broken {
                attempt,
                source: other.into(),
            },
        }
    }

    /// Whether the engine answers.
    pub async fn ping(&self) -> Result<(), EngineError> {
        self.call(|| "ping the engine".to_owned(), QUICK, self.docker.ping())
            .await
            .map(|_| ())
    }

    /// What the engine's host has.
    pub async fn host(&self) -> Result<Host, EngineError> {
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
        Ok(Host {
            memory,
            architecture: info.architecture.unwrap_or_default(),
            bounds_memory: info.memory_limit != Some(false),
            bounds_processors: info.cpu_cfs_quota != Some(false),
            maps_users: info.security_options.iter().flatten().any(|option| {
                let mut words = option.split(',');
                words.any(|word| matches!(word, "name=rootless" | "name=userns"))
            }),
            processors: info
                .ncpu
                .and_then(|all| u64::try_from(all).ok())
                .unwrap_or(u64::MAX),
        })
    }
}

/// What the engine's host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Memory, in bytes.
    pub memory: u64,
    /// The kind of its processors.
    pub architecture: String,
    /// How many of them; more than one has where the engine does not say.
    pub processors: u64,
    /// Whether a container gets no more memory than it may have.
    pub bounds_memory: bool,
    /// The same of processors.
    pub bounds_processors: bool,
    /// Whether the users of containers have other numbers on the host: in a rootless engine, or with
    /// `userns-remap`.
    pub maps_users: bool,
}

/// The beginning of what may be long.
fn bounded(words: &str) -> String {
    match words.char_indices().find(|(at, _)| *at >= WORDS_LIMIT) {
        Some((at, _)) => format!("{}…", &words[..at]),
        None => words.to_owned(),
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
