//! The rows of a stack's database, read past the product.

use std::time::Duration;

use octo_local::config::Secret;
use octo_local::spec::DatabaseTarget;
use octo_local::sql;
use sha2::Digest as _;
use sha2::Sha256;

use crate::kit::stack::SA_PASSWORD;
use crate::kit::stack::Stack;

const LIMIT: Duration = Duration::from_secs(20);
/// What must be as it was, in an order of its own: the trial's rows, and those of the stand-in that
/// the start of a node does not change.
const QUERIES: [&str; 6] = [
    "SELECT CAST(Id AS NVARCHAR(20)), Content FROM Trial ORDER BY Id",
    "SELECT Name, Setting FROM Settings ORDER BY Name",
    "SELECT Version, CAST(AppliedAt AS NVARCHAR(20)), Node FROM SchemaVersions ORDER BY Version",
    "SELECT Script, CAST(AppliedAt AS NVARCHAR(20)), Node FROM MigrationJournal ORDER BY Script",
    "SELECT Id, Node, Version FROM OctopusServerInstallationHistory ORDER BY Id",
    "SELECT CAST(Id AS NVARCHAR(20)), State, Node, CAST(CompletedAt AS NVARCHAR(20)) \
     FROM ServerTask ORDER BY Id",
];

fn target(stack: &Stack) -> DatabaseTarget {
    DatabaseTarget {
        host: "127.0.0.1".to_owned(),
        port: stack.port("db"),
        user: "sa".to_owned(),
        password: Secret::new(SA_PASSWORD),
        database: "OctopusDeploy".to_owned(),
    }
}

/// Runs statements on the stack's database; the rows of each.
pub(crate) fn rows(stack: &Stack, statements: &[&str]) -> Vec<Vec<Vec<String>>> {
    let target = target(stack);
    stack_runtime().block_on(async {
        let login = sql::login(&target, &target.database, LIMIT).await;
        let mut client = login.unwrap();
        let mut all = Vec::new();
        for statement in statements {
            all.push(sql::rows(&mut client, statement, LIMIT).await.unwrap());
        }
        all
    })
}

fn stack_runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// One sum of all rows that must be as they were.
pub(crate) fn print(stack: &Stack) -> String {
    let mut sha = Sha256::new();
    for rows in rows(stack, &QUERIES) {
        assert!(!rows.is_empty() || QUERIES.len() > 1);
        for row in rows {
            sha.update(format!("{row:?}\n"));
        }
        sha.update("\n");
    }
    octo_local::backup::part::hex(&sha.finalize())
}
