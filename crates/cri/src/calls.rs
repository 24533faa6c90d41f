//! What the server counts of its calls, under the names that gRPC servers have these numbers by.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

/// Service and name of each method there is, sorted.
const METHODS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// Stands for the methods that there are not: what clients may ask for has no bound.
const UNKNOWN: (&str, &str) = ("unknown", "unknown");

/// Bounds of the duration histogram in seconds: from a read (0.1 ms) to the kubelet's deadline (2 min).
const BOUNDS: [f64; 13] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0,
];

type Label = (&'static str, &'static str);

/// Counters of calls; clones share them.
///
/// | name | kind | what |
/// |---|---|---|
/// | `grpc_server_handled_total` | counter by service, method and code | calls that ended; `Canceled` when the client left before |
/// | `grpc_server_handling_seconds` | histogram by service and method | their time |
///
/// A stream ends, for both, with its first message.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    handled: Family<[Label; 3], Counter>,
    handling: Family<[Label; 2], Histogram, fn() -> Histogram>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            handled: Family::default(),
            handling: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
        }
    }
}

impl Calls {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "grpc_server_handled",
            "Calls that ended, by their code",
            self.handled.clone(),
        );
        registry.register_with_unit(
            "grpc_server_handling",
            "Time of calls",
            Unit::Seconds,
            self.handling.clone(),
        );
    }

    /// A call to `path`, which is `/SERVICE/METHOD`. It counts as left by its client if it is dropped.
    pub(crate) fn begin(&self, path: &str) -> Call {
        let (service, method) = path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .and_then(|wanted| METHODS.binary_search(&wanted).ok())
            .map_or(UNKNOWN, |place| METHODS[place]);
        Call {
            calls: self.clone(),
            method: [("grpc_service", service), ("grpc_method", method)],
            begun: Instant::now(),
            code: Code::Cancelled,
        }
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Calls,
    method: [Label; 2],
    begun: Instant,
    code: Code,
}

impl Call {
    /// It has been answered.
    pub(crate) fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let [service, method] = self.method;
        let code = ("grpc_code", name(self.code));
        self.calls
            .handled
            .get_or_create(&[service, method, code])
            .inc();
        self.calls
            .handling
            .get_or_create(&self.method)
            .observe(self.begun.elapsed().as_secs_f64());
    }
}

/// A code as gRPC spells it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let calls = Calls::default();
        calls
            .begin("/runtime.v1.RuntimeService/Version")
            .end(Code::Ok);
        drop(calls.begin("/runtime.v1.ImageService/PullImage"));
        for made_up in ["/runtime.v1.RuntimeService/Nonsense", "/x", "", "//"] {
            calls.begin(made_up).end(Code::Unimplemented);
        }
        let mut registry = Registry::default();
        calls.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "grpc_server_handled_total{grpc_service=\"runtime.v1.RuntimeService\",grpc_method=\"Version\",grpc_code=\"OK\"} 1",
            "grpc_server_handled_total{grpc_service=\"runtime.v1.ImageService\",grpc_method=\"PullImage\",grpc_code=\"Canceled\"} 1",
            "grpc_server_handled_total{grpc_service=\"unknown\",grpc_method=\"unknown\",grpc_code=\"Unimplemented\"} 4",
            "grpc_server_handling_seconds_count{grpc_service=\"runtime.v1.RuntimeService\",grpc_method=\"Version\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
