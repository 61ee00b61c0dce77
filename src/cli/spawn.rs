//! The daemon's process, from the command line's side: run it, start it when none answers, replace an older one.

use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use super::outcome::BUG;
use super::outcome::FAILED;
use super::outcome::Failure;
use super::outcome::Outcome;
use crate::api::Identity;
use crate::api::client::ClientError;
use crate::daemon::driver::Leave;
use crate::daemon::run;
use crate::daemon::run::DaemonError;

/// How long a daemon may take until it answers: it opens its socket before anything else.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(3);

/// Runs the daemon of this project.
pub async fn daemon(context: &Context, detached: bool, held: bool) -> Outcome {
    let options = run::Options { project: context.project.clone(), detached, held, env: context.env.clone() };
    let left = run::run(options).await.map_err(|error| match error {
        DaemonError::Owned(..) | DaemonError::Prepare { .. } => Failure::new(FAILED, error.to_string()),
    })?;
    match left {
        Leave::End => Ok(()),
        Leave::Broken => Err(Failure::new(BUG, "the daemon met too many bugs of its own; its log has them")),
        Leave::Reload => Err(reload()),
    }
}

/// Becomes the program that is now at this one's place, with the same arguments; returns only if that fails. It goes on with
/// what was applied, also where this one was started to wait for a request.
fn reload() -> Failure {
    use std::os::unix::process::CommandExt as _;
    let mut words = std::env::args_os();
    let own = words.next().unwrap_or_default();
    let program = program_of(&std::env::current_exe().unwrap_or_else(|_| own.into()));
    let error = Command::new(&program).args(words.filter(|word| word != "--held")).exec();
    Failure::new(FAILED, format!("start {} anew: {error}", program.display()))
}

/// Where the program was started from: the kernel marks a path whose file was replaced meanwhile.
fn program_of(path: &std::path::Path) -> std::path::PathBuf {
    let text = path.to_string_lossy();
    text.strip_suffix(" (deleted)").map_or_else(|| path.to_owned(), std::path::PathBuf::from)
}

/// Makes sure that a daemon answers which is not older than this program. Containers are not touched.
pub async fn ensure(context: &Context) -> Result<(), Failure> {
    match context.client.identity().await {
        Ok(identity) if identity >= Identity::own() => return Ok(()),
        Ok(_) => {
            let _: bool = context.client.post("/v1/handover", &()).await?;
        }
        Err(ClientError::Absent) => {}
        Err(error) => return Err(error.into()),
    }
    start(context).await
}

/// Starts a daemon and waits until it answers. It starts nothing by itself before the request that it was started for. One that is leaving still holds the lock for a moment, so a new one may
/// have to be started again.
async fn start(context: &Context) -> Result<(), Failure> {
    context
        .paths
        .create()
        .map_err(|error| Failure::new(FAILED, format!("make {}: {error}", context.paths.state.display())))?;
    let deadline = Instant::now() + ANSWERS_WITHIN;
    let mut child = spawn(context)?;
    loop {
        if matches!(context.client.identity().await, Ok(identity) if identity >= Identity::own()) {
            return Ok(());
        }
        let ended = child.try_wait().map_err(|error| Failure::new(FAILED, error.to_string()))?;
        if Instant::now() >= deadline {
            let log = context.paths.log();
            return Err(Failure::new(FAILED, format!("the daemon does not answer; its log is {}", log.display())));
        }
        if ended.is_some() {
            child = spawn(context)?;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn spawn(context: &Context) -> Result<std::process::Child, Failure> {
    let failure = |error: std::io::Error| Failure::new(FAILED, format!("start the daemon: {error}"));
    let log =
        std::fs::File::options().append(true).create(true).mode(0o600).open(context.paths.log()).map_err(failure)?;
    let program = program_of(&std::env::current_exe().map_err(failure)?);
    Command::new(program)
        .args(context.same_project())
        .args(["daemon", "--detached", "--held"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(failure)
}
