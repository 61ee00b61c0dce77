//! Brings a set back: into a SQL Server that runs, and into volumes that no running node uses.
//!
//! Every byte of the set is read before the first one of the stack is touched, and SQL Server reads
//! its file before it takes it for the database. Whoever calls this has asked [`super::admission`],
//! has stopped the nodes, and gives volumes that are empty: what is unpacked replaces files of the
//! same name and removes none. After a failure the stack is neither what it was nor what the set
//! is; doing it again is the way on, and it is safe to do it again.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::directory::Directory;
use super::host_volume;
use super::host_volume::LayError;
use super::manifest::Kind;
use super::manifest::Manifest;
use super::manifest::Part;
use super::name::SetName;
use super::part::Identities;
use super::part::PartFile;
use super::progress::Progress;
use super::pump;
use super::pump::Wrapped;
use super::run::RunError;
use super::run::path_of;
use super::server_file::ServerFile;
use super::tar_stream::MSSQL_UID;
use super::telling::Telling;
use super::verify;
use super::verify::Depth;
use super::verify::Finding;
use super::verify::Reading;
use crate::engine::Engine;
use crate::spec::DatabaseTarget;
use crate::spec::StackSpec;
use crate::sql;

/// How often a step that moves is told of.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// A set that can be read.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The directory that it is in.
    pub directory: Directory,
    /// Its name there.
    pub name: SetName,
    /// Its manifest, judged.
    pub manifest: Manifest,
    /// What opens it.
    pub identities: Identities,
}

impl Opened {
    /// To be read.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            directory: &self.directory,
            name: &self.name,
            manifest: &self.manifest,
            identities: &self.identities,
        }
    }
}

/// Where it goes.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The desired state that it becomes part of.
    pub spec: &'a StackSpec,
    /// The container of SQL Server, which runs; none where the set has no database.
    pub sql: Option<&'a str>,
    /// A container that mounts the shared volumes; it need not run and never have run.
    pub files: &'a str,
}

/// Reads the whole set, then brings everything back: the database first, so that a node that came
/// too early would find files missing rather than rows.
pub async fn run(
    set: &Opened,
    target: &Target<'_>,
    progress: &watch::Sender<Progress>,
) -> Result<(), RunError> {
    let faults = faults(set, progress).await?;
    if faults.is_empty() {
        return bring_back(set, target, progress).await;
    }
    let why = format!(
        "nothing was touched, since the set cannot be relied on: {}",
        faults.join("; ")
    );
    Err(RunError::NotNow(why))
}

/// The same for a set that was just read to its end without a fault ([`faults`]).
pub async fn bring_back(
    set: &Opened,
    target: &Target<'_>,
    progress: &watch::Sender<Progress>,
) -> Result<(), RunError> {
    let database = set.manifest.part(Kind::Database).zip(target.sql);
    let files: Vec<(&Part, &str)> = Kind::ALL
        .into_iter()
        .filter_map(|kind| Some((set.manifest.part(kind)?, path_of(kind, target.spec)?)))
        .collect();
    let parts = files.iter().map(|(part, _)| *part);
    let total = parts
        .chain(database.map(|(part, _)| part))
        .map(|part| part.plain_size)
        .sum();
    progress.send_replace(Progress::of("begin", Some(total)));
    let mut restoring = Restoring::begin(set, target, progress);
    if let Some((part, container)) = database {
        restoring
            .database(part, container, &target.spec.database)
            .await?;
    }
    for (part, path) in files {
        restoring.volume(part, path).await?;
    }
    Ok(())
}

/// Reads every byte of the set. What is wrong with it.
pub async fn faults(
    set: &Opened,
    progress: &watch::Sender<Progress>,
) -> Result<Vec<String>, RunError> {
    let began = Instant::now();
    let total = set.manifest.stored_size();
    progress.send_replace(Progress::of("reading the set", Some(total)));
    let (set, progress) = (set.clone(), progress.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let (mut done, mut told) = (0, Duration::ZERO);
        verify::verify(&set.reading(), Depth::Stored, |more| {
            done += more;
            let elapsed = began.elapsed();
            if elapsed.saturating_sub(told) >= TELL_EVERY {
                told = elapsed;
                progress.send_modify(|progress| progress.moved(done, elapsed));
            }
            true
        })
    });
    let findings = reading.await.map_err(|error| RunError::Part {
        part: "the set",
        source: error.into(),
    })?;
    let bad = |finding: &Finding| {
        let sealed = (!finding.is_opened)
            .then(|| format!("{} is encrypted: give --identity FILE", finding.file));
        finding.fault.clone().or(sealed)
    };
    Ok(findings.iter().filter_map(bad).collect())
}

/// A set on its way back.
pub(super) struct Restoring<'a> {
    set: &'a Opened,
    target: &'a Target<'a>,
    progress: &'a watch::Sender<Progress>,
    began: Instant,
    done: u64,
}

impl<'a> Restoring<'a> {
    pub(super) fn begin(
        set: &'a Opened,
        target: &'a Target<'a>,
        progress: &'a watch::Sender<Progress>,
    ) -> Self {
        Self {
            set,
            target,
            progress,
            began: Instant::now(),
            done: 0,
        }
    }

    async fn database(
        &mut self,
        part: &Part,
        container: &str,
        server: &DatabaseTarget,
    ) -> Result<(), RunError> {
        let told = sql::backup::server(server).await?;
        let file = ServerFile::of(&told, self.target.spec);
        let result = self.database_file(part, container, server, &file).await;
        file.remove(self.target.engine, server, container).await;
        result
    }

    async fn database_file(
        &mut self,
        part: &Part,
        container: &str,
        server: &DatabaseTarget,
        file: &ServerFile,
    ) -> Result<(), RunError> {
        self.lay_down(part, container, server, file).await?;
        let progress = self.progress;
        sql::backup::restore(server, &file.path(), |percent| {
            progress.send_modify(|progress| {
                progress.step = format!("SQL Server restores the database, {percent:.0} %");
            });
        })
        .await?;
        Ok(())
    }

    /// Puts the database's part beside the server's data, and has the server read it.
    pub(super) async fn lay_down(
        &mut self,
        part: &Part,
        container: &str,
        server: &DatabaseTarget,
        file: &ServerFile,
    ) -> Result<(), RunError> {
        let wrapped = Wrapped {
            name: file.name.clone(),
            uid: MSSQL_UID,
        };
        self.unpack(part, container, &file.directory, Some(wrapped))
            .await?;
        Ok(sql::backup::verify(server, &file.path()).await?)
    }

    /// Lays a part down in a volume that is mounted there, on this host where that is possible.
    async fn volume(&mut self, part: &Part, path: &str) -> Result<(), RunError> {
        let (engine, files) = (self.target.engine, self.target.files);
        let here = engine.on_host(files, path).await;
        // What is in a person's own directory is left to the engine.
        let Some(here) = here.filter(|here| here.is_volume) else {
            return self.unpack(part, files, path, None).await;
        };
        if !engine.is_on_host(files, path, &here).await {
            return self.unpack(part, files, path, None).await;
        }
        let laid = host_volume::lay_down(self.open(part)?, here, self.moved(part));
        match laid.await {
            Ok(()) => {
                self.done += part.plain_size;
                Ok(())
            }
            Err(LayError::Unpack(error)) => {
                tracing::info!(%error, path, "a volume is filled by the engine instead");
                self.unpack(part, files, path, None).await
            }
            Err(LayError::Fault(fault)) => Err(RunError::Part {
                part: part.kind.name(),
                source: fault.into(),
            }),
        }
    }

    fn open(&self, part: &Part) -> Result<PartFile, RunError> {
        let opened = self.set.reading().open(part);
        opened.map_err(|fault| RunError::Part {
            part: part.kind.name(),
            source: fault.into(),
        })
    }

    /// Begins the progress of a part; what is given back is told the bytes of each piece.
    fn moved(&self, part: &Part) -> impl FnMut(u64) + Send + 'static + use<> {
        let mut telling = Telling::of(self.progress, self.began, self.done);
        self.progress
            .send_modify(|progress| part.kind.name().clone_into(&mut progress.step));
        move |more| telling.moved(more)
    }

    /// Writes a part into a directory of a container.
    async fn unpack(
        &mut self,
        part: &Part,
        container: &str,
        path: &str,
        wrapped: Option<Wrapped>,
    ) -> Result<(), RunError> {
        use futures_util::StreamExt as _;
        let name = part.kind.name();
        let stream = pump::read(self.open(part)?, wrapped);
        let mut moved = self.moved(part);
        let stream = stream.inspect(move |piece| {
            moved(piece.as_ref().map_or(0, |bytes| bytes.len() as u64));
        });
        let unpacked = self.target.engine.unpack(container, path, stream).await;
        unpacked.map_err(|error| RunError::Engine { part: name, error })?;
        self.done += part.plain_size;
        Ok(())
    }
}
