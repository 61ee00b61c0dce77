//! SQL Server in the cluster, spoken to by the client in its own image, as its probes are. The
//! password is in that container's environment, and nowhere else.

use std::time::Duration;

use super::kubectl::Kubectl;
use super::kubectl::KubectlError;
use super::look::Sql;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::export::kubernetes::cluster::MSSQL;
use crate::sql::backup::backup_statement;
use crate::sql::backup::restore_statement;
use crate::sql::backup::verify_statement;

/// A question that is answered from memory.
const QUICK: Duration = Duration::from_secs(60);
/// A database of any size: what takes longer than that does not move.
const LONG: Duration = Duration::from_secs(12 * 3600);
/// Where backups are: in SQL Server's own volume.
pub(super) const DIRECTORY: &str = "/var/opt/mssql/backup";
/// Newer images have the client at another place, and it then checks certificates.
const CLIENT: &str = "mkdir -p /var/opt/mssql/backup; new=/opt/mssql-tools18/bin/sqlcmd; old=/opt/mssql-tools/bin/sqlcmd; \
     if [ -x $new ]; then exec $new -C -b -l 15 -h -1 -W -S 127.0.0.1 -U sa -Q \"$1\"; fi; \
     exec $old -b -l 15 -h -1 -W -S 127.0.0.1 -U sa -Q \"$1\"";

impl Sql {
    /// The pod and the container.
    pub(super) fn place(&self) -> (&str, &str) {
        (&self.pod, MSSQL)
    }

    async fn ask(
        &self,
        kubectl: &Kubectl,
        statement: &str,
        what: &str,
        limit: Duration,
    ) -> Result<String, KubectlError> {
        let command = ["/bin/bash", "-c", CLIENT, "sql", statement];
        let said = kubectl.exec(self.place(), &command, what, limit).await?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// The databases that are not the server's own.
    pub(super) async fn databases(&self, kubectl: &Kubectl) -> Result<Vec<String>, KubectlError> {
        let statement = "SET NOCOUNT ON; SELECT name FROM sys.databases WHERE name NOT IN \
                         ('master', 'tempdb', 'model', 'msdb') ORDER BY name";
        let said = self
            .ask(
                kubectl,
                statement,
                "ask SQL Server for its databases",
                QUICK,
            )
            .await?;
        let names = said.lines().map(str::trim).filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    /// The database that is meant: the named one, or the only one.
    pub(super) async fn database(
        &self,
        kubectl: &Kubectl,
        named: Option<&str>,
    ) -> Result<String, Failure> {
        let all = self.databases(kubectl).await?;
        match (named, &all[..]) {
            (Some(named), all) => {
                let found = all.iter().find(|name| name.eq_ignore_ascii_case(named));
                found.cloned().ok_or_else(|| {
                    let line = format!(
                        "{} has no database {named}; it has: {}",
                        self.pod,
                        all.join(", ")
                    );
                    Failure::new(CONFIGURATION, line)
                })
            }
            (None, [one]) => Ok(one.clone()),
            (None, []) => {
                let line = format!("{} has no database that could be backed up", self.pod);
                Err(Failure::new(FAILED, line))
            }
            (None, several) => {
                let line = format!(
                    "{} has several databases: {}; name the one of Octopus Server with --database",
                    self.pod,
                    several.join(", ")
                );
                Err(Failure::new(CONFIGURATION, line))
            }
        }
    }

    /// Backs a database up into a file of its own, and has the server read it again.
    pub(super) async fn back_up(
        &self,
        kubectl: &Kubectl,
        database: &str,
        file: &str,
    ) -> Result<(), KubectlError> {
        let statement = backup_statement(database, file, false);
        let what = format!("back {database} up");
        self.ask(kubectl, &statement, &what, LONG).await?;
        self.verify(kubectl, file).await
    }

    /// Has the server read a backup. A call of its own: a batch goes on after a statement that failed.
    async fn verify(&self, kubectl: &Kubectl, file: &str) -> Result<(), KubectlError> {
        let statement = verify_statement(file);
        let what = format!("read {file} again");
        self.ask(kubectl, &statement, &what, LONG).await.map(drop)
    }

    /// Replaces a database by what is in a file; refused by the server while anybody uses it.
    pub(super) async fn restore(
        &self,
        kubectl: &Kubectl,
        database: &str,
        file: &str,
    ) -> Result<(), KubectlError> {
        self.verify(kubectl, file).await?;
        let statement = restore_statement(database, file);
        let what = format!("bring {database} back");
        self.ask(kubectl, &statement, &what, LONG).await.map(drop)
    }
}
