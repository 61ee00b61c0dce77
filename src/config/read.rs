//! Reads every variable first and complains after, so that a person sees all mistakes at once.

mod advice;
mod backup;
mod containers;
mod database;
mod front_door;
mod octopus;
mod ports;
mod secrets;
mod storage;
#[cfg(test)]
mod tests;
mod vendors;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::Config;
use super::Problem;
use super::Pull;
use super::Secret;
use super::Timing;
use super::image::ImageRef;
use super::keys;
use super::ports::Chosen;
use super::timing;
pub(super) use database::generated_database;

/// What a configuration is made from.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Every variable, the process environment merged over the files.
    pub vars: BTreeMap<String, String>,
    /// Where each variable of a file was written, as `.env:12`.
    pub origins: BTreeMap<String, String>,
    /// Use stand-ins: these images, and these passwords where none is given.
    pub demo: Option<Demo>,
    /// `--nodes`.
    pub nodes: Option<u8>,
    /// `--pull`.
    pub pull: Option<Pull>,
    /// The day, by which a licence's dates are judged; none judges none.
    pub today: Option<time::Date>,
}

/// What a demo needs that a person need not give.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The stand-in's image, with tag.
    pub sql_image: String,
    /// The stand-in's image, without tag.
    pub octopus_image: String,
    /// Its tag.
    pub octopus_tag: String,
    /// The stand-in's image of a Tentacle, with tag.
    pub tentacle_image: String,
    /// Generated, used when no password is given.
    pub sa_password: Secret,
    /// Generated, used when no password is given.
    pub admin_password: Secret,
}

/// A configuration, and what a person may want to reconsider.
#[derive(Clone, Debug)]
pub struct Read {
    /// The configuration.
    pub config: Config,
    /// Warnings.
    pub warnings: Vec<Problem>,
    /// Warnings about a password or key that only a stack without data can still heed: what data is
    /// bound to cannot be chosen anew.
    pub warnings_if_new: Vec<Problem>,
}

/// Reads a configuration. On failure: every problem.
pub fn read(input: &Input) -> Result<Read, Vec<Problem>> {
    let mut reader = Reader {
        input,
        problems: Vec::new(),
        warnings: Vec::new(),
        warnings_if_new: Vec::new(),
    };
    let config = reader.config();
    reader.advice(&config);
    if reader.problems.is_empty() {
        return Ok(Read {
            config,
            warnings: reader.warnings,
            warnings_if_new: reader.warnings_if_new,
        });
    }
    // What is missing may be there under a mistyped name.
    let is_mistyped = |warning: &Problem| keys::suggestion(&warning.key).is_some();
    reader
        .problems
        .extend(reader.warnings.into_iter().filter(is_mistyped));
    Err(reader.problems)
}

const SQL_EULA: &str = "https://go.microsoft.com/fwlink/?linkid=857698";
const OCTOPUS_EULA: &str = "https://octopus.com/legal/customer-agreement";

struct Reader<'a> {
    input: &'a Input,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    warnings_if_new: Vec<Problem>,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        self.eulas();
        let sql = self.sql();
        let database = self.database(sql.as_ref());
        let octopus = self.octopus();
        let storage = self.storage(sql.is_some());
        let front_door = self.front_door();
        let ports = self.ports();
        self.clashes(&Chosen {
            sql: sql.as_ref(),
            database: &database,
            octopus: &octopus,
            door: &front_door,
            ports: &ports,
        });
        Config {
            demo: self.input.demo.is_some(),
            sql,
            database,
            octopus,
            pull: self.pull(),
            timing: self.timing(),
            log_max_size: self.log_size(),
            log_max_files: self.parsed("LOG_MAX_FILES", "a number from 1", |n: &u32| *n > 0),
            backup: self.backup(),
            front_door,
            ports,
            storage,
            tentacle_image: self.tentacle_image(),
        }
    }

    /// The value of a key, empty as if it were not set.
    fn given(&self, key: &str) -> Option<&str> {
        self.input
            .vars
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn text(&self, key: &str) -> String {
        self.given(key)
            .or_else(|| keys::default_of(key))
            .unwrap_or_default()
            .to_owned()
    }

    fn problem_of(&self, key: &str, why: impl Into<String>, fix: impl Into<String>) -> Problem {
        let value = self
            .given(key)
            .filter(|value| keys::shown(key, value) == *value)
            .map(str::to_owned);
        let origin = self.input.origins.get(key).cloned();
        Problem {
            key: key.to_owned(),
            value,
            why: why.into(),
            fix: fix.into(),
            origin,
        }
    }

    fn problem(&mut self, key: &str, why: impl Into<String>, fix: impl Into<String>) {
        let problem = self.problem_of(key, why, fix);
        self.problems.push(problem);
    }

    fn warn(&mut self, key: &str, why: impl Into<String>, fix: impl Into<String>) {
        let warning = self.problem_of(key, why, fix);
        self.warnings.push(warning);
    }

    /// A value of some type; with a problem, the default stands in for it.
    fn parsed<T: FromStr>(&mut self, key: &str, what: &str, fits: impl Fn(&T) -> bool) -> T {
        let text = self.text(key);
        let value = text.trim().parse().ok().filter(fits);
        value.unwrap_or_else(|| {
            self.problem(
                key,
                format!("it is not {what}"),
                format!("set it to {what}"),
            );
            keys::default_as(key)
        })
    }

    fn port(&mut self, key: &str) -> u16 {
        self.parsed(key, "a port from 1 to 65535", |port: &u16| *port > 0)
    }

    fn address(&mut self, key: &str) -> IpAddr {
        self.parsed(key, "an IP address such as 127.0.0.1 or 0.0.0.0", |_| true)
    }

    /// `Y` or `N`; other spellings of either are taken too.
    fn switch(&mut self, key: &str) -> bool {
        match self.text(key).to_lowercase().as_str() {
            "y" | "yes" | "true" | "1" => true,
            "n" | "no" | "false" | "0" | "" => false,
            _ => {
                self.problem(key, "it is neither Y nor N", "set it to Y or N");
                false
            }
        }
    }

    fn eulas(&mut self) {
        if self.input.demo.is_some() {
            return;
        }
        let sql_is_ours = self
            .input
            .vars
            .get("SQL_IMAGE")
            .is_none_or(|image| !image.trim().is_empty());
        let wanted = [
            ("ACCEPT_EULA", SQL_EULA, sql_is_ours),
            ("ACCEPT_OCTOPUS_EULA", OCTOPUS_EULA, true),
        ];
        for (key, link, matters) in wanted {
            if matters && self.given(key) != Some("Y") {
                let why = "the licence agreement is not accepted";
                self.problem(key, why, format!("read {link} and set {key}=Y"));
            }
        }
    }

    /// A reference to an image, or a problem that says which part of it is wrong.
    fn image(&mut self, key: &str, text: &str) -> Option<ImageRef> {
        match ImageRef::parse(text) {
            Ok(image) => Some(image),
            Err(error) => {
                self.problem(
                    key,
                    error.to_string(),
                    "write it as `registry/name`, such as `octopusdeploy/octopusdeploy`",
                );
                None
            }
        }
    }

    fn pull(&mut self) -> Pull {
        if self.input.demo.is_some() {
            return Pull::Never;
        }
        self.input
            .pull
            .unwrap_or_else(|| match self.text("PULL").as_str() {
                "missing" => Pull::Missing,
                "always" => Pull::Always,
                "never" => Pull::Never,
                _ => {
                    self.problem(
                        "PULL",
                        "it is none of missing, always, never",
                        "set it to one of them",
                    );
                    Pull::Missing
                }
            })
    }

    fn log_size(&mut self) -> String {
        let size = self.text("LOG_MAX_SIZE");
        let digits = size.trim_end_matches(['k', 'm', 'g']);
        if digits.is_empty() || digits.parse::<u32>().is_err() || size.len() > digits.len() + 1 {
            self.problem("LOG_MAX_SIZE", "it is no size", "write it as 10m");
        }
        size
    }

    fn timing(&mut self) -> Timing {
        Timing {
            start_probe_fast: self.some_duration("START_PROBE_INTERVAL"),
            start_probe_slow: self.some_duration("START_PROBE_SLOW_INTERVAL"),
            fast_window: self.duration("START_PROBE_FAST_WINDOW"),
            steady_probe: self.some_duration("PROBE_INTERVAL"),
            probe_timeout: self.some_duration("PROBE_TIMEOUT"),
            misses: self.parsed("PROBE_MISSES", "a number from 1", |n: &u32| *n > 0),
            node_start_limit: self.duration("NODE_START_LIMIT"),
            sql_start_limit: self.duration("SQL_START_LIMIT"),
            refused_grace: self.duration("SQL_REFUSED_GRACE"),
            drain_timeout: self.duration("DRAIN_TIMEOUT"),
            node_stop_grace: self.duration("NODE_STOP_GRACE"),
            sql_stop_limit: self.duration("SQL_STOP_LIMIT"),
            backoff_first: self.duration("RESTART_BACKOFF_FIRST"),
            backoff_max: self.duration("RESTART_BACKOFF_MAX"),
            backoff_reset: self.duration("RESTART_BACKOFF_RESET"),
        }
    }

    /// A duration such as `50ms`, `5s`, `2m`, `1h`; a bare number is seconds.
    fn duration(&mut self, key: &str) -> Duration {
        let duration = timing::duration(&self.text(key));
        if duration.is_none() {
            self.problem(
                key,
                "it is no duration up to a year",
                "write it as 50ms, 5s, 2m or 1h",
            );
        }
        duration.unwrap_or_default()
    }

    /// A duration that zero would make a loop without a pause, or a deadline that nothing meets.
    fn some_duration(&mut self, key: &str) -> Duration {
        let duration = self.duration(key);
        if timing::duration(&self.text(key)) == Some(Duration::ZERO) {
            self.problem(key, "it is no time at all", "set it to 1ms or more");
        }
        duration
    }
}
