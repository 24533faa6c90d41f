//! Owns what a client says about a container at create: `Config`, `HostConfig`, endpoints, and their defaults.
//! Knows no running state.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::clock::Nanos;
use crate::http::ApiError;

/// Go's JSON leaves the default for `null`; so does every field here.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// A list of words that may also be written as one string.
fn words<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(d)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}

/// The portable part of a container's configuration.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Config {
    #[serde(deserialize_with = "nullable")]
    pub(crate) hostname: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) domainname: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) attach_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) attach_stdout: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) attach_stderr: bool,
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) exposed_ports: BTreeMap<String, Map<String, Value>>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) tty: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) open_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) stdin_once: bool,
    pub(crate) env: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthcheck: Option<HealthConfig>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) image: String,
    pub(crate) volumes: Option<BTreeMap<String, Map<String, Value>>>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) working_dir: String,
    #[serde(deserialize_with = "words")]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub(crate) network_disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mac_address: Option<String>,
    pub(crate) on_build: Option<Vec<String>>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shell: Option<Vec<String>>,
}

/// A health check; times in nanoseconds, 0 for the default.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HealthConfig {
    #[serde(deserialize_with = "nullable")]
    pub(crate) test: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub(crate) interval: u64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub(crate) timeout: u64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub(crate) start_period: u64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub(crate) start_interval: u64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub(crate) retries: u64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Config {
    /// Fills in what the image says and the client left open, as the engine merges them.
    pub(crate) fn merge_image(&mut self, image: &Config) {
        if self.user.is_empty() {
            self.user.clone_from(&image.user);
        }
        for (port, value) in &image.exposed_ports {
            self.exposed_ports
                .entry(port.clone())
                .or_insert_with(|| value.clone());
        }
        let env = self.env.get_or_insert_default();
        let names: Vec<String> = env.iter().map(|v| env_name(v).to_owned()).collect();
        let inherited = image
            .env
            .iter()
            .flatten()
            .filter(|v| !names.iter().any(|name| name == env_name(v)));
        env.extend(inherited.cloned());
        if self.entrypoint.is_none() {
            if self.cmd.as_ref().is_none_or(Vec::is_empty) {
                self.cmd.clone_from(&image.cmd);
            }
            self.entrypoint.clone_from(&image.entrypoint);
        } else if self
            .entrypoint
            .as_ref()
            .is_some_and(|e| e.len() == 1 && e[0].is_empty())
        {
            // An entrypoint of one empty word takes the image's away.
            self.entrypoint = None;
        }
        if self.healthcheck.as_ref().is_none_or(|h| h.test.is_empty())
            && let Some(of_image) = &image.healthcheck
        {
            let mut merged = of_image.clone();
            if let Some(own) = &self.healthcheck {
                let pick = |own: u64, image: u64| if own == 0 { image } else { own };
                merged.interval = pick(own.interval, merged.interval);
                merged.timeout = pick(own.timeout, merged.timeout);
                merged.start_period = pick(own.start_period, merged.start_period);
                merged.start_interval = pick(own.start_interval, merged.start_interval);
                merged.retries = pick(own.retries, merged.retries);
            }
            self.healthcheck = Some(merged);
        }
        for (key, value) in &image.labels {
            self.labels
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
        if self.working_dir.is_empty() {
            self.working_dir.clone_from(&image.working_dir);
        }
        if let Some(volumes) = &image.volumes {
            self.volumes.get_or_insert_default().extend(volumes.clone());
        }
        if self.stop_signal.is_none() {
            self.stop_signal.clone_from(&image.stop_signal);
        }
        if self.shell.is_none() {
            self.shell.clone_from(&image.shell);
        }
    }

    /// Program and arguments: entrypoint, then command.
    pub(crate) fn argv(&self) -> Vec<String> {
        self.entrypoint
            .iter()
            .flatten()
            .chain(self.cmd.iter().flatten())
            .cloned()
            .collect()
    }
}

fn env_name(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

/// Every `HostConfig` field the engine knows, with what inspect shows when the client did not set it.
const HOST_DEFAULTS: &str = r#"{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"json-file","Config":{}},
"NetworkMode":"default","PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,
"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"Annotations":null,"CapAdd":null,"CapDrop":null,
"CgroupnsMode":"private","Dns":null,"DnsOptions":null,"DnsSearch":null,"ExtraHosts":null,"GroupAdd":null,
"IpcMode":"private","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,
"ReadonlyRootfs":false,"SecurityOpt":null,"StorageOpt":null,"Tmpfs":null,"UTSMode":"","UsernsMode":"",
"ShmSize":67108864,"Sysctls":null,"Runtime":"runc","Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,
"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":null,"BlkioDeviceReadBps":null,"BlkioDeviceWriteBps":null,
"BlkioDeviceReadIOps":null,"BlkioDeviceWriteIOps":null,"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,
"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":null,"DeviceCgroupRules":null,"DeviceRequests":null,
"KernelMemory":0,"KernelMemoryTCP":0,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":null,
"OomKillDisable":null,"PidsLimit":null,"Ulimits":null,"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,
"IOMaximumBandwidth":0,"Init":null,"Mounts":null,
"MaskedPaths":["/proc/asound","/proc/acpi","/proc/interrupts","/proc/kcore","/proc/keys","/proc/latency_stats",
"/proc/timer_list","/proc/timer_stats","/proc/sched_debug","/proc/scsi","/sys/firmware",
"/sys/devices/virtual/powercap"],
"ReadonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]}"#;

/// Shown only when the client set them.
const HIDDEN_DEFAULTS: &[&str] = &[
    "Annotations",
    "Init",
    "KernelMemory",
    "KernelMemoryTCP",
    "Mounts",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
];

/// The host's part of a container's configuration: the whole of it as text, and what the engine acts on decoded.
#[derive(Clone, Debug)]
pub(crate) struct HostConfig {
    /// The JSON that inspect shows.
    pub(crate) text: Box<serde_json::value::RawValue>,
    pub(crate) acts: HostActs,
}

/// The fields of `HostConfig` the engine acts on.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostActs {
    #[serde(deserialize_with = "nullable")]
    pub(crate) binds: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) log_config: LogConfig,
    #[serde(deserialize_with = "nullable")]
    pub(crate) network_mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) restart_policy: RestartPolicy,
    #[serde(deserialize_with = "nullable")]
    pub(crate) auto_remove: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) volumes_from: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) publish_all_ports: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) tmpfs: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) memory: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) init: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) readonly_rootfs: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) mounts: Vec<MountSpec>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) console_size: Vec<u32>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cap_add: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cap_drop: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) dns: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) extra_hosts: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) links: Vec<String>,
    #[serde(rename = "UTSMode", deserialize_with = "nullable")]
    pub(crate) uts_mode: String,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LogConfig {
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub(crate) driver: String,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PortBinding {
    #[serde(deserialize_with = "nullable")]
    pub(crate) host_ip: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) host_port: String,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RestartPolicy {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) maximum_retry_count: i64,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct MountSpec {
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) source: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) target: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) read_only: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) volume_options: VolumeOptions,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VolumeOptions {
    #[serde(deserialize_with = "nullable")]
    pub(crate) no_copy: bool,
    /// The directory of the volume that is mounted; empty for all of it.
    #[serde(deserialize_with = "nullable")]
    pub(crate) subpath: String,
}

impl HostConfig {
    /// The client's `HostConfig` over the defaults; fields the engine does not know are dropped, as it drops them.
    pub(crate) fn from_client(client: Option<Map<String, Value>>) -> Result<Self, ApiError> {
        let mut merged: Map<String, Value> =
            serde_json::from_str(HOST_DEFAULTS).unwrap_or_default();
        let client = client.unwrap_or_default();
        for hidden in HIDDEN_DEFAULTS {
            if client.get(*hidden).is_none_or(|v| v.is_null() || *v == 0) {
                merged.remove(*hidden);
            } else {
                merged.insert((*hidden).to_owned(), Value::Null);
            }
        }
        for (key, value) in client {
            let empty = value.is_null()
                || value == ""
                    && matches!(
                        key.as_str(),
                        "NetworkMode" | "IpcMode" | "CgroupnsMode" | "Runtime"
                    );
            if !empty && let Some(slot) = merged.get_mut(&key) {
                *slot = value;
            }
        }
        if merged["LogConfig"]["Type"]
            .as_str()
            .is_none_or(str::is_empty)
        {
            merged["LogConfig"]["Type"] = "json-file".into();
        }
        if merged["RestartPolicy"]["Name"]
            .as_str()
            .is_none_or(str::is_empty)
        {
            merged["RestartPolicy"]["Name"] = "no".into();
        }
        if merged["ShmSize"].as_i64().is_some_and(|size| size <= 0) {
            merged["ShmSize"] = (64 << 20).into();
        }
        if merged["NetworkMode"] == "default" {
            merged["NetworkMode"] = "bridge".into();
        }
        Self::from_map(merged)
    }

    /// Changes some fields, as `update` does.
    pub(crate) fn update(&self, changes: Map<String, Value>) -> Result<Self, ApiError> {
        let mut merged: Map<String, Value> =
            serde_json::from_str(self.text.get()).map_err(|e| ApiError::internal(e.to_string()))?;
        for (key, value) in changes {
            merged.insert(key, value);
        }
        Self::from_map(merged)
    }

    fn from_map(mut map: Map<String, Value>) -> Result<Self, ApiError> {
        let acts: HostActs = serde_json::from_value(Value::Object(map.clone()))
            .map_err(|e| ApiError::bad(format!("invalid JSON: HostConfig: {e}")))?;
        // Shown with the fields the client left out.
        map.insert(
            "PortBindings".to_owned(),
            serde_json::json!(acts.port_bindings),
        );
        let text =
            serde_json::value::to_raw_value(&map).map_err(|e| ApiError::internal(e.to_string()))?;
        Ok(Self { text, acts })
    }

    /// Refuses what the engine refuses at create.
    pub(crate) fn validate(&self) -> Result<(), ApiError> {
        let policy = &self.acts.restart_policy;
        match policy.name.as_str() {
            "always" | "unless-stopped" | "no" if policy.maximum_retry_count != 0 => {
                return Err(ApiError::bad(
                    "invalid restart policy: maximum retry count can only be used with 'on-failure'",
                ));
            }
            "always" | "unless-stopped" | "no" | "on-failure" => {}
            other => {
                return Err(ApiError::bad(format!(
                    "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
                )));
            }
        }
        if self.acts.auto_remove && policy.name != "no" {
            return Err(ApiError::bad(
                "can't create 'AutoRemove' container with restart policy",
            ));
        }
        if (1..6 << 20).contains(&self.acts.memory) {
            return Err(ApiError::bad("Minimum memory limit allowed is 6MB"));
        }
        for port in self.acts.port_bindings.keys() {
            parse_port(port)
                .ok_or_else(|| ApiError::bad(format!("invalid port specification: {port:?}")))?;
        }
        for binding in self.acts.port_bindings.values().flatten().flatten() {
            if !binding.host_port.is_empty() && host_port_range(&binding.host_port).is_none() {
                return Err(ApiError::bad(format!(
                    "invalid port specification: {:?}",
                    binding.host_port
                )));
            }
        }
        Ok(())
    }
}

/// `80/tcp` as number and protocol; the protocol defaults to tcp.
pub(crate) fn parse_port(text: &str) -> Option<(u16, &str)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    matches!(protocol, "tcp" | "udp" | "sctp").then_some((number.parse().ok()?, protocol))
}

/// `8080` or `8000-8010`, both ends included.
pub(crate) fn host_port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// How often and how long a health check runs, the engine's defaults filled in.
pub(crate) struct HealthTimes {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) start_period: Nanos,
    pub(crate) start_interval: Duration,
    pub(crate) retries: u64,
}

impl HealthConfig {
    /// The command to run; `None` when health checks are off.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        match self.test.split_first()? {
            (kind, rest) if kind == "CMD" && !rest.is_empty() => Some(rest.to_vec()),
            (kind, [command]) if kind == "CMD-SHELL" => {
                Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), command.clone()])
            }
            _ => None,
        }
    }

    /// The engine's defaults: every 30 s, 30 s each, 5 s in the start period, 3 retries (`daemon/health.go`).
    pub(crate) fn times(&self) -> HealthTimes {
        let or = |value: u64, default: u64| {
            Duration::from_nanos(if value == 0 { default } else { value })
        };
        HealthTimes {
            interval: or(self.interval, 30_000_000_000),
            timeout: or(self.timeout, 30_000_000_000),
            start_period: self.start_period,
            start_interval: or(self.start_interval, 5_000_000_000),
            retries: if self.retries == 0 { 3 } else { self.retries },
        }
    }
}
