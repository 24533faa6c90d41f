//! The Container Runtime Interface v1 over Docker Engine.
//!
//! Translates calls of the interface into those of `berth-pod`, and what that knows back. Refuses to know Docker: no type of its API is here,
//! and no decision about a pod.

mod authority;
mod calls;
mod deadline;
mod image_service;
mod listen;
mod metrics;
pub mod notify;
mod runtime_service;
mod secrets;
mod server;
mod sessions;
mod shown;
mod status;
mod usage;
mod wanted;

pub use listen::{Listen, ListenError, Socket, listen};
pub use runtime_service::SandboxDefaults;
pub use server::{ServeError, ServeOptions, serve};

/// The interface's types and services, made from `proto/api.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    reason = "made by a generator; the interface is documented in its proto file"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}
