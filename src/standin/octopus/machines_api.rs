//! The API of deployment targets, which the vendor calls machines, and of workers; and what both
//! belong to. It has one space, three environments and the one pool that every server begins with,
//! and takes no others.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde_json::Value;
use serde_json::json;
use tiberius::Row;

use super::database::Database;
use super::schema;
use super::site::Answer;
use super::site::Refusal;
use super::site::Site;
use super::violations;
use crate::sql::SqlError;

/// The one space.
const SPACE: [(&str, &str); 1] = [("Spaces-1", "Default")];
/// The environments, as in the vendor's guides.
const ENVIRONMENTS: [(&str, &str); 3] = [
    ("Environments-1", "Development"),
    ("Environments-2", "Test"),
    ("Environments-3", "Production"),
];
/// The worker pools.
const POOLS: [(&str, &str); 1] = [("WorkerPools-1", "Default Worker Pool")];
/// How long the body of one may be: a column's limit.
const BODY: usize = 4_000;

/// Which of the two, by the word in the path.
#[derive(Clone, Copy)]
struct Kind {
    word: &'static str,
    /// How its IDs begin.
    id: &'static str,
    /// The field with the IDs of what it belongs to, and those that there are.
    belongs: (&'static str, &'static [(&'static str, &'static str)]),
}

const KINDS: [Kind; 2] = [
    Kind {
        word: "machines",
        id: "Machines-",
        belongs: ("EnvironmentIds", &ENVIRONMENTS),
    },
    Kind {
        word: "workers",
        id: "Workers-",
        belongs: ("WorkerPoolIds", &POOLS),
    },
];

/// A list as the vendor's API gives it.
fn page(items: &[Value]) -> Response {
    let count = items.len();
    let page = json!({ "TotalResults": count, "ItemsPerPage": count, "Items": items });
    Json(page).into_response()
}

fn named(rows: &[(&str, &str)]) -> Response {
    let row = |(id, name): &(&str, &str)| json!({ "Id": id, "Name": name, "IsStandIn": true });
    page(&rows.iter().map(row).collect::<Vec<_>>())
}

pub(super) async fn spaces(Shared(site): Shared<Arc<Site>>, headers: HeaderMap) -> Answer {
    site.keyed(&headers)?;
    Ok(named(&SPACE))
}

fn kind(space: &str, word: &str) -> Result<Kind, Refusal> {
    let known = KINDS.into_iter().find(|kind| kind.word == word);
    known
        .filter(|_| space == SPACE[0].0)
        .ok_or_else(|| Refusal::NotFound(format!("{space}/{word}")))
}

/// What is in a space: environments, pools, targets or workers.
pub(super) async fn list(
    Shared(site): Shared<Arc<Site>>,
    Path((space, word)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let mut database = site.keyed(&headers)?;
    if space == SPACE[0].0 {
        match word.as_str() {
            "environments" => return Ok(named(&ENVIRONMENTS)),
            "workerpools" => return Ok(named(&POOLS)),
            _ => {}
        }
    }
    let kind = kind(&space, &word)?;
    let rows = all(&mut database, kind).await?;
    let rows: Vec<Value> = rows.iter().map(|row| row.resource(kind)).collect();
    Ok(page(&rows))
}

/// A target or a worker.
struct Machine {
    number: i64,
    name: String,
    body: Value,
}

impl Machine {
    fn read(row: &Row) -> Self {
        Self {
            number: schema::number(row, 0),
            name: schema::text(row, 1),
            body: serde_json::from_str(&schema::text(row, 2)).unwrap_or_default(),
        }
    }

    fn resource(&self, kind: Kind) -> Value {
        let mut resource = self.body.clone();
        resource["Id"] = json!(format!("{}{}", kind.id, self.number));
        resource["SpaceId"] = json!(SPACE[0].0);
        resource["IsStandIn"] = json!(true);
        resource
    }
}

async fn all(database: &mut Database, kind: Kind) -> Result<Vec<Machine>, SqlError> {
    const ALL: &str =
        "SELECT CAST(Id AS BIGINT), Name, Body FROM Machine WHERE Kind = @P1 ORDER BY Name";
    let rows = database.rows(ALL, &[&kind.word]).await?;
    Ok(rows.iter().map(Machine::read).collect())
}

async fn found(database: &mut Database, kind: Kind, id: &str) -> Result<Machine, Refusal> {
    let number = id
        .strip_prefix(kind.id)
        .and_then(|number| number.parse().ok());
    let mut all = all(database, kind).await?.into_iter();
    all.find(|one| Some(one.number) == number)
        .ok_or_else(|| Refusal::NotFound(id.to_owned()))
}

pub(super) async fn show(
    Shared(site): Shared<Arc<Site>>,
    Path((space, word, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let kind = kind(&space, &word)?;
    let machine = found(&mut site.keyed(&headers)?, kind, &id).await?;
    Ok(Json(machine.resource(kind)).into_response())
}

/// What the vendor refuses is refused here: a name that is taken, and what does not exist.
async fn checked(
    database: &mut Database,
    kind: Kind,
    body: &Value,
    itself: Option<i64>,
) -> Result<String, Refusal> {
    let name = body["Name"].as_str().unwrap_or_default();
    let bad = |why: String| Err(Refusal::Bad(why));
    if name.is_empty() || body.to_string().len() > BODY {
        return bad("Please provide a value for the name".to_owned());
    }
    let (field, there) = kind.belongs;
    let ids = body[field].as_array().cloned().unwrap_or_default();
    let is_known = |id: &Value| there.iter().any(|(known, _)| id.as_str() == Some(known));
    if ids.is_empty() || !ids.iter().all(is_known) {
        return bad(format!("{field} must name at least one that exists"));
    }
    let mut others = all(database, kind).await?.into_iter();
    if others.any(|one| one.name.eq_ignore_ascii_case(name) && Some(one.number) != itself) {
        return bad(format!("A machine with the name '{name}' already exists"));
    }
    Ok(name.to_owned())
}

pub(super) async fn create(
    Shared(site): Shared<Arc<Site>>,
    Path((space, word)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    const INSERT: &str = "INSERT INTO Machine (Kind, Name, Body) VALUES (@P1, @P2, @P3)";
    let kind = kind(&space, &word)?;
    let mut database = site.keyed(&headers)?;
    let name = checked(&mut database, kind, &body, None).await?;
    let text = body.to_string();
    database
        .execute(INSERT, &[&kind.word, &name.as_str(), &text.as_str()])
        .await?;
    let mut same = all(&mut database, kind).await?;
    same.retain(|one| one.name.eq_ignore_ascii_case(&name));
    if same.len() > 1 {
        let detail = format!("{} of {word} are called {name}", same.len());
        let node = &site.node.settings.node;
        violations::record(&mut database, "registered-twice", node, &detail).await?;
    }
    let made = same.pop().ok_or_else(|| Refusal::NotFound(name.clone()))?;
    Ok((StatusCode::CREATED, Json(made.resource(kind))).into_response())
}

pub(super) async fn change(
    Shared(site): Shared<Arc<Site>>,
    Path((space, word, id)): Path<(String, String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    const UPDATE: &str = "UPDATE Machine SET Name = @P2, Body = @P3 WHERE Id = @P1";
    let kind = kind(&space, &word)?;
    let mut database = site.keyed(&headers)?;
    let machine = found(&mut database, kind, &id).await?;
    let name = checked(&mut database, kind, &body, Some(machine.number)).await?;
    let text = body.to_string();
    database
        .execute(UPDATE, &[&machine.number, &name.as_str(), &text.as_str()])
        .await?;
    let machine = found(&mut database, kind, &id).await?;
    Ok(Json(machine.resource(kind)).into_response())
}

pub(super) async fn remove(
    Shared(site): Shared<Arc<Site>>,
    Path((space, word, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let kind = kind(&space, &word)?;
    let mut database = site.keyed(&headers)?;
    let machine = found(&mut database, kind, &id).await?;
    database
        .execute("DELETE FROM Machine WHERE Id = @P1", &[&machine.number])
        .await?;
    Ok(Json(machine.resource(kind)).into_response())
}
