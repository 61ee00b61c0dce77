//! `systemd`: the unit that supervises this project from boot on, with the paths that this very
//! call uses.

use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::daemon_client::daemon_process;
use crate::cli::daemon_client::request;
use crate::cli::daemon_client::request::Wish;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::RUNS_ALREADY;
use crate::cli::terminal::print;
use crate::config::Timing;
use crate::engine::connect;

/// The unit, with `@…@` for what differs.
const TEMPLATE: &str = include_str!("../../../compose/octo-local.service");
/// Begins the settings that only the system's manager can make: a user's has no right to mount
/// anything.
const SYSTEM_ONLY: &str = "# system only\n";
/// The first systemd that waits for a reload to be done.
const NOTIFY_RELOAD: u32 = 253;
/// The first systemd whose waits between restarts grow.
const RESTART_STEPS: u32 = 254;
/// How long systemd may take to tell its version.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// The engine that is looked for where nothing else is said.
const USUAL_ENGINE: &str = "unix:///var/run/docker.sock";
/// Begins an engine's address that is a file: no other machine's, so a unit beside ours starts it.
const SOCKET: &str = "unix://";

/// What the unit is made from.
#[derive(Clone, Debug)]
struct Facts {
    project: String,
    program: PathBuf,
    directory: PathBuf,
    /// The project's own state and runtime directories.
    places: [PathBuf; 2],
    /// `DOCKER_HOST` and others that the daemon needs as they are here.
    environment: Vec<(String, String)>,
    /// Whether the engine runs on this machine.
    engine_is_local: bool,
    /// Whether the system's manager runs it, rather than a user's.
    is_system: bool,
    /// Which systemd; 0 where there is none to ask.
    version: u32,
    stop_limit: Duration,
}

/// Prints the unit.
pub async fn systemd(context: &Context) -> Outcome {
    let facts = facts(context)
        .await
        .map_err(|why| Failure::new(FAILED, why))?;
    print::bytes(unit(&facts).as_bytes());
    if print::can_redraw() {
        print::tell(install(&facts));
    }
    Ok(())
}

async fn facts(context: &Context) -> Result<Facts, String> {
    let endpoint = connect::endpoint(&context.env);
    let base = |path: &Path| path.parent().unwrap_or(path).display().to_string();
    let variable = |key: &str| {
        Some((
            key.to_owned(),
            context
                .env
                .get(key)
                .filter(|value| !value.is_empty())?
                .clone(),
        ))
    };
    let mut environment = vec![
        (
            "OCTO_LOCAL_STATE_DIR".to_owned(),
            base(&context.paths.state),
        ),
        (
            "OCTO_LOCAL_RUNTIME_DIR".to_owned(),
            base(&context.paths.runtime),
        ),
    ];
    // The engine of now, also where a context chose it; HOME and DOCKER_CONFIG lead to what `docker
    // login` left.
    environment.extend(
        (endpoint.url() != USUAL_ENGINE)
            .then(|| ("DOCKER_HOST".to_owned(), endpoint.url().to_owned())),
    );
    environment.extend(["HOME", "DOCKER_CONFIG"].into_iter().filter_map(variable));
    let facts = Facts {
        project: context.project.to_string(),
        program: daemon_process::program_of(
            &std::env::current_exe().map_err(|error| format!("find this program: {error}"))?,
        ),
        directory: stack_directory(context).await,
        places: [context.paths.state.clone(), context.paths.runtime.clone()],
        environment,
        engine_is_local: endpoint.url().starts_with(SOCKET),
        is_system: rustix::process::geteuid().is_root(),
        version: version().await,
        stop_limit: timing(context).await.orderly_end(),
    };
    let paths = [
        &facts.program,
        &facts.directory,
        &facts.places[0],
        &facts.places[1],
    ]
    .map(|path| path.display().to_string());
    let texts = paths
        .iter()
        .chain(facts.environment.iter().map(|(_, value)| value));
    match texts
        .into_iter()
        .find(|text| text.chars().any(char::is_control))
    {
        Some(text) => Err(format!("{text:?} cannot be written into a unit")),
        None => Ok(facts),
    }
}

/// Where the stack was made from: a unit that is printed from elsewhere is about the same stack.
async fn stack_directory(context: &Context) -> PathBuf {
    let applied = context.applied().await.and_then(|stored| stored.spec);
    match applied.filter(|_| !context.directory_on_purpose) {
        Some(spec) => spec.working_dir.into(),
        None => context.files.directory.clone(),
    }
}

/// The version of this machine's systemd. An old unit works with every one.
async fn version() -> u32 {
    let mut asking = tokio::process::Command::new("systemctl");
    asking.arg("--version").kill_on_drop(true);
    let answer = tokio::time::timeout(ANSWERS_WITHIN, asking.output()).await;
    let text = answer.ok().and_then(Result::ok).map(|told| told.stdout);
    version_in(&String::from_utf8_lossy(&text.unwrap_or_default()))
}

/// `systemd 252 (252.39-1~deb12u1)` is 252.
fn version_in(text: &str) -> u32 {
    let word = text.strip_prefix("systemd ").unwrap_or_default();
    let digits = word.find(|letter: char| !letter.is_ascii_digit());
    word[..digits.unwrap_or(word.len())].parse().unwrap_or(0)
}

/// How systemd knows that the daemon is ready, at first and after a reload (systemd.service(5)).
fn readiness(version: u32) -> &'static str {
    if version >= NOTIFY_RELOAD {
        "Type=notify-reload"
    } else {
        "Type=notify\nExecReload=/bin/kill -HUP $MAINPID"
    }
}

/// Waits between restarts that grow, for a program that is missing or cannot run.
fn growing_waits(version: u32) -> &'static str {
    if version >= RESTART_STEPS {
        "# A program that is missing or cannot run is tried ever more rarely.\nRestartSteps=8\nRestartMaxDelaySec=60s"
    } else {
        "# This systemd knows no growing waits: from 254 on it does, and this unit printed anew has them."
    }
}

/// The times that count: those applied, else those of the `.env`, else the usual ones.
async fn timing(context: &Context) -> Timing {
    let config = match context.applied().await.and_then(|stored| stored.config) {
        Some(config) => Some(config),
        None => request::resolve(context, &Wish::default())
            .await
            .ok()
            .map(|resolved| resolved.config),
    };
    config.map(|config| config.timing).unwrap_or_default()
}

fn unit(facts: &Facts) -> String {
    let text = match TEMPLATE.split_once(SYSTEM_ONLY) {
        Some((head, tail)) if facts.is_system => format!("{head}{tail}"),
        Some((head, tail)) => format!("{head}{}", tail.find("\n[").map_or("", |end| &tail[end..])),
        None => TEMPLATE.to_owned(),
    };
    let places: String = facts
        .places
        .iter()
        .zip(["State", "Runtime"])
        .map(|(path, kind)| place(path, kind, facts))
        .collect();
    let environment = facts
        .environment
        .iter()
        .map(|(key, value)| format!("Environment={}\n", quoted(&format!("{key}={value}"))));
    let private_tmp = !paths(facts)
        .iter()
        .any(|path| path.starts_with("/tmp") || path.starts_with("/var/tmp"));
    [
        ("@INSTALL@", install(facts).as_str()),
        ("@PROJECT@", &facts.project),
        ("@TYPE@", readiness(facts.version)),
        ("@GROWING_WAITS@", growing_waits(facts.version)),
        ("@RUNS_ALREADY@", &RUNS_ALREADY.to_string()),
        ("@ENGINE@", engine(facts)),
        (
            "@PROGRAM@",
            &quoted(&facts.program.display().to_string()).replace('$', "$$"),
        ),
        (
            "@DIRECTORY@",
            &facts.directory.display().to_string().replace('%', "%%"),
        ),
        ("@ENVIRONMENT@", environment.collect::<String>().trim_end()),
        ("@PLACES@", places.trim_end()),
        ("@STOP_SECONDS@", &facts.stop_limit.as_secs().to_string()),
        ("@PRIVATE_TMP@", if private_tmp { "yes" } else { "no" }),
        (
            "@TARGET@",
            if facts.is_system {
                "multi-user.target"
            } else {
                "default.target"
            },
        ),
    ]
    .into_iter()
    .fold(text, |text, (name, value)| text.replace(name, value))
}

/// Everything that the daemon must see in the file system.
fn paths(facts: &Facts) -> Vec<PathBuf> {
    let values = facts
        .environment
        .iter()
        .map(|(_, value)| PathBuf::from(value.trim_start_matches("unix://")));
    facts
        .places
        .iter()
        .cloned()
        .chain(values)
        .chain([facts.program.clone()])
        .collect()
}

fn engine(facts: &Facts) -> &'static str {
    match (facts.is_system, facts.engine_is_local) {
        (true, true) => {
            "Wants=docker.service network-online.target\nAfter=docker.service network-online.target"
        }
        (true, false) => "Wants=network-online.target\nAfter=network-online.target",
        (false, true) => "After=docker.service",
        (false, false) => "# The engine is on another machine.",
    }
}

/// Makes a directory of ours writable. systemd makes those in its own places itself, also after a
/// reboot.
fn place(path: &Path, kind: &str, facts: &Facts) -> String {
    if !facts.is_system {
        return String::new();
    }
    let root = if kind == "State" { "/var/lib" } else { "/run" };
    let mut text = match path.strip_prefix(root) {
        Ok(name) => format!(
            "{kind}Directory={}\n{kind}DirectoryMode=0700\n",
            quoted(&name.display().to_string())
        ),
        Err(_) => format!("ReadWritePaths={}\n", quoted(&path.display().to_string())),
    };
    if text.starts_with("Runtime") {
        let _ = writeln!(text, "RuntimeDirectoryPreserve=yes");
    }
    text
}

/// One word, whatever is in it (systemd.syntax(7), systemd.unit(5)).
fn quoted(text: &str) -> String {
    let text = text.replace('%', "%%");
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%,+".contains(letter);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// How it is put to use.
fn install(facts: &Facts) -> String {
    let name = format!("octo-local-{}", facts.project);
    let (dir, user) = if facts.is_system {
        ("/etc/systemd/system", "")
    } else {
        ("~/.config/systemd/user", " --user")
    };
    let linger = if facts.is_system {
        ""
    } else {
        " && loginctl enable-linger"
    };
    format!(
        "octo-local -p {} systemd >{dir}/{name}.service && systemctl{user} daemon-reload && systemctl{user} enable --now {name}{linger}",
        facts.project
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: u32) -> Facts {
        Facts {
            project: "octo".to_owned(),
            program: "/usr/local/bin/octo-local".into(),
            directory: "/srv/octo".into(),
            places: ["/var/lib/octo-local/octo", "/run/octo-local/octo"].map(Into::into),
            environment: Vec::new(),
            engine_is_local: true,
            is_system: true,
            version,
            stop_limit: Duration::from_secs(210),
        }
    }

    #[test]
    fn each_systemd_gets_what_it_knows() {
        let old = unit(&facts(252));
        assert!(
            old.contains("Type=notify\nNotifyAccess") || old.contains("Type=notify\nExecReload")
        );
        assert!(
            old.contains("ExecReload=/bin/kill -HUP $MAINPID") && !old.contains("RestartSteps")
        );
        let new = unit(&facts(254));
        assert!(new.contains("Type=notify-reload\n") && !new.contains("ExecReload"));
        assert!(new.contains("RestartSteps=8\nRestartMaxDelaySec=60s\n"));
        for text in [old, new] {
            assert!(
                text.contains("RestartPreventExitStatus=73\n") && !text.contains('@'),
                "{text}"
            );
            assert!(text.contains("WorkingDirectory=-/srv/octo\n"));
        }
    }

    #[test]
    fn the_version_is_read_as_systemd_tells_it() {
        for (text, version) in [
            ("systemd 252 (252.39-1~deb12u1)\n+PAM", 252),
            ("systemd 257~rc1", 257),
            ("systemd 9", 9),
            ("OpenRC 0.5", 0),
            ("", 0),
        ] {
            assert_eq!(version_in(text), version, "{text}");
        }
    }
}
