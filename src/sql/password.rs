//! Another password of `sa`. The statement is one transaction of the server's: it was carried out or
//! it was not, whoever died meanwhile, and a login tells which.

use std::time::Duration;

use super::LOGIN_FAILED;
use super::SqlError;
use super::login;
use super::rows;
use crate::config::Secret;
use crate::spec::DatabaseTarget;

/// How often it is asked which password the server has, at most: before the statement, and after it.
const ROUNDS: usize = 2;

/// Why the password is not the new one, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// The server does not take the new one, and has the one of before.
    #[error("SQL Server does not take the new password: {0}")]
    Refused(#[source] SqlError),
    /// The server has neither: somebody else changed it, or it takes no logins yet.
    #[error("SQL Server takes neither the new password of sa nor the one of before")]
    Neither,
    /// The server could not be asked.
    #[error(transparent)]
    Unknown(#[from] SqlError),
}

/// What a server said of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// It is the one.
    Accepted,
    /// It is not.
    Refused,
}

/// What is done next about a change of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the server has the new one.
    Done,
    /// The password of before is tried.
    TryOld,
    /// The statement is sent.
    Change,
    /// The server has neither password.
    Lost,
}

/// What is next, by what the server said of the new password and of the one of before.
pub fn next_step(new: Login, old: Option<Login>) -> Step {
    match (new, old) {
        (Login::Accepted, _) => Step::Done,
        (Login::Refused, None) => Step::TryOld,
        (Login::Refused, Some(Login::Accepted)) => Step::Change,
        (Login::Refused, Some(Login::Refused)) => Step::Lost,
    }
}

/// Gives `sa` another password, unless the server has it already. `limit` bounds each exchange.
pub async fn change(
    server: &DatabaseTarget,
    from: &Secret,
    to: &Secret,
    limit: Duration,
) -> Result<(), NotChanged> {
    let as_sa = |password: &Secret| DatabaseTarget {
        user: "sa".to_owned(),
        password: password.clone(),
        ..server.clone()
    };
    let (new, old) = (as_sa(to), as_sa(from));
    let mut refusal = None;
    for _ in 0..=ROUNDS {
        let mut step = next_step(asked(&new, limit).await?, None);
        if step == Step::TryOld {
            step = next_step(Login::Refused, Some(asked(&old, limit).await?));
        }
        match (step, refusal.take()) {
            (Step::Done, _) => return Ok(()),
            (Step::Change, Some(error)) => return Err(NotChanged::Refused(error)),
            (Step::Change, None) => refusal = alter(&old, to, limit).await?,
            (Step::TryOld | Step::Lost, _) => return Err(NotChanged::Neither),
        }
    }
    Err(NotChanged::Neither)
}

async fn asked(target: &DatabaseTarget, limit: Duration) -> Result<Login, SqlError> {
    match login(target, "master", limit).await {
        Ok(client) => {
            let _ = tokio::time::timeout(limit, Box::pin(client.close())).await;
            Ok(Login::Accepted)
        }
        Err(SqlError::Server {
            code: LOGIN_FAILED, ..
        }) => Ok(Login::Refused),
        Err(error) => Err(error),
    }
}

/// Sends the statement. The server's own refusal of it is given back, to be told once it is known
/// that the password of before counts on.
async fn alter(
    old: &DatabaseTarget,
    to: &Secret,
    limit: Duration,
) -> Result<Option<SqlError>, SqlError> {
    let mut client = login(old, "master", limit).await?;
    let sent = rows(&mut client, &statement(to), limit).await;
    let _ = tokio::time::timeout(limit, Box::pin(client.close())).await;
    match sent {
        Ok(_) => Ok(None),
        Err(error @ SqlError::Server { .. }) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// A literal has its quotes doubled (learn.microsoft.com, `ALTER LOGIN`).
fn statement(to: &Secret) -> String {
    let literal = to.expose().replace('\'', "''");
    format!("ALTER LOGIN [sa] WITH PASSWORD = N'{literal}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_sent_only_where_the_password_of_before_counts() {
        use Login::Accepted;
        use Login::Refused;
        for (new, old, step) in [
            (Accepted, None, Step::Done),
            (Accepted, Some(Refused), Step::Done),
            (Refused, None, Step::TryOld),
            (Refused, Some(Accepted), Step::Change),
            (Refused, Some(Refused), Step::Lost),
        ] {
            assert_eq!(next_step(new, old), step);
        }
    }

    #[test]
    fn a_quote_in_the_password_ends_no_literal() {
        let sent = statement(&Secret::new("a'; SHUTDOWN --"));
        assert_eq!(sent, "ALTER LOGIN [sa] WITH PASSWORD = N'a''; SHUTDOWN --'");
    }
}
