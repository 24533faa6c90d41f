//! The Container Runtime Interface v1 over Docker Engine.

/// The interface's types and services, made from `proto/api.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "made by a generator; the interface is documented in its proto file"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}
