//! What the benches are made of: a server that replays recorded replies, the raw peer, and the measuring.
//!
//! Every result is a ratio between two things that were done in turns in the same process, so that it means the same on
//! a fast machine and on a slow one. The benches themselves, and bollard, are in `benches/`.

pub mod measure;
pub mod raw;
pub mod recorded;
pub mod replay;
