//! The example's command.
#![forbid(unsafe_code)]

fn main() {}
