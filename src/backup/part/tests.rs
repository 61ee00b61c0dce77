//! Parts are written and read as they were, in clear and encrypted, and damage is found.

use super::*;

const NAME: &str = "repository.tar.zst";
const SEALED: &str = "repository.tar.zst.age";

/// Bytes that compress a little.
fn content(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..size)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 3 == 0 { 7 } else { (state >> 24) as u8 }
        })
        .collect()
}

struct Case {
    dir: tempfile::TempDir,
    part: Part,
    name: &'static str,
}

impl Case {
    fn new(content: &[u8], recipients: &Recipients) -> Self {
        let name = if recipients.0.is_empty() {
            NAME
        } else {
            SEALED
        };
        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(dir.path().join(name)).unwrap();
        let mut writer = PartWriter::new(Kind::Repository, file, recipients).unwrap();
        for piece in content.chunks(9_999) {
            writer.write(piece).unwrap();
        }
        let part = writer.finish(Some(3)).unwrap();
        Self { dir, part, name }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join(self.name)
    }

    fn read(&self, identities: &Identities) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::new();
        read_plain(&self.file(identities), Sums::Both, |bytes: &[u8]| {
            all.extend_from_slice(bytes);
            true
        })?;
        Ok(all)
    }

    fn file(&self, identities: &Identities) -> PartFile {
        PartFile {
            part: self.part.clone(),
            name: self.name.to_owned(),
            file: File::open(self.path()).unwrap(),
            identities: identities.clone(),
        }
    }

    fn stored(&self) -> Result<(), Fault> {
        let file = File::open(self.path()).unwrap();
        check_stored(&self.part, self.name, file, |_: &[u8]| true)
    }
}

fn key() -> (Recipients, Identities) {
    let identity = age::x25519::Identity::generate();
    (
        Recipients(vec![identity.to_public()]),
        Identities(vec![identity]),
    )
}

#[test]
fn what_was_written_is_read_again() {
    let (recipients, identities) = key();
    for size in [0, 1, 300_000] {
        for recipients in [&Recipients::default(), &recipients] {
            let case = Case::new(&content(size), recipients);
            assert_eq!(case.part.plain_size, size as u64);
            assert_eq!(case.part.entries, Some(3));
            case.stored().unwrap();
            assert_eq!(case.read(&identities).unwrap(), content(size));
        }
    }
}

#[test]
fn any_flipped_byte_is_found_and_named_also_without_a_key() {
    let (recipients, identities) = key();
    for recipients in [&Recipients::default(), &recipients] {
        let case = Case::new(&content(40_000), recipients);
        let good = std::fs::read(case.path()).unwrap();
        for at in (0..good.len())
            .step_by(good.len() / 23)
            .chain([good.len() - 1])
        {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(case.path(), bad).unwrap();
            let fault = case.stored().unwrap_err();
            assert!(
                matches!(&fault, Fault::Damaged { file, .. } if file == case.name),
                "{fault}"
            );
            assert!(case.read(&identities).is_err(), "byte {at}");
        }
    }
}

#[test]
fn what_was_cut_or_continued_is_found() {
    let case = Case::new(&content(40_000), &Recipients::default());
    let good = std::fs::read(case.path()).unwrap();
    let longer = [good.as_slice(), &[0]].concat();
    for bad in [&good[..good.len() - 1], &[], &longer] {
        std::fs::write(case.path(), bad).unwrap();
        assert!(matches!(case.stored(), Err(Fault::Damaged { .. })));
        assert!(matches!(
            case.read(&Identities::default()),
            Err(Fault::Damaged { .. })
        ));
    }
}

#[test]
fn an_encrypted_part_needs_its_own_key_and_says_so() {
    let case = Case::new(&content(1_000), &key().0);
    for (identities, words) in [
        (Identities::default(), "--identity"),
        (key().1, "none of the given"),
    ] {
        let fault = case.read(&identities).unwrap_err();
        assert!(matches!(fault, Fault::Sealed { .. }), "{fault}");
        assert!(fault.to_string().contains(words), "{fault}");
    }
    case.stored().unwrap();
}

#[test]
fn whether_it_opens_is_told_without_its_content() {
    let identity = age::x25519::Identity::generate();
    let recipients = Recipients(vec![identity.to_public()]);
    let case = Case::new(&content(5_000), &recipients);
    must_open(&case.file(&Identities(vec![identity]))).unwrap();
    let other = Identities(vec![age::x25519::Identity::generate()]);
    let fault = must_open(&case.file(&other)).unwrap_err();
    assert!(matches!(fault, Fault::Sealed { .. }), "{fault}");
}

#[test]
fn a_part_that_expands_beyond_what_was_written_is_given_up() {
    let mut case = Case::new(&vec![0; 4_000_000], &Recipients::default());
    case.part.plain_size = 1_000;
    let mut taken = 0;
    let fault = read_plain(
        &case.file(&Identities::default()),
        Sums::Both,
        |bytes: &[u8]| {
            taken += bytes.len();
            true
        },
    );
    assert!(matches!(fault, Err(Fault::Damaged { .. })));
    assert!(taken <= 2 * BUFFER, "{taken}");
}

#[test]
fn other_content_under_the_right_size_is_found() {
    let mut case = Case::new(&content(5_000), &Recipients::default());
    case.part.plain_sha256 = "0".repeat(64);
    let fault = case.read(&Identities::default()).unwrap_err();
    assert!(fault.to_string().contains("another SHA-256"), "{fault}");
}

/// What is read again after it was summed, whether its frame has a checksum or, as in older sets, has
/// none.
#[test]
fn what_changed_since_it_was_summed_is_seen() {
    let content = content(300_000);
    for has_checksum in [true, false] {
        let mut case = Case::new(&content, &Recipients::default());
        if !has_checksum {
            let stored = zstd::encode_all(&content[..], 1).unwrap();
            std::fs::write(case.path(), &stored).unwrap();
            case.part.stored_size = stored.len() as u64;
            case.part.stored_sha256 = hex(&Sha256::digest(&stored));
        }
        let file = case.file(&Identities::default());
        assert_eq!(super::has_checksum(NAME, &file.file), has_checksum);
        read_plain(&file, Sums::Again, |_: &[u8]| true).unwrap();
        let mut stored = std::fs::read(case.path()).unwrap();
        for at in [stored.len() / 3, stored.len() / 2, stored.len() - 9] {
            stored[at] ^= 1;
            std::fs::write(case.path(), &stored).unwrap();
            let file = case.file(&Identities::default());
            let read = read_plain(&file, Sums::Again, |_: &[u8]| true);
            assert!(read.is_err(), "byte {at}, {has_checksum}");
            stored[at] ^= 1;
        }
    }
}

#[test]
fn what_is_encrypted_and_changed_since_it_was_summed_is_seen() {
    let (recipients, identities) = key();
    let case = Case::new(&content(300_000), &recipients);
    read_plain(&case.file(&identities), Sums::Again, |_: &[u8]| true).unwrap();
    let mut stored = std::fs::read(case.path()).unwrap();
    for at in [stored.len() / 3, stored.len() - 9] {
        stored[at] ^= 1;
        std::fs::write(case.path(), &stored).unwrap();
        let read = read_plain(&case.file(&identities), Sums::Again, |_: &[u8]| true);
        assert!(read.is_err(), "byte {at}");
        stored[at] ^= 1;
    }
}
