//! A backup set of this host into the cluster: its database through SQL Server's pod, its files
//! through a pod of their own. Every byte is compared there.

use std::fmt::Write as _;
use std::io;
use std::io::Read;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt as _;
use futures_util::stream;
use hyper::body::Bytes;
use sha2::Digest as _;
use sha2::Sha256;
use tokio_util::io::StreamReader;
use tokio_util::io::SyncIoBridge;

use super::helper;
use super::kubectl::Kubectl;
use super::kubectl::KubectlError;
use super::look::Sql;
use super::sql::DIRECTORY;
use crate::backup::Directory;
use crate::backup::Manifest;
use crate::backup::SetName;
use crate::backup::manifest::Kind;
use crate::backup::manifest::Part;
use crate::backup::part::Identities;
use crate::backup::part::PartFile;
use crate::backup::part::hex;
use crate::backup::pump;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;

/// A pod that takes no byte for so long is given up, and so is one that reads what it has for longer
/// than this.
const STANDSTILL: Duration = Duration::from_secs(1800);
/// Puts a stream into a file.
const PUT: &str = "mkdir -p \"${1%/*}\" && cat >\"$1\"";
/// Tells the sum of a file.
const SUM: &str = "sha256sum <\"$1\"";
/// Unpacks a stream: names and contents. Owner and rights are the pod's, and the directory itself,
/// which is the volume's, stays as it is.
const UNPACK: &str =
    "tar -x -m --no-same-owner --no-same-permissions --no-overwrite-dir -f - -C \"$1\"";
/// Compares files with a list of sums.
const COMPARE: &str = "cd \"$1\" && sha256sum --check --quiet --strict -";

/// A set that is brought over.
pub(super) struct Set {
    pub(super) directory: Directory,
    pub(super) name: SetName,
    pub(super) manifest: Manifest,
}

impl Set {
    /// Opens one that was made before.
    pub(super) fn open(directory: Directory, name: &str) -> Result<Self, Failure> {
        let failed = |why: String| Failure::new(FAILED, why);
        let name: SetName = name
            .parse()
            .map_err(|error: crate::backup::name::BadName| failed(error.to_string()))?;
        let manifest = directory
            .manifest(&name)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            directory,
            name,
            manifest,
        })
    }

    fn stream(
        &self,
        part: &Part,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
        let file = part.kind.file(&self.manifest.encryption);
        let opened = self.directory.open(&self.name, &file)?;
        Ok(pump::read(
            PartFile {
                part: part.clone(),
                name: file,
                file: opened,
                identities: Identities::default(),
            },
            None,
        ))
    }

    /// Brings the database over; a set without one leaves it where it is.
    pub(super) async fn database(
        &self,
        kubectl: &Kubectl,
        sql: &Sql,
        database: &str,
    ) -> Result<(), KubectlError> {
        let Some(part) = self.manifest.part(Kind::Database) else {
            return Ok(());
        };
        let file = format!("{DIRECTORY}/octo-local-handover.bak");
        let what = format!("bring {database} into {}", sql.pod);
        let bytes = self.stream(part).map_err(|error| io_error(&what, error))?;
        let shell = ["/bin/bash", "-c", PUT, "put", &file];
        kubectl
            .exec_with(sql.place(), &shell, bytes, &what, STANDSTILL)
            .await?;
        let shell = ["/bin/bash", "-c", SUM, "sum", &file];
        let sum = kubectl.exec(sql.place(), &shell, &what, STANDSTILL).await?;
        if !String::from_utf8_lossy(&sum).starts_with(&part.plain_sha256) {
            return Err(io_error(
                &what,
                io::Error::other("what arrived is not what was sent"),
            ));
        }
        sql.restore(kubectl, database, &file).await?;
        let words = ["rm", "-f", &file];
        kubectl
            .exec(sql.place(), &words, &what, STANDSTILL)
            .await
            .map(drop)
    }

    /// Brings the files of one directory over.
    pub(super) async fn directory(
        &self,
        kubectl: &Kubectl,
        path: &str,
    ) -> Result<u64, KubectlError> {
        let Some(part) = kind_of(path).and_then(|kind| self.manifest.part(kind)) else {
            return Ok(0);
        };
        let place = (helper::NAME, helper::CONTAINER);
        let what = format!("copy {path}");
        let failed = |error| io_error(&what, error);
        let bytes = self.stream(part).map_err(failed)?;
        let shell = ["/bin/bash", "-c", UNPACK, "unpack", path];
        kubectl
            .exec_with(place, &shell, bytes, &what, STANDSTILL)
            .await?;
        let what = format!("compare {path}");
        let failed = |error| io_error(&what, error);
        let again = self.stream(part).map_err(failed)?;
        let (list, files) = sums(again).await.map_err(failed)?;
        // sha256sum takes an empty list for a mistake.
        if files > 0 {
            let shell = ["/bin/bash", "-c", COMPARE, "compare", path];
            let list = stream::once(async { Ok(Bytes::from(list)) });
            kubectl
                .exec_with(place, &shell, list, &what, STANDSTILL)
                .await?;
        }
        Ok(files)
    }
}

fn io_error(what: &str, error: io::Error) -> KubectlError {
    KubectlError::Io {
        what: what.to_owned(),
        error,
    }
}

/// The part with the files of a directory.
fn kind_of(path: &str) -> Option<Kind> {
    match path {
        "/repository" => Some(Kind::Repository),
        "/artifacts" => Some(Kind::Artifacts),
        "/taskLogs" => Some(Kind::TaskLogs),
        "/eventExports" => Some(Kind::EventExports),
        _ => None,
    }
}

/// A list as `sha256sum --check` reads it of the files of a tar stream, and how many they are.
async fn sums(
    tar: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> io::Result<(Vec<u8>, u64)> {
    let reader = SyncIoBridge::new(StreamReader::new(Box::pin(tar.fuse())));
    let listing = tokio::task::spawn_blocking(move || list(reader));
    listing.await.map_err(io::Error::other)?
}

fn list(tar: impl Read) -> io::Result<(Vec<u8>, u64)> {
    let mut archive = tar::Archive::new(tar);
    let (mut list, mut files) = (String::new(), 0);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?.into_owned();
        let mut sha = Sha256::new();
        io::copy(&mut entry, &mut sha)?;
        let name = path.to_str().ok_or_else(|| {
            io::Error::other(format!("{}: the name is not in UTF-8", path.display()))
        })?;
        // A name with a line end or a backslash is written so (coreutils, sha2 utilities).
        let escaped = name
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        let mark = if escaped == name { "" } else { "\\" };
        writeln!(list, "{mark}{}  {escaped}", hex(&sha.finalize())).map_err(io::Error::other)?;
        files += 1;
    }
    // What follows the last entry is a part of the stream, too, whose fault comes at its end.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok((list.into_bytes(), files))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a file that no two programs name alike is understood by the real one.
    #[test]
    fn sha256sum_takes_the_list_whatever_files_are_called() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for name in ["plain", "with blank", "back\\slash", "line\nend", "ümlaut"] {
            std::fs::write(dir.path().join(name), name).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(name.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("./{name}"), name.as_bytes())
                .unwrap();
        }
        let (text, files) = list(&tar.into_inner().unwrap()[..]).unwrap();
        assert_eq!(files, 5);
        let check = |text: &[u8]| {
            let file = dir.path().join(".list");
            std::fs::write(&file, text).unwrap();
            let mut command = std::process::Command::new("bash");
            command.args(["-c", COMPARE, "compare"]).arg(dir.path());
            let input = std::fs::File::open(&file).unwrap();
            command.stdin(input).output().unwrap().status.success()
        };
        assert!(check(&text));
        std::fs::write(dir.path().join("plain"), "Plain").unwrap();
        assert!(!check(&text));
    }
}
