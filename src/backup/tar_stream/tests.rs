//! Archives are followed to their end, and what is none or is cut off is told.

use proptest::prelude::*;

use super::*;

fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, content.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn walk(bytes: &[u8], piece: usize) -> Result<(u64, Vec<u8>), TarFault> {
    let mut stream = TarStream::default();
    let mut content = Vec::new();
    for piece in bytes.chunks(piece) {
        stream.feed(piece, |data| content.extend_from_slice(data))?;
    }
    stream.finish()?;
    Ok((stream.entries, content))
}

#[test]
fn what_is_cut_anywhere_is_not_whole() {
    let bytes = archive(&[("a", vec![1; 700]), ("b", vec![]), ("c", vec![3; 512])]);
    let end = walk(&bytes, 100).unwrap();
    assert_eq!((end.0, end.1.len()), (3, 1_212));
    for length in (0..bytes.len() - 1_024).step_by(64) {
        assert_eq!(
            walk(&bytes[..length], 512),
            Err(TarFault::Short),
            "{length}"
        );
    }
}

#[test]
fn a_damaged_header_and_what_follows_the_end_are_seen() {
    let mut bytes = archive(&[("a", vec![1; 700])]);
    bytes.extend([0; 4096]);
    assert!(walk(&bytes, 77).is_ok());
    bytes.push(1);
    assert_eq!(walk(&bytes, 512), Err(TarFault::Trailing));
    bytes[3] ^= 1;
    assert_eq!(walk(&bytes, 512), Err(TarFault::Checksum));
}

#[test]
fn an_extended_header_gives_the_size_of_what_follows() {
    let mut small = tar::Header::new_ustar();
    small.set_path("big").unwrap();
    small.set_size(0);
    small.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([("size", b"600".as_slice()), ("comment", b"9 size=7\n")])
        .unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(small.as_bytes());
    bytes.extend([7; 600]);
    bytes.extend(end_of_file(600));
    assert_eq!(walk(&bytes, 33), Ok((1, vec![7; 600])));
}

#[test]
fn numbers_are_octal_or_in_base_256() {
    assert_eq!(number(b"00000001750\0"), Some(1000));
    assert_eq!(number(b" 1750 \0"), Some(1000));
    assert_eq!(
        number(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        Some(1 << 32)
    );
    assert_eq!(number(&[0xff; 12]), None);
    assert_eq!(number(b"9"), None);
}

#[test]
fn a_file_wrapped_by_hand_is_an_archive_that_others_read() {
    for size in [0usize, 1, 511, 512, 513, 70_000] {
        let mut bytes = header_of_file("x.bak", size as u64, 10_001);
        bytes.extend(vec![5; size]);
        bytes.extend(end_of_file(size as u64));
        assert_eq!(walk(&bytes, 1000), Ok((1, vec![5; size])));
        let mut read = tar::Archive::new(bytes.as_slice());
        let entry = read.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(
            (entry.size(), entry.header().uid().unwrap()),
            (size as u64, 10_001)
        );
    }
}

proptest! {
    #[test]
    fn any_pieces_of_any_archive_give_the_same(
        files in prop::collection::vec(("[a-z]{1,120}", prop::collection::vec(any::<u8>(), 0..1500)), 0..5),
        piece in 1usize..2000,
    ) {
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
        let all: Vec<u8> = files.iter().flat_map(|(_, content)| content.clone()).collect();
        prop_assert_eq!(walk(&archive(&files), piece), Ok((files.len() as u64, all)));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000), piece in 1usize..700) {
        let _ = walk(&bytes, piece);
    }
}
