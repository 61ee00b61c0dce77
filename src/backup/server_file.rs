//! Backup files on SQL Server's own disk: it writes and reads them itself.

use hyper::body::Bytes;

use super::tar_stream;
use crate::engine::Engine;
use crate::spec::DatabaseTarget;
use crate::spec::StackSpec;
use crate::sql;

/// Where SQL Server keeps backups when it does not say: the directory of its data, which its image
/// makes.
pub(super) const DATA: &str = "/var/opt/mssql/data";

/// A backup file on the server's own disk.
pub(super) struct ServerFile {
    /// The directory, as the server and its container see it.
    pub(super) directory: String,
    /// The file's name in it.
    pub(super) name: String,
}

impl ServerFile {
    /// The file on its way into a set, or out of one. One name for a project: what a killed run
    /// left is written over by the next one.
    pub(super) fn of(server: &sql::backup::Server, spec: &StackSpec) -> Self {
        Self::named(server, format!("octo-local-{}.bak", spec.project))
    }

    /// The file of what a restore replaced, kept under this name.
    pub(super) fn of_replaced(server: &sql::backup::Server, spec: &StackSpec, id: &str) -> Self {
        let name = format!("octo-local-{}-replaced-{id}.bak", spec.project);
        Self::named(server, name)
    }

    fn named(server: &sql::backup::Server, name: String) -> Self {
        let directory = server.backup_directory.clone();
        Self {
            directory: directory.unwrap_or_else(|| DATA.to_owned()),
            name,
        }
    }

    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.directory, self.name)
    }

    /// Takes the file away. A server that cannot do that itself gets an empty one in its place, so
    /// that at least its room is free. The set is good either way.
    pub(super) async fn remove(&self, engine: &Engine, target: &DatabaseTarget, container: &str) {
        if sql::backup::delete(target, &self.path()).await.is_ok() {
            return;
        }
        let mut tar = tar_stream::header_of_file(&self.name, 0, tar_stream::MSSQL_UID);
        tar.extend(tar_stream::end_of_file(0));
        let stream = futures_util::stream::iter([Ok(Bytes::from(tar))]);
        if let Err(error) = engine.unpack(container, &self.directory, stream).await {
            tracing::warn!("{} stays in SQL Server's container: {error}", self.path());
        }
    }
}
