//! Owns `GET /containers/{id}/stats`: one sample, or one a second.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::container::Container;
use crate::clock::Nanos;
use crate::http::{Answer, ApiError, Call, json, streamed, typed};
use crate::system::{CPUS, MEMORY, sample_time};
use crate::time::ZERO;
use crate::version::ApiVersion;

/// Time between two samples of a stream, and between the two of a single answer.
const PERIOD: Duration = Duration::from_secs(1);

/// One reading of a container's CPU time.
#[derive(Clone, Copy)]
struct Reading {
    at: Nanos,
    cpu: Nanos,
}

fn reading(container: &Container, now: Nanos) -> Reading {
    Reading {
        at: now,
        cpu: container.load.cpu_time(now),
    }
}

fn cpu(reading: Option<Reading>) -> Value {
    let Some(Reading { at, cpu }) = reading else {
        return json!({
            "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        });
    };
    json!({
        "cpu_usage": { "total_usage": cpu, "usage_in_kernelmode": cpu / 10, "usage_in_usermode": cpu - cpu / 10 },
        // All processors' time since the epoch: it grows by one second per processor and second.
        "system_cpu_usage": at.saturating_mul(u64::from(CPUS)),
        "online_cpus": CPUS,
        "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
    })
}

/// A sample; a container that does not run has empty values.
fn sample(container: &Container, before: Option<Reading>, now: Reading, api: ApiVersion) -> Value {
    let running = container.is_running();
    let memory = &container.load.memory;
    let limit = match u64::try_from(container.host.acts.memory) {
        Ok(limit @ 1..) => limit,
        _ => MEMORY,
    };
    let mut view = json!({
        "id": &*container.id,
        "name": format!("/{}", container.name),
        "read": if running { sample_time(now.at) } else { ZERO.to_owned() },
        "preread": before.map_or_else(|| ZERO.to_owned(), |before| sample_time(before.at)),
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": {}, "blkio_stats": { "io_service_bytes_recursive": null, "io_serviced_recursive": null,
            "io_queue_recursive": null, "io_service_time_recursive": null, "io_wait_time_recursive": null,
            "io_merged_recursive": null, "io_time_recursive": null, "sectors_recursive": null },
        "cpu_stats": cpu(running.then_some(now)),
        "precpu_stats": cpu(before),
        "memory_stats": {},
    });
    if running {
        view["pids_stats"] = json!({ "current": 1, "limit": 18_446_744_073_709_551_615u64 });
        view["memory_stats"] = json!({
            "usage": memory, "limit": limit,
            "stats": { "anon": memory, "file": 0, "inactive_file": 0, "active_file": 0, "kernel_stack": 0, "pgfault": 0, "pgmajfault": 0 },
        });
        let zeros = json!({ "rx_bytes": 0, "rx_packets": 0, "rx_errors": 0, "rx_dropped": 0, "tx_bytes": 0, "tx_packets": 0, "tx_errors": 0, "tx_dropped": 0 });
        if container
            .endpoints
            .iter()
            .any(|endpoint| endpoint.address.is_some())
        {
            view["networks"] = json!({ "eth0": zeros });
        }
    }
    if api.at_least(52) {
        view["os_type"] = json!("linux");
    }
    view
}

/// `GET /containers/{id}/stats`
pub(crate) async fn stats(call: Call) -> Answer {
    let stream = call.query.flag_or("stream", true);
    let one_shot = call.query.flag("one-shot") && call.api.at_least(41);
    if stream && one_shot {
        return Err(ApiError::bad("cannot have stream=true and one-shot=true"));
    }
    let (id, first) = {
        let state = call.engine.state();
        let container = state.container(&call.target)?;
        let now = reading(container, call.engine.clock.nanos());
        if !stream && (one_shot || !container.is_running()) {
            return Ok(json(&sample(container, None, now, call.api)).into());
        }
        (Arc::clone(&container.id), now)
    };
    let (engine, api) = (Arc::clone(&call.engine), call.api);
    // The first sample of a stream has nothing before it; a single answer waits for its second reading.
    let start = (engine, if stream { None } else { Some(first) });
    let samples = futures_util::stream::unfold(start, move |(engine, before)| {
        let id = Arc::clone(&id);
        async move {
            if before.is_some() {
                engine.clock.sleep(PERIOD).await;
            }
            let (line, now): (Bytes, Reading) = {
                let state = engine.state();
                let container = state.containers.get(&id)?;
                let now = reading(container, engine.clock.nanos());
                (
                    format!("{}\n", sample(container, before, now, api)).into(),
                    now,
                )
            };
            Some((line, (engine, Some(now))))
        }
    });
    use futures_util::StreamExt as _;
    let body = if stream {
        streamed(samples)
    } else {
        streamed(samples.take(1))
    };
    Ok(typed("application/json", body).into())
}
