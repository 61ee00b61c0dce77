//! What a person at a terminal sees: lines, and progress that is redrawn in place.

pub mod print;
pub mod progress;
pub mod screen;
