//! Reads what is said about the database: the SQL Server that we run, or somebody else's, and how
//! Octopus reaches it.

use std::net::IpAddr;

use super::Reader;
use super::secrets::is_placeholder;
use crate::config::DatabaseConfig;
use crate::config::Secret;
use crate::config::SqlConfig;
use crate::config::ado::ConnectionString;
use crate::config::ado::Encrypt;
use crate::config::keys;
use crate::config::password;
use crate::config::vendor;

const SQL_PORT_INSIDE: u16 = 1433;

/// The editions that the image knows (learn.microsoft.com,
/// `sql-server-linux-configure-environment-variables`).
const EDITIONS: &[&str] = &[
    "Evaluation",
    "Developer",
    "DeveloperStandard",
    "StandardDeveloper",
    "EnterpriseDeveloper",
    "Express",
    "Web",
    "Standard",
    "Enterprise",
    "EnterpriseCore",
];

impl Reader<'_> {
    fn sa_password(&mut self) -> Secret {
        let (old, new) = (self.given("SA_PASSWORD"), self.given("MSSQL_SA_PASSWORD"));
        if old.is_some() && new.is_some() && old != new {
            self.problem(
                "MSSQL_SA_PASSWORD",
                "it differs from SA_PASSWORD",
                "set one of them only",
            );
        }
        let given = self
            .given("SA_PASSWORD")
            .or_else(|| self.given("MSSQL_SA_PASSWORD"))
            .map(str::to_owned);
        if let Some(password) = &given {
            let faults = password::faults(password, "sa");
            if !faults.is_empty() {
                self.problem(
                    "SA_PASSWORD",
                    faults.join(" and "),
                    "choose one that SQL Server's policy accepts",
                );
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

    pub(super) fn sql(&mut self) -> Option<SqlConfig> {
        let image = match (&self.input.demo, self.input.vars.get("SQL_IMAGE")) {
            (Some(demo), _) => demo.sql_image.clone(),
            (None, Some(image)) if image.trim().is_empty() => return None,
            (None, _) => self.text("SQL_IMAGE"),
        };
        let image = match self.image("SQL_IMAGE", &image) {
            Some(read) => read.with_tag().to_string(),
            None => image,
        };
        let edition = self.edition();
        let sql = SqlConfig {
            image,
            sa_password: self.sa_password(),
            port: self.port("SQL_PORT"),
            bind: self.address("SQL_BIND_ADDRESS"),
            memory_limit_mb: self.parsed(
                "SQL_MEMORY_LIMIT_MB",
                "a number of megabytes from 1024",
                |limit: &u32| *limit >= 1024,
            ),
            edition,
            limits: self.limits("SQL_MEMORY", "SQL_CPUS"),
            extra: self.extra(vendor::SQL, keys::STANDIN_SQL),
        };
        self.judge_memory_of_sql(&sql);
        Some(sql)
    }

    /// An edition by its name, or by the product key that stands for one.
    fn edition(&mut self) -> String {
        let edition = self.text("MSSQL_PID");
        let is_part =
            |part: &str| part.len() == 5 && part.chars().all(|c| c.is_ascii_alphanumeric());
        let is_key = edition.split('-').count() == 5 && edition.split('-').all(is_part);
        let is_name = EDITIONS
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&edition));
        if !is_key && !is_name {
            self.problem(
                "MSSQL_PID",
                "it is neither an edition of SQL Server nor a product key",
                format!(
                    "set it to one of {}, or to a key of five times five characters",
                    EDITIONS.join(", ")
                ),
            );
        }
        edition
    }

    pub(super) fn database(&mut self, sql: Option<&SqlConfig>) -> DatabaseConfig {
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
                    "correct it; the form is Server=db,1433;Database=…;User Id=…;Password='…', and a value with `;` \
                     or quotes in it stands in quotes",
                );
                return generated_database(sql);
            }
        };
        self.server(&read, sql.is_some());
        if let Some(sql) = sql {
            self.login(&read, sql);
            self.certificate(&read);
        }
        if is_placeholder(read.password.expose()) {
            self.problem(
                "DB_CONNECTION_STRING",
                "its password is a placeholder that nobody has replaced",
                "write the password that it stands for",
            );
        }
        if read.database.is_empty() {
            self.problem(
                "DB_CONNECTION_STRING",
                "it names no database",
                "add `Database=OctopusDeploy`",
            );
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
        let loopback = read.host.eq_ignore_ascii_case("localhost")
            || read.host.starts_with("127.")
            || read.host == "::1";
        if !ours {
            if loopback {
                self.problem(
                    "DB_CONNECTION_STRING",
                    "inside a container, localhost is the container itself",
                    "name the server as the network knows it; `host.docker.internal` is this host",
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
        let is_ours = read.user.eq_ignore_ascii_case("sa") && !sql.sa_password.is_empty();
        if !is_ours || read.password == sql.sa_password {
            return;
        }
        // An unquoted password ends at a semicolon, and what follows is read as the next part.
        let rest = sql
            .sa_password
            .expose()
            .strip_prefix(read.password.expose());
        let is_cut_off = rest.is_some_and(|rest| rest.trim_start().starts_with(';'));
        if is_cut_off {
            self.problem(
                "DB_CONNECTION_STRING",
                "its password for sa ends at a `;`",
                "put the password into single quotes, `Password='…'`, or leave DB_CONNECTION_STRING out",
            );
        } else {
            self.problem(
                "DB_CONNECTION_STRING",
                "its password for sa differs from SA_PASSWORD",
                "make them the same, or leave DB_CONNECTION_STRING out",
            );
        }
    }

    /// The certificate of the server that we run is one that it made itself, unless somebody put
    /// another into its volume.
    fn certificate(&mut self, read: &ConnectionString) {
        let is_checked = match read.encrypt {
            Some(Encrypt::Optional) => false,
            Some(Encrypt::Strict) => true,
            Some(Encrypt::Mandatory) | None => read.trust_server_certificate == Some(false),
        };
        if is_checked {
            self.warn(
                "DB_CONNECTION_STRING",
                "it has Octopus check SQL Server's certificate, which SQL Server made itself and nobody vouches for",
                "write TrustServerCertificate=True and no Encrypt=Strict, or put a certificate that containers trust \
                 into SQL Server's volume",
            );
        }
    }
}

/// How Octopus reaches the SQL Server that we run, when nobody says otherwise.
pub(in crate::config) fn generated_database(sql: Option<&SqlConfig>) -> DatabaseConfig {
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
