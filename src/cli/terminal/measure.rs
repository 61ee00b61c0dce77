//! How large a terminal is, and how much room text takes on it.

/// The size of a terminal that does not tell its own.
const USUAL: Size = Size {
    columns: 80,
    rows: 24,
};

/// The terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

/// The size of the terminal behind this.
pub fn size_of(terminal: impl std::os::fd::AsFd) -> Size {
    let told = rustix::termios::tcgetwinsize(terminal).ok();
    let told = told.filter(|told| told.ws_col > 0 && told.ws_row > 0);
    told.map_or(USUAL, |told| Size {
        columns: told.ws_col.into(),
        rows: told.ws_row.into(),
    })
}

/// How many columns a text takes.
pub fn width(line: &str) -> usize {
    line.chars().map(width_of).sum()
}

/// How many columns a character takes: two for those of East Asia and for pictures.
pub fn width_of(letter: char) -> usize {
    match u32::from(letter) {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60 => 2,
        0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
