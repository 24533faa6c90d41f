//! What a byte-level engine can do wrong, tried on every kind of call: each case states the exact error and what the client holds afterwards.
//!
//! Cases in memory run on a clock that stands still; those on real sockets run alone and count the descriptors of the process.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

#[path = "../support/mod.rs"]
mod support;

mod chunks;
mod cuts;
mod frames;
mod heads;
mod progress;
mod reach;
mod refusals;
mod restarts;
mod silence;
mod slow;
mod upgrades;
mod uploads;
mod values;
