//! One request as the caller means it: operation, method, path, body, deadline. It knows neither version nor connection.
//!
//! This is also the escape hatch for engine calls that have no typed method: build a [`Request`] and give it to
//! [`Docker::send_json`](crate::Docker::send_json), [`send`](crate::Docker::send), [`send_stream`](crate::Docker::send_stream) or
//! [`send_upgrade`](crate::Docker::send_upgrade); it runs on the same pool, with the same deadlines and metrics.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;

/// The name of a call in metrics, spans and errors, spelled as the kubelet's `docker_operations` metrics spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operation(&'static str);

macro_rules! operations {
    ($($name:ident = $text:literal,)*) => {
        impl Operation {
            $(#[doc = concat!("`", $text, "`")] pub const $name: Self = Self($text);)*

            /// Every operation of this client.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

operations! {
    LIST_CONTAINERS = "list_containers",
    INSPECT_CONTAINER = "inspect_container",
    CREATE_CONTAINER = "create_container",
    START_CONTAINER = "start_container",
    STOP_CONTAINER = "stop_container",
    RESTART_CONTAINER = "restart_container",
    KILL_CONTAINER = "kill_container",
    REMOVE_CONTAINER = "remove_container",
    RENAME_CONTAINER = "rename_container",
    UPDATE_CONTAINER = "update_container",
    PAUSE_CONTAINER = "pause_container",
    UNPAUSE_CONTAINER = "unpause_container",
    WAIT_CONTAINER = "wait_container",
    TOP = "top",
    CHANGES = "changes",
    STATS = "stats",
    RESIZE_CONTAINER_TTY = "resize_container_tty",
    PRUNE_CONTAINERS = "prune_containers",
    EXPORT_CONTAINER = "export_container",
    LOGS = "logs",
    ATTACH = "attach",
    CREATE_EXEC = "create_exec",
    START_EXEC = "start_exec",
    INSPECT_EXEC = "inspect_exec",
    RESIZE_EXEC_TTY = "resize_exec_tty",
    GET_ARCHIVE = "get_archive",
    PUT_ARCHIVE = "put_archive",
    STAT_ARCHIVE = "stat_archive",
    LIST_IMAGES = "list_images",
    INSPECT_IMAGE = "inspect_image",
    IMAGE_HISTORY = "image_history",
    PULL_IMAGE = "pull_image",
    PUSH_IMAGE = "push_image",
    TAG_IMAGE = "tag_image",
    REMOVE_IMAGE = "remove_image",
    LOAD_IMAGE = "load_image",
    SAVE_IMAGE = "save_image",
    IMPORT_IMAGE = "import_image",
    PRUNE_IMAGES = "prune_images",
    INSPECT_DISTRIBUTION = "inspect_distribution",
    LIST_NETWORKS = "list_networks",
    INSPECT_NETWORK = "inspect_network",
    CREATE_NETWORK = "create_network",
    CONNECT_NETWORK = "connect_network",
    DISCONNECT_NETWORK = "disconnect_network",
    REMOVE_NETWORK = "remove_network",
    PRUNE_NETWORKS = "prune_networks",
    LIST_VOLUMES = "list_volumes",
    INSPECT_VOLUME = "inspect_volume",
    CREATE_VOLUME = "create_volume",
    REMOVE_VOLUME = "remove_volume",
    PRUNE_VOLUMES = "prune_volumes",
    PRUNE_BUILD_CACHE = "prune_build_cache",
    PING = "ping",
    VERSION = "version",
    INFO = "info",
    AUTH = "auth",
    EVENTS = "events",
    DISK_USAGE = "disk_usage",
    NEGOTIATE = "negotiate",
}

impl Operation {
    /// An operation of your own. Keep the set of names small: each is a label value in the metrics.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name as it appears in metrics.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl Display for Operation {
    /// The name in words: `inspect container`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in self.0.split_inclusive('_') {
            match part.strip_suffix('_') {
                Some(word) => write!(f, "{word} ")?,
                None => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// The HTTP methods the Engine API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Read the head only.
    Head,
    /// Make or change.
    Post,
    /// Replace.
    Put,
    /// Remove.
    Delete,
}

impl Method {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether asking twice is the same as asking once, for any path of the API.
    pub(crate) const fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// The client's deadline for short calls (2 minutes unless configured), over connect, write, headers and body together.
    Short,
    /// Another deadline over the whole call.
    Total(Duration),
    /// No overall limit; the call fails only when no byte moves in either direction for `idle`. `None` waits for ever: for follows and
    /// waits, whose replies may have nothing to say for days. Connecting still has the client's connect deadline.
    Stream {
        /// The longest silence that is accepted.
        idle: Option<Duration>,
    },
}

/// What a request carries.
pub enum Body {
    /// Nothing.
    Empty,
    /// Bytes in memory, sent with their length. Sent again if the request has to be.
    Bytes(Bytes),
    /// A stream of unknown length, sent in chunks. It cannot be sent twice, so such a request is never retried.
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl std::fmt::Debug for Body {
    /// Only the kind and the size: bodies hold environment variables and credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// A request below the version prefix of the API.
#[derive(Debug)]
pub struct Request {
    pub(crate) operation: Operation,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    pub(crate) json: bool,
    pub(crate) deadline: Deadline,
    pub(crate) subject: Option<String>,
    pub(crate) unversioned: bool,
    /// What makes the request impossible to send; reported when it is sent.
    pub(crate) fault: Option<String>,
}

/// Extra header fields. A type of its own, so that `Debug` cannot show a credential.
#[derive(Default)]
pub(crate) struct Headers(pub(crate) Vec<(&'static str, String)>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Request {
    /// A request for `path`, which starts with a slash, has no version and is already percent-encoded (see [`segment`]).
    pub fn new(operation: Operation, method: Method, path: impl Into<String>) -> Self {
        let path = path.into();
        let fault = (!path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f))
            .then(|| format!("the path {path:?} does not start with \"/\" or has characters that must be percent-encoded"));
        Self {
            operation,
            method,
            path,
            headers: Headers::default(),
            body: Body::Empty,
            json: false,
            deadline: Deadline::Short,
            subject: None,
            unversioned: false,
            fault,
        }
    }

    /// Adds a query parameter, percent-encoded.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl Display) -> Self {
        self.path
            .push(if self.path.contains('?') { '&' } else { '?' });
        encode(&mut self.path, key, false);
        self.path.push('=');
        encode(&mut self.path, &value.to_string(), false);
        self
    }

    /// Adds a query parameter if there is a value.
    #[must_use]
    pub fn query_some(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Adds a header field. The value never appears in a log or an error.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if value
            .bytes()
            .any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
        {
            self.fault = Some(format!(
                "the value of the header {name} has control characters"
            ));
        }
        self.headers.0.push((name, value));
        self
    }

    /// Sets the body to `body` as JSON. A value that cannot be serialised is reported when the request is sent.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body = Body::Bytes(bytes.into()),
            Err(error) => self.fault = Some(format!("its body cannot be written as JSON: {error}")),
        }
        self.json = true;
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Sets the deadline; [`Deadline::Short`] unless said otherwise.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Says what the request is about, as errors and spans will: `web` in "inspect container web: …".
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sends the path as it is, without a version. Only for `/_ping` and `/version`, which answer before a version is agreed on.
    #[must_use]
    pub(crate) fn unversioned(mut self) -> Self {
        self.unversioned = true;
        self
    }
}

/// Percent-encodes one segment of a path; a slash becomes `%2F`, so a name cannot reach another route.
pub fn segment(text: &str) -> Cow<'_, str> {
    encoded(text, false)
}

/// Percent-encodes the name of an image for a path, keeping `/`, `:` and `@`, which the Engine's routes expect as they are.
pub fn image_path(name: &str) -> Cow<'_, str> {
    encoded(name, true)
}

fn encoded(text: &str, image: bool) -> Cow<'_, str> {
    // A segment of only dots would be resolved away by proxies; no container, exec or image has such a name.
    if text.bytes().all(|byte| is_plain(byte, image))
        && text
            .split('/')
            .all(|part| !part.is_empty() && !part.bytes().all(|byte| byte == b'.'))
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for (index, part) in text.split('/').enumerate() {
        if index > 0 {
            out.push_str(if image { "/" } else { "%2F" });
        }
        if !part.is_empty() && part.bytes().all(|byte| byte == b'.') {
            for _ in part.bytes() {
                out.push_str("%2E");
            }
        } else {
            encode(&mut out, part, image);
        }
    }
    Cow::Owned(out)
}

fn encode(out: &mut String, text: &str, image: bool) {
    for byte in text.bytes() {
        if is_plain(byte, image) {
            out.push(byte as char);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn is_plain(byte: u8, image: bool) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b'~')
        || (image && matches!(byte, b'/' | b':' | b'@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_reach_another_route() {
        assert_eq!(
            segment("../images?x#y z\r\n"),
            "%2E%2E%2Fimages%3Fx%23y%20z%0D%0A"
        );
        assert_eq!(segment("web_1.a-b"), "web_1.a-b");
        assert_eq!(
            image_path("reg:5000/a/b@sha256:00"),
            "reg:5000/a/b@sha256:00"
        );
        assert_eq!(image_path("../../containers"), "%2E%2E/%2E%2E/containers");
    }

    #[test]
    fn query_values_are_encoded() {
        let request = Request::new(Operation::LIST_CONTAINERS, Method::Get, "/containers/json")
            .query("all", true)
            .query_some("limit", None::<u32>)
            .query("filters", "{\"label\":[\"a=b&c\"]}");
        assert_eq!(
            request.path,
            "/containers/json?all=true&filters=%7B%22label%22%3A%5B%22a%3Db%26c%22%5D%7D"
        );
        assert!(request.fault.is_none());
    }

    #[test]
    fn what_would_break_the_head_is_refused() {
        let header = Request::new(Operation::PING, Method::Get, "/_ping")
            .header("X-Registry-Auth", "a\r\nHost: evil");
        assert!(header.fault.is_some());
        assert!(!format!("{header:?}").contains("evil"));
        assert!(
            Request::new(Operation::PING, Method::Get, "/a b")
                .fault
                .is_some()
        );
        assert!(
            Request::new(Operation::PING, Method::Get, "ping")
                .fault
                .is_some()
        );
    }

    #[test]
    fn operations_read_as_words() {
        assert_eq!(
            Operation::INSPECT_CONTAINER.to_string(),
            "inspect container"
        );
        assert_eq!(Operation::PING.to_string(), "ping");
    }
}
