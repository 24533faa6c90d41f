//! What the benches are made of: a server that replays recorded replies, the raw peer, a real engine, and the measuring.
//!
//! Every result is a ratio between two things that were done in turns in the same process, so that it means the same on
//! a fast machine and on a slow one. The benches themselves, and bollard, are in `benches/`.

pub mod engine;
pub mod measure;
pub mod memory;
pub mod raw;
pub mod recorded;
pub mod replay;
pub mod suite;
