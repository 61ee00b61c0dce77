//! As much of an ELF file (elf(5), 64 bits, little-endian) as says whether it is static and
//! stripped.

const INTERPRETER: u32 = 3;
const SYMBOLS: u32 = 2;

/// What a program's file tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elf {
    /// It is loaded by another program, which loads shared libraries.
    pub(crate) has_interpreter: bool,
    /// It carries a symbol table.
    pub(crate) has_symbols: bool,
}

/// Reads the headers.
pub(crate) fn read(bytes: &[u8]) -> Elf {
    assert_eq!(
        bytes[..6],
        *b"\x7fELF\x02\x01",
        "a program for 64-bit little-endian Linux"
    );
    let segments = entries(bytes, 0x20, 0x36);
    let sections = entries(bytes, 0x28, 0x3a);
    Elf {
        has_interpreter: segments
            .iter()
            .any(|at| number(bytes, *at, 4) == u64::from(INTERPRETER)),
        has_symbols: sections
            .iter()
            .any(|at| number(bytes, *at + 4, 4) == u64::from(SYMBOLS)),
    }
}

/// Where the entries of a table of headers begin; the table's place is written at one offset, size
/// and number at another.
fn entries(bytes: &[u8], place: usize, sizes: usize) -> Vec<usize> {
    let first = number(bytes, place, 8) as usize;
    let (size, count) = (
        number(bytes, sizes, 2) as usize,
        number(bytes, sizes + 2, 2) as usize,
    );
    (0..count).map(|index| first + index * size).collect()
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size]
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
