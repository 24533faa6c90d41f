//! What the client counts, under the names of the kubelet's `docker_operations` metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::error::Error;
use crate::request::Operation;

type Labels = [(&'static str, &'static str); 1];

/// Bounds of the duration histogram in seconds: from a ping (0.2 ms) to the default deadline (2 min).
const BOUNDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0,
];

/// Counters of one or more clients. Clones share their counts; several clients may be given the same metrics.
///
/// | name | kind | what |
/// |---|---|---|
/// | `docker_operations_total` | counter by `operation_type` | calls that ended, well or not |
/// | `docker_operations_duration_seconds` | histogram by `operation_type` | their time; for streams until the reply's head |
/// | `docker_operations_errors_total` | counter by `operation_type` | those that failed, time-outs included |
/// | `docker_operations_timeout_total` | counter by `operation_type` | those that failed by a deadline |
/// | `docker_operations_cancelled_total` | counter by `operation_type` | calls whose future was dropped before they ended |
/// | `docker_connections_opened_total` | counter | connections made |
/// | `docker_streams_open` | gauge | log follows, attaches, event streams and so on that are open now |
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    operations: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    errors: Family<Labels, Counter>,
    timeouts: Family<Labels, Counter>,
    cancelled: Family<Labels, Counter>,
    connections: Counter,
    streams: Gauge,
    skipped_events: AtomicU64,
    /// What every call counts, once for each operation seen: a family hashes its labels at each access, which takes longer than to count.
    calls: RwLock<Vec<(Operation, Call)>>,
}

#[derive(Clone)]
struct Call {
    ended: Counter,
    duration: Histogram,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            operations: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            errors: Family::default(),
            timeouts: Family::default(),
            cancelled: Family::default(),
            connections: Counter::default(),
            streams: Gauge::default(),
            skipped_events: AtomicU64::new(0),
            calls: RwLock::default(),
        }
    }
}

impl Inner {
    fn call(&self, operation: Operation, count: impl FnOnce(&Call)) {
        // The list only grows, by whole entries, so a panic elsewhere does not spoil it.
        let calls = self.calls.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, call)) = calls.iter().find(|(known, _)| *known == operation) {
            return count(call);
        }
        drop(calls);
        let call = Call {
            ended: self.operations.get_or_create(&labels(operation)).clone(),
            duration: self.durations.get_or_create(&labels(operation)).clone(),
        };
        count(&call);
        self.calls
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push((operation, call));
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Puts the counters into a registry, under the names of the table above (a prefix is the registry's to set).
    pub fn register(&self, registry: &mut Registry) {
        let Inner {
            operations,
            durations,
            errors,
            timeouts,
            cancelled,
            connections,
            streams,
            ..
        } = &*self.0;
        registry.register(
            "docker_operations",
            "Docker operations that ended",
            operations.clone(),
        );
        registry.register_with_unit(
            "docker_operations_duration",
            "Time of Docker operations",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(
            "docker_operations_errors",
            "Docker operations that failed",
            errors.clone(),
        );
        registry.register(
            "docker_operations_timeout",
            "Docker operations that failed by a deadline",
            timeouts.clone(),
        );
        registry.register(
            "docker_operations_cancelled",
            "Docker operations whose caller gave up",
            cancelled.clone(),
        );
        registry.register(
            "docker_connections_opened",
            "Connections made to the Docker Engine",
            connections.clone(),
        );
        registry.register(
            "docker_streams_open",
            "Streams from the Docker Engine that are open",
            streams.clone(),
        );
    }

    /// How many calls of `operation` have ended, well or not.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.0.operations.get_or_create(&labels(operation)).get()
    }

    /// How many calls of `operation` have failed.
    pub fn errors(&self, operation: Operation) -> u64 {
        self.0.errors.get_or_create(&labels(operation)).get()
    }

    /// How many calls of `operation` have failed by a deadline.
    pub fn timeouts(&self, operation: Operation) -> u64 {
        self.0.timeouts.get_or_create(&labels(operation)).get()
    }

    /// How many calls of `operation` were dropped before they ended.
    pub fn cancelled(&self, operation: Operation) -> u64 {
        self.0.cancelled.get_or_create(&labels(operation)).get()
    }

    /// How many connections were made.
    pub fn connections_opened(&self) -> u64 {
        self.0.connections.get()
    }

    /// How many streams are open now.
    pub fn streams_open(&self) -> i64 {
        self.0.streams.get()
    }

    /// How many items of event streams were malformed and skipped.
    pub fn skipped_events(&self) -> u64 {
        self.0.skipped_events.load(Relaxed)
    }

    pub(crate) fn skipped_event(&self) {
        self.0.skipped_events.fetch_add(1, Relaxed);
    }

    pub(crate) fn connected(&self) {
        self.0.connections.inc();
    }

    pub(crate) fn begin(&self, operation: Operation) -> Running<'_> {
        Running {
            metrics: self,
            operation,
            since: Instant::now(),
            ended: false,
        }
    }

    pub(crate) fn stream_opened(&self) -> OpenStream {
        self.0.streams.inc();
        OpenStream(self.clone())
    }

    /// A stream failed after its call had succeeded.
    pub(crate) fn stream_failed(&self, error: &Error) {
        self.0
            .errors
            .get_or_create(&labels(error.operation()))
            .inc();
        if error.is_timeout() {
            self.0
                .timeouts
                .get_or_create(&labels(error.operation()))
                .inc();
        }
    }
}

fn labels(operation: Operation) -> Labels {
    [("operation_type", operation.name())]
}

/// A call under way. Dropped without an end, it counts as cancelled.
pub(crate) struct Running<'a> {
    metrics: &'a Metrics,
    operation: Operation,
    since: Instant,
    ended: bool,
}

impl Running<'_> {
    pub(crate) fn end(mut self, error: Option<&Error>) {
        self.ended = true;
        let (inner, labels) = (&self.metrics.0, labels(self.operation));
        inner.call(self.operation, |call| {
            call.ended.inc();
            call.duration.observe(self.since.elapsed().as_secs_f64());
        });
        if let Some(error) = error {
            inner.errors.get_or_create(&labels).inc();
            if error.is_timeout() {
                inner.timeouts.get_or_create(&labels).inc();
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.metrics
                .0
                .cancelled
                .get_or_create(&labels(self.operation))
                .inc();
        }
    }
}

/// Counts one open stream for as long as it lives.
#[derive(Debug)]
pub(crate) struct OpenStream(Metrics);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.streams.dec();
    }
}
