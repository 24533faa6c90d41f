//! WebSocket (RFC 6455) as Kubernetes clients speak it, without sockets and without a clock: frames, and the channels inside messages.
//!
//! There is a codec of our own because a message is a piece of a stream here and may have any length: clients send whole files as one.
//! It is handed on as it comes, in constant memory, where libraries gather it and need a limit that is too low for those clients or too
//! high for a small host.
//!
//! ```text
//!   bytes ──► frame ──► connection ──► channel ──► process  ──► events
//!                            │             └─────► forward  ──► events
//!                            └──► tunnel ──► bytes of SPDY
//! ```

pub mod channel;
pub mod connection;
pub mod forward;
pub mod frame;
pub mod handshake;
pub mod process;
pub mod tunnel;
