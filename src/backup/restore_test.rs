//! Proves that SQL Server can use a set's database: it is restored beside the running one, under a
//! name and into files of its own, checked, and dropped. The running database is not touched.

use tokio::sync::watch;

use super::manifest::Kind;
use super::progress::Progress;
use super::restore::Opened;
use super::restore::Restoring;
use super::restore::Target;
use super::run::RunError;
use super::server_file::DATA;
use super::server_file::ServerFile;
use crate::spec::DatabaseTarget;
use crate::sql;

/// The name of the database: whatever has it is ours, and is dropped.
pub const NAME: &str = "octo-local-restore-test";

/// Restores the set's database into one of its own, has SQL Server check it, and drops it, also where
/// that failed. What an earlier run left that was killed goes first.
pub async fn run(
    set: &Opened,
    target: &Target<'_>,
    progress: &watch::Sender<Progress>,
) -> Result<(), RunError> {
    let database = set.manifest.part(Kind::Database).zip(target.sql);
    let Some((part, container)) = database else {
        let why = "the set has no database: there is nothing to restore";
        return Err(RunError::NotNow(why.to_owned()));
    };
    let server = &target.spec.database;
    let told = sql::backup::server(server).await?;
    sql::backup::drop_database(server, NAME).await?;
    let file = ServerFile::of(&told, target.spec);
    progress.send_replace(Progress::of("begin", Some(part.plain_size)));
    let mut restoring = Restoring::begin(set, target, progress);
    let laid_down = restoring.lay_down(part, container, server, &file).await;
    let result = match laid_down {
        Ok(()) => restored_and_checked(server, &file, progress).await,
        Err(error) => Err(error),
    };
    file.remove(target.engine, server, container).await;
    let dropped = sql::backup::drop_database(server, NAME).await;
    result?;
    Ok(dropped?)
}

async fn restored_and_checked(
    server: &DatabaseTarget,
    file: &ServerFile,
    progress: &watch::Sender<Progress>,
) -> Result<(), RunError> {
    let telling = |what: &'static str| {
        move |percent: f64| {
            progress.send_modify(|progress| progress.step = format!("{what}, {percent:.0} %"));
        }
    };
    let restores = telling("SQL Server restores the database beside the running one");
    sql::backup::restore_beside(server, NAME, &file.path(), DATA, restores).await?;
    let checks = telling("SQL Server checks it");
    Ok(sql::backup::check(server, NAME, checks).await?)
}

/// Takes away what a run leaves that ends in the middle.
pub async fn clean_up(target: &Target<'_>) -> Result<(), RunError> {
    let server = &target.spec.database;
    sql::backup::drop_database(server, NAME).await?;
    if let Some(container) = target.sql {
        let told = sql::backup::server(server).await?;
        let file = ServerFile::of(&told, target.spec);
        file.remove(target.engine, server, container).await;
    }
    Ok(())
}
