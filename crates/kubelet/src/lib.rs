//! The node agent: what should run on this host, and the next step towards it.

pub mod env;
pub mod manifest;
pub mod name;
pub mod pod;
pub mod quantity;
