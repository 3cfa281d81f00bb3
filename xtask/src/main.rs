//! Project tasks: `cargo xtask test` and its parts.

fn main() {}
