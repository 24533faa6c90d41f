//! What the engine promises, checked on the wire.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod client;
mod clock;
mod events;
mod faults;
mod files;
mod images;
mod lifecycle;
mod lists;
mod resources;
mod scripts;
mod shell;
mod streams;
mod versions;
