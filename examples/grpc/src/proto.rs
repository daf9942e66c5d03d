//! Owns what `build.rs` made of `proto/board.proto`.
#![allow(missing_docs, reason = "generated; the comments are in the .proto")]
#![allow(clippy::all, reason = "generated")]
#![allow(clippy::allow_attributes_without_reason, reason = "generated")]

tonic::include_proto!("sealane.board.v1");

/// What the reflection service shows.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/board.bin"));
