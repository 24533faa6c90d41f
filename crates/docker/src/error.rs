//! The one error type of the client, split by what a caller can do about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::request::Operation;
use crate::version::ApiVersion;

/// The part of a call that was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reaching the engine: dialing, TLS.
    Connect,
    /// Sending the request.
    Write,
    /// Waiting for the head of the reply.
    Headers,
    /// Reading the body of the reply, or the stream.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Write => "sending the request",
            Self::Headers => "waiting for the reply",
            Self::Body => "reading the reply",
        })
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The engine answered that it will not or could not: its status and message. A failure reported inside a 200 stream (pull, push,
    /// load, import) has status 200.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's words, from a JSON, plain-text or HTML body.
        message: String,
    },
    /// The connection ended before the reply did.
    NoAnswer {
        /// What was under way.
        phase: Phase,
        /// Whether any byte of the request may have reached the engine. If so, and the call changes something, its effect is unknown.
        sent: bool,
        /// What the system said.
        cause: String,
    },
    /// The reply is not what the protocol allows, or not the JSON the call expects.
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// A deadline passed.
    TimedOut {
        /// What was under way.
        phase: Phase,
        /// Whether any byte of the request may have reached the engine.
        sent: bool,
        /// The deadline that passed.
        after: Duration,
        /// What was last seen, for calls that show progress.
        last: Option<String>,
    },
    /// We broke the call off: the body to be sent could not be read from its source.
    Cancelled {
        /// What happened to the source.
        cause: String,
    },
    /// The engine cannot be reached. Nothing was sent.
    Connect {
        /// What kind of obstacle it is.
        reason: ConnectReason,
        /// What the system said.
        cause: String,
    },
    /// The call cannot be made with these arguments, or by this API version. Nothing was sent.
    Invalid {
        /// What is wrong and what to do instead.
        message: String,
    },
    /// The engine and this client have no API version in common.
    NoCommonVersion {
        /// What the engine speaks at most, or at least when it is too new.
        engine: ApiVersion,
        /// The client's bound that it misses.
        client: ApiVersion,
    },
}

/// Why an engine cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectReason {
    /// There is no socket at that path.
    NoSuchSocket,
    /// The socket or port is there, but nobody listens.
    NotRunning,
    /// The user may not open the socket.
    NoPermission,
    /// The host name has no address.
    UnknownHost,
    /// TLS failed: certificates, names, or the peer does not speak it.
    Tls,
    /// This system has no such transport.
    Unsupported,
    /// Anything else.
    Other,
}

impl ConnectReason {
    /// What to try, in one sentence.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NoSuchSocket => {
                "is Docker Engine installed and started? Another engine is named with DOCKER_HOST or a docker context"
            }
            Self::NotRunning => "start Docker Engine (systemctl start docker, or dockerd)",
            Self::NoPermission => {
                "run as root, or add the user to the socket's group (usually docker) and log in again"
            }
            Self::UnknownHost => "check the host's name in DOCKER_HOST or the docker context",
            Self::Tls => "check the certificates (DOCKER_CERT_PATH) and that the port speaks TLS",
            Self::Unsupported => "use unix:// or tcp:// on this system",
            Self::Other => "check the endpoint, and that Docker Engine runs there",
        }
    }
}

/// A failed call: what was asked, of whom, and why it failed.
///
/// `Display` gives one line with all of it: `inspect container web: No such container: web (status 404, unix:///var/run/docker.sock)`.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    operation: Operation,
    subject: Option<String>,
    endpoint: Option<Arc<str>>,
    kind: ErrorKind,
    /// Whether it is certain that the request was not sent, although another one was before it.
    unsent: bool,
}

impl Error {
    pub(crate) fn new(operation: Operation, kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            operation,
            subject: None,
            endpoint: None,
            kind,
            unsent: false,
        }))
    }

    pub(crate) fn invalid(operation: Operation, message: impl Into<String>) -> Self {
        Self::new(
            operation,
            ErrorKind::Invalid {
                message: message.into(),
            },
        )
    }

    pub(crate) fn refused(operation: Operation, status: u16, message: impl Into<String>) -> Self {
        Self::new(
            operation,
            ErrorKind::Refused {
                status,
                message: message.into(),
            },
        )
    }

    pub(crate) fn malformed(operation: Operation, what: impl Into<String>) -> Self {
        Self::new(operation, ErrorKind::Malformed { what: what.into() })
    }

    pub(crate) fn timed_out(operation: Operation, phase: Phase, after: Duration) -> Self {
        Self::new(
            operation,
            ErrorKind::TimedOut {
                phase,
                sent: phase != Phase::Connect,
                after,
                last: None,
            },
        )
    }

    /// Adds what was last seen to a time-out.
    pub(crate) fn last_seen(mut self, seen: impl Into<String>) -> Self {
        if let ErrorKind::TimedOut { last, .. } = &mut self.0.kind {
            *last = Some(seen.into());
        }
        self
    }

    /// Says that it happened on the way to another call, whose own request has not been sent.
    pub(crate) fn before(mut self, operation: Operation) -> Self {
        self.0.operation = operation;
        self.0.unsent = true;
        if let ErrorKind::NoAnswer { sent, .. } | ErrorKind::TimedOut { sent, .. } =
            &mut self.0.kind
        {
            *sent = false;
        }
        self
    }

    /// Fills in what the error is about and where it came from, as far as it is not known yet.
    pub(crate) fn located(mut self, subject: Option<&str>, endpoint: &Arc<str>) -> Self {
        if self.0.subject.is_none() {
            self.0.subject = subject.map(str::to_owned);
        }
        self.0.endpoint.get_or_insert_with(|| endpoint.clone());
        self
    }

    /// Why the call failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Which call failed.
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// The status the engine refused with, if it did.
    pub fn status(&self) -> Option<u16> {
        match self.0.kind {
            ErrorKind::Refused { status, .. } => Some(status),
            _ => None,
        }
    }

    /// The engine's own words, if it answered; otherwise an empty string.
    pub fn message(&self) -> &str {
        match &self.0.kind {
            ErrorKind::Refused { message, .. } | ErrorKind::Invalid { message } => message,
            _ => "",
        }
    }

    /// The engine answered, and the answer is no.
    pub fn is_refused(&self) -> bool {
        self.status().is_some()
    }

    /// 404: the container, image, network, volume or exec is not there.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// 409: the name is taken, or the state of the thing forbids the call.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// 401 or 403: the engine, a proxy or a registry wants other credentials.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// A deadline passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, ErrorKind::TimedOut { .. })
    }

    /// The engine cannot be reached; nothing was sent.
    pub fn is_connect(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Connect { .. }
                | ErrorKind::TimedOut {
                    phase: Phase::Connect,
                    ..
                }
        )
    }

    /// The call may or may not have had its effect: it reached the engine, and no complete answer came back. Look before asking again.
    pub fn effect_is_unknown(&self) -> bool {
        match self.0.kind {
            ErrorKind::NoAnswer { sent, .. } | ErrorKind::TimedOut { sent, .. } => sent,
            ErrorKind::Malformed { .. } | ErrorKind::Cancelled { .. } => !self.0.unsent,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            operation,
            subject,
            endpoint,
            kind,
            ..
        } = &*self.0;
        write!(f, "{operation}")?;
        if let Some(subject) = subject {
            write!(f, " {subject}")?;
        }
        f.write_str(": ")?;
        let endpoint = endpoint.as_deref().unwrap_or("the engine");
        let unknown = |sent: bool| {
            if sent {
                "; whether it took effect is unknown"
            } else {
                "; nothing was sent"
            }
        };
        match kind {
            ErrorKind::Refused {
                status: 200,
                message,
            } => write!(f, "{message} (reported by {endpoint} while it worked)"),
            ErrorKind::Refused { status, message } => {
                write!(f, "{message} (status {status}, {endpoint})")
            }
            ErrorKind::NoAnswer { phase, sent, cause } => {
                write!(
                    f,
                    "the connection to {endpoint} ended while {phase}: {cause}{}",
                    unknown(*sent)
                )
            }
            ErrorKind::Malformed { what } => {
                write!(f, "the reply of {endpoint} is malformed: {what}")
            }
            ErrorKind::TimedOut {
                phase,
                sent,
                after,
                last,
            } => {
                write!(
                    f,
                    "{endpoint} did not get further within {after:?} while {phase}"
                )?;
                if let Some(last) = last {
                    write!(f, " (last seen: {last})")?;
                }
                f.write_str(unknown(*sent))
            }
            ErrorKind::Cancelled { cause } => write!(
                f,
                "broken off, because what was to be sent could not be read: {cause}"
            ),
            ErrorKind::Connect { reason, cause } => write!(
                f,
                "cannot connect to {endpoint}: {cause}; {}",
                reason.hint()
            ),
            ErrorKind::Invalid { message } => f.write_str(message),
            ErrorKind::NoCommonVersion { engine, client } if engine < client => {
                write!(
                    f,
                    "{endpoint} speaks API {engine} at most, and {client} is the oldest supported; update Docker Engine"
                )
            }
            ErrorKind::NoCommonVersion { engine, client } => {
                write!(
                    f,
                    "{endpoint} speaks API {engine} at least, and {client} is the newest supported; update this program"
                )
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {}
