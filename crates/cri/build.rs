//! Makes the types and the two services of `proto/api.proto`, and the list of their methods.
//!
//! With protox, which is Rust: nobody who builds berth needs a `protoc`.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTO: &str = "proto/api.proto";
    println!("cargo::rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let methods = descriptors.file.iter().flat_map(|file| {
        file.service.iter().flat_map(|service| {
            let name = format!("{}.{}", file.package(), service.name());
            let methods = service.method.iter();
            methods.map(move |method| (name.clone(), method.name().to_owned()))
        })
    });
    // As Rust's literal of a slice.
    let mut methods: Vec<(String, String)> = methods.collect();
    methods.sort();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("methods.rs"), format!("&{methods:?}"))?;
    tonic_prost_build::configure()
        // An order that is the same each time.
        .btree_map(".")
        .bytes(".runtime.v1.ExecSyncResponse")
        // Theirs are written by hand, in src/secrets.rs.
        .skip_debug([".runtime.v1.AuthConfig", ".runtime.v1.KeyValue"])
        .compile_fds(descriptors)?;
    Ok(())
}
