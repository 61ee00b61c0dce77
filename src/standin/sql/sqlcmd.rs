//! `sqlcmd` as the vendor's images carry it, as far as health checks use it: it logs in, runs one
//! batch, prints the rows.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use super::log;
use crate::config::Secret;
use crate::spec::DatabaseTarget;
use crate::sql;

/// The port of a server that names none.
const SQL_PORT: u16 = 1433;

/// sqlcmd (a stand-in, made by octo-local)
#[derive(Debug, Parser)]
#[command(name = "sqlcmd", disable_version_flag = true)]
struct Arguments {
    /// The server, as `host` or `host,port`
    #[arg(short = 'S', default_value = "127.0.0.1")]
    server: String,
    /// The login
    #[arg(short = 'U')]
    user: String,
    /// Its password
    #[arg(short = 'P', allow_hyphen_values = true)]
    password: String,
    /// The database
    #[arg(short = 'd', default_value = "master")]
    database: String,
    /// The batch; afterwards it ends
    #[arg(short = 'Q', allow_hyphen_values = true)]
    query: String,
    /// Seconds for the login
    #[arg(short = 'l', default_value_t = 8)]
    login_timeout: u64,
    /// Exit with 1 when the batch fails
    #[arg(short = 'b')]
    exit_on_error: bool,
    /// Trust the server's certificate, which this client always does
    #[arg(short = 'C')]
    trust: bool,
    /// Encrypt, which this client always does
    #[arg(short = 'N')]
    encrypt: bool,
}

/// Runs one batch. The exit code is the vendor's: 1 without a login, or with `-b` for a batch that
/// fails.
pub(super) fn run(words: &[String]) -> ExitCode {
    let arguments = match Arguments::try_parse_from(
        std::iter::once("sqlcmd".to_owned()).chain(words.iter().cloned()),
    ) {
        Ok(arguments) => arguments,
        Err(error) => {
            log::plain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            log::plain(&format!("Sqlcmd: Error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(ask(&arguments))
}

async fn ask(arguments: &Arguments) -> ExitCode {
    let limit = Duration::from_secs(arguments.login_timeout);
    let (host, port) = server(&arguments.server);
    let target = DatabaseTarget {
        host: host.to_owned(),
        port,
        user: arguments.user.clone(),
        password: Secret::new(&arguments.password),
        database: arguments.database.clone(),
    };
    let mut client = match sql::login(&target, &arguments.database, limit).await {
        Ok(client) => client,
        Err(error) => {
            log::plain(&format!("Sqlcmd: Error: {error}."));
            return ExitCode::FAILURE;
        }
    };
    match sql::rows(&mut client, &arguments.query, limit).await {
        Ok(rows) => {
            for row in &rows {
                log::plain(&row.join(" "));
            }
            log::plain(&format!("\n({} rows affected)", rows.len()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::plain(&error.to_string());
            if arguments.exit_on_error {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

/// Host and port of a server's name.
fn server(name: &str) -> (&str, u16) {
    let name = name.strip_prefix("tcp:").unwrap_or(name);
    name.split_once(',')
        .and_then(|(host, port)| Some((host, port.trim().parse().ok()?)))
        .unwrap_or((name, SQL_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_check_of_the_article_is_understood() {
        let words = ["sqlcmd", "-C", "-U", "sa", "-P", "-x-$1", "-Q", "SELECT 1"];
        let arguments = Arguments::try_parse_from(words).unwrap();
        assert_eq!(
            (arguments.query.as_str(), arguments.password.as_str()),
            ("SELECT 1", "-x-$1")
        );
        assert_eq!(server("localhost"), ("localhost", SQL_PORT));
        assert_eq!(server("tcp:db, 1434"), ("db", 1434));
    }
}
