//! Owns the C side of libibverbs and libmlx5, as types: all of it is written by `bindings.sh` and none of it by hand.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_op_in_unsafe_fn,
    reason = "generated: C's names, and C's promises, which are in the manual pages"
)]

mod types;
mod verbs;
mod mlx5;

pub use mlx5::Mlx5;
pub use types::*;
pub use verbs::Verbs;
