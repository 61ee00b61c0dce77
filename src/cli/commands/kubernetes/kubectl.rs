//! The person's own `kubectl`: one process a call, bounded in time and size. What it says when it
//! fails becomes a type ([`Refusal`]).

use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt as _;
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;
use tokio::process::Command;
use tokio_util::task::AbortOnDropHandle;

use crate::cli::args::KubernetesFlags;
use crate::cli::context::Context;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::UNREACHABLE;
use crate::config::Problem;
use crate::export::kubernetes::options::is_label;
use crate::export::kubernetes::options::label_of;
use crate::kubernetes::refusal::Refusal;

/// The oldest minor version: what an export needs of the cluster, whose kubectl may be one off.
const OLDEST: u32 = 27;
/// How long kubectl gives the API server for one request.
const REQUEST: &str = "--request-timeout=20s";
/// A call beyond that is hung: kubectl may make several requests, and wait for a login of the
/// person's own.
const CALL: Duration = Duration::from_secs(60);
/// Lists of pods have kilobytes; more than this is none.
const MOST: u64 = 32 * 1024 * 1024;
/// Words of an error: the rest is not read.
const WORDS: u64 = 64 * 1024;

/// Why kubectl did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum KubectlError {
    /// It, or the cluster, said no.
    #[error("{what}: {refusal}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Why not.
        #[source]
        refusal: Refusal,
    },
    /// It did not end.
    #[error("{what}: kubectl said nothing within {} s", limit.as_secs())]
    TimedOut {
        /// What was asked for.
        what: String,
        /// How long it had.
        limit: Duration,
    },
    /// What it said is not what was asked for.
    #[error("{what}: the answer cannot be read: {error}")]
    Unreadable {
        /// What was asked for.
        what: String,
        /// Where it breaks.
        #[source]
        error: serde_json::Error,
    },
    /// It could not be run, or what it was given could not be read.
    #[error("{what}: {error}")]
    Io {
        /// What was asked for.
        what: String,
        /// The system's words.
        #[source]
        error: std::io::Error,
    },
}

impl KubectlError {
    /// Whether the same may succeed a little later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.passes(),
            Self::TimedOut { .. } => true,
            Self::Unreadable { .. } | Self::Io { .. } => false,
        }
    }

    /// Whether somebody, its controller mostly, changed the thing since it was looked at.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                refusal: Refusal::Conflict(_),
                ..
            }
        )
    }

    /// Whether the thing is not there.
    pub(super) fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                refusal: Refusal::NotFound(_),
                ..
            }
        )
    }
}

impl From<KubectlError> for Failure {
    fn from(error: KubectlError) -> Self {
        let code = match &error {
            KubectlError::Refused { refusal, .. } => match refusal {
                Refusal::Forbidden { .. }
                | Refusal::NotFound(_)
                | Refusal::Invalid(_)
                | Refusal::Unauthorized(_)
                | Refusal::NoContext(_) => CONFIGURATION,
                Refusal::Unreachable(_) => UNREACHABLE,
                Refusal::Conflict(_)
                | Refusal::AlreadyExists(_)
                | Refusal::Busy(_)
                | Refusal::Ended { .. }
                | Refusal::Other(_) => FAILED,
            },
            KubectlError::TimedOut { .. } => UNREACHABLE,
            KubectlError::Unreadable { .. } | KubectlError::Io { .. } => FAILED,
        };
        Self::new(code, error.to_string())
    }
}

/// Something that may be done to something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right {
    pub(super) verb: &'static str,
    pub(super) resource: &'static str,
    pub(super) part: Option<&'static str>,
}

/// kubectl, with its context and a namespace.
pub(super) struct Kubectl {
    program: PathBuf,
    context: Option<String>,
    /// The namespace.
    pub(super) namespace: String,
}

impl Kubectl {
    /// Finds it, or says what is missing.
    pub(super) async fn find(context: &Context, flags: &KubernetesFlags) -> Result<Self, Failure> {
        let project = || label_of(context.project.as_str());
        let namespace = flags.namespace.clone().unwrap_or_else(project);
        if !is_label(&namespace) {
            let line =
                format!("{namespace} is no name of a namespace: write it as the cluster has it");
            return Err(Failure::new(crate::cli::outcome::USAGE, line));
        }
        let path = context.env.get("PATH").map(String::as_str);
        let program = find("kubectl", path.unwrap_or_default()).ok_or_else(|| {
            let line = "there is no kubectl in PATH: install it, as https://kubernetes.io/docs/tasks/tools/ says";
            Failure::new(CONFIGURATION, line)
        })?;
        let kubectl = Self {
            program,
            context: flags.context.clone(),
            namespace,
        };
        kubectl.must_be_new_enough().await?;
        Ok(kubectl)
    }

    async fn must_be_new_enough(&self) -> Result<(), Failure> {
        let said = self
            .run(
                &["version", "--client", "-o", "json"],
                "ask kubectl for its version",
                CALL,
            )
            .await?;
        let minor = serde_json::from_slice::<Version>(&said)
            .ok()
            .and_then(|version| version.client_version.minor());
        let Some(minor) = minor else {
            let line = format!("{} does not tell its version", self.program.display());
            return Err(Failure::new(CONFIGURATION, line));
        };
        if minor < OLDEST {
            let line = format!(
                "{} is version 1.{minor}: 1.{OLDEST} or newer is needed",
                self.program.display()
            );
            return Err(Failure::new(CONFIGURATION, line));
        }
        Ok(())
    }

    /// Refuses unless the person may do all of this; every right that is missing is told.
    pub(super) async fn must_be_allowed(&self, rights: &[Right]) -> Result<(), Failure> {
        let mut problems = Vec::new();
        for right in rights {
            let part = right.part.map(|part| format!("--subresource={part}"));
            let mut words = vec!["auth", "can-i", right.verb, right.resource];
            words.extend(part.as_deref());
            let name = right.part.map_or_else(
                || right.resource.to_owned(),
                |part| format!("{}/{part}", right.resource),
            );
            let what = format!("ask whether you may {} {name}", right.verb);
            // It says `no` and ends with 1; anything else is an error of its own.
            let answer = self.output(&words, None, &what, CALL).await?;
            let said = String::from_utf8_lossy(&answer.out);
            match said.split_whitespace().next() {
                Some("yes") => {}
                Some("no") => problems.push(Problem {
                    key: format!("{} {name}", right.verb),
                    value: None,
                    why: format!("you may not do that in the namespace {}", self.namespace),
                    fix: "ask whoever administers the cluster for that right".to_owned(),
                    origin: None,
                }),
                Some(_) | None => return Err(answer.refused(&what).into()),
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let mut failure = Failure::problems(&problems);
        if let Some(first) = failure.lines.first_mut() {
            "rights are missing, nothing was changed:".clone_into(first);
        }
        Err(failure)
    }

    /// A call that answers soon.
    pub(super) async fn call(&self, words: &[&str], what: &str) -> Result<Vec<u8>, KubectlError> {
        self.run(&[&[REQUEST], words].concat(), what, CALL).await
    }

    /// The same, with something on its standard input: what is secret never is an argument.
    pub(super) async fn call_with(
        &self,
        words: &[&str],
        input: Vec<u8>,
        what: &str,
    ) -> Result<Vec<u8>, KubectlError> {
        let words = [&[REQUEST], words].concat();
        let answer = self.output(&words, Some(input), what, CALL).await?;
        answer.good(what)
    }

    /// Runs a program in a container. No time-out of requests, which would cut it off.
    pub(super) async fn exec(
        &self,
        (pod, container): (&str, &str),
        command: &[&str],
        what: &str,
        limit: Duration,
    ) -> Result<Vec<u8>, KubectlError> {
        let words = [&["exec", pod, "-c", container, "--"], command].concat();
        self.run(&words, what, limit).await
    }

    /// The same, with a stream as its standard input. Whoever makes the stream says when it is
    /// broken: then the program's end counts for nothing. `limit` bounds each piece, and the end.
    pub(super) async fn exec_with(
        &self,
        (pod, container): (&str, &str),
        command: &[&str],
        input: impl Stream<Item = std::io::Result<Bytes>>,
        what: &str,
        limit: Duration,
    ) -> Result<Vec<u8>, KubectlError> {
        let words = [&["exec", "-i", pod, "-c", container, "--"], command].concat();
        let mut child = self.spawn(&words, true, what)?;
        let failed = |error| KubectlError::Io {
            what: what.to_owned(),
            error,
        };
        let late = || KubectlError::TimedOut {
            what: what.to_owned(),
            limit,
        };
        let stdin = child.stdin.take();
        // Whoever gives up ends the process with it.
        let reading = AbortOnDropHandle::new(tokio::spawn(read(child)));
        if let Some(mut stdin) = stdin {
            tokio::pin!(input);
            while let Some(piece) = input.next().await {
                let piece = piece.map_err(failed)?;
                match tokio::time::timeout(limit, stdin.write_all(&piece)).await {
                    Err(_) => return Err(late()),
                    // It ended before it had read all: its own words say why.
                    Ok(Err(_)) => break,
                    Ok(Ok(())) => {}
                }
            }
            let _ = stdin.shutdown().await;
        }
        let answer = tokio::time::timeout(limit, reading)
            .await
            .map_err(|_| late())?;
        let answer = answer.map_err(|error| failed(std::io::Error::other(error)))?;
        answer.map_err(failed)?.good(what)
    }

    /// A process that goes on, such as `port-forward`. It ends when it is dropped.
    pub(super) fn start(&self, words: &[&str], what: &str) -> Result<Child, KubectlError> {
        self.spawn(words, false, what)
    }

    async fn run(
        &self,
        words: &[&str],
        what: &str,
        limit: Duration,
    ) -> Result<Vec<u8>, KubectlError> {
        self.output(words, None, what, limit).await?.good(what)
    }

    async fn output(
        &self,
        words: &[&str],
        input: Option<Vec<u8>>,
        what: &str,
        limit: Duration,
    ) -> Result<Answer, KubectlError> {
        let mut child = self.spawn(words, input.is_some(), what)?;
        let talking = async {
            if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
                // One that does not read says why in its own words.
                let _ = stdin.write_all(&input).await;
                let _ = stdin.shutdown().await;
            }
            read(child).await
        };
        match tokio::time::timeout(limit, talking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(KubectlError::Io {
                what: what.to_owned(),
                error,
            }),
            Err(_) => Err(KubectlError::TimedOut {
                what: what.to_owned(),
                limit,
            }),
        }
    }

    fn spawn(&self, words: &[&str], has_input: bool, what: &str) -> Result<Child, KubectlError> {
        let mut command = Command::new(&self.program);
        if let Some(context) = &self.context {
            command.arg(format!("--context={context}"));
        }
        command
            .arg(format!("--namespace={}", self.namespace))
            .args(words)
            // Its words are read.
            .env("LC_ALL", "C")
            .stdin(if has_input {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().map_err(|error| KubectlError::Io {
            what: what.to_owned(),
            error,
        })
    }
}

/// What a process said, and whether it ended well.
struct Answer {
    is_good: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Answer {
    fn good(self, what: &str) -> Result<Vec<u8>, KubectlError> {
        if self.is_good {
            return Ok(self.out);
        }
        Err(self.refused(what))
    }

    fn refused(&self, what: &str) -> KubectlError {
        // A program in a pod says on either what is wrong.
        let said = [&self.out[..], b"\n", &self.err[..]].concat();
        let said = if self.err.is_empty() || is_of_exec(&self.err) {
            &said
        } else {
            &self.err
        };
        KubectlError::Refused {
            what: what.to_owned(),
            refusal: Refusal::parse(&String::from_utf8_lossy(said)),
        }
    }
}

fn is_of_exec(words: &[u8]) -> bool {
    String::from_utf8_lossy(words).contains("command terminated with exit code")
}

async fn read(mut child: Child) -> std::io::Result<Answer> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let out = async {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MOST).read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let err = async {
        let mut bytes = Vec::new();
        if let Some(mut stderr) = stderr {
            (&mut stderr).take(WORDS).read_to_end(&mut bytes).await?;
            // Whoever says more must not be held up by it.
            tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let (out, err) = tokio::try_join!(out, err)?;
    let status = child.wait().await?;
    Ok(Answer {
        is_good: status.success(),
        out,
        err,
    })
}

/// The first file of this name that may be run.
fn find(name: &str, path: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let is_program = |file: &Path| {
        let found = std::fs::metadata(file);
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    client_version: ClientVersion,
}

#[derive(Deserialize)]
struct ClientVersion {
    major: String,
    /// `32`, or `32+` where a vendor changed it.
    minor: String,
}

impl ClientVersion {
    fn minor(&self) -> Option<u32> {
        let digits = self
            .minor
            .trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let minor = digits.parse().ok()?;
        // A version 2 would be newer than any of these.
        if self.major == "1" { Some(minor) } else { None }
    }
}

#[cfg(test)]
mod tests;
