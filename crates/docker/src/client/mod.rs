//! The client: a cheap-to-clone handle that turns requests into replies.
//!
//! It owns the agreed API version, the deadlines, the one safe retry, and the words of errors. The typed calls are in [`crate::api`]; they
//! build a [`Request`] and hand it in here.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::error::{ConnectReason, Error, ErrorKind, Phase};
use crate::options::{ConfigError, ConnectOptions};
use crate::request::{Body, Deadline, Method, Operation, Request};
use crate::transport::{Conn, Connector, Dialer, Io};
use crate::version::ApiVersion;
use crate::wire::body::Decoder;
use crate::wire::head::{Head, Headers};

mod exchange;
mod idle;
mod metrics;
mod pool;
mod refusal;
mod stream;

use exchange::{Extent, Failure, Progress};
use idle::Idle;
pub use metrics::Metrics;
use pool::{Lane, Pool};
pub(crate) use stream::Origin;
pub use stream::{
    ByteStream, Frame, FrameStream, Framing, JsonStream, LineStream, Upgraded, UpgradedWriter,
};

/// The deadline of short calls unless configured: the kubelet's `--runtime-request-timeout`, 2 minutes.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);

/// How long one attempt to connect may take unless configured.
pub const DEFAULT_CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long the first question for the engine's version waits before it is asked on another connection; each further one twice as long. A
/// ping takes an engine milliseconds; one that is starting answers late.
const NEGOTIATION_PATIENCE: Duration = Duration::from_secs(5);

/// The largest body of a reply that is read into memory, in bytes. A list of 10,000 containers is about 20 MiB.
pub const MAX_BODY: usize = 256 * 1024 * 1024;

/// A client of one Docker Engine. Clones share the connections, the agreed version and the metrics.
///
/// It starts no task and no thread. It must be used within one tokio runtime with I/O and time enabled.
#[derive(Clone)]
pub struct Docker(Arc<Inner>);

struct Inner {
    endpoint: Arc<str>,
    /// What precedes the version in every path: the base path of a `tcp://host/base` endpoint, or nothing.
    base_path: String,
    /// The header fields of every request, ready to be sent.
    common_fields: String,
    pool: Pool,
    deadline: Duration,
    connect_deadline: Duration,
    pinned: Option<ApiVersion>,
    /// The highest version the engine said it speaks, packed; 0 while unknown.
    engine_version: AtomicU32,
    /// The version to be used, packed; 0 while it has to be negotiated.
    agreed_version: AtomicU32,
    negotiating: tokio::sync::Mutex<()>,
    metrics: Metrics,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Docker")
            .field("endpoint", &self.0.endpoint)
            .finish_non_exhaustive()
    }
}

/// How a [`Docker`] is made. Start with [`Docker::builder`].
pub struct Builder {
    options: ConnectOptions,
    deadline: Duration,
    connect_deadline: Duration,
    dialer: Option<Dialer>,
    metrics: Metrics,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// The deadline of short calls; [`DEFAULT_DEADLINE`] unless set.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long one attempt to connect may take; [`DEFAULT_CONNECT_DEADLINE`] unless set.
    #[must_use]
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        self
    }

    /// Connects through `dialer` instead of the endpoint: to an engine in this process, such as berth-fake-engine.
    #[must_use]
    pub fn dialer(
        mut self,
        dialer: impl Fn() -> std::io::Result<tokio::io::DuplexStream> + Send + Sync + 'static,
    ) -> Self {
        self.dialer = Some(Arc::new(dialer));
        self
    }

    /// Counts into `metrics`, which may be shared with other clients.
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Makes the client. Nothing is connected yet; the first call does that.
    ///
    /// # Errors
    /// When the TLS files cannot be read or used, or a custom header cannot be sent.
    pub fn build(self) -> Result<Docker, ConfigError> {
        let Self {
            options,
            deadline,
            connect_deadline,
            dialer,
            metrics,
        } = self;
        let base_path = options.endpoint.base_path().to_owned();
        let mut common_fields = format!(
            "Host: {}\r\nUser-Agent: berth-docker/{}\r\n",
            options.endpoint.host_header(),
            env!("CARGO_PKG_VERSION")
        );
        for (name, value) in &options.headers {
            common_fields.push_str(name);
            common_fields.push_str(": ");
            common_fields.push_str(value);
            common_fields.push_str("\r\n");
        }
        let endpoint: Arc<str> = options.endpoint.to_string().into();
        #[cfg(feature = "tls")]
        let tls = crate::transport::tls::Connector::for_options(&options)?;
        let connector = Connector {
            endpoint: options.endpoint,
            dialer,
            #[cfg(feature = "tls")]
            tls,
        };
        Ok(Docker(Arc::new(Inner {
            endpoint,
            base_path,
            common_fields,
            pool: Pool::new(connector),
            deadline,
            connect_deadline,
            pinned: options.api_version,
            engine_version: AtomicU32::new(0),
            agreed_version: AtomicU32::new(0),
            negotiating: tokio::sync::Mutex::const_new(()),
            metrics,
        })))
    }
}

/// A reply that was read to its end.
#[derive(Debug)]
pub struct Reply {
    /// The status: 2xx, or 304 when nothing had to be done.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

/// The head of a reply, and the connection its body comes on.
struct Opened {
    conn: Conn,
    head: Head,
    idle: Idle,
}

impl Docker {
    /// Starts making a client for `options`.
    pub fn builder(options: ConnectOptions) -> Builder {
        Builder {
            options,
            deadline: DEFAULT_DEADLINE,
            connect_deadline: DEFAULT_CONNECT_DEADLINE,
            dialer: None,
            metrics: Metrics::default(),
        }
    }

    /// A client for what the environment names, as the `docker` command would choose: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context,
    /// the default socket; with `DOCKER_API_VERSION`, `DOCKER_CERT_PATH` and `DOCKER_TLS_VERIFY`.
    ///
    /// # Errors
    /// When a variable or a context has a bad value; the error names it, the value and the rule.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::builder(ConnectOptions::from_env()?).build()
    }

    /// Where the engine is, as text.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// What the client counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// How many unused connections are kept now.
    pub fn idle_connections(&self) -> usize {
        self.0.pool.idle_count()
    }

    /// Sends a request and decodes the reply's JSON. Deadline: the request's. Cancel safe in that nothing is left behind; the engine may
    /// still carry out what it was asked.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when the body is not a `T`.
    pub async fn send_json<T: DeserializeOwned>(&self, mut request: Request) -> Result<T, Error> {
        let reply = self.send_whole(&mut request).await?;
        // One check of the whole text costs less than one for each string in it. Text that fails it is left to the decoder, which says where.
        let decoded = match std::str::from_utf8(&reply.body) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(&reply.body),
        };
        decoded.map_err(|error| {
            let what = if reply.body.is_empty() {
                "its body is empty".to_owned()
            } else {
                format!("its body is not what was expected: {error}")
            };
            Error::malformed(request.operation, what)
                .located(request.subject.as_deref(), &self.0.endpoint)
        })
    }

    /// Sends a request and reads the whole reply. Deadline: the request's. Cancel safe in that nothing is left behind; the engine may still
    /// carry out what it was asked.
    ///
    /// # Errors
    /// Any [`ErrorKind`]; a status other than 2xx and 304 is [`ErrorKind::Refused`].
    pub async fn send(&self, mut request: Request) -> Result<Reply, Error> {
        self.send_whole(&mut request).await
    }

    async fn send_whole(&self, request: &mut Request) -> Result<Reply, Error> {
        self.run(
            request,
            async |request: &mut Request, progress: &Progress| {
                let Opened {
                    mut conn,
                    head,
                    mut idle,
                } = self.open(request, Lane::Control, progress).await?;
                if head.status == 101 {
                    return Err(Error::malformed(
                        request.operation,
                        "it answers 101 to a request that asked for no upgrade",
                    ));
                }
                progress.enter(Phase::Body);
                let mut decoder = Decoder::new(head.framing);
                let mut body = BytesMut::new();
                let extent = match decoder.remaining() {
                    Some(length) if length > MAX_BODY as u64 => Ok(Extent::Cut),
                    _ => {
                        exchange::read_body(&mut conn, &mut decoder, MAX_BODY, &mut idle, &mut body)
                            .await
                    }
                };
                let extent = extent.map_err(|failure| {
                    Error::new(request.operation, failure.into_kind(Phase::Body, true))
                })?;
                if extent == Extent::Cut {
                    return Err(Error::malformed(
                        request.operation,
                        "its body is larger than 256 MiB",
                    ));
                }
                if head.keep_alive {
                    self.0.pool.give_back(conn);
                }
                Ok(Reply {
                    status: head.status,
                    headers: head.headers,
                    body: body.freeze(),
                })
            },
        )
        .await
    }

    /// Sends a request and gives the reply's body as a stream, on a connection of its own. The request's deadline covers everything up to
    /// the reply's head; behind it only the idle limit of [`Deadline::Stream`] holds. Cancel safe in that nothing is left behind.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_stream(&self, mut request: Request) -> Result<ByteStream, Error> {
        self.run(
            &mut request,
            async |request: &mut Request, progress: &Progress| {
                let Opened { conn, head, idle } =
                    self.open(request, Lane::Stream, progress).await?;
                if head.status == 101 {
                    return Err(Error::malformed(
                        request.operation,
                        "it answers 101 to a request that asked for no upgrade",
                    ));
                }
                Ok(self.stream(request, conn, head, idle))
            },
        )
        .await
    }

    /// Sends a request that turns its connection into a pipe to a process. Engines answer 101, or 200 without an `Upgrade` header in
    /// between (some proxies); both are accepted. The request's deadline covers everything up to the reply's head.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_upgrade(&self, mut request: Request) -> Result<Upgraded, Error> {
        request.headers.0.push(("Connection", "Upgrade".to_owned()));
        request.headers.0.push(("Upgrade", "tcp".to_owned()));
        self.run(
            &mut request,
            async |request: &mut Request, progress: &Progress| {
                let Opened {
                    conn,
                    mut head,
                    idle,
                } = self.open(request, Lane::Stream, progress).await?;
                if head.status == 101 {
                    head.framing = crate::wire::head::Framing::UntilClose;
                }
                Ok(Upgraded::new(self.stream(request, conn, head, idle)))
            },
        )
        .await
    }

    fn stream(&self, request: &Request, conn: Conn, head: Head, idle: Idle) -> ByteStream {
        let origin = Origin {
            operation: request.operation,
            subject: request.subject.as_deref().map(Arc::from),
            endpoint: self.0.endpoint.clone(),
            metrics: self.0.metrics.clone(),
        };
        let decoder = Decoder::new(head.framing);
        ByteStream::new(conn, decoder, idle, head.headers, origin)
    }

    /// Runs one call under its deadline, its span and its metrics.
    async fn run<T>(
        &self,
        request: &mut Request,
        call: impl AsyncFnOnce(&mut Request, &Progress) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let operation = request.operation;
        let subject = request.subject.as_deref().unwrap_or_default();
        let span = tracing::debug_span!("docker", operation = operation.name(), subject);
        let limit = match request.deadline {
            Deadline::Short => Some(self.0.deadline),
            Deadline::Total(limit) => Some(limit),
            Deadline::Stream { .. } => None,
        };
        let running = self.0.metrics.begin(operation);
        let progress = Progress::default();
        let result = {
            // Pinned before it is wrapped: it is large, and each wrapping would move it.
            let work = pin!(call(&mut *request, &progress));
            let work = work.instrument(span.clone());
            match limit {
                Some(limit) => match tokio::time::timeout(limit, work).await {
                    Ok(result) => result,
                    Err(_) => Err(match progress.refused() {
                        Some(status) => Error::refused(
                            operation,
                            status,
                            refusal::cut_short(status, &[], None, "did not come in time"),
                        ),
                        None => {
                            let kind = ErrorKind::TimedOut {
                                phase: progress.phase(),
                                sent: progress.sent(),
                                after: limit,
                                last: None,
                            };
                            Error::new(operation, kind)
                        }
                    }),
                },
                None => work.await,
            }
        };
        let result =
            result.map_err(|error| error.located(request.subject.as_deref(), &self.0.endpoint));
        running.end(result.as_ref().err());
        if let Err(error) = &result {
            span.in_scope(|| tracing::debug!(%error, "call failed"));
        }
        result
    }

    /// Sends the request and reads the head of the reply. A refusal becomes an error here, its body read.
    async fn open(
        &self,
        request: &mut Request,
        lane: Lane,
        progress: &Progress,
    ) -> Result<Opened, Error> {
        if let Some(fault) = request.fault.take() {
            return Err(Error::invalid(
                request.operation,
                format!("the request cannot be sent: {fault}"),
            ));
        }
        let mut may_renegotiate = true;
        let replayable = !matches!(request.body, Body::Stream(_));
        // A kept connection may turn out to be dead, and what cannot be sent twice would be lost with it.
        let mut fresh = lane == Lane::Stream || !replayable;
        loop {
            progress.restart();
            let version = match request.unversioned {
                true => None,
                false => Some(self.version_for(request.operation).await?),
            };
            let kept = if fresh {
                None
            } else {
                self.0.pool.take(!request.method.is_read()).await
            };
            let reused = kept.is_some();
            let mut conn = match kept {
                Some(conn) => conn,
                None => self.dial(request.operation, lane).await?,
            };
            let limit = if let Deadline::Stream { idle } = request.deadline {
                idle
            } else {
                None
            };
            let mut idle = Idle::new(limit);
            let head = self.encode(request, version);
            let head = match exchange::exchange(
                &mut conn,
                head,
                &mut request.body,
                request.method,
                &mut idle,
                progress,
            )
            .await
            {
                Ok(head) => head,
                // The engine had closed the kept connection. Asking again is safe if asking twice does no harm, or nothing had left us.
                Err(failure)
                    if reused
                        && failure.is_stale_connection()
                        && replayable
                        && (request.method.is_read() || !progress.sent()) =>
                {
                    fresh = true;
                    continue;
                }
                Err(failure) => {
                    return Err(Error::new(
                        request.operation,
                        failure.into_kind(progress.phase(), progress.sent()),
                    ));
                }
            };
            self.learn(&head.headers);
            if (200..300).contains(&head.status) || head.status == 304 || head.status == 101 {
                return Ok(Opened { conn, head, idle });
            }
            let error = self.refusal(request.operation, conn, head, progress).await;
            // An engine of another version has taken the place of the one we negotiated with. It did nothing but refuse.
            if may_renegotiate
                && replayable
                && version.is_some()
                && self.0.pinned.is_none()
                && refusal::is_version(&error)
            {
                may_renegotiate = false;
                if let Some(minimum) = refusal::minimum_version(error.message())
                    .filter(|minimum| *minimum > ApiVersion::CEILING)
                {
                    return Err(Error::new(
                        request.operation,
                        ErrorKind::NoCommonVersion {
                            engine: minimum,
                            client: ApiVersion::CEILING,
                        },
                    ));
                }
                self.0.agreed_version.store(0, Relaxed);
                progress.restart();
                if Some(self.version_for(request.operation).await?) != version {
                    continue;
                }
            }
            return Err(error);
        }
    }

    async fn dial(&self, operation: Operation, lane: Lane) -> Result<Conn, Error> {
        let limit = self.0.connect_deadline;
        match tokio::time::timeout(limit, self.0.pool.dial(lane)).await {
            Ok(Ok(conn)) => {
                self.0.metrics.connected();
                Ok(conn)
            }
            Ok(Err(error)) => {
                // Kept connections to an engine that no longer listens are of no use either.
                if matches!(
                    error.reason,
                    ConnectReason::NotRunning | ConnectReason::NoSuchSocket
                ) {
                    self.0.pool.forget();
                }
                Err(Error::new(
                    operation,
                    ErrorKind::Connect {
                        reason: error.reason,
                        cause: error.cause,
                    },
                ))
            }
            Err(_) => Err(Error::timed_out(operation, Phase::Connect, limit)),
        }
    }

    fn encode(&self, request: &Request, version: Option<ApiVersion>) -> BytesMut {
        use std::fmt::Write as _;
        let inner = &*self.0;
        let mut head =
            BytesMut::with_capacity(256 + request.path.len() + inner.common_fields.len());
        let Request {
            method,
            path,
            headers,
            body,
            json,
            ..
        } = request;
        let put = |head: &mut BytesMut, parts: &[&str]| {
            parts
                .iter()
                .for_each(|part| head.extend_from_slice(part.as_bytes()))
        };
        put(&mut head, &[method.name(), " ", &inner.base_path]);
        if let Some(version) = version {
            // Writing to a BytesMut cannot fail.
            let _ = write!(head, "/v{version}");
        }
        put(&mut head, &[path, " HTTP/1.1\r\n", &inner.common_fields]);
        for (name, value) in &headers.0 {
            put(&mut head, &[name, ": ", value, "\r\n"]);
        }
        if *json {
            put(&mut head, &["Content-Type: application/json\r\n"]);
        }
        match body {
            Body::Stream(_) => put(&mut head, &["Transfer-Encoding: chunked\r\n\r\n"]),
            Body::Bytes(bytes) => {
                let _ = write!(head, "Content-Length: {}\r\n\r\n", bytes.len());
            }
            Body::Empty if matches!(method, Method::Post | Method::Put) => {
                put(&mut head, &["Content-Length: 0\r\n\r\n"])
            }
            Body::Empty => put(&mut head, &["\r\n"]),
        }
        head
    }

    /// Reads the body of a refusal and makes it an error.
    async fn refusal(
        &self,
        operation: Operation,
        mut conn: Conn,
        head: Head,
        progress: &Progress,
    ) -> Error {
        progress.enter(Phase::Body);
        progress.set_refused(head.status);
        let mut decoder = Decoder::new(head.framing);
        let (mut idle, mut body) = (Idle::new(None), BytesMut::new());
        // A refusal whose reason does not come still is a refusal; only words are lost.
        let reading = exchange::read_body(
            &mut conn,
            &mut decoder,
            refusal::MAX_BODY,
            &mut idle,
            &mut body,
        );
        let read = tokio::time::timeout(refusal::BODY_DEADLINE, reading).await;
        let location = head.headers.get("location");
        let message = match &read {
            Ok(Ok(_)) => refusal::message(head.status, &body, location),
            Ok(Err(Failure::Wire(error))) => refusal::cut_short(
                head.status,
                &body,
                location,
                &format!("is malformed: {error}"),
            ),
            Ok(Err(_)) => refusal::cut_short(
                head.status,
                &body,
                location,
                "did not come, because the connection ended",
            ),
            Err(_) => refusal::cut_short(head.status, &body, location, "did not come in time"),
        };
        if head.keep_alive && matches!(read, Ok(Ok(Extent::Whole))) {
            self.0.pool.give_back(conn);
        }
        Error::refused(operation, head.status, message)
    }

    /// The process that listens on the engine's unix socket, if it is one of this host: the engine, or what holds its socket for it
    /// (systemd). Makes a connection to ask. `None` for every other endpoint.
    pub async fn listener_process_id(&self) -> Option<i32> {
        let conn = self.dial(Operation::PING, Lane::Stream).await.ok()?;
        match &conn.io {
            // A process of another PID namespace is seen as 0.
            Io::Unix(stream) => stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0),
            _ => None,
        }
    }

    /// The API version that calls are made with: pinned, or the highest both sides speak. Asks the engine when that is not known yet.
    /// Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// When the engine does not answer, or speaks no version that this client does.
    pub async fn api_version(&self) -> Result<ApiVersion, Error> {
        self.version_for(Operation::NEGOTIATE)
            .await
            .map_err(|error| error.located(None, &self.0.endpoint))
    }

    /// The API version for a call that is about to be made. What fails here fails before the call has had any effect.
    async fn version_for(&self, operation: Operation) -> Result<ApiVersion, Error> {
        if let Some(version) = self
            .0
            .pinned
            .or_else(|| ApiVersion::unpack(self.0.agreed_version.load(Relaxed)))
        {
            return Ok(version);
        }
        // Calls without a deadline of their own do not wait for ever behind a negotiation that is stuck.
        let limit = self.0.deadline;
        let agreed = match tokio::time::timeout(limit, Box::pin(self.agree())).await {
            Ok(agreed) => agreed,
            Err(_) => Err(Error::timed_out(operation, Phase::Headers, limit)),
        };
        agreed.map_err(|error| error.before(operation))
    }

    /// Asks the engine, unless another call has done so meanwhile.
    async fn agree(&self) -> Result<ApiVersion, Error> {
        let _turn = self.0.negotiating.lock().await;
        if let Some(version) = ApiVersion::unpack(self.0.agreed_version.load(Relaxed)) {
            return Ok(version);
        }
        self.0.engine_version.store(0, Relaxed);
        let mut patience = NEGOTIATION_PATIENCE;
        let engine = loop {
            // All calls wait for this one; a connection on which nothing comes must not hold up those that would be answered.
            if let Ok(engine) = tokio::time::timeout(patience, self.ask_version()).await {
                break engine?;
            }
            patience *= 2;
        };
        let version = engine.min(ApiVersion::CEILING);
        if version < ApiVersion::FLOOR {
            let kind = ErrorKind::NoCommonVersion {
                engine,
                client: ApiVersion::FLOOR,
            };
            return Err(Error::new(Operation::NEGOTIATE, kind).located(None, &self.0.endpoint));
        }
        self.0.engine_version.store(engine.pack(), Relaxed);
        self.0.agreed_version.store(version.pack(), Relaxed);
        tracing::debug!(%engine, %version, endpoint = &*self.0.endpoint, "agreed on an API version");
        Ok(version)
    }

    /// HEAD `/_ping`, then GET `/_ping` (engines and proxies that refuse HEAD), then GET `/version` (proxies that strip header fields).
    async fn ask_version(&self) -> Result<ApiVersion, Error> {
        #[derive(serde::Deserialize)]
        struct Version {
            #[serde(rename = "ApiVersion")]
            api_version: String,
        }
        for method in [Method::Head, Method::Get] {
            let request = Request::new(Operation::PING, method, "/_ping").unversioned();
            match Box::pin(self.send(request)).await {
                Ok(reply) => {
                    if let Some(version) = reply
                        .headers
                        .get("api-version")
                        .and_then(|text| text.parse().ok())
                    {
                        return Ok(version);
                    }
                }
                // Any reply tells the version, a refusal too.
                Err(error) if error.is_refused() => {
                    if let Some(version) = ApiVersion::unpack(self.0.engine_version.load(Relaxed)) {
                        return Ok(version);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let request = Request::new(Operation::VERSION, Method::Get, "/version").unversioned();
        let version: Version = Box::pin(self.send_json(request)).await?;
        version.api_version.parse().map_err(|_| {
            let what = format!(
                "its ApiVersion is {:?}, not a version such as 1.44",
                version.api_version
            );
            Error::malformed(Operation::NEGOTIATE, what).located(None, &self.0.endpoint)
        })
    }

    /// Every reply carries the engine's highest version; another one than before means another engine answers now.
    fn learn(&self, headers: &Headers) {
        let Some(engine) = headers
            .get("Api-Version")
            .and_then(|text| text.parse::<ApiVersion>().ok())
        else {
            return;
        };
        let known = self.0.engine_version.swap(engine.pack(), Relaxed);
        if known != 0 && known != engine.pack() {
            tracing::info!(version = %engine, endpoint = &*self.0.endpoint, "another engine version answers; negotiating anew");
            self.0.agreed_version.store(0, Relaxed);
        }
    }
}
