//! The one test binary: every test of the project that is not a unit test is a module of it.

mod conformance;
