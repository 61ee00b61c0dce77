//! Looks at a tar stream as it passes: whether it is whole, how many entries it has, and the bytes
//! of its files. Pure.
//!
//! The engine ends a stream without an error when a file became shorter while it read it: what
//! follows is missing, and so is the archive's end (moby `pkg/archive`, `TarWithOptions`). So the
//! end is looked for. Form: POSIX.1-2001 `pax`, and GNU's numbers in base 256.

/// Tar's unit.
const BLOCK: usize = 512;
/// Extended headers hold names and numbers; a larger one is not the engine's.
const EXTENDED_LIMIT: u64 = 1024 * 1024;

/// Why a stream is no whole archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TarFault {
    /// It ended too early.
    #[error(
        "the archive ends in the middle: a file changed while it was read, or the engine broke off"
    )]
    Short,
    /// A header's checksum is wrong.
    #[error("the archive is damaged: a header of it does not fit its checksum")]
    Checksum,
    /// A number cannot be read, or an extended header is too large.
    #[error("the archive is damaged: a header of it makes no sense")]
    Header,
    /// There is something after its end.
    #[error("the archive goes on after its end")]
    Trailing,
}

/// What comes next in the stream.
#[derive(Debug)]
enum Next {
    /// A header block.
    Header,
    /// Bytes of an entry, and how many of the rest are padding.
    Data {
        left: u64,
        padding: u64,
        is_file: bool,
    },
    /// Bytes of an extended header, which may give the next entry's size.
    Extended { left: u64, padding: u64 },
    /// Zeros to the end.
    End,
}

/// Reads along with a stream.
#[derive(Debug)]
pub struct TarStream {
    next: Next,
    block: Vec<u8>,
    extended: Vec<u8>,
    size_to_come: Option<u64>,
    zero_blocks: u8,
    /// How many entries began: files, directories, links and the like.
    pub entries: u64,
    /// How many of them are regular files.
    pub files: u64,
}

impl Default for TarStream {
    fn default() -> Self {
        Self {
            next: Next::Header,
            block: Vec::with_capacity(BLOCK),
            extended: Vec::new(),
            size_to_come: None,
            zero_blocks: 0,
            entries: 0,
            files: 0,
        }
    }
}

impl TarStream {
    /// Takes the next bytes. `data` is given those of regular files, in order.
    pub fn feed(&mut self, mut bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<(), TarFault> {
        while !bytes.is_empty() {
            let taken = match &mut self.next {
                Next::Header => self.take_header(bytes)?,
                Next::Data {
                    left,
                    padding,
                    is_file,
                } => {
                    let (taken, content) = take(bytes, left, padding);
                    if *is_file {
                        data(&bytes[..content]);
                    }
                    taken
                }
                Next::Extended { left, padding } => {
                    let (taken, content) = take(bytes, left, padding);
                    self.extended.extend_from_slice(&bytes[..content]);
                    taken
                }
                Next::End => {
                    if bytes.iter().any(|byte| *byte != 0) {
                        return Err(TarFault::Trailing);
                    }
                    bytes.len()
                }
            };
            bytes = &bytes[taken..];
            self.go_on()?;
        }
        Ok(())
    }

    /// Whether the stream was an archive to its end.
    pub fn finish(&self) -> Result<(), TarFault> {
        match self.next {
            Next::End => Ok(()),
            _ => Err(TarFault::Short),
        }
    }

    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, TarFault> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
            self.next = self.header(&block)?;
        }
        Ok(taken)
    }

    fn header(&mut self, block: &[u8]) -> Result<Next, TarFault> {
        if block.iter().all(|byte| *byte == 0) {
            self.zero_blocks += 1;
            return Ok(if self.zero_blocks == 2 {
                Next::End
            } else {
                Next::Header
            });
        }
        if self.zero_blocks > 0 {
            return Err(TarFault::Trailing);
        }
        if number(&block[148..156]) != Some(checksum(block)) {
            return Err(TarFault::Checksum);
        }
        let size = number(&block[124..136]).ok_or(TarFault::Header)?;
        match block[156] {
            b'x' => {
                if size > EXTENDED_LIMIT {
                    return Err(TarFault::Header);
                }
                self.extended.clear();
                let padding = padding(size);
                Ok(Next::Extended {
                    left: size,
                    padding,
                })
            }
            // Headers for all that follows, and GNU's long names: they belong to other entries.
            b'g' | b'L' | b'K' => {
                let padding = padding(size);
                Ok(Next::Data {
                    left: size,
                    padding,
                    is_file: false,
                })
            }
            kind => {
                self.entries += 1;
                let is_file = matches!(kind, b'0' | 0 | b'7');
                let size = self.size_to_come.take().unwrap_or(size);
                // Links, devices, directories and pipes have no bytes, whatever their size says.
                let left = if (b'1'..=b'6').contains(&kind) {
                    0
                } else {
                    size
                };
                self.files += u64::from(is_file);
                Ok(Next::Data {
                    left,
                    padding: padding(left),
                    is_file,
                })
            }
        }
    }

    /// Leaves a state that has nothing left.
    fn go_on(&mut self) -> Result<(), TarFault> {
        match self.next {
            Next::Data {
                left: 0,
                padding: 0,
                ..
            } => self.next = Next::Header,
            Next::Extended {
                left: 0,
                padding: 0,
            } => {
                self.size_to_come = size_of(&self.extended)?;
                self.next = Next::Header;
            }
            _ => {}
        }
        Ok(())
    }
}

/// How many bytes are taken, and how many of them are content.
fn take(bytes: &[u8], left: &mut u64, padding: &mut u64) -> (usize, usize) {
    let all = bytes.len() as u64;
    let content = all.min(*left);
    let pad = (all - content).min(*padding);
    *left -= content;
    *padding -= pad;
    ((content + pad) as usize, content as usize)
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// The sum of all bytes of a header, its own checksum taken as spaces.
fn checksum(block: &[u8]) -> u64 {
    let of = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    of(&block[..148]) + 8 * u64::from(b' ') + of(&block[156..])
}

/// A number in octal, or in base 256 when its first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let first = u64::from(field[0] & 0x7f);
        return field[1..].iter().try_fold(first, |number, byte| {
            number.checked_mul(256)?.checked_add(u64::from(*byte))
        });
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    if digits.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(digits, 8).ok()
}

/// The size that an extended header gives: records of `LENGTH KEY=VALUE\n`. Values may hold any
/// byte, so each record is stepped over by its length.
fn size_of(records: &[u8]) -> Result<Option<u64>, TarFault> {
    let mut rest = records;
    let mut size = None;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ');
        let space = space.ok_or(TarFault::Header)?;
        let text = std::str::from_utf8(&rest[..space]).ok();
        let length: usize = text
            .and_then(|text| text.parse().ok())
            .ok_or(TarFault::Header)?;
        if length <= space + 1 || length > rest.len() {
            return Err(TarFault::Header);
        }
        let record = &rest[space + 1..length - 1];
        if let Some(value) = record.strip_prefix(b"size=") {
            let text = std::str::from_utf8(value).ok();
            size = Some(
                text.and_then(|text| text.parse().ok())
                    .ok_or(TarFault::Header)?,
            );
        }
        rest = &rest[length..];
    }
    Ok(size)
}

/// The user that SQL Server runs as in the vendor's image.
pub const MSSQL_UID: u64 = 10_001;

/// The header of an archive with one regular file, to go before its bytes. Its owner is SQL
/// Server's user in the vendor's image; others can only read it.
pub fn header_of_file(name: &str, size: u64, uid: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(uid);
    header.set_gid(0);
    // The name is ours, and far shorter than a header's hundred bytes.
    let _ = header.set_path(name);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// What ends that archive: padding, and two empty blocks.
pub fn end_of_file(size: u64) -> Vec<u8> {
    vec![0; padding(size) as usize + 2 * BLOCK]
}

#[cfg(test)]
mod tests;
