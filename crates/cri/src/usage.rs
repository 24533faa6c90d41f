//! What containers and pods use, in the interface's words. Pure.

use std::time::SystemTime;

use berth_pod::observe::{Container, Sandbox};
use berth_pod::pods::{ContainerUsage, PodMetrics, PodUsage};
use berth_pod::stats::metrics::{self, Kind, Sample};
use berth_pod::stats::{Interface, NetworkUsage, Pressure, Psi, Usage, Waits};

use crate::shown::nanos;
use crate::v1;

fn value(number: u64) -> v1::UInt64Value {
    v1::UInt64Value { value: number }
}

fn time(at: SystemTime) -> i64 {
    nanos(Some(at))
}

fn psi(psi: Option<Psi>) -> Option<v1::PsiStats> {
    let data = |pressure: Pressure| v1::PsiData {
        total: u64::try_from(pressure.total.as_nanos()).unwrap_or(u64::MAX),
        avg10: pressure.avg10,
        avg60: pressure.avg60,
        avg300: pressure.avg300,
    };
    psi.map(|psi| v1::PsiStats {
        full: psi.full.map(data),
        some: Some(data(psi.some)),
    })
}

/// CPU use. What is not known, as of what does not run or has just ended, has no number: a zero would be taken for one.
fn cpu(usage: &Usage, waits: &Waits) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: time(usage.at),
        usage_core_nano_seconds: usage.cpu.map(|cpu| value(cpu.usage_core_nano_seconds)),
        usage_nano_cores: usage.cpu.and_then(|cpu| cpu.usage_nano_cores).map(value),
        psi: psi(waits.cpu),
    }
}

/// Memory use, as [`cpu`].
fn memory(usage: &Usage, waits: &Waits) -> v1::MemoryUsage {
    let Some(memory) = &usage.memory else {
        return v1::MemoryUsage {
            timestamp: time(usage.at),
            ..Default::default()
        };
    };
    v1::MemoryUsage {
        timestamp: time(usage.at),
        working_set_bytes: memory.working_set_bytes.map(value),
        available_bytes: memory.available_bytes.map(value),
        usage_bytes: Some(value(memory.usage_bytes)),
        rss_bytes: memory.rss_bytes.map(value),
        page_faults: memory.page_faults.map(value),
        major_page_faults: memory.major_page_faults.map(value),
        psi: psi(waits.memory),
    }
}

fn io(usage: &Usage, waits: &Waits) -> Option<v1::IoUsage> {
    let psi = psi(waits.io)?;
    Some(v1::IoUsage {
        timestamp: time(usage.at),
        psi: Some(psi),
    })
}

fn container_attributes(container: &Container) -> v1::ContainerAttributes {
    v1::ContainerAttributes {
        id: container.id.to_string(),
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt: container.attempt,
        }),
        labels: container.given_labels(),
        annotations: container.annotations.clone(),
    }
}

/// What a container uses.
pub(crate) fn container(measured: &ContainerUsage) -> v1::ContainerStats {
    let ContainerUsage {
        container,
        usage,
        waits,
        layer,
        filesystem,
    } = measured;
    v1::ContainerStats {
        attributes: Some(container_attributes(container)),
        cpu: Some(cpu(usage, waits)),
        memory: Some(memory(usage, waits)),
        writable_layer: filesystem.as_ref().map(|filesystem| v1::FilesystemUsage {
            timestamp: time(layer.as_ref().map_or(usage.at, |layer| layer.at)),
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: filesystem.mountpoint.display().to_string(),
            }),
            used_bytes: layer.as_ref().map(|layer| value(layer.used_bytes)),
            inodes_used: layer.as_ref().map(|layer| value(layer.inodes_used)),
        }),
        swap: usage.swap.map(|swap| v1::SwapUsage {
            timestamp: time(usage.at),
            swap_available_bytes: swap.available_bytes.map(value),
            swap_usage_bytes: Some(value(swap.usage_bytes)),
        }),
        io: io(usage, waits),
    }
}

fn interface(interface: &Interface) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: Some(value(interface.rx_bytes)),
        rx_errors: Some(value(interface.rx_errors)),
        tx_bytes: Some(value(interface.tx_bytes)),
        tx_errors: Some(value(interface.tx_errors)),
    }
}

fn network(network: &NetworkUsage) -> v1::NetworkUsage {
    v1::NetworkUsage {
        timestamp: time(network.at),
        default_interface: network.default.as_ref().map(interface),
        interfaces: network.others.iter().map(interface).collect(),
    }
}

fn sandbox_attributes(sandbox: &Sandbox) -> v1::PodSandboxAttributes {
    v1::PodSandboxAttributes {
        id: sandbox.id.to_string(),
        metadata: Some(v1::PodSandboxMetadata {
            name: sandbox.pod.name.clone(),
            uid: sandbox.pod.uid.clone(),
            namespace: sandbox.pod.namespace.clone(),
            attempt: sandbox.attempt,
        }),
        labels: sandbox.given_labels(),
        annotations: sandbox.annotations.clone(),
    }
}

/// What a pod uses.
pub(crate) fn pod(measured: &PodUsage) -> v1::PodSandboxStats {
    let PodUsage {
        sandbox,
        usage,
        waits,
        network: interfaces,
        containers,
    } = measured;
    v1::PodSandboxStats {
        attributes: Some(sandbox_attributes(sandbox)),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: Some(cpu(usage, waits)),
            memory: Some(memory(usage, waits)),
            network: interfaces.as_ref().map(network),
            process: usage.pids.map(|pids| v1::ProcessUsage {
                timestamp: time(usage.at),
                process_count: Some(value(pids)),
            }),
            containers: containers.iter().map(container).collect(),
            io: io(usage, waits),
        }),
        windows: None,
    }
}

/// The metrics that there may be.
pub(crate) fn descriptors() -> Vec<v1::MetricDescriptor> {
    metrics::descriptors()
        .map(|descriptor| v1::MetricDescriptor {
            name: descriptor.name.to_owned(),
            help: descriptor.help.to_owned(),
            label_keys: descriptor.label_keys().map(str::to_owned).collect(),
        })
        .collect()
}

/// The values of the labels that every metric has, in the order of their names.
struct Base<'a> {
    container: &'a str,
    id: &'a str,
    image: &'a str,
    name: String,
    sandbox: &'a Sandbox,
}

fn sampled(samples: &[Sample], base: &Base<'_>, now: i64) -> Vec<v1::Metric> {
    let common = [
        base.container,
        base.id,
        base.image,
        &base.name,
        &base.sandbox.pod.namespace,
        &base.sandbox.pod.name,
    ];
    samples
        .iter()
        .map(|sample| v1::Metric {
            name: sample.descriptor.name.to_owned(),
            timestamp: now,
            metric_type: match sample.descriptor.kind {
                Kind::Counter => v1::MetricType::Counter,
                Kind::Gauge => v1::MetricType::Gauge,
            }
            .into(),
            label_values: common
                .iter()
                .map(|text| (*text).to_owned())
                .chain(sample.own_label_values.iter().cloned())
                .collect(),
            value: Some(value(whole(sample.value))),
        })
        .collect()
}

/// The interface has whole numbers only.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the part behind the point is what has to go; the conversion saturates"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// The metrics of a pod.
pub(crate) fn pod_metrics(measured: &PodMetrics) -> v1::PodSandboxMetrics {
    let now = nanos(Some(SystemTime::now()));
    let PodMetrics {
        sandbox,
        samples,
        containers,
    } = measured;
    let base = Base {
        container: "",
        id: sandbox.id.as_str(),
        image: "",
        name: String::new(),
        sandbox,
    };
    v1::PodSandboxMetrics {
        pod_sandbox_id: sandbox.id.to_string(),
        metrics: sampled(samples, &base, now),
        container_metrics: containers
            .iter()
            .map(|(container, samples)| {
                let base = Base {
                    container: &container.name,
                    id: container.id.as_str(),
                    image: &container.image_name,
                    name: berth_pod::labels::docker_name(
                        &container.name,
                        &container.pod,
                        container.attempt,
                    ),
                    sandbox,
                };
                v1::ContainerMetrics {
                    container_id: container.id.to_string(),
                    metrics: sampled(samples, &base, now),
                }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_no_zero() {
        let unknown = Usage::unknown(SystemTime::now());
        let (cpu, memory) = (
            cpu(&unknown, &Waits::default()),
            memory(&unknown, &Waits::default()),
        );
        assert!(cpu.timestamp > 0);
        assert_eq!(
            cpu,
            v1::CpuUsage {
                timestamp: cpu.timestamp,
                ..Default::default()
            }
        );
        assert_eq!(
            memory,
            v1::MemoryUsage {
                timestamp: cpu.timestamp,
                ..Default::default()
            }
        );
    }
}
