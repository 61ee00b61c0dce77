//! `sa-password rotate`: SQL Server, the variables and the containers get a new password of `sa`. The
//! daemon changes it, so that it goes on when this process ends; this one writes it where the
//! variables are, and the next call does where this one died before.

use std::io::BufRead as _;

use crate::adopt::Stage;
use crate::api::PasswordBody;
use crate::api::client::ClientError;
use crate::api::route;
use crate::cli::args::Format;
use crate::cli::args::RotateFlags;
use crate::cli::args::SaPasswordCommand;
use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::daemon_client::request;
use crate::cli::drift;
use crate::cli::env_file;
use crate::cli::env_file::Edit;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::INTERRUPTED;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::outcome::interruptible;
use crate::cli::passwords::strong_password;
use crate::cli::terminal::print;
use crate::cli::terminal::progress::Progress;
use crate::config::Config;
use crate::config::Secret;
use crate::config::ado;
use crate::config::password;
use crate::config::read::read;
use crate::daemon::message::PasswordStep;
use crate::daemon::store::PasswordChange;
use crate::daemon::store::Stored;
use crate::reconcile::status::GoalWord;
use crate::reconcile::status::Note;
use crate::reconcile::status::Status;
use crate::reconcile::status::Verdict;

/// The variables that may hold the password itself.
const NAMES: [&str; 2] = ["SA_PASSWORD", "MSSQL_SA_PASSWORD"];
/// The variable that may hold it as a part.
const CONNECTION_STRING: &str = "DB_CONNECTION_STRING";
/// A password has at most 128 characters; what is longer than this is not read further.
const LONGEST_LINE: u64 = 4096;
/// How many daemons are followed, one after another that was killed.
const DAEMONS: usize = 5;
/// What Ctrl-C says once the change was begun.
const GOES_ON: &str = "interrupted; the daemon goes on, and `octo-local sa-password rotate` ends it: it writes the new password where the variables are";

/// Runs one of them.
pub async fn sa_password(context: &Context, command: &SaPasswordCommand) -> Outcome {
    match command {
        SaPasswordCommand::Rotate(flags) => Box::pin(rotate(context, flags)).await,
    }
}

async fn rotate(context: &Context, flags: &RotateFlags) -> Outcome {
    context.must_not_be_moving()?;
    context.must_be_from_here().await?;
    let kept = context.applied().await.unwrap_or_default();
    if kept.sa.change.is_some() {
        print::tell("the change of sa's password that was begun goes on");
        return interruptible(GOES_ON, Box::pin(follow(context, None))).await;
    }
    let config = may_begin(context, &kept).await?;
    let to = new_password(&config, flags)?;
    // What cannot be written down later is not begun.
    written(context, &config, &to).await?;
    if !flags.yes {
        confirm(context)?;
    }
    interruptible(GOES_ON, Box::pin(follow(context, Some(to)))).await?;
    print::tell("sa has a new password; `octo-local secrets SA_PASSWORD` shows it");
    Ok(())
}

/// What is applied, if its password may be changed now.
async fn may_begin(context: &Context, kept: &Stored) -> Result<Config, Failure> {
    let because = |code, line: &str| Err(Failure::new(code, line));
    let Some(config) = kept.config.clone().filter(|_| kept.is_up()) else {
        return because(FAILED, "the stack is not up: `octo-local up` first");
    };
    if config.sql.is_none() {
        return because(
            CONFIGURATION,
            "SQL Server is somebody else's: change the password there and in DB_CONNECTION_STRING, then `octo-local up`",
        );
    }
    let stage = context.adopted()?.map(|record| record.stage);
    if stage == Some(Stage::Done) {
        return because(
            FAILED,
            "the old containers of the adoption know the present password only, and could not be gone back to: `octo-local adopt \
             --forget` first",
        );
    }
    let now = resolved(context, &config).await?;
    let keys = drift::differences(&config, &now);
    if !keys.is_empty() {
        let line = format!(
            "the variables have edits that were not applied ({}): `octo-local plan` shows them, `octo-local up` applies them; \
             then change the password",
            keys.join(", ")
        );
        return Err(Failure::new(CONFIGURATION, line));
    }
    if !config.database.user.eq_ignore_ascii_case("sa") {
        print::tell(format_args!(
            "note: Octopus Server logs in as {}, whose password stays as it is",
            config.database.user
        ));
    }
    Ok(config)
}

/// What the variables mean now, with as many nodes as were applied.
async fn resolved(context: &Context, applied: &Config) -> Result<Config, Failure> {
    let wish = request::Wish {
        demo: applied.demo,
        nodes: Some(applied.octopus.nodes),
        ..request::Wish::default()
    };
    let (input, _) = request::input(context, context.variables()?, &wish).await;
    let read = read(&input).map_err(|problems| Failure::problems(&problems))?;
    Ok(read.config)
}

fn new_password(config: &Config, flags: &RotateFlags) -> Result<Secret, Failure> {
    let to = if flags.stdin {
        first_line()?
    } else if flags.ask {
        asked()?
    } else {
        strong_password()
    };
    let mut faults = password::faults(to.expose(), "sa");
    if to.expose().chars().any(char::is_control) {
        faults.push("it has a control character in it");
    }
    if config.sql.as_ref().is_some_and(|sql| sql.sa_password == to) {
        faults.push("it is the present one");
    }
    if faults.is_empty() {
        return Ok(to);
    }
    let line = format!(
        "the new password will not do: {}; choose one that SQL Server's policy accepts. Nothing was changed",
        faults.join(" and ")
    );
    Err(Failure::new(USAGE, line))
}

fn first_line() -> Result<Secret, Failure> {
    use std::io::Read as _;
    let mut line = String::new();
    let read = std::io::stdin()
        .lock()
        .take(LONGEST_LINE)
        .read_line(&mut line);
    read.map_err(|error| Failure::new(USAGE, format!("read standard input: {error}")))?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

fn asked() -> Result<Secret, Failure> {
    if !print::can_ask() {
        let line = "nobody can be asked here: --stdin reads the new password, and without --ask one is made";
        return Err(Failure::new(USAGE, line));
    }
    let nothing = || Failure::new(INTERRUPTED, "nothing was changed");
    let one = print::ask_secretly("The new password of sa:").ok_or_else(nothing)?;
    let two = print::ask_secretly("The same again:").ok_or_else(nothing)?;
    if one == two {
        return Ok(one);
    }
    Err(Failure::new(
        USAGE,
        "these are two passwords: nothing was changed",
    ))
}

fn confirm(context: &Context) -> Outcome {
    if !print::can_ask() {
        let line = "nodes are out meanwhile, and nobody can be asked here whether that is meant: --yes does it unasked";
        return Err(Failure::new(USAGE, line));
    }
    let project = &context.project;
    let question = format!(
        "Change the password of sa in {project}? All nodes finish their tasks and stop, SQL Server restarts, and nodes come back one \
         by one. [y/N]"
    );
    match print::ask(question).as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        Some(_) => Err(Failure::new(FAILED, "nothing was changed")),
        None => Err(Failure::new(INTERRUPTED, "nothing was changed")),
    }
}

/// What the files are to say for the variables to mean what is applied, with the new password.
/// Fails where they cannot.
async fn written(context: &Context, applied: &Config, to: &Secret) -> Result<Vec<Edit>, Failure> {
    let refused = |why: &str| {
        let line = format!("the new password cannot be written where the variables are: {why}");
        Failure::new(CONFIGURATION, line)
    };
    let vars = context.variables()?.vars;
    let mut values = Vec::new();
    for name in NAMES {
        if vars.get(name).is_some_and(|value| value != to.expose()) {
            values.push((name, to.expose().to_owned()));
        }
    }
    let string = vars.get(CONNECTION_STRING).filter(|text| {
        let read = ado::ConnectionString::parse(text);
        read.is_ok_and(|read| read.user.eq_ignore_ascii_case("sa"))
    });
    if let Some(changed) = string.and_then(|text| ado::with_password(text, to.expose())) {
        values.push((CONNECTION_STRING, changed.expose().to_owned()));
    }
    let edits = env_file::edits(&context.files, &context.env, &values);
    let edits = edits.map_err(|error| refused(&error.to_string()))?;
    let mut after = context.clone();
    let texts = edits
        .iter()
        .map(|edit| (edit.path.clone(), edit.text.clone()));
    after.files.instead = texts.collect();
    let meant = applied.with_sa_password(to);
    let meant = meant.ok_or_else(|| refused("DB_CONNECTION_STRING cannot be read"))?;
    let reads = resolved(&after, applied).await?;
    let mut wrong = drift::differences(&meant, &reads);
    // A demo's is in no file.
    wrong.retain(|name| !(applied.demo && values.is_empty() && name == NAMES[0]));
    if wrong.is_empty() {
        return Ok(edits);
    }
    let why = format!("{} would not mean what it is to", wrong.join(", "));
    Err(refused(&why))
}

/// The same before an `up` and after it, where the variables still say the password of before.
pub(super) async fn finish_writing(context: &Context) -> Outcome {
    let kept = context.applied().await.unwrap_or_default();
    let Some(change) = &kept.sa.change else {
        return Ok(());
    };
    let vars = context.variables()?.vars;
    let is_old = |name: &str| {
        vars.get(name)
            .is_some_and(|value| value == change.from.expose())
    };
    if NAMES.into_iter().any(is_old) {
        write_down(context, &kept).await?;
    }
    Ok(())
}

/// Writes the password that SQL Server has where the variables are, if a change of it came that far.
async fn write_down(context: &Context, kept: &Stored) -> Outcome {
    let (Some(config), Some(change)) = (&kept.config, &kept.sa.change) else {
        return Ok(());
    };
    if !change.is_made {
        return Ok(());
    }
    let PasswordChange { to, .. } = change;
    let edits = written(context, config, to).await?;
    for Edit { path, text } in &edits {
        env_file::replace(path, text).map_err(|error| {
            let line = format!(
                "{} cannot be written: {error}; mend that, then `octo-local sa-password rotate` again",
                path.display()
            );
            Failure::new(FAILED, line)
        })?;
        print::tell(format_args!("{} has the new password now", path.display()));
    }
    let body = PasswordBody {
        step: PasswordStep::Written,
        endpoint: Some(context.endpoint()),
    };
    let _: u64 = daemon_process::ask(context, route::SA_PASSWORD, &body).await?;
    Ok(())
}

/// Begins the change, if a password is given, and follows it to its end, also from one daemon to the
/// next: what is kept says how far it is.
async fn follow(context: &Context, mut to: Option<Secret>) -> Outcome {
    let mut progress = Progress::new(Format::Table);
    for _ in 0..DAEMONS {
        daemon_process::ensure(context).await?;
        let mut statuses = context.client.follow().await?;
        // A daemon that was just started does nothing before it is asked.
        let Some(generation) = go_on(context, to.as_ref()).await? else {
            continue;
        };
        to = None;
        loop {
            // Cancel-safe: the stream keeps what it read; the tick is awaited again.
            let status = tokio::select! {
                status = statuses.next() => status,
                () = progress.tick() => continue,
            };
            let Ok(Some(status)) = status else { break };
            if status.generation < generation {
                continue;
            }
            progress.tell(&status);
            if status.notes.contains(&Note::PasswordUnwritten) {
                let kept = context.applied().await.unwrap_or_default();
                write_down(context, &kept).await?;
            }
            if let Some(end) = end(&status) {
                return end;
            }
        }
    }
    Err(Failure::new(
        FAILED,
        "the daemon ended meanwhile: `octo-local sa-password rotate` goes on",
    ))
}

/// Asks for the step that is next by what is kept. None where the daemon is gone.
async fn go_on(context: &Context, to: Option<&Secret>) -> Result<Option<u64>, Failure> {
    let kept = context.applied().await.unwrap_or_default();
    let step = match (kept.sa.changing(), to) {
        (Some(change), _) => PasswordStep::Begin(change.to.clone()),
        (None, Some(to)) => PasswordStep::Begin(to.clone()),
        (None, None) => {
            write_down(context, &kept).await?;
            PasswordStep::Written
        }
    };
    let body = PasswordBody {
        step,
        endpoint: Some(context.endpoint()),
    };
    match context.client.post(route::SA_PASSWORD, &body).await {
        Ok(generation) => Ok(Some(generation)),
        Err(ClientError::Absent | ClientError::Broken(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a status says of the end.
fn end(status: &Status) -> Option<Outcome> {
    let failed = |line: String| Some(Err(Failure::new(FAILED, line)));
    let kept = |note: &&Note| matches!(note, Note::PasswordKept { .. });
    if let Some(note) = status.notes.iter().find(kept) {
        return failed(note.to_string());
    }
    let changing = |note: &Note| matches!(note, Note::PasswordChanging { .. });
    let changes = status.notes.iter().find(|note| changing(note));
    match status.verdict {
        Verdict::Ready | Verdict::Stopped | Verdict::Restoring | Verdict::ChangeWaits
            if changes.is_none() =>
        {
            Some(Ok(()))
        }
        Verdict::Failed | Verdict::Held => {
            let note = changes.map(|note| format!("; {note}")).unwrap_or_default();
            failed(format!("{}{note}", status.message))
        }
        Verdict::Down if status.goal != GoalWord::Up => failed(status.message.clone()),
        Verdict::Ready
        | Verdict::Stopped
        | Verdict::Restoring
        | Verdict::ChangeWaits
        | Verdict::Down
        | Verdict::Working
        | Verdict::Degraded
        | Verdict::EngineDown => None,
    }
}
