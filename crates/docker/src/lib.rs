//! A Docker Engine API client: typed calls with deadlines, cancellation, bounded streams and version negotiation.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod api;
pub mod auth;
mod client;
mod config_error;
mod config_file;
mod context;
mod custom_header;
mod endpoint;
mod environment;
mod error;
pub mod events;
pub mod model;
mod options;
pub mod pull;
pub mod reference;
mod request;
mod transport;
mod version;
// Public for the fuzz targets only; it may change at any time.
#[doc(hidden)]
pub mod wire;

pub use client::{
    Builder, ByteStream, DEFAULT_CONNECT_DEADLINE, DEFAULT_DEADLINE, Docker, Frame, FrameStream,
    Framing, JsonStream, LineStream, MAX_BODY, Metrics, Reply, Upgraded, UpgradedWriter,
};
pub use config_error::ConfigError;
pub use endpoint::Endpoint;
pub use environment::Environment;
pub use error::{ConnectReason, Error, ErrorKind, Phase};
pub use options::{ConnectOptions, EndpointSource, TlsFiles};
pub use request::{Body, Deadline, Method, Operation, Request, image_path, segment};
pub use transport::Dialer;
pub use version::ApiVersion;
pub use wire::frame::Source;
pub use wire::head::Headers;
pub use wire::line::Line;
