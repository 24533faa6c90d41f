//! Under construction.

pub mod pause;
