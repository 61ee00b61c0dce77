//! The product against a fake engine in which everything goes wrong: one test a fault of the list, and the daemon killed at
//! every call it makes.

#![expect(dead_code, reason = "a case can be looked at in more ways than the tests need so far")]
#![expect(clippy::needless_pass_by_value, reason = "a journey is given away to be made")]

mod case;
mod sweep;
mod traveller;
