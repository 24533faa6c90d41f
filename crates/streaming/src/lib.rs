//! Serves exec, attach and port-forward sessions to Kubernetes clients over SPDY/3.1 and WebSocket.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod forward;
mod link;
mod negotiate;
#[doc(hidden)]
pub mod process;
mod protocol_error;
mod resize;
mod server;
mod session;
// The codecs are public for the fuzz targets and the tests' clients only; they may change at any time.
#[doc(hidden)]
pub mod spdy;
mod status;
#[cfg(feature = "tls")]
mod tls;
mod token;
mod upgrade;
#[doc(hidden)]
pub mod websocket;

#[doc(hidden)]
pub use protocol_error::ProtocolError;
pub use server::{Server, ServerOptions};
pub use session::{
    Duplex, Outcome, Output, Resizes, Session, Stdin, Streams, TerminalSize, Wanted,
};
#[cfg(feature = "tls")]
pub use tls::{TlsError, server_config};
pub use token::RegisterError;
pub use upgrade::{Running, Timeouts, upgrade};
