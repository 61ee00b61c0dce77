//! Commands that run in a container beside its own process. The engine shows them and cannot end
//! them; whoever is root on the engine's host can.

use std::fs;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use serde::Deserialize;

use super::Engine;
use super::EngineError;
use super::QUICK;
use super::observe::nonsense;
use super::shown::lenient;
use super::wire;

/// A command that runs in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningCommand {
    /// The engine's name for it.
    pub id: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its process, as the engine numbers it.
    process: Option<Pid>,
    /// The container's own process.
    beside: Option<Pid>,
}

/// What the engine says of a command.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Shown {
    #[serde(deserialize_with = "lenient")]
    running: bool,
    #[serde(deserialize_with = "lenient")]
    pid: i32,
    #[serde(deserialize_with = "lenient")]
    process_config: ProcessConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProcessConfig {
    #[serde(deserialize_with = "lenient")]
    entrypoint: String,
    #[serde(deserialize_with = "lenient")]
    arguments: Vec<String>,
}

impl Engine {
    /// The commands that run in a container; none where it is gone.
    pub async fn commands_in(&self, container: &str) -> Result<Vec<RunningCommand>, EngineError> {
        let shown = match self.inspected(container).await {
            Ok(shown) => shown,
            Err(error) if error.is_absent() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut commands = Vec::new();
        for id in shown.exec_ids {
            let Some(command) = self.command(&id).await?.filter(|shown| shown.running) else {
                continue;
            };
            let config = command.process_config;
            commands.push(RunningCommand {
                id,
                argv: std::iter::once(config.entrypoint)
                    .chain(config.arguments)
                    .collect(),
                process: Pid::from_raw(command.pid),
                beside: Pid::from_raw(shown.state.pid),
            });
        }
        Ok(commands)
    }

    /// Whether a command still runs.
    pub async fn runs(&self, command: &RunningCommand) -> Result<bool, EngineError> {
        let shown = self.command(&command.id).await?;
        Ok(shown.is_some_and(|shown| shown.running))
    }

    /// What the engine says of a command; none where it knows none any more.
    async fn command(&self, id: &str) -> Result<Option<Shown>, EngineError> {
        let attempt = || "look at a command in the container".to_owned();
        let path = format!("/exec/{}/json", wire::encoded(id));
        match self.get(attempt, QUICK, &path, &[]).await {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| nonsense(&attempt())),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl RunningCommand {
    /// Ends its process at once, if this host has it under the engine's number and we may; says
    /// whether.
    pub fn kill(&self) -> bool {
        let (Some(process), Some(beside)) = (self.process, self.beside) else {
            return false;
        };
        // What is judged is what is ended, also when the number is given to another one meanwhile.
        let Ok(held) = rustix::process::pidfd_open(process, PidfdFlags::empty()) else {
            return false;
        };
        self.is_its_process(process, beside)
            && rustix::process::pidfd_send_signal(held, Signal::KILL).is_ok()
    }

    /// Whether a process is this command. The engine may number processes otherwise than this host:
    /// so it must run what the command runs, within the files of the container.
    fn is_its_process(&self, process: Pid, beside: Pid) -> bool {
        let of = |pid: Pid, what: &str| format!("/proc/{}/{what}", pid.as_raw_nonzero());
        let words: Vec<u8> = self
            .argv
            .iter()
            .flat_map(|word| word.bytes().chain([0]))
            .collect();
        let files = |pid| fs::read_link(of(pid, "ns/mnt")).ok();
        fs::read(of(process, "cmdline")).is_ok_and(|line| line == words)
            && files(process).is_some()
            && files(process) == files(beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of this test's, and what the engine would say of it.
    fn sleeping() -> (std::process::Child, RunningCommand) {
        let child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let command = RunningCommand {
            id: "one".to_owned(),
            argv: vec!["sleep".to_owned(), "600".to_owned()],
            process: Pid::from_raw(child.id().cast_signed()),
            beside: Some(rustix::process::getpid()),
        };
        // Until it runs the program, it has this test's name.
        while !command.is_its_process(command.process.unwrap(), command.beside.unwrap()) {
            std::thread::yield_now();
        }
        (child, command)
    }

    #[test]
    fn a_command_is_ended_and_nothing_else() {
        let (mut child, command) = sleeping();
        let other_words = RunningCommand {
            argv: vec!["sleep".to_owned(), "60".to_owned()],
            ..command.clone()
        };
        let no_number = RunningCommand {
            process: None,
            ..command.clone()
        };
        let no_container = RunningCommand {
            beside: None,
            ..command.clone()
        };
        assert!(!other_words.kill() && !no_number.kill() && !no_container.kill());
        assert!(child.try_wait().unwrap().is_none());
        assert!(command.kill());
        assert!(!child.wait().unwrap().success());
        assert!(!command.kill(), "nobody has its number any more");
    }

    #[test]
    fn what_the_engine_says_of_a_command_is_read() {
        let said = r#"{"ID":"one","Running":true,"Pid":41,"ExitCode":null,
            "ProcessConfig":{"entrypoint":"/x","arguments":["node","--drain=true"],"tty":false}}"#;
        let shown: Shown = serde_json::from_str(said).unwrap();
        assert!(shown.running && shown.pid == 41);
        assert_eq!(shown.process_config.entrypoint, "/x");
        assert_eq!(shown.process_config.arguments, ["node", "--drain=true"]);
        let odd: Shown = serde_json::from_str(r#"{"Pid":"?","ProcessConfig":null}"#).unwrap();
        assert!(!odd.running && odd.pid == 0);
    }
}
