//! Pods on the fake engine.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod engine;
mod leftovers;
mod network;
mod turns;
mod view;
