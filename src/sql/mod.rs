//! SQL Server, asked from the host with tiberius: is it well, is the password right, is there a
//! database, and shut down.
//!
//! Every question uses one short connection, because a timed-out tiberius connection is unusable
//! afterwards. Questions of `sa` go to `master`, since Octopus' database may not exist yet; other
//! logins may be known to that database alone. Numbers of errors are SQL Server's own (learn.microsoft.com, "Database Engine events and errors").

pub mod backup;
pub mod history;
pub mod kept_login;
pub mod password;

use std::future::Future;
use std::time::Duration;

use futures_util::TryFutureExt as _;
use futures_util::TryStreamExt as _;
use tiberius::AuthMethod;
use tiberius::Client;
use tokio::net::TcpStream;
use tokio_util::compat::Compat;
use tokio_util::compat::TokioAsyncWriteCompatExt as _;

use crate::engine::AnyError;
use crate::reconcile::health::Miss;
use crate::reconcile::health::NotOpen;
use crate::reconcile::health::Probe;
use crate::spec::DatabaseTarget;

/// Login failed.
pub const LOGIN_FAILED: u32 = 18456;
/// A login that is known, and not let in: locked out (18486), its password expired (18487) or to be
/// changed (18488), disabled (18470). Trying it again keeps a lock-out going.
const LOGIN_BARRED: [u32; 4] = [18470, 18486, 18487, 18488];
/// The server upgrades its own databases; only an administrator on its console may connect.
const SCRIPT_UPGRADE: u32 = 18401;
/// A database does not exist, or the login may not use it.
const NO_SUCH_DATABASE: [u32; 2] = [4060, 916];
/// A database is not recovered yet, or is being recovered.
const RECOVERING: [u32; 2] = [921, 922];

/// Why a question had no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// No TCP connection.
    #[error("{}", connecting(address, source))]
    Connect {
        /// Host and port.
        address: String,
        /// The system's error.
        source: std::io::Error,
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
    /// The connection was closed before any answer: the port is published, and its process is gone
    /// or has not opened it yet.
    #[error("{phase}: the server takes no connections yet, or has gone: {source}")]
    Closed {
        /// `prelogin`, `log in` or `query`.
        phase: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("{phase}: {source}")]
    Broken {
        /// `prelogin`, `log in` or `query`.
        phase: &'static str,
        /// Why.
        source: AnyError,
    },
}

fn connecting(address: &str, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("not listening yet at {address}"),
        _ => format!("connect to {address}: {error}"),
    }
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
        tiberius::error::Error::Io { kind, message } if is_close(*kind) => SqlError::Closed {
            phase,
            source: std::io::Error::new(*kind, message.clone()),
        },
        other => SqlError::Broken {
            phase,
            source: other.clone().into(),
        },
    }
}

fn is_close(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind;
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

async fn connect(target: &DatabaseTarget, limit: Duration) -> Result<TcpStream, SqlError> {
    let address = format!("{}:{}", target.host, target.port);
    let connecting = async {
        let connected = TcpStream::connect(&address).await;
        connected.map_err(|source| SqlError::Connect {
            address: address.clone(),
            source,
        })
    };
    let tcp = within("connect", limit, connecting).await?;
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

/// Logs in to `database`. `limit` bounds each of connecting and logging in.
pub async fn login(
    target: &DatabaseTarget,
    database: &str,
    limit: Duration,
) -> Result<Connection, SqlError> {
    let tcp = connect(target, limit).await?;
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
    // Boxed: tiberius' futures are tens of kilobytes.
    let client = Box::pin(Client::connect(config, tcp.compat_write()));
    let client = client.map_err(|error| error_of("log in", &error));
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
    let [first, second] = where_to_log_in(target);
    let mut client = match login(target, first, limit).await {
        Err(SqlError::Server { code, .. }) if NO_SUCH_DATABASE.contains(&code) => {
            login(target, second, limit).await?
        }
        other => other?,
    };
    let states = rows(&mut client, DATABASES, limit).await;
    let _ = tokio::time::timeout(limit, Box::pin(client.close())).await;
    states
}

/// The databases to log in to, in turn. A user that a database contains is unknown to `master`,
/// which would count its login as a refused one; `sa` is known there, and Octopus' database may
/// not exist yet.
fn where_to_log_in(target: &DatabaseTarget) -> [&str; 2] {
    if target.user.eq_ignore_ascii_case("sa") {
        ["master", &target.database]
    } else {
        [&target.database, "master"]
    }
}

/// The databases that SQL Server itself needs.
const SYSTEM: [&str; 4] = ["master", "tempdb", "model", "msdb"];

/// A suspect database is not waited for; one that is recovering is. What state databases are in that
/// are neither Octopus' nor the server's own is their owners' business.
fn judge(states: &[Vec<String>], database: &str) -> Probe {
    for row in states {
        let (name, state) = (
            row.first().map_or("", String::as_str),
            row.get(1).map_or("", String::as_str),
        );
        let is_systems = SYSTEM.iter().any(|one| name.eq_ignore_ascii_case(one));
        if !is_systems && !name.eq_ignore_ascii_case(database) {
            continue;
        }
        let why = match state {
            "RECOVERING" => NotOpen::Recovering,
            "RECOVERY_PENDING" => NotOpen::RecoveryPending,
            "RESTORING" => NotOpen::Restoring,
            "SUSPECT" | "EMERGENCY" => NotOpen::Damaged,
            _ => continue,
        };
        return match (is_systems, why) {
            (true, NotOpen::Damaged) => {
                Probe::Suspect(format!("suspect database: {name} is {state}"))
            }
            (true, _) => Probe::Alive(format!("database {name} is {state}")),
            (false, NotOpen::Damaged) => {
                Probe::NotOpen(why, format!("suspect database: {name} is {state}"))
            }
            (false, _) => Probe::NotOpen(why, format!("database {name} is {state}")),
        };
    }
    Probe::Ready
}

fn judge_error(error: &SqlError) -> Probe {
    match error {
        SqlError::Server {
            code: LOGIN_FAILED,
            message,
        } => Probe::Refused(format!(
            "takes no logins of ours, or none yet: error 18456: {message}"
        )),
        SqlError::Server { code, message } if LOGIN_BARRED.contains(code) => {
            Probe::Refused(format!("lets the login not in: error {code}: {message}"))
        }
        SqlError::Server {
            code: SCRIPT_UPGRADE,
            ..
        } => Probe::Alive("SQL Server upgrades its own databases (18401)".to_owned()),
        SqlError::Server { code, message } if RECOVERING.contains(code) => {
            Probe::Alive(message.clone())
        }
        SqlError::Server { code, message } => Probe::Alive(format!("error {code}: {message}")),
        SqlError::Connect { source, .. } => {
            Probe::of_error(source.raw_os_error(), error.to_string())
        }
        SqlError::TimedOut { limit, .. } => Probe::Failure(Miss::Silent(*limit), error.to_string()),
        SqlError::Closed { .. } => Probe::Failure(Miss::Gone, error.to_string()),
        SqlError::Broken { .. } => Probe::Failure(Miss::Broken, error.to_string()),
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
        Ok(_)
        | Err(SqlError::Closed { .. } | SqlError::Broken { .. } | SqlError::TimedOut { .. }) => {
            Ok(())
        }
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

    #[tokio::test]
    async fn what_an_error_comes_from_is_kept_and_said_once() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = DatabaseTarget {
            host: "127.0.0.1".to_owned(),
            port: free.local_addr().unwrap().port(),
            ..DatabaseTarget::default()
        };
        drop(free);
        let limit = Duration::from_secs(5);
        let error = login(&target, "master", limit).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        let system = source.downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(system.kind(), std::io::ErrorKind::ConnectionRefused);
        let said = format!("not listening yet at 127.0.0.1:{}", target.port);
        assert_eq!(error.to_string(), said);
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
        for (state, why) in [
            ("RECOVERING", NotOpen::Recovering),
            ("RECOVERY_PENDING", NotOpen::RecoveryPending),
            ("RESTORING", NotOpen::Restoring),
            ("SUSPECT", NotOpen::Damaged),
            ("EMERGENCY", NotOpen::Damaged),
        ] {
            let probe = judge(&states(&[("octopus", state)]), "Octopus");
            assert!(
                matches!(&probe, Probe::NotOpen(is, words) if *is == why && words.contains(state)),
                "{probe:?}"
            );
        }
        assert!(matches!(
            judge(&states(&[("msdb", "RECOVERING")]), "Octopus"),
            Probe::Alive(_)
        ));
        assert!(matches!(
            judge(&states(&[("master", "SUSPECT")]), "Octopus"),
            Probe::Suspect(_)
        ));
    }

    #[test]
    fn other_databases_of_the_server_hold_nobody_up() {
        for state in ["RESTORING", "RECOVERY_PENDING", "RECOVERING", "SUSPECT"] {
            let with = |name| states(&[("master", "ONLINE"), (name, state)]);
            assert_eq!(
                judge(&with("LogShipped"), "Octopus"),
                Probe::Ready,
                "{state}"
            );
            for name in ["Octopus", "msdb"] {
                assert_ne!(
                    judge(&with(name), "Octopus"),
                    Probe::Ready,
                    "{name} {state}"
                );
            }
        }
    }

    #[test]
    fn only_sa_begins_at_master() {
        let target = |user: &str| DatabaseTarget {
            host: "h".to_owned(),
            port: 1433,
            user: user.to_owned(),
            password: crate::config::Secret::new("p"),
            database: "Octopus".to_owned(),
        };
        assert_eq!(where_to_log_in(&target("sa")), ["master", "Octopus"]);
        assert_eq!(where_to_log_in(&target("contained")), ["Octopus", "master"]);
    }

    #[test]
    fn a_refused_login_is_not_a_dead_server() {
        let refused = SqlError::Server {
            code: LOGIN_FAILED,
            message: "Login failed".into(),
        };
        assert!(matches!(judge_error(&refused), Probe::Refused(_)));
        for code in LOGIN_BARRED {
            let barred = SqlError::Server {
                code,
                message: "Login failed".into(),
            };
            let Probe::Refused(why) = judge_error(&barred) else {
                panic!("{code} is asked again and again");
            };
            assert!(why.contains(&code.to_string()));
        }
        let silent = SqlError::TimedOut {
            phase: "log in",
            limit: Duration::from_secs(2),
        };
        assert!(matches!(
            judge_error(&silent),
            Probe::Failure(Miss::Silent(_), _)
        ));
    }
}
