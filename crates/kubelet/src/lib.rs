//! The node agent: what should run on this host, and the next step towards it.

pub mod backoff;
pub mod decide;
pub mod env;
pub mod hash;
pub mod history;
pub mod manifest;
pub mod name;
pub mod notice;
pub mod observed;
pub mod pod;
pub mod quantity;
mod ran;
pub mod status;
pub mod translate;
mod volume;
pub mod worker;
#[cfg(test)]
mod world;
