//! HTTP/1 by the letter of RFC 9112: reads along with the parser that serves the connection and
//! finds the first byte that a strict server would refuse. Pure.
//!
//! The parser behind it is lenient where the RFC allows a choice: bare line feeds, `Content-Length`
//! beside `Transfer-Encoding`, repeated lengths. Two servers that choose differently see different
//! requests in the same bytes; that is what request smuggling is made of. So none of it comes
//! through, and what does has one meaning only.

/// Empty lines before a request line. RFC 9112 2.2 asks for one: old clients send it after a body.
const EMPTY_LINES: u8 = 1;
/// The longest method; those of WebDAV have up to 16 letters.
const METHOD: usize = 32;
/// The longest value of a field that the framing depends on: 19 digits, or `chunked`.
const VALUE: usize = 24;
/// Hexadecimal digits of a chunk's size: 15 are below 2^63.
const SIZE_DIGITS: u8 = 15;
/// Bytes of all chunk extensions of one chunk: nobody needs them.
const EXTENSION: usize = 256;
/// Bytes of a body's trailer fields.
const TRAILERS: usize = 8 * 1024;
/// How nearly every request line ends.
const VERSION_LINE: &[u8] = b"HTTP/1.1\r\n";
/// How an h2 connection begins (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The request line.
    #[error("the request line is malformed")]
    RequestLine,
    /// A field line: its name, a space before the colon, a folded line, a control character.
    #[error("a field line is malformed")]
    Field,
    /// A line that does not end in CR LF.
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// `Content-Length` is no number, or comes twice.
    #[error("Content-Length is no number, or comes twice")]
    Length,
    /// `Transfer-Encoding` is not `chunked`, comes twice, with a length, or in HTTP/1.0.
    #[error("Transfer-Encoding is not chunked, comes twice, or with Content-Length")]
    Encoding,
    /// A chunk's size or end.
    #[error("a chunk is malformed")]
    Chunk,
    /// A field that must not come after a body, or too many.
    #[error("the trailer fields are malformed")]
    Trailer,
}

/// Which field a name is, as far as the framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Length,
    Encoding,
    Host,
    Other,
}

impl Field {
    /// Whether its value is kept, to be read.
    fn is_kept(self) -> bool {
        matches!(self, Self::Length | Self::Encoding)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// This many bytes of the h2 preface so far.
    Preface(usize),
    /// Before a request line.
    Begin,
    BeginLf,
    Method,
    Target,
    /// This many bytes of `HTTP/1.x` so far.
    Version(usize),
    LineCr,
    LineLf,
    FieldBegin,
    Name,
    Value,
    ValueLf,
    HeadLf,
    /// This many bytes of a body of known length to come.
    Body(u64),
    Size,
    Extension,
    SizeLf,
    /// This many bytes of a chunk to come.
    Chunk(u64),
    ChunkCr,
    ChunkLf,
    /// Bytes that are no HTTP/1.
    Opaque,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Framing {
    at: At,
    empty_lines: u8,
    /// Bytes of what is counted where it is: a method, an extension, trailers.
    count: usize,
    http10: bool,
    target_empty: bool,
    /// The name or value of the field at hand, as far as it may matter.
    word: [u8; VALUE],
    word_len: usize,
    field: Field,
    length: Option<u64>,
    chunked: bool,
    in_trailers: bool,
    size: u64,
    digits: u8,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            at: At::Preface(0),
            empty_lines: 0,
            count: 0,
            http10: false,
            target_empty: true,
            word: [0; VALUE],
            word_len: 0,
            field: Field::Other,
            length: None,
            chunked: false,
            in_trailers: false,
            size: 0,
            digits: 0,
        }
    }
}

/// What a refused connection looks like: where the offending byte is, and why.
pub type Refused = (usize, Bad);

impl Framing {
    /// What follows is no HTTP/1 any more: the connection was upgraded.
    pub fn open(&mut self) {
        self.at = At::Opaque;
    }

    /// Whether the bytes so far end inside of a head, so that more must come soon.
    pub fn in_head(&self) -> bool {
        !matches!(
            self.at,
            At::Opaque
                | At::Preface(0)
                | At::Begin
                | At::Body(_)
                | At::Size
                | At::Extension
                | At::SizeLf
                | At::Chunk(_)
                | At::ChunkCr
                | At::ChunkLf
        ) && !self.in_trailers
    }

    /// Whether the bytes so far end between two requests.
    pub fn is_between(&self) -> bool {
        matches!(self.at, At::Begin | At::Preface(0))
    }

    /// Whether the connection began as h2 does.
    pub fn is_opaque(&self) -> bool {
        self.at == At::Opaque
    }

    /// Reads the next bytes. On a refusal the bytes before the offending one are fine.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut place = 0;
        while place < bytes.len() {
            let rest = &bytes[place..];
            let skipped = match self.at {
                At::Opaque => return Ok(()),
                At::Body(left) => {
                    let taken = taken(left, rest);
                    self.at = match left - taken as u64 {
                        0 => self.next_request(),
                        left => At::Body(left),
                    };
                    taken
                }
                At::Chunk(left) => {
                    let taken = taken(left, rest);
                    self.at = match left - taken as u64 {
                        0 => At::ChunkCr,
                        left => At::Chunk(left),
                    };
                    taken
                }
                // The long stretches of a head.
                At::Version(0) if rest.starts_with(VERSION_LINE) => {
                    self.at = At::FieldBegin;
                    self.http10 = false;
                    VERSION_LINE.len()
                }
                // Of trailers each byte is counted.
                At::Name if !self.in_trailers => {
                    let count = rest.iter().take_while(|byte| is_token(**byte)).count();
                    rest[..count]
                        .iter()
                        .for_each(|byte| self.keep(byte.to_ascii_lowercase()));
                    count
                }
                At::Target => rest.iter().take_while(|byte| is_target(**byte)).count(),
                At::Value if !self.field.is_kept() && !self.in_trailers => {
                    rest.iter().take_while(|byte| is_value(**byte)).count()
                }
                _ => 0,
            };
            if skipped > 0 {
                self.target_empty &= self.at != At::Target;
                place += skipped;
                continue;
            }
            self.byte(bytes[place]).map_err(|bad| (place, bad))?;
            place += 1;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), Bad> {
        self.at = match self.at {
            At::Preface(so_far) => return self.preface(so_far, byte),
            At::Begin | At::BeginLf | At::Method | At::Target | At::Version(_) => {
                self.request_line(byte)?
            }
            At::LineCr if byte == b'\r' => At::LineLf,
            At::LineCr => return Err(Bad::RequestLine),
            At::LineLf | At::ValueLf if byte == b'\n' => At::FieldBegin,
            At::LineLf | At::ValueLf | At::HeadLf | At::SizeLf if byte != b'\n' => {
                return Err(Bad::LineEnd);
            }
            At::HeadLf => self.head_ends(),
            At::FieldBegin | At::Name | At::Value => self.field_line(byte)?,
            At::Size | At::Extension | At::SizeLf | At::ChunkCr | At::ChunkLf => {
                self.chunk(byte)?
            }
            at @ (At::Body(_) | At::Chunk(_) | At::Opaque | At::LineLf | At::ValueLf) => at,
        };
        Ok(())
    }

    /// A connection's first bytes: h2, or what turns out not to be.
    fn preface(&mut self, so_far: usize, byte: u8) -> Result<(), Bad> {
        if PREFACE[so_far] == byte {
            self.at = match so_far + 1 {
                all if all == PREFACE.len() => At::Opaque,
                more => At::Preface(more),
            };
            return Ok(());
        }
        self.at = At::Begin;
        for earlier in &PREFACE[..so_far] {
            self.byte(*earlier)?;
        }
        self.byte(byte)
    }

    fn request_line(&mut self, byte: u8) -> Result<At, Bad> {
        Ok(match self.at {
            At::Begin if byte == b'\r' && self.empty_lines < EMPTY_LINES => {
                self.empty_lines += 1;
                At::BeginLf
            }
            At::BeginLf if byte == b'\n' => At::Begin,
            At::BeginLf => return Err(Bad::LineEnd),
            At::Begin | At::Method if is_token(byte) && self.count < METHOD => {
                self.count += 1;
                At::Method
            }
            At::Method if byte == b' ' => At::Target,
            At::Target if is_target(byte) => {
                self.target_empty = false;
                At::Target
            }
            At::Target if byte == b' ' && !self.target_empty => At::Version(0),
            At::Version(so_far @ 0..7) if byte == b"HTTP/1."[so_far] => At::Version(so_far + 1),
            At::Version(7) if matches!(byte, b'0' | b'1') => {
                self.http10 = byte == b'0';
                At::LineCr
            }
            _ => return Err(Bad::RequestLine),
        })
    }

    fn field_line(&mut self, byte: u8) -> Result<At, Bad> {
        if self.in_trailers {
            self.count += 1;
            if self.count > TRAILERS {
                return Err(Bad::Trailer);
            }
        }
        Ok(match (self.at, byte) {
            (At::FieldBegin, b'\r') => At::HeadLf,
            (At::FieldBegin, _) if is_token(byte) => {
                self.word_len = 0;
                self.keep(byte.to_ascii_lowercase());
                At::Name
            }
            (At::Name, b':') => {
                self.field = self.named();
                if self.in_trailers && self.field != Field::Other {
                    return Err(Bad::Trailer);
                }
                self.word_len = 0;
                At::Value
            }
            (At::Name, _) if is_token(byte) => {
                self.keep(byte.to_ascii_lowercase());
                At::Name
            }
            (At::Value, b'\r') => {
                self.field_ends()?;
                At::ValueLf
            }
            (At::Value, b'\n') => return Err(Bad::LineEnd),
            (At::Value, _) if is_value(byte) => {
                if self.field.is_kept() {
                    self.keep(byte.to_ascii_lowercase());
                }
                At::Value
            }
            (At::FieldBegin, b'\n') => return Err(Bad::LineEnd),
            _ => return Err(Bad::Field),
        })
    }

    fn keep(&mut self, byte: u8) {
        if let Some(place) = self.word.get_mut(self.word_len) {
            *place = byte;
        }
        self.word_len = self.word_len.saturating_add(1);
    }

    /// The name or value as kept; longer ones match nothing.
    fn word(&self) -> Option<&[u8]> {
        self.word.get(..self.word_len)
    }

    fn named(&self) -> Field {
        match self.word() {
            Some(b"content-length") => Field::Length,
            Some(b"transfer-encoding") => Field::Encoding,
            Some(b"host") => Field::Host,
            _ => Field::Other,
        }
    }

    fn field_ends(&mut self) -> Result<(), Bad> {
        match self.field {
            Field::Other | Field::Host => {}
            Field::Length => {
                let length = self.word().and_then(|word| number(word.trim_ascii()));
                if self.length.is_some() || self.chunked {
                    return Err(Bad::Length);
                }
                self.length = Some(length.ok_or(Bad::Length)?);
            }
            Field::Encoding => {
                let is_chunked = self
                    .word()
                    .is_some_and(|word| word.trim_ascii() == b"chunked");
                if !is_chunked || self.chunked || self.length.is_some() || self.http10 {
                    return Err(Bad::Encoding);
                }
                self.chunked = true;
            }
        }
        Ok(())
    }

    fn head_ends(&mut self) -> At {
        if self.in_trailers {
            return self.next_request();
        }
        match (self.chunked, self.length) {
            (true, _) => {
                (self.size, self.digits) = (0, 0);
                At::Size
            }
            (false, None | Some(0)) => self.next_request(),
            (false, Some(length)) => At::Body(length),
        }
    }

    fn next_request(&mut self) -> At {
        let fresh = Self {
            at: At::Begin,
            ..Self::default()
        };
        *self = fresh;
        At::Begin
    }

    fn chunk(&mut self, byte: u8) -> Result<At, Bad> {
        Ok(match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() && self.digits < SIZE_DIGITS => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                self.digits += 1;
                At::Size
            }
            (At::Size, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Size, b';') if self.digits > 0 => {
                self.count = 0;
                At::Extension
            }
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, _) if is_value(byte) && self.count < EXTENSION => {
                self.count += 1;
                At::Extension
            }
            (At::SizeLf, b'\n') if self.size == 0 => {
                (self.in_trailers, self.count) = (true, 0);
                At::FieldBegin
            }
            (At::SizeLf, b'\n') => At::Chunk(self.size),
            (At::ChunkCr, b'\r') => At::ChunkLf,
            (At::ChunkLf, b'\n') => {
                (self.size, self.digits) = (0, 0);
                At::Size
            }
            _ => return Err(Bad::Chunk),
        })
    }
}

fn taken(left: u64, rest: &[u8]) -> usize {
    usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()))
}

/// A number of at most 18 digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `tchar` of RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether a byte is a `tchar`.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"!#$%&'*+-.^_`|~";
    let mut place = 0;
    while place < others.len() {
        table[others[place] as usize] = true;
        place += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        table[byte] |= (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// What may stand in a target: visible, and no fragment.
fn is_target(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && byte != b'#'
}

/// What may stand in a field's value.
fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

#[cfg(test)]
mod tests;
