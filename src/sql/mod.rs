//! SQL Server, asked from the host with tiberius: is it well, is the password right, is there a
//! database, and shut down.
//!
//! Every question uses one short connection, because a timed-out tiberius connection is unusable
//! afterwards. Questions go to `master`, since Octopus' database may not exist yet. Numbers of
//! errors are SQL Server's own (learn.microsoft.com, "Database Engine events and errors").

pub mod backup;

use std::future::Future;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tiberius::AuthMethod;
use tiberius::Client;
use tokio::net::TcpStream;
use tokio_util::compat::Compat;
use tokio_util::compat::TokioAsyncWriteCompatExt as _;

use crate::reconcile::SUSPECT;
use crate::reconcile::health::Probe;
use crate::spec::DatabaseTarget;

/// Login failed.
pub const LOGIN_FAILED: u32 = 18456;
/// The server upgrades its own databases; only an administrator on its console may connect.
const SCRIPT_UPGRADE: u32 = 18401;
/// A database is not recovered yet, or is being recovered.
const RECOVERING: [u32; 2] = [921, 922];

/// Why a question had no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// No TCP connection.
    #[error("connect to {address}: {why}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's words.
        why: String,
        /// The kernel's error number, if it gave one.
        os_error: Option<i32>,
    },
    /// A phase did not end in time.
    #[error("{phase}: no answer within {} ms", limit.as_millis())]
    TimedOut {
        /// `connect`, `log in` or `query`.
        phase: &'static str,
        /// The deadline.
        limit: Duration,
    },
    /// The server answered with an error.
    #[error("SQL Server error {code}: {message}")]
    Server {
        /// SQL Server's number.
        code: u32,
        /// Its words.
        message: String,
    },
    /// The connection broke.
    #[error("{phase}: {why}")]
    Broken {
        /// `log in` or `query`.
        phase: &'static str,
        /// Why.
        why: String,
    },
}

type Connection = Client<Compat<TcpStream>>;

async fn within<T>(
    phase: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, SqlError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(SqlError::TimedOut { phase, limit }))
}

/// Turns the client's errors into ours.
pub(crate) fn error_of(phase: &'static str, error: &tiberius::error::Error) -> SqlError {
    match error {
        tiberius::error::Error::Server(token) => SqlError::Server {
            code: token.code(),
            message: token.message().to_owned(),
        },
        other => SqlError::Broken {
            phase,
            why: other.to_string(),
        },
    }
}

/// Logs in to `database`. `limit` bounds each of connecting and logging in.
pub async fn login(
    target: &DatabaseTarget,
    database: &str,
    limit: Duration,
) -> Result<Connection, SqlError> {
    let address = format!("{}:{}", target.host, target.port);
    let connecting = async {
        let connected = TcpStream::connect(&address).await;
        connected.map_err(|error| SqlError::Connect {
            address: address.clone(),
            why: error.to_string(),
            os_error: error.raw_os_error(),
        })
    };
    let tcp = within("connect", limit, connecting).await?;
    let _ = tcp.set_nodelay(true);
    let mut config = tiberius::Config::new();
    config.host(&target.host);
    config.port(target.port);
    config.database(database);
    config.authentication(AuthMethod::sql_server(
        &target.user,
        target.password.expose(),
    ));
    // The server's certificate is made by itself at its first start; nobody could have signed it.
    config.trust_cert();
    let client = async {
        Client::connect(config, tcp.compat_write())
            .await
            .map_err(|error| error_of("log in", &error))
    };
    within("log in", limit, client).await
}

/// Runs a query and gives its rows, each column as text. Cast what is not text in the query itself.
pub async fn rows(
    client: &mut Connection,
    sql: &str,
    limit: Duration,
) -> Result<Vec<Vec<String>>, SqlError> {
    // Boxed: tiberius' futures are tens of kilobytes.
    let reading = Box::pin(async {
        let stream = client
            .simple_query(sql)
            .await
            .map_err(|error| error_of("query", &error))?;
        let rows: Vec<tiberius::Row> = stream
            .into_row_stream()
            .try_collect()
            .await
            .map_err(|error| error_of("query", &error))?;
        let text = |row: tiberius::Row| {
            (0..row.len())
                .map(|column| {
                    row.try_get::<&str, _>(column)
                        .ok()
                        .flatten()
                        .unwrap_or_default()
                        .to_owned()
                })
                .collect()
        };
        Ok(rows.into_iter().map(text).collect())
    });
    within("query", limit, reading).await
}

const DATABASES: &str =
    "SELECT CAST(name AS NVARCHAR(128)), CAST(state_desc AS NVARCHAR(60)) FROM sys.databases";

/// Asks whether the server serves: it logs in, and every database that matters is open.
pub async fn probe(target: &DatabaseTarget, limit: Duration) -> Probe {
    match states(target, limit).await {
        Ok(states) => judge(&states, &target.database),
        Err(error) => judge_error(&error),
    }
}

async fn states(target: &DatabaseTarget, limit: Duration) -> Result<Vec<Vec<String>>, SqlError> {
    let mut client = login(target, "master", limit).await?;
    let states = rows(&mut client, DATABASES, limit).await;
    let _ = tokio::time::timeout(limit, Box::pin(client.close())).await;
    states
}

/// A suspect database of Octopus is not waited for; one that is recovering is.
fn judge(states: &[Vec<String>], database: &str) -> Probe {
    for row in states {
        let (name, state) = (
            row.first().map_or("", String::as_str),
            row.get(1).map_or("", String::as_str),
        );
        match state {
            "RECOVERING" | "RECOVERY_PENDING" | "RESTORING" => {
                return Probe::Alive(format!("database {name} is {state}"));
            }
            "SUSPECT" | "EMERGENCY" if name.eq_ignore_ascii_case(database) || name == "master" => {
                return Probe::Alive(format!("{SUSPECT} {name} is {state}"));
            }
            _ => {}
        }
    }
    Probe::Ready
}

fn judge_error(error: &SqlError) -> Probe {
    match error {
        SqlError::Server {
            code: LOGIN_FAILED,
            message,
        } => Probe::Refused(format!("error 18456: {message}")),
        SqlError::Server {
            code: SCRIPT_UPGRADE,
            ..
        } => Probe::Alive("SQL Server upgrades its own databases (18401)".to_owned()),
        SqlError::Server { code, message } if RECOVERING.contains(code) => {
            Probe::Alive(message.clone())
        }
        SqlError::Server { code, message } => Probe::Alive(format!("error {code}: {message}")),
        SqlError::Connect { os_error, .. } => Probe::of_error(*os_error, error.to_string()),
        SqlError::TimedOut { .. } | SqlError::Broken { .. } => Probe::Failure(error.to_string()),
    }
}

/// Whether the server has a database of this name.
pub async fn has_database(target: &DatabaseTarget, limit: Duration) -> Result<bool, SqlError> {
    let states = states(target, limit).await?;
    Ok(states.iter().any(|row| {
        row.first()
            .is_some_and(|name| name.eq_ignore_ascii_case(&target.database))
    }))
}

/// Asks the server to shut down: it disables logins, waits for statements, and writes every
/// database's pages. The connection ends before an answer comes, which is success.
pub async fn shutdown(target: &DatabaseTarget, limit: Duration) -> Result<(), SqlError> {
    let mut client = login(target, "master", limit).await?;
    match rows(&mut client, "SHUTDOWN", limit).await {
        Ok(_) | Err(SqlError::Broken { .. } | SqlError::TimedOut { .. }) => Ok(()),
        Err(SqlError::Server {
            code: 6006,
            message,
        }) => Err(SqlError::Server {
            code: 6006,
            message,
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(pairs: &[(&str, &str)]) -> Vec<Vec<String>> {
        pairs
            .iter()
            .map(|(name, state)| vec![(*name).to_owned(), (*state).to_owned()])
            .collect()
    }

    #[test]
    fn ready_means_that_what_matters_is_open() {
        assert_eq!(
            judge(
                &states(&[("master", "ONLINE"), ("Octopus", "ONLINE")]),
                "Octopus"
            ),
            Probe::Ready
        );
        assert_eq!(
            judge(
                &states(&[("Other", "SUSPECT"), ("Octopus", "OFFLINE")]),
                "Octopus"
            ),
            Probe::Ready
        );
        assert!(matches!(
            judge(&states(&[("Octopus", "RECOVERING")]), "Octopus"),
            Probe::Alive(_)
        ));
        assert!(
            matches!(judge(&states(&[("octopus", "SUSPECT")]), "Octopus"), Probe::Alive(text) if text.starts_with(SUSPECT))
        );
    }

    #[test]
    fn a_refused_login_is_not_a_dead_server() {
        let refused = SqlError::Server {
            code: LOGIN_FAILED,
            message: "Login failed".into(),
        };
        assert!(matches!(judge_error(&refused), Probe::Refused(_)));
        let silent = SqlError::TimedOut {
            phase: "log in",
            limit: Duration::from_secs(2),
        };
        assert!(matches!(judge_error(&silent), Probe::Failure(_)));
    }
}
