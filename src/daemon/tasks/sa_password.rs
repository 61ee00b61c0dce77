//! Gives `sa` another password, or finds that it has it already.

use std::time::Duration;

use crate::daemon::back_up;
use crate::daemon::message::PasswordNotChanged;
use crate::daemon::paths::Paths;
use crate::daemon::store::PasswordChange;
use crate::engine::Engine;
use crate::sql::password;
use crate::sql::password::NotChanged;

/// How long each exchange with SQL Server may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks the SQL Server in this container which of the two passwords it has, and changes it where that
/// is the one of before. Nobody reads or replaces the data meanwhile: who does logs in again and again.
pub(in crate::daemon) async fn change(
    engine: Option<Engine>,
    paths: Paths,
    container: String,
    change: PasswordChange,
) -> Result<(), PasswordNotChanged> {
    let later = |why: String| PasswordNotChanged {
        why,
        is_final: false,
    };
    let engine = engine.ok_or_else(|| later("the engine does not answer any more".to_owned()))?;
    let _one_at_a_time = back_up::alone(&paths).map_err(|error| later(error.to_string()))?;
    let server = engine.database_of(&container).await;
    let server = server.ok_or_else(|| later("SQL Server has no address yet".to_owned()))?;
    let changed = password::change(&server, &change.from, &change.to, LIMIT).await;
    changed.map_err(|error| PasswordNotChanged {
        why: error.to_string(),
        is_final: matches!(error, NotChanged::Refused(_)),
    })
}
