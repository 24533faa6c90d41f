//! What the client does on the wire: the bytes of its requests, the version it agrees on, which connections it uses again, and that streams
//! and short calls do not get in each other's way.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

#[path = "../support/mod.rs"]
mod support;

mod lanes;
mod negotiation;
mod pool;
mod request;
