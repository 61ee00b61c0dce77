//! Reads every byte of a set and holds it against its manifest.

use serde::Serialize;

use super::directory::Directory;
use super::manifest::Encryption;
use super::manifest::Kind;
use super::manifest::Manifest;
use super::manifest::Part;
use super::name::SetName;
use super::part;
use super::part::Fault;
use super::part::Identities;
use super::part::PartFile;
use super::part::Sums;
use super::tar_stream::TarFault;
use super::tar_stream::TarStream;

/// What was found about a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its file.
    pub file: String,
    /// Bytes of the file.
    pub stored_size: u64,
    /// Whether it was opened and its content compared, too. An encrypted one needs an identity for
    /// that; without one the stored bytes were.
    pub is_opened: bool,
    /// What is wrong.
    pub fault: Option<String>,
}

/// How far a set is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every byte that is stored, and whether what is encrypted can be opened: what is stored as it
    /// was written unpacks to what was written.
    Stored,
    /// What it unpacks to, too.
    Content,
}

/// A set that is read.
pub struct Reading<'a> {
    /// The directory that it is in.
    pub directory: &'a Directory,
    /// Its name there.
    pub name: &'a SetName,
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// What opens it.
    pub identities: &'a Identities,
}

/// Reads a whole set: every part to its end, also when another is damaged. `moved` is told how many
/// bytes each step had, plain ones where they are looked at; false ends it.
pub fn verify(set: &Reading<'_>, depth: Depth, mut moved: impl FnMut(u64) -> bool) -> Vec<Finding> {
    let finding = |part: &Part| {
        let file = part.kind.file(&set.manifest.encryption);
        let is_sealed = set.manifest.encryption != Encryption::None;
        let is_opened = !is_sealed || !set.identities.0.is_empty();
        let read = match depth {
            Depth::Content if is_opened => content(set, part, &file, &mut moved),
            Depth::Stored if is_sealed && is_opened => set
                .open(part)
                .and_then(|from| part::must_open(&from))
                .and_then(|()| stored(set, part, &file, &mut moved)),
            Depth::Stored | Depth::Content => stored(set, part, &file, &mut moved),
        };
        Finding {
            file,
            stored_size: part.stored_size,
            is_opened,
            fault: read.err().map(|fault| fault.to_string()),
        }
    };
    set.manifest.parts.iter().map(finding).collect()
}

/// Whether the identities that were given are none of an encrypted set's: not one part that can be
/// read is opened by them. Where some are, another one that is not is no matter of the identity.
pub fn is_of_others(set: &Reading<'_>) -> bool {
    if set.manifest.encryption == Encryption::None || set.identities.0.is_empty() {
        return false;
    }
    let parts = set.manifest.parts.iter();
    let tried: Vec<Result<(), Fault>> = parts
        .map(|part| set.open(part).and_then(|from| part::must_open(&from)))
        .collect();
    let is_sealed = |tried: &Result<(), Fault>| matches!(tried, Err(Fault::Sealed { .. }));
    tried.iter().any(is_sealed) && !tried.iter().any(Result::is_ok)
}

impl Reading<'_> {
    /// Opens a part's file.
    pub(super) fn open(&self, part: &Part) -> Result<PartFile, Fault> {
        let name = part.kind.file(&self.manifest.encryption);
        let file = opened(self.directory, self.name, &name)?;
        Ok(PartFile {
            part: part.clone(),
            name,
            file,
            identities: self.identities.clone(),
        })
    }
}

fn stored(
    set: &Reading<'_>,
    part: &Part,
    file: &str,
    moved: &mut impl FnMut(u64) -> bool,
) -> Result<(), Fault> {
    let opened = opened(set.directory, set.name, file)?;
    part::check_stored(part, file, opened, |bytes: &[u8]| moved(bytes.len() as u64))
}

fn opened(directory: &Directory, name: &SetName, file: &str) -> Result<std::fs::File, Fault> {
    directory
        .open(name, file)
        .map_err(|error| Fault::Unreadable {
            file: file.to_owned(),
            source: error.into(),
        })
}

/// The content of a part, and where it is an archive, whether it is one to its end.
fn content(
    set: &Reading<'_>,
    part: &Part,
    file: &str,
    moved: &mut impl FnMut(u64) -> bool,
) -> Result<(), Fault> {
    let from = set.open(part)?;
    let mut archive = part.kind.volume().map(|_| TarStream::default());
    let mut fault = None;
    let read = part::read_plain(&from, Sums::Both, |bytes: &[u8]| {
        if let Some(archive) = &mut archive {
            fault = archive.feed(bytes, |_| {}).err();
        }
        fault.is_none() && moved(bytes.len() as u64)
    });
    let damaged = |fault: TarFault| Fault::Damaged {
        file: file.to_owned(),
        source: fault.into(),
    };
    if let Some(fault) = fault {
        return Err(damaged(fault));
    }
    read?;
    archive.map_or(Ok(()), |archive| archive.finish().map_err(damaged))
}

/// The whole of a part that is small: configuration and secrets.
pub fn small(
    directory: &Directory,
    name: &SetName,
    manifest: &Manifest,
    kind: Kind,
    identities: &Identities,
) -> Result<Option<Vec<u8>>, Fault> {
    let Some(part) = manifest.part(kind) else {
        return Ok(None);
    };
    let file = kind.file(&manifest.encryption);
    if part.plain_size > SMALL {
        let why = format!(
            "it has {} bytes, far more than it can need",
            part.plain_size
        );
        let source = why.into();
        return Err(Fault::Damaged { file, source });
    }
    let mut bytes = Vec::new();
    let from = Reading {
        directory,
        name,
        manifest,
        identities,
    }
    .open(part)?;
    part::read_plain(&from, Sums::Both, |more: &[u8]| {
        bytes.extend_from_slice(more);
        true
    })?;
    Ok(Some(bytes))
}

/// A configuration has some kilobytes; a licence and an environment may make it more.
const SMALL: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::manifest;
    use crate::backup::part::PartWriter;
    use crate::backup::part::Recipients;
    use crate::backup::tar_stream;
    use crate::config::project::ProjectName;

    struct Case {
        _dir: tempfile::TempDir,
        directory: Directory,
        manifest: Manifest,
        name: SetName,
        identity: age::x25519::Identity,
    }

    impl Case {
        /// A set whose archives have one file each.
        fn new(sealed: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let directory = Directory::at(dir.path().to_owned());
            let identity = age::x25519::Identity::generate();
            let mut manifest = manifest();
            let recipients = if sealed {
                vec![identity.to_public()]
            } else {
                Vec::new()
            };
            if sealed {
                let recipients = vec![identity.to_public().to_string()];
                manifest.encryption = Encryption::Recipients { recipients };
            }
            let recipients = Recipients(recipients);
            let locked = directory
                .lock(&ProjectName::given("octo").unwrap())
                .unwrap();
            let name: SetName = "one".parse().unwrap();
            let draft = locked.begin(name.clone()).unwrap();
            let mut tar = tar_stream::header_of_file("x", 3, 0);
            tar.extend(b"abc");
            tar.extend(tar_stream::end_of_file(3));
            for part in &mut manifest.parts {
                let file = draft.create(&part.kind.file(&manifest.encryption)).unwrap();
                let mut writer = PartWriter::new(part.kind, file, &recipients).unwrap();
                let content: &[u8] = if part.kind.volume().is_some() {
                    &tar
                } else {
                    b"{}"
                };
                writer.write(content).unwrap();
                *part = writer.finish(None).unwrap();
            }
            draft.commit(&manifest).unwrap();
            drop(locked);
            Self {
                _dir: dir,
                directory,
                manifest,
                name,
                identity,
            }
        }

        fn reading<'a>(&'a self, identities: &'a Identities) -> Reading<'a> {
            Reading {
                directory: &self.directory,
                name: &self.name,
                manifest: &self.manifest,
                identities,
            }
        }

        fn verify(&self, identities: &Identities) -> Vec<Finding> {
            verify(&self.reading(identities), Depth::Content, |_| true)
        }

        /// The same whether what it unpacks to is looked at or not.
        fn faulty(&self, identities: &Identities) -> Vec<String> {
            let set = self.reading(identities);
            let [stored, content] =
                [Depth::Stored, Depth::Content].map(|depth| verify(&set, depth, |_| true));
            assert_eq!(stored.len(), content.len());
            let has_fault = |one: &Finding| one.fault.is_some();
            assert!(
                stored
                    .iter()
                    .map(has_fault)
                    .eq(content.iter().map(has_fault))
            );
            let faulty = content.into_iter();
            faulty
                .filter(|one| one.fault.is_some())
                .map(|one| one.file)
                .collect()
        }

        fn flip(&self, file: &str) {
            let path = self.directory.path().join("one").join(file);
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
    }

    #[test]
    fn every_damaged_part_is_found_not_only_the_first() {
        let case = Case::new(false);
        assert_eq!(case.faulty(&Identities::default()), Vec::<String>::new());
        case.flip("database.bak.zst");
        std::fs::remove_file(case.directory.path().join("one/task-logs.tar.zst")).unwrap();
        let faulty = case.faulty(&Identities::default());
        assert_eq!(faulty, ["database.bak.zst", "task-logs.tar.zst"]);
    }

    #[test]
    fn an_encrypted_set_is_vouched_for_also_without_its_key() {
        let case = Case::new(true);
        let identities = Identities(vec![case.identity.clone()]);
        assert!(
            case.verify(&identities)
                .iter()
                .all(|one| one.is_opened && one.fault.is_none())
        );
        let without = case.verify(&Identities::default());
        assert!(
            without
                .iter()
                .all(|one| !one.is_opened && one.fault.is_none())
        );
        case.flip("artifacts.tar.zst.age");
        for identities in [identities, Identities::default()] {
            assert_eq!(case.faulty(&identities), ["artifacts.tar.zst.age"]);
        }
    }

    #[test]
    fn small_parts_are_read_and_large_ones_are_not() {
        let mut case = Case::new(true);
        let identities = Identities(vec![case.identity.clone()]);
        let read = |case: &Case| {
            small(
                &case.directory,
                &case.name,
                &case.manifest,
                Kind::Secrets,
                &identities,
            )
        };
        assert_eq!(read(&case).unwrap().as_deref(), Some(b"{}".as_slice()));
        case.manifest.parts.last_mut().unwrap().plain_size = SMALL + 1;
        assert!(matches!(read(&case), Err(Fault::Damaged { .. })));
        case.manifest.parts.pop();
        assert_eq!(read(&case).unwrap(), None);
    }

    #[test]
    fn it_ends_when_it_is_asked_to() {
        let case = Case::new(false);
        let identities = Identities::default();
        let findings = verify(&case.reading(&identities), Depth::Content, |_| false);
        assert!(
            findings
                .iter()
                .all(|one| one.fault.as_deref() == Some("it was stopped"))
        );
    }
}
