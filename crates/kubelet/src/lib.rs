//! The node agent: what should run on this host, and the next step towards it.

pub mod name;
pub mod quantity;
