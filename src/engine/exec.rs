//! A command in a running container, as an argument vector: no shell has a part in it, and hardened
//! images have none.

use std::time::Duration;

use bollard::exec::CreateExecOptions;
use bollard::exec::StartExecResults;
use futures_util::StreamExt as _;

use super::Engine;
use super::EngineError;
use super::QUICK;

/// How many bytes of what a command says are kept: the last ones.
const KEPT: usize = 8 * 1024;
/// Exit codes by which a container's runtime says that there is no such program, or none that can
/// be run (OCI runtimes take them over from the shell: 126 and 127).
const NO_PROGRAM: [i64; 2] = [126, 127];

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; none where the engine does not say.
    pub code: Option<i64>,
    /// The end of what it said, both streams together.
    pub said: String,
}

impl Ran {
    /// Whether there is no such program in the container.
    pub fn has_no_program(&self) -> bool {
        self.code.is_some_and(|code| NO_PROGRAM.contains(&code))
    }
}

impl Engine {
    /// Runs a command in a running container and waits for its end, at most for `limit`. One that
    /// takes longer goes on in the container ([`super::commands`]).
    pub async fn exec(
        &self,
        container: &str,
        argv: &[String],
        limit: Duration,
    ) -> Result<Ran, EngineError> {
        let program = argv.first().map(String::as_str).unwrap_or_default();
        let attempt = || format!("run {program} in the container");
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.to_vec()),
            ..CreateExecOptions::<String>::default()
        };
        let made = self.docker.create_exec(container, options);
        let made = self.call(attempt, QUICK, made).await?;
        let running = async {
            let started = self.docker.start_exec(&made.id, None).await?;
            let StartExecResults::Attached { mut output, .. } = started else {
                return Ok(Vec::new());
            };
            let mut said = Vec::new();
            while let Some(piece) = output.next().await {
                said.extend_from_slice(&piece?.into_bytes());
                if said.len() > 2 * KEPT {
                    said.drain(..said.len() - KEPT);
                }
            }
            Ok(said)
        };
        let said = self.call(attempt, limit, running).await?;
        let shown = self.docker.inspect_exec(&made.id);
        let shown = self.call(attempt, QUICK, shown).await?;
        Ok(Ran {
            code: shown.exit_code,
            said: String::from_utf8_lossy(&said).trim().to_owned(),
        })
    }
}
