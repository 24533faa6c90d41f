//! Sessions from a client's side: what it sends, what it gets, and what is left when it goes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod port_forward;
mod server;
mod spdy_process;
mod support;
mod websocket_process;
