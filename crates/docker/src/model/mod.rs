//! The types of the Engine API that a kubelet and a general client use.
//!
//! Owns what requests and replies look like, from API 1.40 to today's and for Podman's imitation. Every field has a
//! default: `null`, an absent key and an older engine all read as that default, unknown keys are skipped and unknown
//! words of an enumeration are kept as `Other`. Build bodies with `..Default::default()`; fields at their default are
//! not sent. For what is not modelled here, send a request of your own with your own type.
//!
//! Refuses to know which call a type belongs to and which engine understands which field.

mod config;
mod container;
mod event;
mod exec;
mod filters;
mod image;
mod key_set;
pub(crate) mod lenient;
mod network;
mod progress;
mod stats;
mod system;
mod text_map;
mod time;
mod volume;

pub use config::*;
pub use container::*;
pub use event::{Event, EventActor, EventType};
pub(crate) use exec::{CreateExecResponse, StartExec};
pub use exec::{ExecConfig, ExecInspect, ProcessConfig};
pub use filters::Filters;
pub use image::*;
pub use key_set::KeySet;
pub use network::*;
pub use progress::{ErrorDetail, ProgressAux, ProgressDetail, ProgressMessage};
pub use stats::*;
pub use system::*;
pub use text_map::TextMap;
pub use time::Timestamp;
pub use volume::*;
