//! The program: arguments in, one command run, its outcome as an exit code.
fn main() {}
