//! The page of metrics: what the server, the client of the engine and the process count, in the text format of OpenMetrics.
//!
//! Served without authentication, so for the host alone.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_pod::observe::State;
use berth_pod::pods::Pods;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::calls::Calls;

const PATH: &str = "/metrics";

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// How long one client may take with its request, and with its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many clients are served at one time; one scrapes, as a rule.
const CLIENTS: usize = 16;

/// How long the state of pods is waited for while the engine is away.
const LOOK: Duration = Duration::from_secs(1);

/// Between two tries to accept when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is on the page.
///
/// | name | kind | what |
/// |---|---|---|
/// | `berth_build_info` | gauge, always 1 | by version |
/// | `berth_engine_up` | gauge | 1 while the Docker Engine is there |
/// | `berth_pod_sandboxes` | gauge by state | sandboxes that are known |
/// | `berth_containers` | gauge by state | containers of pods that are known |
/// | `grpc_server_*` | | see [`Calls`] |
/// | `docker_*` | | see `berth_docker::Metrics` |
/// | `process_*` | | CPU, memory and descriptors of berth itself |
#[derive(Debug)]
struct Page {
    pods: Pods,
    registry: Registry,
    engine_up: Gauge,
    sandboxes: Family<[(&'static str, &'static str); 1], Gauge>,
    containers: Family<[(&'static str, &'static str); 1], Gauge>,
}

/// Where the page is served; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    page: Arc<Page>,
}

impl Server {
    /// Listens.
    pub(crate) async fn bind(address: SocketAddr, pods: Pods, calls: &Calls) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!("metrics are at http://{address}{PATH}");
        }
        Ok(Self {
            listener,
            page: Arc::new(Page::new(pods, calls)),
        })
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) -> Infallible {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if clients.len() < CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        clients.spawn(answer(stream, self.page.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a client of the metrics could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = clients.join_next() => {}
            }
        }
    }
}

/// Answers one request.
async fn answer(stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(async |request: Request<Incoming>| {
        let mut response = Response::new(String::new());
        if request.uri().path() != PATH {
            *response.status_mut() = StatusCode::NOT_FOUND;
            *response.body_mut() = format!("there is only {PATH}\n");
        } else if request.method() != Method::GET {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            *response.body_mut() = "only GET\n".to_owned();
        } else {
            *response.body_mut() = page.text().await;
            response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
        }
        Ok::<_, Infallible>(response)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(2 * PATIENCE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the metrics failed"),
        Err(_) => tracing::debug!("a client of the metrics took too long"),
    }
}

impl Page {
    fn new(pods: Pods, calls: &Calls) -> Self {
        let mut registry = Registry::default();
        let build = Family::<[(&'static str, &'static str); 1], Gauge>::default();
        build
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
            .set(1);
        let engine_up = Gauge::default();
        let (sandboxes, containers) = (Family::default(), Family::default());
        registry.register("berth_build_info", "The version of berth", build);
        registry.register(
            "berth_engine_up",
            "Whether the Docker Engine is there",
            engine_up.clone(),
        );
        registry.register(
            "berth_pod_sandboxes",
            "Sandboxes that are known",
            sandboxes.clone(),
        );
        registry.register(
            "berth_containers",
            "Containers of pods that are known",
            containers.clone(),
        );
        calls.register(&mut registry);
        pods.runtime().docker().metrics().register(&mut registry);
        registry.register_collector(Box::new(Process));
        Self {
            pods,
            registry,
            engine_up,
            sandboxes,
            containers,
        }
    }

    async fn text(&self) -> String {
        let view = self.pods.view();
        self.engine_up.set(i64::from(view.away().is_none()));
        let all = async { tokio::try_join!(view.sandboxes(), view.containers()) };
        // Without an engine nobody knows how many there are.
        self.sandboxes.clear();
        self.containers.clear();
        if let Ok(Ok((sandboxes, containers))) = timeout(LOOK, all).await {
            for state in ["ready", "notready"] {
                self.sandboxes.get_or_create(&[("state", state)]).set(0);
            }
            for state in ["created", "running", "exited"] {
                self.containers.get_or_create(&[("state", state)]).set(0);
            }
            for sandbox in sandboxes {
                let state = if sandbox.running { "ready" } else { "notready" };
                self.sandboxes.get_or_create(&[("state", state)]).inc();
            }
            for container in containers {
                let state = match container.state {
                    State::Created => "created",
                    State::Running { .. } => "running",
                    State::Exited { .. } | State::Removing => "exited",
                };
                self.containers.get_or_create(&[("state", state)]).inc();
            }
        }
        let mut text = String::new();
        // Only a full memory would be an error.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// What the kernel says of this process, under the names that Prometheus' own libraries use.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(seconds) = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| cpu_seconds(&text))
        {
            let counter = ConstCounter::new(seconds);
            let metric = encoder.encode_descriptor(
                "process_cpu_seconds",
                "CPU time of berth",
                None,
                counter.metric_type(),
            )?;
            counter.encode(metric)?;
        }
        let resident = fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| resident_bytes(&text));
        let open = fs::read_dir("/proc/self/fd")
            .ok()
            .and_then(|entries| i64::try_from(entries.count()).ok());
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory of berth that is resident",
                resident,
            ),
            ("process_open_fds", "Descriptors of berth", open),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(metric)?;
            }
        }
        Ok(())
    }
}

/// The CPU time in `/proc/PID/stat` (proc(5): fields 14 and 15, in ticks). A program's name may have spaces and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let ticks = f64::from(ticks()?) + f64::from(ticks()?);
    let each = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(ticks / f64::from(each))
}

/// The resident memory in `/proc/PID/statm` (proc(5): field 2, in pages).
fn resident_bytes(statm: &str) -> Option<i64> {
    let pages: i64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read_whatever_the_program_is_called() {
        let each = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap());
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(200.0 / each));
        assert_eq!(cpu_seconds("7 (x) S 1"), None);
        let page = i64::try_from(rustix::param::page_size()).unwrap();
        assert_eq!(resident_bytes("900 30 20 1 0 2 0"), Some(30 * page));
        assert_eq!(resident_bytes(""), None);
    }
}
