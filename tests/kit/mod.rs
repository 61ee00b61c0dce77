//! What tests of the whole program stand on: a stack of its own for each test, and a look at the
//! engine past the product.
//!
//! Whatever a test makes is gone afterwards, also when it fails: each piece removes what is its own
//! when it is dropped.

pub(crate) mod assertions;
pub(crate) mod browser;
pub(crate) mod chance;
pub(crate) mod clients;
pub(crate) mod disk;
pub(crate) mod docker;
pub(crate) mod docker_cli;
pub(crate) mod foreign;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod old_stack;
pub(crate) mod private;
pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod stack;
pub(crate) mod tls;
