//! Makes the types and the two services of `proto/api.proto`.
//!
//! With protox, which is Rust: nobody who builds berth needs a `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTO: &str = "proto/api.proto";
    println!("cargo::rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure()
        // An order that is the same each time.
        .btree_map(".")
        .bytes(".runtime.v1.ExecSyncResponse")
        // Theirs are written by hand, in src/secrets.rs.
        .skip_debug([".runtime.v1.AuthConfig", ".runtime.v1.KeyValue"])
        .compile_fds(descriptors)?;
    Ok(())
}
