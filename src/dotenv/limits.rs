//! Bounds of what is read, each far above any real file: what grows beyond them was made to hurt.

/// The longest file, in bytes. Real ones have a few thousand; a licence takes one thousand.
pub const MAX_FILE: usize = 1 << 20;
/// The most statements of all files together. The vendor's longest sample has thirty.
pub const MAX_STATEMENTS: usize = 10_000;
/// The deepest nesting of references, as in `${A:-${B:-c}}`. People write two.
pub const MAX_DEPTH: usize = 100;
/// The most bytes that references may bring in, over all values of all files.
pub const MAX_EXPANDED: usize = 8 << 20;
