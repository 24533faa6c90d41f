//! SPDY/3.1 as Kubernetes clients speak it, without sockets and without a clock: frames, header blocks, streams, and what exec and
//! port-forward make of them.
//!
//! What the clients never use is not here: no flow control, no push, no settings, no priorities, no client side.
//!
//! ```text
//!   bytes ──► frame ──► header ──► connection ──► process  ──► events
//!                                            └──► forward  ──► events
//! ```

pub mod connection;
pub mod dictionary;

pub mod forward;
pub mod frame;
pub mod header;
pub mod process;
