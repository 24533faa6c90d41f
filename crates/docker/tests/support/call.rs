//! Every way to read a reply, driven to its end, so that one fault can be tried on all of them.

use berth_docker::{
    Deadline, Docker, Error, ErrorKind, Framing, Method, Operation, Phase, Request, Source,
};
use serde_json::Value;

use super::fixture;

/// The operation of the calls here, so that their counts can be looked up.
pub(crate) const OPERATION: Operation = Operation::new("probe");

/// A way to read a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// The whole body, decoded.
    Json,
    /// The whole body.
    Reply,
    /// The body as it comes.
    Bytes,
    /// Its frames.
    Frames,
    /// Its lines, of at most 1 KiB.
    Lines,
    /// Its JSON values.
    Values,
    /// The frames of an upgraded connection.
    Upgrade,
}

/// All of them.
pub(crate) const ALL: [Call; 7] = [
    Call::Json,
    Call::Reply,
    Call::Bytes,
    Call::Frames,
    Call::Lines,
    Call::Values,
    Call::Upgrade,
];

/// Those that read a body as it comes.
pub(crate) const STREAMS: [Call; 5] = [
    Call::Bytes,
    Call::Frames,
    Call::Lines,
    Call::Values,
    Call::Upgrade,
];

/// What a call gave until its end.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The items as text. Pieces of one source in a row are joined, so that it does not matter how they were split.
    pub(crate) items: Vec<String>,
    /// Errors, in the order they came.
    pub(crate) errors: Vec<Error>,
}

impl Outcome {
    /// The one error the call must have ended with.
    pub(crate) fn error(&self) -> &Error {
        assert_eq!(self.errors.len(), 1, "one error was expected: {self:?}");
        &self.errors[0]
    }
}

impl Call {
    /// Whether the call gets a connection of its own and gives no deadline to the body.
    pub(crate) fn is_stream(self) -> bool {
        STREAMS.contains(&self)
    }

    /// A body that suits the call.
    pub(crate) fn body(self) -> Vec<u8> {
        match self {
            Self::Json | Self::Reply => fixture::recorded("exec-inspect-running.json"),
            Self::Bytes | Self::Frames | Self::Lines | Self::Upgrade => {
                fixture::recorded("logs-mux.bin")
            }
            Self::Values => fixture::recorded("events-health.ndjson"),
        }
    }

    /// A request of this kind with that deadline.
    pub(crate) fn request(self, deadline: Deadline) -> Request {
        let method = if self == Self::Upgrade {
            Method::Post
        } else {
            Method::Get
        };
        Request::new(OPERATION, method, "/probe")
            .about("it")
            .deadline(deadline)
    }

    /// Runs the call to its end.
    pub(crate) async fn run(self, docker: &Docker, deadline: Deadline) -> Outcome {
        self.send(docker, self.request(deadline)).await
    }

    /// Runs the call with any request to its end. Behind the end there must be nothing more.
    pub(crate) async fn send(self, docker: &Docker, request: Request) -> Outcome {
        let mut outcome = Outcome::default();
        macro_rules! drain {
            ($stream:expr, $item:ident => $source:expr, $text:expr) => {{
                let mut stream = $stream;
                let mut last = None;
                while let Some(item) = stream.next().await {
                    match item {
                        Ok($item) => {
                            let source: Option<Source> = $source;
                            match outcome.items.last_mut() {
                                Some(text) if source.is_some() && source == last => {
                                    text.push_str(&$text)
                                }
                                _ => outcome.items.push($text),
                            }
                            last = source;
                        }
                        Err(error) => outcome.errors.push(error),
                    }
                }
                for _ in 0..3 {
                    assert!(
                        stream.next().await.is_none(),
                        "{self:?} goes on behind its end"
                    );
                }
            }};
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Json => match docker.send_json::<Value>(request).await {
                Ok(value) => outcome.items.push(value.to_string()),
                Err(error) => outcome.errors.push(error),
            },
            Self::Reply => match docker.send(request).await {
                Ok(reply) => outcome.items.push(text(&reply.body)),
                Err(error) => outcome.errors.push(error),
            },
            Self::Upgrade => match docker.send_upgrade(request).await {
                Ok(upgraded) => {
                    let (reader, _writer) = upgraded.into_parts(Framing::Multiplexed);
                    drain!(reader, frame => Some(frame.source), text(&frame.bytes));
                }
                Err(error) => outcome.errors.push(error),
            },
            Self::Bytes | Self::Frames | Self::Lines | Self::Values => {
                match docker.send_stream(request).await {
                    Err(error) => outcome.errors.push(error),
                    Ok(stream) => match self {
                        Self::Frames => {
                            drain!(stream.frames(Framing::Multiplexed), frame => Some(frame.source), text(&frame.bytes))
                        }
                        Self::Lines => {
                            drain!(stream.frames(Framing::Multiplexed).lines(1024), line => None, text(&line.bytes))
                        }
                        Self::Values => {
                            drain!(stream.json::<Value>(), value => None, value.to_string())
                        }
                        _ => drain!(stream, piece => Some(Source::Stdout), text(&piece)),
                    },
                }
            }
        }
        outcome
    }
}

/// An error in the words of the fault tables: its kind, and for some what was under way and whether the request may have arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Refused(u16),
    NoAnswer(Phase, Sent),
    Malformed,
    TimedOut(Phase, Sent),
    Connect,
    Cancelled,
    Invalid,
    NoCommonVersion,
}

/// Whether a byte of the request had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    No,
}

/// The error in these words. Whether its effect is unknown must follow from them.
pub(crate) fn fault(error: &Error) -> Fault {
    let words = |sent: bool| if sent { Sent::Yes } else { Sent::No };
    let fault = match error.kind() {
        ErrorKind::Refused { status, .. } => Fault::Refused(*status),
        ErrorKind::NoAnswer { phase, sent, .. } => Fault::NoAnswer(*phase, words(*sent)),
        ErrorKind::Malformed { .. } => Fault::Malformed,
        ErrorKind::TimedOut { phase, sent, .. } => Fault::TimedOut(*phase, words(*sent)),
        ErrorKind::Connect { .. } => Fault::Connect,
        ErrorKind::Cancelled { .. } => Fault::Cancelled,
        ErrorKind::Invalid { .. } => Fault::Invalid,
        ErrorKind::NoCommonVersion { .. } => Fault::NoCommonVersion,
        other => panic!("an error of a new kind: {other:?}"),
    };
    let unknown = match &fault {
        Fault::NoAnswer(_, sent) | Fault::TimedOut(_, sent) => *sent == Sent::Yes,
        Fault::Malformed | Fault::Cancelled => true,
        Fault::Refused(_) | Fault::Connect | Fault::Invalid | Fault::NoCommonVersion => false,
    };
    assert_eq!(error.effect_is_unknown(), unknown, "{error}");
    assert!(
        !error.to_string().contains('\n'),
        "an error is one line: {error}"
    );
    fault
}
