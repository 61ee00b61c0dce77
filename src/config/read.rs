//! Reads every variable first and complains after, so that a person sees all mistakes at once.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;

use super::Config;
use super::DatabaseConfig;
use super::OctopusConfig;
use super::Problem;
use super::Pull;
use super::Secret;
use super::SqlConfig;
use super::Timing;
use super::ado::ConnectionString;
use super::keys;
use super::licence;
use super::password;

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
}

/// Reads a configuration. On failure: every problem.
pub fn read(input: &Input) -> Result<Read, Vec<Problem>> {
    let mut reader = Reader { input, problems: Vec::new(), warnings: Vec::new() };
    let config = reader.config();
    reader.advice(&config);
    if reader.problems.is_empty() { Ok(Read { config, warnings: reader.warnings }) } else { Err(reader.problems) }
}

const SQL_EULA: &str = "https://go.microsoft.com/fwlink/?linkid=857698";
const OCTOPUS_EULA: &str = "https://octopus.com/legal/customer-agreement";
const MAX_NODES: u8 = 16;
/// Secrets that the vendor's pages publish: everybody knows them.
const PUBLISHED: &[&str] =
    &["N0tS3cr3t!", "Passw0rd123", "Password01!", "6EdU6IWsCtMEwk0kPKflQQ==", "5qJcW9E6B99teMmrOzaYNA=="];
const SQL_PORT_INSIDE: u16 = 1433;

struct Reader<'a> {
    input: &'a Input,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        self.eulas();
        let sql = self.sql();
        let database = self.database(sql.as_ref());
        let octopus = self.octopus();
        self.ports(sql.as_ref(), &octopus);
        Config {
            demo: self.input.demo.is_some(),
            sql,
            database,
            octopus,
            pull: self.pull(),
            timing: self.timing(),
            log_max_size: self.log_size(),
            log_max_files: self.parsed("LOG_MAX_FILES", "a number from 1", |number: &u32| *number > 0).unwrap_or(3),
        }
    }

    /// The value of a key, empty as if it were not set.
    fn given(&self, key: &str) -> Option<&str> {
        self.input.vars.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn text(&self, key: &str) -> String {
        self.given(key).or_else(|| keys::default_of(key)).unwrap_or_default().to_owned()
    }

    fn problem_of(&self, key: &str, why: impl Into<String>, fix: impl Into<String>) -> Problem {
        let value = self.given(key).filter(|_| !keys::is_secret(key)).map(str::to_owned);
        let origin = self.input.origins.get(key).cloned();
        Problem { key: key.to_owned(), value, why: why.into(), fix: fix.into(), origin }
    }

    fn problem(&mut self, key: &str, why: impl Into<String>, fix: impl Into<String>) {
        let problem = self.problem_of(key, why, fix);
        self.problems.push(problem);
    }

    fn warn(&mut self, key: &str, why: impl Into<String>, fix: impl Into<String>) {
        let warning = self.problem_of(key, why, fix);
        self.warnings.push(warning);
    }

    fn parsed<T: FromStr>(&mut self, key: &str, what: &str, fits: impl Fn(&T) -> bool) -> Option<T> {
        let text = self.text(key);
        let value = text.trim().parse().ok().filter(fits);
        if value.is_none() {
            self.problem(key, format!("it is not {what}"), format!("set it to {what}"));
        }
        value
    }

    fn port(&mut self, key: &str) -> u16 {
        self.parsed(key, "a port from 1 to 65535", |port: &u16| *port > 0).unwrap_or(1)
    }

    fn address(&mut self, key: &str) -> IpAddr {
        self.parsed(key, "an IP address", |_| true).unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
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
        let sql_is_ours = self.input.vars.get("SQL_IMAGE").is_none_or(|image| !image.is_empty());
        let wanted = [("ACCEPT_EULA", SQL_EULA, sql_is_ours), ("ACCEPT_OCTOPUS_EULA", OCTOPUS_EULA, true)];
        for (key, link, matters) in wanted {
            if matters && self.given(key) != Some("Y") {
                let why = "the licence agreement is not accepted";
                self.problem(key, why, format!("read {link} and set {key}=Y"));
            }
        }
    }

    fn sa_password(&mut self) -> Secret {
        let (old, new) = (self.given("SA_PASSWORD"), self.given("MSSQL_SA_PASSWORD"));
        if old.is_some() && new.is_some() && old != new {
            self.problem("MSSQL_SA_PASSWORD", "it differs from SA_PASSWORD", "set one of them only");
        }
        let given = self.given("SA_PASSWORD").or_else(|| self.given("MSSQL_SA_PASSWORD")).map(str::to_owned);
        if let Some(password) = &given {
            let faults = password::faults(password, "sa");
            if !faults.is_empty() {
                self.problem("SA_PASSWORD", faults.join(" and "), "choose one that SQL Server's policy accepts");
            }
            return Secret::new(password);
        }
        if let Some(demo) = &self.input.demo {
            return demo.sa_password.clone();
        }
        self.problem(
            "SA_PASSWORD",
            "SQL Server needs a password for sa",
            "set it; `octo-local init` makes a strong one",
        );
        Secret::default()
    }

    fn sql(&mut self) -> Option<SqlConfig> {
        let image = match (&self.input.demo, self.input.vars.get("SQL_IMAGE")) {
            (Some(demo), _) => demo.sql_image.clone(),
            (None, Some(image)) if image.trim().is_empty() => return None,
            (None, _) => self.text("SQL_IMAGE"),
        };
        self.image("SQL_IMAGE", &image);
        let edition = self.text("MSSQL_PID");
        Some(SqlConfig {
            image: with_tag(&image),
            sa_password: self.sa_password(),
            port: self.port("SQL_PORT"),
            bind: self.address("SQL_BIND_ADDRESS"),
            memory_limit_mb: self
                .parsed("SQL_MEMORY_LIMIT_MB", "a number of megabytes from 1024", |limit: &u32| *limit >= 1024)
                .unwrap_or(2048),
            edition,
            extra: self.extra(keys::SQL_VARIABLES, keys::STANDIN_SQL),
        })
    }

    /// Vendor variables that a file names, and the stand-ins' switches.
    fn extra(&self, names: &[&str], standin: &str) -> BTreeMap<String, Secret> {
        let demo = self.input.demo.is_some();
        let vars = self.input.vars.iter();
        vars.filter(|(key, _)| {
            let in_a_file = self.input.origins.contains_key(*key);
            (names.contains(&key.as_str()) && in_a_file) || (key.starts_with(standin) && (in_a_file || demo))
        })
        .map(|(key, value)| (key.clone(), Secret::new(value)))
        .collect()
    }

    fn image(&mut self, key: &str, image: &str) {
        let good = !image.is_empty()
            && image.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-/:@".contains(letter))
            && image.chars().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && !image.ends_with([':', '/', '@']);
        if !good {
            self.problem(key, "it is no image reference", "write it as `registry/name:tag`");
        }
    }

    fn database(&mut self, sql: Option<&SqlConfig>) -> DatabaseConfig {
        let Some(text) = self.given("DB_CONNECTION_STRING").map(str::to_owned) else {
            if sql.is_none() {
                let fix = "set it to the server to use, or set SQL_IMAGE";
                self.problem(
                    "DB_CONNECTION_STRING",
                    "with SQL_IMAGE empty the database is somebody else's, and nothing says where",
                    fix,
                );
            }
            return generated_database(sql);
        };
        let read = match ConnectionString::parse(&text) {
            Ok(read) => read,
            Err(error) => {
                self.problem(
                    "DB_CONNECTION_STRING",
                    error.to_string(),
                    "correct it; the form is Server=db,1433;Database=…;User Id=…;Password=…",
                );
                return generated_database(sql);
            }
        };
        self.server(&read, sql.is_some());
        if let Some(sql) = sql {
            self.login(&read, sql);
        }
        if read.database.is_empty() {
            self.problem("DB_CONNECTION_STRING", "it names no database", "add `Database=OctopusDeploy`");
        }
        DatabaseConfig {
            host: read.host,
            port: read.port,
            user: read.user,
            password: read.password,
            name: read.database,
            connection_string: Secret::new(text),
        }
    }

    /// A server name that would point Octopus at another server than the one we run.
    fn server(&mut self, read: &ConnectionString, ours: bool) {
        let is_address = read.host.parse::<IpAddr>().is_ok();
        let loopback =
            read.host.eq_ignore_ascii_case("localhost") || read.host.starts_with("127.") || read.host == "::1";
        if !ours {
            if loopback {
                self.problem(
                    "DB_CONNECTION_STRING",
                    "inside a container, localhost is the container itself",
                    "name the server as the network knows it",
                );
            }
            return;
        }
        if loopback || is_address || read.host.contains('.') || read.port != SQL_PORT_INSIDE {
            self.problem(
                "DB_CONNECTION_STRING",
                "its server is not the SQL Server that SQL_IMAGE runs, which answers to a plain name on port 1433 inside the network",
                "correct the server to `db,1433`, or set `SQL_IMAGE=` (empty) to use that server as it is",
            );
        }
    }

    fn login(&mut self, read: &ConnectionString, sql: &SqlConfig) {
        if read.user.eq_ignore_ascii_case("sa") && read.password != sql.sa_password && !sql.sa_password.is_empty() {
            self.problem(
                "DB_CONNECTION_STRING",
                "its password for sa differs from SA_PASSWORD",
                "make them the same, or leave DB_CONNECTION_STRING out",
            );
        }
    }

    fn octopus(&mut self) -> OctopusConfig {
        let (image, tag) = match &self.input.demo {
            Some(demo) => (demo.octopus_image.clone(), demo.octopus_tag.clone()),
            None => (self.text("OCTOPUS_IMAGE"), self.text("OCTOPUS_SERVER_TAG")),
        };
        self.image("OCTOPUS_IMAGE", &image);
        if self.input.demo.is_none() && !is_tag(&tag) {
            self.problem("OCTOPUS_SERVER_TAG", "it is no image tag", "use a version such as 2026.2, or latest");
        }
        let admin_password = self.admin_password();
        OctopusConfig {
            image,
            tag,
            nodes: self.nodes(),
            node_name: self.node_name(),
            port: self.port("OCTOPUS_PORT"),
            bind: self.address("BIND_ADDRESS"),
            admin_username: self.text("ADMIN_USERNAME"),
            admin_password,
            admin_email: self.text("ADMIN_EMAIL"),
            admin_api_key: self.given("ADMIN_API_KEY").map(Secret::new),
            licence: self.given("OCTOPUS_SERVER_BASE64_LICENSE").filter(|_| self.input.demo.is_none()).map(Secret::new),
            master_key: self.given("MASTER_KEY").map(Secret::new),
            disable_dind: self.switch("DISABLE_DIND"),
            task_cap: self.given("TASK_CAP").is_some().then(|| self.parsed("TASK_CAP", "a number", |_| true)).flatten(),
            extra: self.extra(keys::OCTOPUS_VARIABLES, keys::STANDIN_OCTOPUS),
        }
    }

    fn admin_password(&mut self) -> Secret {
        if let Some(password) = self.given("ADMIN_PASSWORD") {
            return Secret::new(password);
        }
        if let Some(demo) = &self.input.demo {
            return demo.admin_password.clone();
        }
        self.problem(
            "ADMIN_PASSWORD",
            "Octopus needs a password for its first user",
            "set it; `octo-local init` makes a strong one",
        );
        Secret::default()
    }

    fn nodes(&mut self) -> u8 {
        let fits = |nodes: &u8| (1..=MAX_NODES).contains(nodes);
        match self.input.nodes {
            Some(nodes) if fits(&nodes) => nodes,
            Some(_) => {
                let why = format!("it is not a number from 1 to {MAX_NODES}");
                self.problems.push(Problem {
                    key: "--nodes".into(),
                    value: None,
                    why,
                    fix: "give such a number".into(),
                    origin: None,
                });
                1
            }
            None => self.parsed("OCTOPUS_NODES", &format!("a number from 1 to {MAX_NODES}"), fits).unwrap_or(1),
        }
    }

    fn node_name(&mut self) -> String {
        let name = self.text("OCTOPUS_SERVER_NODE_NAME");
        if !name.chars().all(|letter| letter.is_alphanumeric() || "-_.".contains(letter)) {
            self.problem(
                "OCTOPUS_SERVER_NODE_NAME",
                "it has other characters than letters, digits, `-`, `_` and `.`",
                "choose a plain name",
            );
        }
        name
    }

    fn ports(&mut self, sql: Option<&SqlConfig>, octopus: &OctopusConfig) {
        let last = u32::from(octopus.port) + u32::from(octopus.nodes) - 1;
        if last > u32::from(u16::MAX) {
            self.problem("OCTOPUS_PORT", "there are not enough ports after it for all nodes", "choose a lower one");
        }
        let Some(sql) = sql else { return };
        let overlap = (u32::from(octopus.port)..=last).contains(&u32::from(sql.port));
        if overlap {
            self.problem(
                "SQL_PORT",
                "a node is published on the same port",
                "choose a port outside OCTOPUS_PORT and those after it, one a node",
            );
        }
    }

    fn pull(&mut self) -> Pull {
        if self.input.demo.is_some() {
            return Pull::Never;
        }
        self.input.pull.unwrap_or_else(|| match self.text("PULL").as_str() {
            "missing" => Pull::Missing,
            "always" => Pull::Always,
            "never" => Pull::Never,
            _ => {
                self.problem("PULL", "it is none of missing, always, never", "set it to one of them");
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
        let sql_stop_limit_ms = self.duration("SQL_STOP_LIMIT");
        Timing {
            start_probe_fast_ms: self.duration("START_PROBE_INTERVAL").max(1),
            start_probe_slow_ms: self.duration("START_PROBE_SLOW_INTERVAL").max(1),
            fast_window_ms: self.duration("START_PROBE_FAST_WINDOW"),
            steady_probe_ms: self.duration("PROBE_INTERVAL").max(1),
            probe_timeout_ms: self.duration("PROBE_TIMEOUT").max(1),
            misses: self.parsed("PROBE_MISSES", "a number from 1", |misses: &u32| *misses > 0).unwrap_or(3),
            node_start_limit_ms: self.duration("NODE_START_LIMIT"),
            sql_start_limit_ms: self.duration("SQL_START_LIMIT"),
            refused_grace_ms: self.duration("SQL_REFUSED_GRACE"),
            node_stop_grace_ms: self.duration("NODE_STOP_GRACE"),
            sql_stop_limit_ms,
            backoff_first_ms: self.duration("RESTART_BACKOFF_FIRST"),
            backoff_max_ms: self.duration("RESTART_BACKOFF_MAX"),
            backoff_reset_ms: self.duration("RESTART_BACKOFF_RESET"),
        }
    }

    /// A duration such as `50ms`, `5s`, `2m`, `1h`; a bare number is seconds.
    fn duration(&mut self, key: &str) -> u64 {
        let text = self.text(key);
        let milliseconds = duration_ms(&text);
        if milliseconds.is_none() {
            self.problem(key, "it is no duration", "write it as 50ms, 5s, 2m or 1h");
        }
        milliseconds.unwrap_or(1_000)
    }

    /// What is not wrong, but will hurt.
    fn advice(&mut self, config: &Config) {
        self.typing_mistakes();
        for key in ["SA_PASSWORD", "MSSQL_SA_PASSWORD", "ADMIN_PASSWORD", "MASTER_KEY"] {
            if self.given(key).is_some_and(|value| PUBLISHED.contains(&value)) {
                self.warn(
                    key,
                    "this value is published in the vendor's samples, so everybody knows it",
                    "choose your own",
                );
            }
        }
        if let Some(key) = &config.octopus.master_key {
            let decoded = base64::engine::general_purpose::STANDARD.decode(key.expose());
            if decoded.map_or(true, |bytes| bytes.len() != 16) {
                self.warn(
                    "MASTER_KEY",
                    "it is not the base64 of 16 bytes",
                    "check it against `openssl rand 16 | base64`",
                );
            }
        }
        self.nodes_and_licence(config);
        if self.given("PRIVILEGED").is_some_and(|value| value.eq_ignore_ascii_case("false"))
            && !config.octopus.disable_dind
        {
            self.problem(
                "DISABLE_DIND",
                "PRIVILEGED=false takes away what Docker-in-Docker needs",
                "set DISABLE_DIND=Y, or remove PRIVILEGED",
            );
        }
        if !config.demo && config.octopus.tag == "latest" {
            self.warn(
                "OCTOPUS_SERVER_TAG",
                "latest moves: an upgrade can come with any pull, and the database cannot go back",
                "name a version",
            );
        }
    }

    fn nodes_and_licence(&mut self, config: &Config) {
        if config.demo {
            return;
        }
        let licence = config.octopus.licence.as_ref().map(|licence| licence::read(licence.expose()));
        let limit = match licence {
            Some(None) => {
                self.warn(
                    "OCTOPUS_SERVER_BASE64_LICENSE",
                    "it is not the base64 of an Octopus licence",
                    "copy it again",
                );
                None
            }
            Some(Some(licence)) => licence.node_limit,
            None => Some(1),
        };
        let nodes = u32::from(config.octopus.nodes);
        if limit.is_some_and(|limit| nodes > limit) {
            let why = format!("{nodes} nodes need a licence for as many; Octopus would refuse to deploy");
            self.warn(
                "OCTOPUS_NODES",
                why,
                "use one node, or set OCTOPUS_SERVER_BASE64_LICENSE to a licence with a NodeLimit",
            );
        }
    }

    fn typing_mistakes(&mut self) {
        let named: BTreeSet<&String> = self.input.origins.keys().collect();
        for key in named {
            if let Some(meant) = keys::suggestion(key) {
                let warning = Problem {
                    key: key.clone(),
                    value: None,
                    why: "octo-local does not know this variable".to_owned(),
                    fix: format!("did you mean {meant}?"),
                    origin: self.input.origins.get(key).cloned(),
                };
                self.warnings.push(warning);
            }
        }
    }
}

fn generated_database(sql: Option<&SqlConfig>) -> DatabaseConfig {
    let password = sql.map(|sql| sql.sa_password.clone()).unwrap_or_default();
    let string = ConnectionString {
        host: "db".to_owned(),
        port: SQL_PORT_INSIDE,
        user: "sa".to_owned(),
        password: password.clone(),
        database: "OctopusDeploy".to_owned(),
        trust_server_certificate: Some(true),
        ..ConnectionString::default()
    };
    DatabaseConfig {
        host: string.host.clone(),
        port: string.port,
        user: string.user.clone(),
        password,
        name: string.database.clone(),
        connection_string: string.render(),
    }
}

/// The reference with the tag that the engine would assume.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn is_tag(tag: &str) -> bool {
    let first = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    tag.len() <= 128
        && tag.chars().next().is_some_and(first)
        && tag.chars().all(|letter| first(letter) || letter == '.' || letter == '-')
}

/// A duration with its unit as milliseconds.
pub fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let unit = match text[split..].trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(pairs: &[(&str, &str)]) -> Input {
        let owned = |text: &&str| (*text).to_owned();
        Input {
            vars: pairs.iter().map(|(key, value)| (owned(key), owned(value))).collect(),
            origins: pairs.iter().enumerate().map(|(at, (key, _))| (owned(key), format!(".env:{}", at + 1))).collect(),
            ..Input::default()
        }
    }

    const GOOD: &[(&str, &str)] = &[
        ("SA_PASSWORD", "Str0ng-enough"),
        ("ADMIN_PASSWORD", "whatever-1"),
        ("ACCEPT_EULA", "Y"),
        ("ACCEPT_OCTOPUS_EULA", "Y"),
    ];

    fn with(more: &[(&str, &str)]) -> Input {
        let mut all: Vec<(&str, &str)> = GOOD.to_vec();
        all.extend_from_slice(more);
        input(&all)
    }

    fn keys_of(result: Result<Read, Vec<Problem>>) -> Vec<String> {
        result.err().unwrap_or_default().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn the_least_that_works_gets_the_articles_defaults() {
        let config = read(&input(GOOD)).unwrap().config;
        let sql = config.sql.as_ref().unwrap();
        assert_eq!((sql.image.as_str(), sql.port), ("mcr.microsoft.com/mssql/server:latest", 1401));
        assert_eq!((config.octopus.nodes, config.octopus.port, config.octopus.tag.as_str()), (1, 8080, "latest"));
        assert!(config.database.connection_string.expose().contains("TrustServerCertificate=True"));
    }

    #[test]
    fn all_problems_come_at_once_and_show_no_secret() {
        let bad = input(&[
            ("SA_PASSWORD", "weak-marker"),
            ("OCTOPUS_NODES", "many"),
            ("SQL_PORT", "99999"),
            ("PULL", "often"),
        ]);
        let problems = read(&bad).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        for key in
            ["ACCEPT_EULA", "ACCEPT_OCTOPUS_EULA", "SA_PASSWORD", "OCTOPUS_NODES", "SQL_PORT", "PULL", "ADMIN_PASSWORD"]
        {
            assert!(keys.contains(&key), "{key} in {keys:?}");
        }
        assert!(problems.iter().all(|problem| !problem.to_string().contains("weak-marker")));
    }

    #[test]
    fn a_connection_string_must_point_at_the_server_that_runs() {
        let good = "Server=mssql,1433;Database=Octopus;User Id=SA;Password=Str0ng-enough";
        assert_eq!(read(&with(&[("DB_CONNECTION_STRING", good)])).unwrap().config.database.host, "mssql");
        for server in ["localhost", "10.0.0.1", "sql.example.com", "mssql,1435", "127.0.0.1,1433"] {
            let text = format!("Server={server};Database=O;User=sa;Password=Str0ng-enough");
            assert_eq!(keys_of(read(&with(&[("DB_CONNECTION_STRING", &text)]))), ["DB_CONNECTION_STRING"], "{server}");
        }
        let other = "Server=db;Database=O;User=sa;Password=Other-pass1";
        assert_eq!(keys_of(read(&with(&[("DB_CONNECTION_STRING", other)]))), ["DB_CONNECTION_STRING"]);
    }

    #[test]
    fn an_empty_sql_image_makes_the_database_external() {
        let text = "Server=sql.example.com,14330;Database=O;User=octo;Password=x";
        let config = read(&with(&[("SQL_IMAGE", ""), ("DB_CONNECTION_STRING", text)])).unwrap().config;
        assert!(config.sql.is_none());
        assert_eq!((config.database.host.as_str(), config.database.port), ("sql.example.com", 14330));
        assert_eq!(keys_of(read(&with(&[("SQL_IMAGE", "")]))), ["DB_CONNECTION_STRING"]);
    }

    #[test]
    fn vendor_variables_are_handed_on_only_from_a_file() {
        let mut given = with(&[("ENABLE_USAGE", "N"), ("MSSQL_COLLATION", "Latin1_General_CI_AS")]);
        given.vars.insert("HTTP_PROXY".into(), "http://elsewhere".into());
        let config = read(&given).unwrap().config;
        assert_eq!(config.octopus.extra.keys().collect::<Vec<_>>(), ["ENABLE_USAGE"]);
        assert!(config.sql.unwrap().extra.contains_key("MSSQL_COLLATION"));
    }

    #[test]
    fn warnings_are_given_and_do_not_refuse() {
        let given = with(&[
            ("OCTOPUS_NODES", "2"),
            ("MASTER_KEY", "short"),
            ("OCTOPUS_NODE", "3"),
            ("OCTOPUS_SERVER_TAG", "2026.2"),
        ]);
        let warnings: Vec<String> = read(&given).unwrap().warnings.into_iter().map(|warning| warning.key).collect();
        assert_eq!(warnings, ["OCTOPUS_NODE", "MASTER_KEY", "OCTOPUS_NODES"]);
    }

    #[test]
    fn durations_have_units() {
        let cases = [
            ("50ms", Some(50)),
            ("5", Some(5_000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("x", None),
            ("5 days", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(duration_ms(text), milliseconds, "{text}");
        }
    }

    #[test]
    fn every_key_has_one_line_in_the_example() {
        for key in keys::KEYS.iter().filter(|key| key.name != "MSSQL_SA_PASSWORD") {
            let lines = super::super::ENV_EXAMPLE.lines();
            let count =
                lines.filter(|line| line.trim_start_matches("# ").starts_with(&format!("{}=", key.name))).count();
            assert_eq!(count, 1, "{}", key.name);
        }
    }
}
