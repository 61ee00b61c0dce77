//! Makes a set: the database first, so that every row's file is there, then the volumes, then the
//! configuration and the secrets. It works while the stack serves, and changes nothing of it save
//! one file beside the database that is taken away again.

use std::time::Duration;

use futures_util::Stream;
use hyper::body::Bytes;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::directory::Directory;
use super::directory::DirectoryError;
use super::directory::Draft;
use super::directory::Locked;
use super::host_volume;
use super::manifest::Database;
use super::manifest::Encryption;
use super::manifest::FORM;
use super::manifest::Kind;
use super::manifest::Manifest;
use super::manifest::Part;
use super::manifest::Ran;
use super::name::SetName;
use super::part::PartWriter;
use super::part::Recipients;
use super::progress::Progress;
use super::progress::size;
use super::pump;
use super::pump::Form;
use super::pump::PumpError;
use super::secrets;
use super::secrets::Secrets;
use super::server_file::ServerFile;
use super::telling::Telling;
use crate::config::Config;
use crate::config::Secret;
use crate::config::backup::is_recipient;
use crate::engine::AnyError;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::observe::ObservationCache;
use crate::engine::on_host::HostDirectory;
use crate::reconcile::Observed;
use crate::reconcile::observed::Run;
use crate::spec::DatabaseTarget;
use crate::spec::StackSpec;
use crate::spec::UnitId;
use crate::sql;
use crate::sql::SqlError;

/// How long the server gets to say whether the database is there.
pub(super) const ASK: Duration = Duration::from_secs(15);
/// Room for the manifest, and for what grows while it is read.
pub const MARGIN: u64 = 64 * 1024 * 1024;

/// What is backed up.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The engine that it runs on.
    pub engine: &'a Engine,
    /// The applied configuration.
    pub config: &'a Config,
    /// The desired state that was made from it.
    pub spec: &'a StackSpec,
    /// What the engine shows of it.
    pub observed: &'a Observed,
    /// A container that mounts the volumes that the nodes share: it need not run.
    pub files: &'a str,
    /// The key of the data, and whose it is.
    pub master_key: Option<&'a Secret>,
    /// Whether octo-local made it.
    pub master_key_is_ours: bool,
    /// The version of Octopus Server that last ran on the data, as it told it itself.
    pub octopus_version: Option<String>,
    /// The password of `sa` that the data knows.
    pub sa_password: Option<&'a Secret>,
}

/// Where it goes, and how.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The backup directory.
    pub directory: Directory,
    /// The set's name; none: one of the project and the time.
    pub name: Option<SetName>,
    /// Whether a person named it; such a set is never removed by itself.
    pub is_pinned: bool,
    /// The age recipients that it is encrypted for.
    pub recipients: Vec<String>,
    /// Whether the secrets are left out.
    pub without_secrets: bool,
    /// The time, by the clock on the wall.
    pub now: OffsetDateTime,
    /// Says whether all nodes have been drained since before the run, where that was asked for: then
    /// there is no set without it.
    pub drained: Option<watch::Receiver<bool>>,
}

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The backup directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The engine.
    #[error("{part}: {error}")]
    Engine {
        /// What was under way.
        part: &'static str,
        /// Its error.
        #[source]
        error: EngineError,
    },
    /// SQL Server.
    #[error("the database: {0}")]
    Sql(#[from] SqlError),
    /// A part could not be written, or its source was not whole.
    #[error("{part}: {source}")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        source: AnyError,
    },
    /// The stack is not in a state that can be backed up.
    #[error("{0}")]
    NotNow(String),
}

/// Makes a set and gives its manifest. When this ends otherwise, also when it is dropped, no set is
/// there.
pub async fn run(
    source: &Source<'_>,
    wanted: &Wanted,
    progress: &watch::Sender<Progress>,
) -> Result<Manifest, RunError> {
    let recipients = recipients(&wanted.recipients)?;
    let locked = wanted.directory.lock(&source.spec.project)?;
    locked.sweep()?;
    let before = previous(&locked, source)?;
    must_fit(&wanted.directory, before.as_ref())?;
    let name = wanted
        .name
        .clone()
        .unwrap_or_else(|| SetName::of(&source.spec.project, wanted.now));
    let draft = locked.begin(name.clone())?;
    let mut making = Making {
        source,
        draft: &draft,
        recipients,
        encryption: encryption(&wanted.recipients),
        progress,
        began: Instant::now(),
        done: 0,
        parts: Vec::new(),
    };
    progress.send_replace(Progress::of(
        "begin",
        before.as_ref().map(Manifest::plain_size),
    ));
    let (database, server) = making.database().await?;
    making.volumes(source.files).await?;
    let has_secrets = making.configuration(wanted.without_secrets).await?;
    let (encryption, parts) = (making.encryption, making.parts);
    let took = making.began.elapsed();
    let still = stillness(source, wanted).await?;
    let manifest = Manifest {
        form: FORM,
        name: name.clone(),
        project: source.spec.project.clone(),
        octo_local: env!("CARGO_PKG_VERSION").to_owned(),
        demo: source.spec.demo,
        pinned: wanted.is_pinned,
        began_ms: ms(wanted.now),
        ended_ms: ms(wanted.now + took),
        octopus: ran(source, UnitId::Node(1), source.octopus_version.clone()).unwrap_or_default(),
        sql_server: ran(source, UnitId::Sql, server),
        consistency: consistency(&database, still),
        database,
        quiesced: still != Stillness::None,
        encryption,
        has_secrets,
        master_key_print: source.master_key.map(|key| secrets::print_of(key, &name)),
        parts,
    };
    draft.commit(&manifest)?;
    Ok(manifest)
}

/// The command that starts a SQL Server that does not run. After a `down` there is no container that
/// `start` knows.
pub fn what_starts_sql(observed: &Observed) -> &'static str {
    observed
        .container(UnitId::Sql)
        .map_or("`octo-local up`", |_| "`octo-local start db`")
}

/// A set that is being made.
struct Making<'a> {
    source: &'a Source<'a>,
    draft: &'a Draft<'a>,
    recipients: Recipients,
    encryption: Encryption,
    progress: &'a watch::Sender<Progress>,
    began: Instant,
    done: u64,
    parts: Vec<Part>,
}

impl Making<'_> {
    /// The database as a file of its server, taken out of the container.
    async fn database(&mut self) -> Result<(Database, Option<String>), RunError> {
        let spec = self.source.spec;
        let target = &spec.database;
        if spec.sql.is_none() {
            let why = format!(
                "the database {} on {}:{} is somebody else's, and its server's files cannot be reached from here; back it up there, at the same time",
                target.database, target.host, target.port
            );
            return Ok((Database::Missing { why }, None));
        }
        let container = running(self.source.observed, UnitId::Sql).ok_or_else(|| {
            let start = what_starts_sql(self.source.observed);
            RunError::NotNow(format!(
                "SQL Server does not run, and only it can back up its database; {start} starts it"
            ))
        })?;
        if !sql::has_database(target, ASK).await? {
            let why = format!(
                "there is no database {} yet: nothing to back up",
                target.database
            );
            return Err(RunError::NotNow(why));
        }
        let server = sql::backup::server(target).await?;
        must_have_room(target).await?;
        let file = ServerFile::of(&server, spec);
        let result = self.database_file(target, &server, container, &file).await;
        file.remove(self.source.engine, target, container).await;
        result?;
        let name = target.database.clone();
        Ok((Database::Included { name }, server.version))
    }

    async fn database_file(
        &mut self,
        target: &DatabaseTarget,
        server: &sql::backup::Server,
        container: &str,
        file: &ServerFile,
    ) -> Result<(), RunError> {
        let progress = self.progress;
        let told = |percent: f64| {
            progress.send_modify(|progress| {
                progress.step = format!("SQL Server writes the database, {percent:.0} %");
            });
        };
        sql::backup::backup(target, &file.path(), server.can_compress, told).await?;
        let stream = self.source.engine.archive(container, &file.path());
        self.part(Kind::Database, Form::OneFile, stream).await
    }

    /// The volumes that the nodes share, through any container that mounts them: it need not run.
    async fn volumes(&mut self, container: &str) -> Result<(), RunError> {
        for kind in Kind::ALL {
            let Some(path) = path_of(kind, self.source.spec) else {
                continue;
            };
            if let Some(from) = self.source.engine.on_host(container, path).await {
                self.host_volume(kind, from).await?;
                continue;
            }
            let stream = self.source.engine.archive(container, &format!("{path}/."));
            self.part(kind, Form::Archive, stream).await?;
        }
        Ok(())
    }

    async fn part(
        &mut self,
        kind: Kind,
        form: Form,
        stream: impl Stream<Item = Result<Bytes, EngineError>>,
    ) -> Result<(), RunError> {
        let writer = self.writer(kind)?;
        let written = pump::write(writer, form, stream, self.moved(kind));
        let part = written.await.map_err(|error| match error {
            PumpError::Source(error) => RunError::Engine {
                part: kind.name(),
                error,
            },
            other => RunError::Part {
                part: kind.name(),
                source: other.into(),
            },
        })?;
        self.made(part);
        Ok(())
    }

    async fn host_volume(&mut self, kind: Kind, from: HostDirectory) -> Result<(), RunError> {
        let writer = self.writer(kind)?;
        let written = host_volume::write(writer, from, self.moved(kind)).await;
        let part = written.map_err(|error| RunError::Part {
            part: kind.name(),
            source: error.into(),
        })?;
        self.made(part);
        Ok(())
    }

    fn made(&mut self, part: Part) {
        self.done += part.plain_size;
        self.parts.push(part);
    }

    /// Begins the progress of a part; what is given back is told the bytes of each piece.
    fn moved(&self, kind: Kind) -> impl FnMut(u64) + Send + use<> {
        let mut telling = Telling::of(self.progress, self.began, self.done);
        self.progress
            .send_modify(|progress| kind.name().clone_into(&mut progress.step));
        move |more| telling.moved(more)
    }

    fn writer(&self, kind: Kind) -> Result<PartWriter, RunError> {
        let file = self.draft.create(&kind.file(&self.encryption))?;
        PartWriter::new(kind, file, &self.recipients).map_err(|error| RunError::Part {
            part: kind.name(),
            source: error.into(),
        })
    }

    /// The configuration and, if wished, the secrets; tells whether these are there.
    async fn configuration(&mut self, without_secrets: bool) -> Result<bool, RunError> {
        let (configuration, variables) = secrets::split(self.source.config);
        self.json(Kind::Configuration, &configuration).await?;
        if without_secrets {
            return Ok(false);
        }
        let secrets = Secrets {
            master_key: self.source.master_key.cloned(),
            master_key_is_ours: self.source.master_key_is_ours,
            earlier_master_keys: Vec::new(),
            sa_password: self.source.sa_password.cloned(),
            variables,
        };
        self.json(Kind::Secrets, &secrets).await?;
        Ok(true)
    }

    async fn json(&mut self, kind: Kind, value: &impl serde::Serialize) -> Result<(), RunError> {
        let failure = |source: AnyError| RunError::Part {
            part: kind.name(),
            source,
        };
        let text = serde_json::to_vec_pretty(value).map_err(|error| failure(error.into()))?;
        let mut writer = self.writer(kind)?;
        let writing = tokio::task::spawn_blocking(move || {
            writer.write(&text)?;
            writer.finish(None)
        });
        let written = writing.await.map_err(|error| failure(error.into()))?;
        self.parts
            .push(written.map_err(|error| failure(error.into()))?);
        Ok(())
    }
}

/// Where the volume of a part is mounted.
pub(super) fn path_of(kind: Kind, spec: &StackSpec) -> Option<&str> {
    let volume = spec.volumes.get(kind.volume()?)?;
    let mounts = &spec.nodes.first()?.mounts;
    let (path, _) = mounts.iter().find(|(_, mounted)| *mounted == volume)?;
    Some(path)
}

fn running(observed: &Observed, unit: UnitId) -> Option<&str> {
    let container = observed
        .containers
        .iter()
        .find(|container| container.unit == unit)?;
    matches!(container.run, Run::Running { .. }).then_some(container.id.as_str())
}

/// Whether a node may write while the set is made.
fn nodes_run(observed: &Observed) -> bool {
    let mut nodes = observed
        .containers
        .iter()
        .filter(|container| matches!(container.unit, UnitId::Node(_)));
    nodes.any(|node| !matches!(node.run, Run::Created | Run::Exited { .. }))
}

/// How still the data was while a set was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stillness {
    /// Nodes worked on it.
    None,
    /// Nodes ran, and none had tasks.
    Drained,
    /// No node ran.
    NoNode,
}

/// How still the data was from the beginning to now.
async fn stillness(source: &Source<'_>, wanted: &Wanted) -> Result<Stillness, RunError> {
    let ran = nodes_run(source.observed);
    if ran && wanted.drained.is_none() {
        return Ok(Stillness::None);
    }
    let mut cache = ObservationCache::default();
    let now = source
        .engine
        .observe(&source.spec.project, &[], &mut cache)
        .await;
    let now = now.map_err(|error| RunError::Engine {
        part: "look at the nodes",
        error,
    })?;
    // A node that ran meanwhile and ended again has another time of its last start.
    let are_same = now.containers == source.observed.containers;
    if are_same && !ran && !nodes_run(&now) {
        return Ok(Stillness::NoNode);
    }
    match &wanted.drained {
        None => Ok(Stillness::None),
        Some(drained) if are_same && *drained.borrow() => Ok(Stillness::Drained),
        Some(_) => Err(RunError::NotNow(
            "a node took tasks, or was started, while it was made, so it would not be of one moment; try again".to_owned(),
        )),
    }
}

fn ran(source: &Source<'_>, unit: UnitId, version: Option<String>) -> Option<Ran> {
    let containers = &source.observed.containers;
    let container = containers.iter().find(|container| container.unit == unit)?;
    Some(Ran {
        image: container.image.clone(),
        image_id: Some(container.image_id.clone()),
        version,
    })
}

fn consistency(database: &Database, still: Stillness) -> String {
    let text = match (database, still) {
        (Database::Missing { .. }, _) => {
            "the files are of the time of this set; the database is not in it"
        }
        (Database::Included { .. }, Stillness::NoNode) => {
            "no node ran: database and files are of one moment"
        }
        (Database::Included { .. }, Stillness::Drained) => {
            "all nodes were drained: no task wrote meanwhile, so database and files are of one moment, save for what people uploaded in between"
        }
        (Database::Included { .. }, Stillness::None) => {
            "the database is of one moment, and the files were read after it: every file that it names is there, and some are newer"
        }
    };
    text.to_owned()
}

fn recipients(texts: &[String]) -> Result<Recipients, RunError> {
    if !texts.iter().all(|text| is_recipient(text)) {
        return Err(RunError::NotNow(
            "BACKUP_RECIPIENT is no age recipient".to_owned(),
        ));
    }
    Ok(Recipients(
        texts.iter().filter_map(|text| text.parse().ok()).collect(),
    ))
}

fn encryption(recipients: &[String]) -> Encryption {
    if recipients.is_empty() {
        return Encryption::None;
    }
    Encryption::Recipients {
        recipients: recipients.to_vec(),
    }
}

/// The newest whole set of the project: what is made now will be about as large.
fn previous(locked: &Locked, source: &Source<'_>) -> Result<Option<Manifest>, RunError> {
    let (sets, _) = locked.directory().list()?;
    let ours = sets.into_iter().filter(super::directory::Listed::is_whole);
    let mut ours = ours.filter_map(|set| set.manifest.ok());
    Ok(ours.find(|manifest| manifest.project == source.spec.project))
}

/// Refuses where the last set would not fit a second time.
fn must_fit(directory: &Directory, before: Option<&Manifest>) -> Result<(), RunError> {
    let free = directory.free()?;
    let needed = MARGIN + before.map_or(0, Manifest::stored_size);
    if free >= needed {
        return Ok(());
    }
    Err(RunError::NotNow(format!(
        "{} are free in {}, and about {} are needed; make room, or name another directory",
        size(free),
        directory.path().display(),
        size(needed)
    )))
}

/// Refuses where the server's disk could not hold the file beside the database. A backup has no
/// more than the pages in use.
async fn must_have_room(target: &DatabaseTarget) -> Result<(), RunError> {
    let (needed, free) = (
        sql::backup::size(target).await,
        sql::backup::free(target).await,
    );
    match (needed, free) {
        (Some(needed), Some(free)) if free < needed => Err(RunError::NotNow(format!(
            "SQL Server has {} free, and its database has {}: make room on the engine's disk",
            size(free),
            size(needed)
        ))),
        _ => Ok(()),
    }
}

fn ms(time: OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
