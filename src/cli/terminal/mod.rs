//! What a person at a terminal sees: lines, and progress that is redrawn in place.

pub mod foreign;
pub mod measure;
pub mod print;
pub mod progress;
pub mod screen;
pub mod table;
