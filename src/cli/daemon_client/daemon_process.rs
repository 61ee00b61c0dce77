//! The daemon's process, from the command line's side: run it, start it when none answers, replace
//! an older one.

use crate::api::route;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::api::Identity;
use crate::api::client::ClientError;
use crate::cli::context::Context;
use crate::cli::daemon_client::tail::Tail;
use crate::cli::outcome::BUG;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::RUNS_ALREADY;
use crate::cli::outcome::TIMED_OUT;
use crate::cli::supervisor;
use crate::daemon::message::Answer;
use crate::daemon::message::Leave;
use crate::daemon::message::Request;
use crate::daemon::message::UpRequest;
use crate::daemon::run;
use crate::daemon::run::DaemonError;
use crate::daemon::store;
use crate::daemon::store::Stored;
use crate::reconcile::preview::Change;
use crate::reconcile::status::GoalWord;
use crate::service_manager;
use crate::service_manager::Word;

/// How long a daemon may take until it answers: it opens its socket before anything else.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How long one that ends may hold the lock against its successor.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(3);
/// How often a request is made to daemons that end before they answer.
const TRIES: u32 = 5;
/// How long another daemon may take to come in the place of one that went: systemd restarts it
/// after a second.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(5);
/// How often a successor is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long systemd may take to hear that the program starts anew.
const TELLS_WITHIN: Duration = Duration::from_secs(1);
/// What systemd gives to those that tell it when they are ready.
const SYSTEMD: &str = "NOTIFY_SOCKET";

/// Runs the daemon of this project.
pub async fn daemon(context: &Context, detached: bool, held: bool) -> Outcome {
    pass_nothing_on();
    if !detached && context.env.contains_key(SYSTEMD) {
        take_over(context).await;
    }
    let options = run::Options {
        project: context.project.clone(),
        detached,
        held,
        env: context.env.clone(),
    };
    let left = run::run(options).await.map_err(|error| match error {
        DaemonError::Owned(..) if detached => Failure::new(TIMED_OUT, error.to_string()),
        DaemonError::Owned(..) => Failure::new(RUNS_ALREADY, error.to_string()),
        DaemonError::Prepare { .. } => Failure::new(FAILED, error.to_string()),
    })?;
    match left {
        Leave::End => Ok(()),
        Leave::Broken => Err(Failure::new(
            BUG,
            "the daemon met too many bugs of its own; its log has them",
        )),
        Leave::Reload => Err(reload()),
    }
}

/// Becomes the program that is now at this one's place, with the same arguments; returns only if
/// that fails. It goes on with what was applied, also where this one was started to wait for a
/// request.
fn reload() -> Failure {
    use std::os::unix::process::CommandExt as _;
    let mut words = std::env::args_os();
    let own = words.next().unwrap_or_default();
    let program = program_of(&std::env::current_exe().unwrap_or_else(|_| own.into()));
    // systemd's `notify-reload` waits for these two, and then for the new program's readiness.
    // A manager that reads nothing must not keep the old program running.
    service_manager::say_and_block(Word::Reloading, TELLS_WITHIN);
    let error = Command::new(&program)
        .args(words.filter(|word| word != "--held"))
        .exec();
    Failure::new(FAILED, format!("start {} anew: {error}", program.display()))
}

/// Where the program was started from: the kernel marks a path whose file was replaced meanwhile.
pub fn program_of(path: &std::path::Path) -> std::path::PathBuf {
    let text = path.to_string_lossy();
    text.strip_suffix(" (deleted)")
        .map_or_else(|| path.to_owned(), std::path::PathBuf::from)
}

/// systemd's daemon takes the stack over from one that `up` started. Containers are not touched.
/// Whoever it cannot take it over from still holds the lock, and is named because of that.
async fn take_over(context: &Context) {
    if !context
        .client
        .status()
        .await
        .is_ok_and(|status| status.ends_when_down)
    {
        return;
    }
    let _: Result<bool, _> = context.client.post(route::HANDOVER, &()).await;
    let deadline = Instant::now() + SUCCESSOR_WITHIN;
    let is_held = || matches!(store::lock(&context.paths.lock()), Ok(Err(_)));
    while is_held() && Instant::now() < deadline {
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Asks the daemon. One that is just ending (a `down` came before) breaks off; then a new one is
/// started and asked.
pub async fn ask<T: DeserializeOwned>(
    context: &Context,
    path: &str,
    body: &impl Serialize,
) -> Result<T, Failure> {
    for _ in 1..TRIES {
        ensure(context).await?;
        match context.client.post(path, body).await {
            Err(ClientError::Absent | ClientError::Broken(_)) => {}
            answer => return Ok(answer?),
        }
    }
    ensure(context).await?;
    Ok(context.client.post(path, body).await?)
}

/// Makes sure that a daemon answers which is not older than this program. Containers are not
/// touched.
pub async fn ensure(context: &Context) -> Result<(), Failure> {
    let mut answer = context.client.identity().await;
    // Whoever dies while being asked breaks the connection. Nobody listens there any more then, or
    // somebody else does.
    if let Err(ClientError::Broken(_)) = answer {
        answer = context.client.identity().await;
    }
    match answer {
        Ok(identity) if identity >= Identity::own() => return Ok(()),
        // The same program at another place, or copied at another time, is no older one.
        Ok(identity) if is_same_version(&identity) && runs_this_program(context) => return Ok(()),
        Ok(_) => {
            let status = context.client.status().await.ok();
            let returns = status.as_ref().is_some_and(|status| !status.ends_when_down);
            let _: bool = context.client.post(route::HANDOVER, &()).await?;
            // systemd starts its own again, from the same path: after an upgrade that is this
            // program.
            if returns && successor(context).await {
                return Ok(());
            }
            // The other one goes on with what the older one was at; whoever asks may only want to
            // know something.
            let goal = status.map(|status| status.goal).unwrap_or_default();
            return start(
                context,
                !goes_on_alone(goal, store::read(&context.paths.store()).as_ref()),
            )
            .await;
        }
        Err(ClientError::Absent) => {}
        Err(error) => return Err(error.into()),
    }
    start(context, true).await
}

/// Whether the daemon is of this version and speaks as we do.
fn is_same_version(identity: &Identity) -> bool {
    let own = Identity::own();
    identity.version == own.version && identity.form == own.form
}

/// Whether the daemon's program is byte for byte this one. Read only where versions are the same
/// and files' times differ.
fn runs_this_program(context: &Context) -> bool {
    let Ok(socket) = std::os::unix::net::UnixStream::connect(context.paths.socket()) else {
        return false;
    };
    let Ok(owner) = rustix::net::sockopt::socket_peercred(&socket) else {
        return false;
    };
    let program = |process: &str| std::fs::read(format!("/proc/{process}/exe"));
    let theirs = program(&owner.pid.as_raw_nonzero().to_string());
    matches!((program("self"), theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
}

/// Says what applying a configuration would do, and leaves everything as it was: a daemon that
/// answers is neither replaced nor ended, whatever its age, and where there is none this process
/// answers itself.
pub async fn preview(context: &Context, request: UpRequest) -> Result<Vec<Change>, Failure> {
    match context.client.identity().await {
        Ok(identity) if identity.form == Identity::own().form => {
            return Ok(context.client.post(route::PLAN, &request).await?);
        }
        Ok(_) => {
            let line = "this project's daemon is of another version, which cannot be asked this; \
                        `octo-local up` replaces it";
            return Err(Failure::new(FAILED, line));
        }
        Err(ClientError::Absent) => {}
        Err(error) => return Err(error.into()),
    }
    must_be_nobody_elses(context)?;
    let request = Request::Plan(Box::new(request));
    let answer = Box::pin(run::answer(&context.project, &context.env, request)).await;
    match answer {
        Some(Answer::Plan(changes)) => changes.map_err(|denied| ClientError::Denied(denied).into()),
        Some(_) | None => Err(Failure::new(BUG, "a question about changes got no answer")),
    }
}

/// Whether a daemon that nobody asks for anything goes on with what the one before was at. An older
/// one may not have written that it takes the stack down: then its file says that the stack is to
/// run.
fn goes_on_alone(goal: GoalWord, kept: Option<&Stored>) -> bool {
    match goal {
        GoalWord::Up => true,
        GoalWord::Down => kept.is_some_and(Stored::is_going_down),
        GoalWord::Hold | GoalWord::Halt => false,
    }
}

/// Waits for another daemon in the place of one that went. False when none comes.
pub async fn successor(context: &Context) -> bool {
    let deadline = Instant::now() + SUCCESSOR_WITHIN;
    while Instant::now() < deadline {
        if matches!(context.client.identity().await, Ok(identity) if identity >= Identity::own()) {
            return true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    false
}

/// Another user's daemon looks after the stack.
fn must_be_nobody_elses(context: &Context) -> Result<(), Failure> {
    let other = supervisor::another(&context.project, &context.endpoint());
    other.map_or(Ok(()), |other| {
        Err(Failure::new(FAILED, other.line(context.project.as_str())))
    })
}

/// Starts a daemon and waits until it answers. One that is held starts nothing by itself before the
/// request that it was started for. One that is leaving still holds the lock for a moment: the new
/// one then ends with [`TIMED_OUT`], and another is started.
async fn start(context: &Context, held: bool) -> Result<(), Failure> {
    must_be_nobody_elses(context)?;
    context.paths.create().map_err(|error| {
        Failure::new(
            FAILED,
            format!("make {}: {error}", context.paths.state.display()),
        )
    })?;
    let began = Instant::now();
    let mut child = spawn(context, held)?;
    let mut pause = ASK_EVERY;
    loop {
        if matches!(context.client.identity().await, Ok(identity) if identity >= Identity::own()) {
            return Ok(());
        }
        let ended = child
            .try_wait()
            .map_err(|error| Failure::new(FAILED, error.to_string()))?;
        let another_has_it =
            |ended: std::process::ExitStatus| ended.code() == Some(i32::from(TIMED_OUT));
        if ended.is_some_and(|ended| !another_has_it(ended))
            || began.elapsed()
                >= if ended.is_some() {
                    LEAVES_WITHIN
                } else {
                    ANSWERS_WITHIN
                }
        {
            return Err(silent(context));
        }
        if ended.is_some() {
            child = spawn(context, held)?;
            pause = (pause * 2).min(LOOK_EVERY);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Why no daemon answers: its own last words.
fn silent(context: &Context) -> Failure {
    let path = context.paths.log();
    let words = Tail::of(path.clone()).lines().pop().unwrap_or_default();
    Failure::new(
        FAILED,
        format!(
            "the daemon does not answer; the last words of its log {}: {words}",
            path.display()
        ),
    )
}

/// What this process was given beside its standard streams goes to no process that it starts: a lock
/// or a pipe of the caller's would be held for as long as that one lives.
fn pass_nothing_on() {
    close_fds::set_fds_cloexec(3, &[]);
}

fn spawn(context: &Context, held: bool) -> Result<std::process::Child, Failure> {
    let failure =
        |error: std::io::Error| Failure::new(FAILED, format!("start the daemon: {error}"));
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(context.paths.log())
        .map_err(failure)?;
    let program = program_of(&std::env::current_exe().map_err(failure)?);
    pass_nothing_on();
    Command::new(program)
        .args(context.same_project())
        .envs(context.same_places())
        .args(["daemon", "--detached"])
        .args(held.then_some("--held"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::store::Wish;

    #[test]
    fn what_an_older_daemon_takes_down_is_not_brought_up() {
        let kept = |wish| Stored {
            wish,
            ..Stored::default()
        };
        assert!(goes_on_alone(GoalWord::Up, Some(&kept(Wish::Up))));
        assert!(goes_on_alone(
            GoalWord::Down,
            Some(&kept(Wish::Down { volumes: false }))
        ));
        assert!(
            !goes_on_alone(GoalWord::Down, Some(&kept(Wish::Up)))
                && !goes_on_alone(GoalWord::Down, None)
        );
        assert!(!goes_on_alone(GoalWord::Hold, Some(&kept(Wish::Up))));
    }
}
