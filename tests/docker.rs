//! The product on the real engine: what a person types, what the engine then shows.

mod start;
mod supervise;
