//! From a request to a running session: the way in for every server, ours and others.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::link::{Link, Lost};
use crate::negotiate::{Agreed, Purpose, Refusal, negotiate, refuse};
use crate::session::{Duplex, Kind, Session};
use crate::websocket::tunnel::Tunnel;
use crate::{forward, process, spdy, websocket};

/// How long a session may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For any byte to come or go. The kubelet's `streamingConnectionIdleTimeout`, 4 hours by default. Clients ping every few seconds,
    /// so it ends only sessions whose client is old or gone.
    pub idle: Duration,
    /// For the client's streams to be all there, and for the second stream of a forwarded connection. Upstream's
    /// `DefaultStreamCreationTimeout`, 30 seconds.
    pub streams: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            idle: Duration::from_secs(4 * 60 * 60),
            streams: Duration::from_secs(30),
        }
    }
}

/// A session whose client has been found. It begins when the [response](upgrade) has been sent and [`run`](Running::run) is polled.
#[must_use = "the session runs only when it is asked to"]
pub struct Running {
    agreed: Agreed,
    session: Session,
    ports: Vec<u16>,
    timeouts: Timeouts,
    connection: OnUpgrade,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("protocol", &self.agreed)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Answers a request for a session. The response has to be sent as it is, on a connection that is served with upgrades; after that
/// [`Running::run`] speaks with the client. Without a session the response is a refusal: 400, 403 or 405 with a text for people.
///
/// Who may have the session is not asked here.
pub fn upgrade<B>(
    request: &mut Request<B>,
    session: Session,
    timeouts: Timeouts,
) -> (Response<String>, Option<Running>) {
    match agree(request, &session) {
        Ok((agreed, response, ports)) => {
            let running = Running {
                agreed,
                session,
                ports,
                timeouts,
                connection: hyper::upgrade::on(request),
            };
            (response, Some(running))
        }
        Err(refusal) => (*refusal, None),
    }
}

/// The protocol, the response, and the ports if the protocol has to know them beforehand.
fn agree<B>(
    request: &Request<B>,
    session: &Session,
) -> Result<(Agreed, Response<String>, Vec<u16>), Refusal> {
    let purpose = match &session.0 {
        Kind::Process { wanted, .. } if !wanted.any() => {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "you must specify at least 1 of stdin, stdout, stderr".to_owned(),
            ));
        }
        Kind::Process { .. } => Purpose::Process,
        Kind::PortForward { .. } => Purpose::Forward,
    };
    let (agreed, response) = negotiate(
        request.method(),
        request.version(),
        request.headers(),
        purpose,
    )?;
    let ports = match (&session.0, agreed) {
        (Kind::PortForward { ports, .. }, Agreed::WebSocketForward(_)) => {
            websocket::forward::ports(ports, request.uri().query().unwrap_or_default())
                .map_err(|what| refuse(StatusCode::BAD_REQUEST, what))?
        }
        _ => Vec::new(),
    };
    Ok((agreed, response, ports))
}

impl Running {
    /// Runs the session until it is over, or until `stop` is ready: then the client is told so, as far as its protocol can. How it ended
    /// goes to the log.
    ///
    /// # Cancel safety
    /// Dropping the future drops the handler's future and closes the connection, whose client then does not learn how it ended.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let protocol = self.agreed;
        match self.serve(stop).await {
            Ok(()) => tracing::debug!(?protocol, "session ended"),
            Err(Lost::Protocol(error)) => {
                tracing::warn!(?protocol, %error, "session ended: the client broke the protocol");
            }
            Err(Lost::Failed(error)) => {
                tracing::debug!(?protocol, %error, "session ended: the connection failed");
            }
            Err(reason) => tracing::debug!(?protocol, %reason, "session ended early"),
        }
    }

    async fn serve(self, stop: impl Future<Output = ()> + Send) -> Result<(), Lost> {
        let upgraded = self
            .connection
            .await
            .map_err(|error| Lost::Failed(std::io::Error::other(error)))?;
        let io: Box<dyn Duplex> = Box::new(TokioIo::new(upgraded));
        let stop = pin!(stop);
        let timeouts = self.timeouts;
        match self.session.0 {
            Kind::Process { verb, wanted, run } => {
                let wire = match self.agreed {
                    Agreed::SpdyProcess(version) => {
                        let process = spdy::process::Process::new(version, wanted);
                        process::Wire::Spdy(Box::new(process))
                    }
                    Agreed::WebSocketProcess(protocol) => {
                        process::Wire::WebSocket(websocket::process::Process::new(protocol, wanted))
                    }
                    Agreed::SpdyForward | Agreed::WebSocketForward(_) | Agreed::Tunnel => {
                        return Err(Lost::Closed);
                    }
                };
                let link = Link::new(io, timeouts.idle);
                process::serve(link, wire, (verb, wanted, run), timeouts, stop).await
            }
            Kind::PortForward { connect, .. } => {
                let (io, wire) = match self.agreed {
                    Agreed::SpdyForward => (io, forward::Wire::Spdy(Box::default())),
                    Agreed::Tunnel => {
                        let io: Box<dyn Duplex> = Box::new(Tunnel::new(io));
                        (io, forward::Wire::Spdy(Box::default()))
                    }
                    Agreed::WebSocketForward(framing) => (
                        io,
                        forward::Wire::WebSocket(websocket::forward::Forward::new(
                            framing, self.ports,
                        )),
                    ),
                    Agreed::SpdyProcess(_) | Agreed::WebSocketProcess(_) => {
                        return Err(Lost::Closed);
                    }
                };
                let link = Link::new(io, timeouts.idle);
                forward::serve(link, wire, connect, timeouts, stop).await
            }
        }
    }
}
