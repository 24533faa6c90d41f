//! Owns which settings of a new container are none or contradict each other, beyond what one field says by itself.

use crate::config::{Config, HostConfig};
use crate::http::ApiError;

/// What `CapAdd` and `CapDrop` know, without the prefix `CAP_`; and `ALL`.
const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// The log drivers that every engine on Linux has.
const LOG_DRIVERS: &[&str] = &[
    "awslogs",
    "fluentd",
    "gcplogs",
    "gelf",
    "journald",
    "json-file",
    "local",
    "none",
    "splunk",
    "syslog",
];

/// Refuses what the engine refuses at create.
pub(crate) fn check(config: &Config, host: &HostConfig) -> Result<(), ApiError> {
    check_network_mode(config, host)?;
    for (field, capabilities) in [
        ("CapAdd", &host.acts.cap_add),
        ("CapDrop", &host.acts.cap_drop),
    ] {
        for capability in capabilities {
            let upper = capability.to_ascii_uppercase();
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if !CAPABILITIES.contains(&name) {
                return Err(ApiError::bad(format!(
                    "invalid {field}: unknown capability: \"CAP_{name}\""
                )));
            }
        }
    }
    let driver = host.acts.log_config.driver.as_str();
    if !LOG_DRIVERS.contains(&driver) {
        return Err(ApiError::bad(format!(
            "error looking up logging plugin {driver}: plugin {driver:?} not found"
        )));
    }
    Ok(())
}

/// What belongs to the owner of a network cannot be set by its guests.
fn check_network_mode(config: &Config, host: &HostConfig) -> Result<(), ApiError> {
    let acts = &host.acts;
    let guest = acts.network_mode.starts_with("container:");
    let hosts = acts.network_mode == "host";
    let has_mac = config
        .mac_address
        .as_ref()
        .is_some_and(|mac| !mac.is_empty());
    let conflicts = [
        (
            matches!(acts.network_mode.as_str(), "container" | "container:"),
            "Invalid network mode: invalid container format container:<name|id>",
        ),
        (
            guest && !config.hostname.is_empty(),
            "conflicting options: hostname and the network mode",
        ),
        (
            guest && !acts.links.is_empty(),
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ),
        (
            guest && !acts.dns.is_empty(),
            "conflicting options: dns and the network mode",
        ),
        (
            guest && !acts.extra_hosts.is_empty(),
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            (guest || hosts) && has_mac,
            "conflicting options: mac-address and the network mode",
        ),
        (
            guest && (!acts.port_bindings.is_empty() || acts.publish_all_ports),
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            guest && !config.exposed_ports.is_empty(),
            "conflicting options: port exposing and the container type network mode",
        ),
        (
            acts.uts_mode == "host" && !config.hostname.is_empty(),
            "conflicting options: hostname and the UTS mode",
        ),
        (
            hosts && !acts.links.is_empty(),
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
    ];
    match conflicts.iter().find(|(found, _)| *found) {
        None => Ok(()),
        Some((_, message)) => Err(ApiError::bad(*message)),
    }
}
