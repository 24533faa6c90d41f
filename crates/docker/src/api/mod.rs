//! The calls of the Engine API, one method of [`Docker`] each, one file for each group.
//!
//! Owns routes, query parameters, deadline classes and which option needs which API version. What is common to all:
//!
//! - **Deadlines.** *Short* is the client's deadline for short calls (2 minutes unless configured) over connecting,
//!   sending, and reading the reply. Calls whose length is somebody else's business say what limits them instead.
//! - **Cancel safety.** Dropping a future closes its connection at once and leaves nothing behind here. What has
//!   reached the Engine may still be done there; where the Engine stops as well, the method says so.
//! - **Errors.** Every method fails with [`ErrorKind::Refused`](crate::ErrorKind::Refused) when the Engine says no
//!   (404 no such thing, 409 not in this state, 500 it broke), `NoAnswer`, `Malformed`, `TimedOut`, `Connect`, and
//!   `Invalid` when the arguments can't be sent or need a newer API than the Engine speaks. Methods list only what is
//!   special to them.
//!
//! Refuses to know connections and bytes; those are the client's.

use std::time::Duration;

use crate::client::{Docker, FrameStream, UpgradedWriter};
use crate::error::Error;
use crate::model::lenient::{Decoded, Lenient};
use crate::request::{Deadline, Method, Operation, Request, image_path, segment};
use crate::version::ApiVersion;

/// The deadline of work that takes as long as there is something to do: 10 minutes without a byte in either direction.
///
/// Of save, load, import and push: the Engine packs or unpacks whole images in a temporary folder before it answers, and waits
/// without a word while a registry stores a layer. Of prunes: it answers when everything is removed, and stops when nobody waits.
const WORK: Deadline = Deadline::Stream {
    idle: Some(Duration::from_secs(600)),
};

mod archive;
mod containers;
mod create;
mod exec;
mod images;
mod logs;
mod networks;
mod system;
mod transfer;
mod volumes;

pub use archive::{Archive, PutArchive};
pub use containers::{
    ListContainers, RemoveContainer, RestartContainer, Started, StopContainer, Stopped,
    TerminalSize, WaitCondition,
};
pub use exec::AttachOptions;
pub use images::{ImportImage, ListImages, LoadedImages, RemoveImage};
pub use logs::LogsOptions;
pub use system::{DiskUsageType, PruneBuildCacheOptions, SystemDfOptions};
pub use transfer::ProgressStream;

/// Both directions of a process: what an attach or an attached exec gives.
///
/// The connection stays open until both parts are dropped.
#[derive(Debug)]
pub struct Attached {
    /// The process's standard input. Shut it down to let the process read its end.
    pub input: UpgradedWriter,
    /// The process's output.
    pub output: FrameStream,
}

/// Something that only newer engines understand.
pub(crate) struct Gate {
    /// What it is, as the caller named it.
    pub(crate) what: &'static str,
    /// The first API version that has it.
    pub(crate) since: ApiVersion,
}

impl Gate {
    /// `what` came with API 1.`minor`.
    pub(crate) const fn new(what: &'static str, minor: u16) -> Self {
        Self {
            what,
            since: ApiVersion::new(1, minor),
        }
    }
}

impl Docker {
    /// Fails unless the engine understands everything asked for. Asks for the version only when there is a question.
    pub(crate) async fn require(&self, operation: Operation, gates: &[Gate]) -> Result<(), Error> {
        if gates.is_empty() {
            return Ok(());
        }
        let version = self.api_version().await?;
        match gates.iter().find(|gate| gate.since > version) {
            Some(Gate { what, since }) => Err(Error::invalid(
                operation,
                format!(
                    "{what} needs API {since}, and API {version} is spoken with {}; leave it out or update Docker Engine",
                    self.endpoint()
                ),
            )),
            None => Ok(()),
        }
    }

    /// Sends a request whose reply is a list; `null` is an empty one.
    pub(crate) async fn send_list<T: Lenient>(&self, request: Request) -> Result<Vec<T>, Error> {
        self.send_json::<Decoded<Vec<T>>>(request)
            .await
            .map(|decoded| decoded.0)
    }
}

/// A request about one object: `prefix`, the name as one segment of the path, `suffix`.
///
/// An empty name is refused here, because the path would be that of another call.
pub(crate) fn about(
    operation: Operation,
    method: Method,
    prefix: &str,
    name: &str,
    suffix: &str,
) -> Result<Request, Error> {
    if name.is_empty() {
        return Err(Error::invalid(operation, "the name or id is empty"));
    }
    Ok(Request::new(
        operation,
        method,
        format!("{prefix}/{}{suffix}", segment(name)),
    )
    .about(name))
}

/// A request about one image, whose name may have slashes.
pub(crate) fn about_image(
    operation: Operation,
    method: Method,
    prefix: &str,
    name: &str,
    suffix: &str,
) -> Result<Request, Error> {
    if name.is_empty() {
        return Err(Error::invalid(
            operation,
            "the name or id of the image is empty",
        ));
    }
    Ok(Request::new(
        operation,
        method,
        format!("{prefix}/{}{suffix}", image_path(name)),
    )
    .about(name))
}

/// A flag of a query: sent as `1` when it is set, left out otherwise.
pub(crate) fn flag(set: bool) -> Option<u8> {
    set.then_some(1)
}
