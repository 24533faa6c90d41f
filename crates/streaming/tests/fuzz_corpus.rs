//! The fuzz targets over their kept corpus, and over mutations of it: what stable Rust can do of `cargo fuzz run`.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

#[path = "../../../dev/fuzz_replay.rs"]
mod replay;
#[path = "../fuzz/src/targets.rs"]
mod targets;

replay::targets! { spdy_frames, spdy_headers, spdy_process, spdy_forward, websocket_process, websocket_forward, }
