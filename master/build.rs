//! Generates the gRPC service from its definition, without protoc.

use std::error::Error;
use std::path::PathBuf;

const PROTO: &str = "quipu/v1/quipu.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_file(PROTO)?;
    // For reflection: clients read it at run time.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("quipu.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".quipu.v1.ResultChunk.data")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
