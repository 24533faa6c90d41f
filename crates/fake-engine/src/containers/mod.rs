//! Owns containers: what one is, how it lives, and the requests about it.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod conflicts;
pub(crate) mod container;
pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod lifecycle;
pub(crate) mod links;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod requests;
pub(crate) mod stats;
pub(crate) mod top;
pub(crate) mod views;

/// How messages about a container begin; engines before API 1.44 began them with a capital.
fn subject(api: crate::version::ApiVersion, id: &str) -> String {
    format!(
        "{} {id}",
        if api.at_least(44) {
            "container"
        } else {
            "Container"
        }
    )
}
