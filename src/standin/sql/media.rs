//! The stand-in's backup files: sets one behind the other, each a header, pages and an end.
//!
//! ```text
//! mark | length, header as JSON, digest | page* | 0, length, end as JSON, digest
//! page: stored length, how it is stored, digest of the stored bytes, the bytes
//! ```
//!
//! It is not the vendor's format, and begins as that does, with `TAPE`. A set without its end was
//! cut off. Digests of pages are written and checked only for sets made `WITH CHECKSUM`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The size of a page, as SQL Server has it.
pub(super) const PAGE: usize = 8192;
const MARK: &[u8; 16] = b"TAPE octo-local\n";
/// A header is small; what claims more is no header.
const MAX_RECORD: u32 = 1 << 20;
const PLAIN: u8 = 0;
const SQUEEZED: u8 = 1;
/// Zeros in a row that are worth two numbers.
const RUN: usize = 16;

/// What a set says of itself before its pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) database: String,
    pub(super) logical: String,
    pub(super) physical: String,
    /// The same for every copy of one database.
    pub(super) family: String,
    pub(super) set_id: String,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) data_version: u32,
    pub(super) created: String,
    pub(super) started: String,
    pub(super) recovery: String,
    pub(super) copy_only: bool,
    pub(super) checksum: bool,
    pub(super) compressed: bool,
    /// Bytes of the database.
    pub(super) size: u64,
}

/// What it says behind them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) finished: String,
    pub(super) size: u64,
    pub(super) stored: u64,
}

/// A set on a medium.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) header: Header,
    /// Missing where the backup was cut off.
    pub(super) end: Option<End>,
    pages_at: u64,
}

/// What is wrong with a medium.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error("not a medium")]
    Malformed,
    #[error("the set is incomplete")]
    Incomplete,
    #[error("page {0} is damaged")]
    Page(u64),
    #[error("aborted")]
    Aborted,
    #[error("read: {0}")]
    Read(io::Error),
    #[error("write: {0}")]
    Write(io::Error),
}

/// Called after each page with the bytes done so far; `false` ends the work.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Appends a set with the pages of `source`.
pub(super) fn append(
    out: &mut File,
    header: &Header,
    source: &mut File,
    progress: Progress<'_>,
) -> Result<End, Damage> {
    out.seek(SeekFrom::End(0)).map_err(Damage::Write)?;
    let mut out = BufWriter::new(out);
    out.write_all(MARK).map_err(Damage::Write)?;
    record(&mut out, header).map_err(Damage::Write)?;
    let (mut size, mut stored) = (0, 0);
    let mut page = Vec::with_capacity(PAGE);
    loop {
        page.clear();
        let mut taken = Read::take(&mut *source, PAGE as u64);
        let count = taken.read_to_end(&mut page).map_err(Damage::Read)?;
        if count == 0 {
            break;
        }
        stored += put_page(&mut out, &page, header).map_err(Damage::Write)?;
        size += count as u64;
        if !progress(size) {
            // What was written so far stays, as with the vendor: it must not look whole.
            out.flush().map_err(Damage::Write)?;
            return Err(Damage::Aborted);
        }
    }
    let end = End {
        finished: super::types::now(),
        size,
        stored,
    };
    out.write_all(&0_u32.to_le_bytes())
        .and_then(|()| record(&mut out, &end))
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().sync_all())
        .map_err(Damage::Write)?;
    Ok(end)
}

/// All sets of a medium, the first first.
pub(super) fn sets(file: &mut File) -> Result<Vec<Set>, Damage> {
    let length = file.metadata().map_err(Damage::Read)?.len();
    let mut input = BufReader::new(file);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < length {
        let header = set_header(&mut input)?;
        let pages_at = input.stream_position().map_err(Damage::Read)?;
        let end = match skip_pages(&mut input, length) {
            Ok(end) => Some(end),
            Err(Damage::Incomplete) => None,
            Err(other) => return Err(other),
        };
        at = if end.is_some() {
            input.stream_position().map_err(Damage::Read)?
        } else {
            length
        };
        found.push(Set {
            header,
            end,
            pages_at,
        });
    }
    if found.is_empty() {
        return Err(Damage::Malformed);
    }
    Ok(found)
}

/// Reads a set's pages into `sink`, checking each where the set has digests.
pub(super) fn read(
    file: &mut File,
    set: &Set,
    sink: &mut dyn Write,
    progress: Progress<'_>,
) -> Result<u64, Damage> {
    file.seek(SeekFrom::Start(set.pages_at))
        .map_err(Damage::Read)?;
    let mut input = BufReader::new(file);
    let (mut done, mut number) = (0, 0);
    while let Some((how, digest, stored)) = next_page(&mut input)? {
        let intact = !set.header.checksum || digest_of(&stored) == digest;
        let page = Some(stored)
            .filter(|_| intact)
            .and_then(|stored| unsqueezed(how, stored))
            .ok_or(Damage::Page(number))?;
        sink.write_all(&page).map_err(Damage::Write)?;
        done += page.len() as u64;
        number += 1;
        if !progress(done) {
            return Err(Damage::Aborted);
        }
    }
    let whole = set.end.as_ref().is_some_and(|end| end.size == done);
    if whole {
        Ok(done)
    } else {
        Err(Damage::Incomplete)
    }
}

fn put_page(out: &mut impl Write, page: &[u8], header: &Header) -> io::Result<u64> {
    let squeezed = header.compressed.then(|| squeezed(page));
    let (how, stored) = match &squeezed {
        Some(short) if short.len() < page.len() => (SQUEEZED, short.as_slice()),
        Some(_) | None => (PLAIN, page),
    };
    let digest = if header.checksum {
        digest_of(stored)
    } else {
        [0; 4]
    };
    out.write_all(&(stored.len() as u32).to_le_bytes())?;
    out.write_all(&[how])?;
    out.write_all(&digest)?;
    out.write_all(stored)?;
    Ok(stored.len() as u64)
}

type Page = (u8, [u8; 4], Vec<u8>);

/// The next page, or none at the set's end.
fn next_page(input: &mut impl Read) -> Result<Option<Page>, Damage> {
    let length = u32::from_le_bytes(array(input)?);
    if length == 0 {
        return Ok(None);
    }
    let [how] = array(input)?;
    let digest = array(input)?;
    if length as usize > PAGE {
        return Err(Damage::Malformed);
    }
    let mut stored = vec![0; length as usize];
    input.read_exact(&mut stored).map_err(cut)?;
    Ok(Some((how, digest, stored)))
}

fn set_header(input: &mut impl Read) -> Result<Header, Damage> {
    let mark: [u8; 16] = array(input).map_err(|_| Damage::Malformed)?;
    if mark != *MARK {
        return Err(Damage::Malformed);
    }
    recorded(input).map_err(|_| Damage::Malformed)
}

fn skip_pages(input: &mut BufReader<&mut File>, length: u64) -> Result<End, Damage> {
    loop {
        let page = u32::from_le_bytes(array(input)?);
        if page == 0 {
            return recorded(input);
        }
        input
            .seek_relative(i64::from(page) + 5)
            .map_err(Damage::Read)?;
        if input.stream_position().map_err(Damage::Read)? > length {
            return Err(Damage::Incomplete);
        }
    }
}

fn record(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    out.write_all(&(bytes.len() as u32).to_le_bytes())?;
    out.write_all(&bytes)?;
    out.write_all(&digest_of(&bytes))
}

fn recorded<T: DeserializeOwned>(input: &mut impl Read) -> Result<T, Damage> {
    let length = u32::from_le_bytes(array(input)?);
    if length > MAX_RECORD {
        return Err(Damage::Malformed);
    }
    let mut bytes = vec![0; length as usize];
    input.read_exact(&mut bytes).map_err(cut)?;
    let digest: [u8; 4] = array(input)?;
    if digest != digest_of(&bytes) {
        return Err(Damage::Malformed);
    }
    serde_json::from_slice(&bytes).map_err(|_| Damage::Malformed)
}

fn array<const N: usize>(input: &mut impl Read) -> Result<[u8; N], Damage> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(cut)?;
    Ok(bytes)
}

fn cut(error: io::Error) -> Damage {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Damage::Incomplete
    } else {
        Damage::Read(error)
    }
}

fn digest_of(bytes: &[u8]) -> [u8; 4] {
    let digest = sha2::Sha256::digest(bytes);
    [digest[0], digest[1], digest[2], digest[3]]
}

/// Pieces of `length, bytes, zeros behind them`.
fn squeezed(page: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), page);
    while !rest.is_empty() {
        let text = rest
            .windows(RUN)
            .position(|window| window.iter().all(|byte| *byte == 0))
            .unwrap_or(rest.len());
        let zeros = rest[text..].iter().take_while(|byte| **byte == 0).count();
        out.extend((text as u16).to_le_bytes());
        out.extend(&rest[..text]);
        out.extend((zeros as u16).to_le_bytes());
        rest = &rest[text + zeros..];
    }
    out
}

fn unsqueezed(how: u8, stored: Vec<u8>) -> Option<Vec<u8>> {
    if how == PLAIN {
        return Some(stored);
    }
    let (mut out, mut rest) = (Vec::new(), stored.as_slice());
    while !rest.is_empty() {
        let (text, behind) = piece(rest)?;
        out.extend(behind.get(..text)?);
        let (zeros, behind) = piece(&behind[text..])?;
        out.resize(out.len() + zeros, 0);
        rest = behind;
    }
    (how == SQUEEZED && out.len() <= PAGE).then_some(out)
}

fn piece(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_le_bytes(*length)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(checksum: bool, compressed: bool) -> Header {
        let text = String::new;
        Header {
            database: "D".to_owned(),
            logical: text(),
            physical: text(),
            family: text(),
            set_id: text(),
            name: None,
            description: None,
            data_version: 957,
            created: text(),
            started: text(),
            recovery: text(),
            copy_only: true,
            checksum,
            compressed,
            size: 0,
        }
    }

    fn medium(checksum: bool, compressed: bool, data: &[u8]) -> File {
        let (mut out, mut source) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all(data).unwrap();
        source.rewind().unwrap();
        append(
            &mut out,
            &header(checksum, compressed),
            &mut source,
            &mut |_| true,
        )
        .unwrap();
        out.rewind().unwrap();
        out
    }

    fn read_back(file: &mut File) -> Result<Vec<u8>, Damage> {
        file.rewind().unwrap();
        let set = sets(file)?.remove(0);
        let mut found = Vec::new();
        read(file, &set, &mut found, &mut |_| true)?;
        Ok(found)
    }

    #[test]
    fn what_went_in_comes_out_and_zeros_are_small() {
        let data = [
            vec![0; 20_000],
            (0..=255).collect(),
            vec![0; 9],
            vec![7; 9000],
        ]
        .concat();
        for compressed in [false, true] {
            let mut file = medium(true, compressed, &data);
            assert_eq!(read_back(&mut file).unwrap(), data);
            let length = file.metadata().unwrap().len() as usize;
            assert_eq!(length < data.len() / 2, compressed, "{length}");
        }
    }

    #[test]
    fn a_flipped_byte_is_found_where_there_are_checksums() {
        for (checksum, found) in [(true, true), (false, false)] {
            let mut file = medium(checksum, false, &vec![1; 3 * PAGE]);
            let middle = file.metadata().unwrap().len() / 2;
            file.seek(SeekFrom::Start(middle)).unwrap();
            file.write_all(&[9]).unwrap();
            let outcome = read_back(&mut file);
            assert_eq!(
                matches!(outcome, Err(Damage::Page(1))),
                found,
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn half_a_set_is_incomplete_and_garbage_no_medium() {
        let mut file = medium(true, true, &vec![1; 3 * PAGE]);
        let length = file.metadata().unwrap().len();
        file.set_len(length - 10).unwrap();
        assert!(matches!(read_back(&mut file), Err(Damage::Incomplete)));
        file.rewind().unwrap();
        file.write_all(b"x").unwrap();
        assert!(matches!(read_back(&mut file), Err(Damage::Malformed)));
    }
}
