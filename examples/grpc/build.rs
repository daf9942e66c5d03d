//! Makes the stubs of `proto/board.proto`: protox reads it, so no protoc is needed.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/board.proto");
    let files = protox::compile(["proto/board.proto"], ["proto"])?;
    // For the reflection service.
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("board.bin"), files.encode_to_vec())?;
    // No transport of tonic's: the stubs take any service.
    tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    Ok(())
}
