//! Owns images: the store, the requests about it, and what comes from registries.

pub(crate) mod library;
pub(crate) mod pull;
pub(crate) mod requests;
pub(crate) mod shelf;
pub(crate) mod store;
pub(crate) mod tarball;
