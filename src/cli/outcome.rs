//! How a command ends: exit codes of sysexits(3) where one fits.

use crate::api::client::ClientError;
use crate::config::Problem;
use crate::daemon::message::Denied;
use crate::engine::EngineError;
use crate::reconcile::status::GoalWord;
use crate::reconcile::status::Status;

/// Success, or why not.
pub type Outcome = Result<(), Failure>;

/// Why a command did not succeed. `lines` go to standard error; each is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What to tell the person.
    pub lines: Vec<String>,
}

/// The stack failed.
pub const FAILED: u8 = 1;
/// `plan` found changes.
pub const CHANGES: u8 = 2;
/// Wrong arguments.
pub const USAGE: u8 = 64;
/// The Docker Engine cannot be reached.
pub const UNREACHABLE: u8 = 69;
/// A mistake of octo-local itself.
pub const BUG: u8 = 70;
/// A daemon of this project runs already.
pub const RUNS_ALREADY: u8 = 73;
/// It took too long.
pub const TIMED_OUT: u8 = 75;
/// Bad configuration.
pub const CONFIGURATION: u8 = 78;
/// Interrupted from the keyboard.
pub const INTERRUPTED: u8 = 130;

impl Failure {
    /// A failure of one line.
    pub fn new(code: u8, line: impl Into<String>) -> Self {
        Self {
            code,
            lines: vec![line.into()],
        }
    }

    /// An exit code that needs no words.
    pub fn quiet(code: u8) -> Self {
        Self {
            code,
            lines: Vec::new(),
        }
    }

    /// Somebody wished something else meanwhile.
    pub fn overruled(last: Option<&Status>) -> Self {
        let by = match last.map(|status| status.goal) {
            Some(GoalWord::Up) => ": `octo-local up`",
            Some(GoalWord::Down) => ": `octo-local down`",
            Some(GoalWord::Hold) => ": an `octo-local up` that was interrupted",
            Some(GoalWord::Halt) => ": the daemon was told to end",
            None => "",
        };
        Self::new(
            FAILED,
            format!("another command took over{by}; `octo-local status` shows what goes on"),
        )
    }

    /// The engine does not answer.
    fn unreachable(why: String) -> Self {
        Self {
            code: UNREACHABLE,
            lines: vec![why, FIND_ENGINE.to_owned()],
        }
    }

    /// All problems of a configuration.
    pub fn problems(problems: &[Problem]) -> Self {
        let mut lines = vec![format!(
            "{} in the configuration, nothing was changed:",
            if problems.len() == 1 {
                "a problem".to_owned()
            } else {
                format!("{} problems", problems.len())
            }
        )];
        lines.extend(problems.iter().map(|problem| format!("  {problem}")));
        Self {
            code: CONFIGURATION,
            lines,
        }
    }
}

/// What mends an engine that cannot be reached.
const FIND_ENGINE: &str = "start Docker there, or correct where it is looked for: DOCKER_HOST, else the docker context, else the usual sockets";

/// Runs what can be interrupted at any moment. The first Ctrl-C ends it with these words, if there
/// are any.
pub async fn interruptible<T>(
    last_words: &str,
    run: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Cancel-safe: the process ends with what was interrupted.
    tokio::select! {
        outcome = run => outcome,
        _ = tokio::signal::ctrl_c() => {
            let lines = Some(last_words.to_owned()).filter(|words| !words.is_empty()).into_iter().collect();
            Err(Failure { code: INTERRUPTED, lines })
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Unsupported { .. } => Self::new(CONFIGURATION, error.to_string()),
            error if error.is_unreachable() => Self::unreachable(error.to_string()),
            error => Self::new(FAILED, error.to_string()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Denied(Denied::Problems(problems)) => Self::problems(&problems),
            ClientError::Denied(Denied::Because(why)) => Self::new(FAILED, why),
            ClientError::Denied(Denied::Engine(why)) => Self::unreachable(why),
            ClientError::Absent => Self::new(
                FAILED,
                "no daemon looks after this project; `octo-local up` starts one",
            ),
            ClientError::Foreign { .. } => Self::new(CONFIGURATION, error.to_string()),
            ClientError::Broken(_) | ClientError::Late(_) => Self::new(FAILED, error.to_string()),
        }
    }
}
