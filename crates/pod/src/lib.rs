//! Kubernetes pods on one Docker Engine: sandboxes, containers, images.
//!
//! This crate has a vocabulary of its own ([`spec`]); neither the kubelet's types nor Docker's JSON cross its edge. What the engine has is
//! read back from labels ([`observe`]). On the host there are two records beside them: how far each log has come ([`logs`]), and who is in which
//! network of plugins ([`cni`]).

mod apparmor;
pub mod cni;
pub mod config;
pub mod engine;
pub mod image;
pub mod labels;
pub mod logs;
pub mod netns;
pub mod observe;
pub mod oom;
pub mod pause;
pub mod pods;
pub mod request;
mod runtime;
pub mod spec;
pub mod stats;
// Public for the fuzz targets only; it may change at any time.
#[doc(hidden)]
pub mod users;
pub mod view;
mod volume;

pub use runtime::{Error, Runtime};
