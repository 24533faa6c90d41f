//! Serves exec, attach and port-forward sessions to Kubernetes clients over SPDY/3.1 and WebSocket.
#![forbid(unsafe_code)]

mod protocol_error;
// The codecs are public for the fuzz targets and the tests' clients only; they may change at any time.
#[doc(hidden)]
pub mod spdy;
#[doc(hidden)]
pub mod websocket;

#[doc(hidden)]
pub use protocol_error::ProtocolError;
