//! What Octopus Server's own database says of the versions that ran on it. The vendor keeps a table
//! of installations, and its way back to an earlier version begins with this question
//! (octopus.com/docs, "Upgrading", how to find the version to go back to).

use std::time::Duration;

use super::SqlError;
use super::login;
use super::rows;
use crate::spec::DatabaseTarget;

/// No object of that name: no Octopus Server was ever on this database, or a very old one.
const NO_SUCH_OBJECT: u32 = 208;
const INSTALLED: &str = "SELECT TOP 5 CAST([Version] AS NVARCHAR(200)) \
                         FROM [dbo].[OctopusServerInstallationHistory] ORDER BY Installed DESC";

/// The versions of Octopus Server that were installed on a database last, the newest installation
/// first. None where its tables know of none.
pub async fn installed(target: &DatabaseTarget, limit: Duration) -> Result<Vec<String>, SqlError> {
    let mut client = login(target, &target.database, limit).await?;
    let answer = rows(&mut client, INSTALLED, limit).await;
    let _ = tokio::time::timeout(limit, Box::pin(client.close())).await;
    match answer {
        Ok(rows) => Ok(rows.into_iter().flatten().collect()),
        Err(SqlError::Server {
            code: NO_SUCH_OBJECT,
            ..
        }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
