//! Hashes that tell a changed container, or a changed sandbox, from an unchanged one.
//!
//! Owns what counts as a change. A hash rides on each container as a label, so it must stay the same from one release of berth to the
//! next: otherwise an upgrade restarts every container and runs finished jobs again. It is the first 32 bits of the SHA-256 of
//! canonical JSON (keys sorted, null fields left out; a field added later must be null where it says nothing). It is written in
//! lower-case hexadecimal without padding, as Kubernetes does, and is never 0, which in Kubernetes means "unknown". The tests hold
//! values that must not change.
//!
//! What goes in:
//! - sandbox: host namespaces, host name, DNS settings, host aliases, published ports, and the `emptyDir` volumes, all of which an
//!   engine settles when the sandbox is made;
//! - container: its sandbox's hash (a new sandbox means new containers), name, image, command, args, working directory, environment
//!   (with the values of the labels and annotations it names), CPU and memory, mounts with the volumes they show, effective security
//!   settings, standard input and terminal.
//!
//! What stays out, because it takes effect without a restart or not at all on one that runs: restart policy, grace period, pull
//! policy, labels and annotations nobody refers to, ports that are not published, volumes nobody mounts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::pod::{
    Container, ContainerPort, DnsConfig, DnsPolicy, EffectiveSecurity, EnvValue, EnvVar, FieldRef,
    HostAlias, Pod, Protocol, Resources, Volume, VolumeMount, VolumeSource,
};

/// A hash of a container or a sandbox. Prints and parses as hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpecHash(u32);

impl fmt::Display for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for SpecHash {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u32::from_str_radix(text, 16).map(Self)
    }
}

/// The hash of the pod's sandbox.
pub fn sandbox_hash(pod: &Pod) -> SpecHash {
    #[derive(Serialize)]
    struct Sandbox<'p> {
        host_network: bool,
        host_pid: bool,
        host_ipc: bool,
        hostname: &'p str,
        dns_policy: DnsPolicy,
        dns_config: &'p DnsConfig,
        host_aliases: &'p [HostAlias],
        ports: Vec<Published>,
        volumes: Vec<&'p Volume>,
    }
    /// A port without its name, which nothing on the engine knows.
    #[derive(Serialize)]
    struct Published {
        container_port: u16,
        host_port: u16,
        host_ip: Option<IpAddr>,
        protocol: Protocol,
    }
    fn published(port: &ContainerPort) -> Option<Published> {
        let ContainerPort {
            name: _,
            container_port,
            host_port,
            host_ip,
            protocol,
        } = *port;
        Some(Published {
            container_port,
            host_port: host_port?,
            host_ip,
            protocol,
        })
    }
    let spec = &pod.spec;
    let directory = |volume: &&Volume| matches!(volume.source, VolumeSource::EmptyDir(_));
    hash_of(&Sandbox {
        host_network: spec.host_network,
        host_pid: spec.host_pid,
        host_ipc: spec.host_ipc,
        // On the host's network the pod has the host's name, whatever it says.
        hostname: if spec.host_network {
            ""
        } else {
            pod.hostname()
        },
        dns_policy: spec.dns_policy,
        dns_config: &spec.dns_config,
        host_aliases: &spec.host_aliases,
        ports: spec
            .containers
            .iter()
            .flat_map(|container| &container.ports)
            .filter_map(published)
            .collect(),
        volumes: spec.volumes.iter().filter(directory).collect(),
    })
}

/// The hash of one of the pod's containers.
pub fn container_hash(pod: &Pod, container: &Container) -> SpecHash {
    #[derive(Serialize)]
    struct Hashed<'p> {
        sandbox: String,
        name: &'p str,
        image: &'p str,
        command: &'p [String],
        args: &'p [String],
        working_dir: Option<&'p str>,
        env: Vec<Variable<'p>>,
        resources: &'p Resources,
        mounts: Vec<Mounted<'p>>,
        security: EffectiveSecurity,
        stdin: bool,
        stdin_once: bool,
        tty: bool,
    }
    #[derive(Serialize)]
    struct Variable<'p> {
        #[serde(flatten)]
        variable: &'p EnvVar,
        /// The value of a label or annotation it names.
        fact: Option<&'p str>,
    }
    #[derive(Serialize)]
    struct Mounted<'p> {
        #[serde(flatten)]
        mount: &'p VolumeMount,
        source: Option<&'p VolumeSource>,
    }
    // Every field by name: a new one must be thought about.
    let Container {
        name,
        image,
        command,
        args,
        working_dir,
        ports: _,
        env,
        resources,
        volume_mounts,
        image_pull_policy: _,
        security_context: _,
        stdin,
        stdin_once,
        tty,
    } = container;
    let fact = |variable: &EnvVar| match &variable.value {
        EnvValue::ValueFrom(FieldRef::Label(key)) => {
            pod.metadata.labels.get(key).map(String::as_str)
        }
        EnvValue::ValueFrom(FieldRef::Annotation(key)) => {
            pod.metadata.annotations.get(key).map(String::as_str)
        }
        EnvValue::ValueFrom(_) | EnvValue::Value(_) => None,
    };
    let source = |mount: &VolumeMount| pod.volume(&mount.name).map(|volume| &volume.source);
    hash_of(&Hashed {
        sandbox: sandbox_hash(pod).to_string(),
        name,
        image,
        command,
        args,
        working_dir: working_dir.as_deref(),
        env: env
            .iter()
            .map(|variable| Variable {
                variable,
                fact: fact(variable),
            })
            .collect(),
        resources,
        mounts: volume_mounts
            .iter()
            .map(|mount| Mounted {
                mount,
                source: source(mount),
            })
            .collect(),
        security: pod.effective_security(container),
        stdin: *stdin,
        stdin_once: *stdin_once,
        tty: *tty,
    })
}

fn hash_of(value: &impl Serialize) -> SpecHash {
    let mut canonical = String::new();
    // Text keys, numbers and text always become JSON; were that ever wrong, the hash would still be stable.
    write_canonical(
        &serde_json::to_value(value).unwrap_or_default(),
        &mut canonical,
    );
    let digest = Sha256::digest(canonical);
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    SpecHash(hash.max(1))
}

/// JSON with sorted keys, fields that are null left out.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .collect();
            fields.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Validate, parse};

    fn pod(text: &str) -> Pod {
        parse(text.as_bytes(), "test", Validate::Warn)
            .unwrap_or_else(|errors| panic!("{text}\n{errors}"))
            .pods
            .remove(0)
    }

    const FULL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: shop, other: x}, annotations: {note: old}}
spec:
  restartPolicy: Always
  hostname: h
  dnsConfig: {searches: [example.com]}
  volumes: [{name: data, hostPath: {path: /data}}, {name: tmp, emptyDir: {}}, {name: unused, hostPath: {path: /u}}]
  containers:
  - name: app
    image: busybox:1
    command: [sh]
    args: [-c, x]
    workingDir: /w
    env: [{name: A, value: b}, {name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}]
    ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 81}]
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    volumeMounts: [{name: data, mountPath: /data}, {name: tmp, mountPath: /tmp}]
    securityContext: {runAsUser: 7}
  - name: side
    image: busybox:1
";

    fn hashes(text: &str) -> [String; 3] {
        let pod = pod(text);
        let of = |name| container_hash(&pod, pod.container(name).expect("there")).to_string();
        [sandbox_hash(&pod).to_string(), of("app"), of("side")]
    }

    #[test]
    fn hashes_never_change_from_release_to_release() {
        assert_eq!(
            hashes(FULL),
            ["f6ebc64c", "f2ff64da", "f5feb70d"].map(str::to_owned)
        );
        let small = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: app, image: i}, {name: side, image: i}]}}";
        assert_eq!(
            hashes(small),
            ["9c0f972", "ae8463a0", "6b119521"].map(str::to_owned)
        );
    }

    /// Which of sandbox, app and side change when a piece of the manifest is replaced.
    fn changed(from: &str, to: &str) -> [bool; 3] {
        assert!(FULL.contains(from), "{from}");
        let (before, after) = (hashes(FULL), hashes(&FULL.replacen(from, to, 1)));
        [0, 1, 2].map(|index| before[index] != after[index])
    }

    #[test]
    fn a_container_changes_with_its_own_settings_alone() {
        for (from, to) in [
            ("image: busybox:1", "image: busybox:2"),
            ("command: [sh]", "command: [sh, -e]"),
            ("args: [-c, x]", "args: [-c, z]"),
            ("args: [-c, x]", "args: [-c x]"),
            ("workingDir: /w", "workingDir: /v"),
            ("value: b", "value: c"),
            ("name: A,", "name: B,"),
            ("app: shop", "app: other"),
            ("cpu: 500m", "cpu: 600m"),
            ("memory: 64Mi", "memory: 65Mi"),
            ("path: /data", "path: /data2"),
            ("mountPath: /data", "mountPath: /data2"),
            ("mountPath: /data", "mountPath: /data, readOnly: true"),
            ("mountPath: /data", "mountPath: /data, subPath: x"),
            ("runAsUser: 7", "runAsUser: 8"),
            ("runAsUser: 7", "runAsUser: 7, privileged: true"),
            ("workingDir: /w", "tty: true"),
        ] {
            assert_eq!(changed(from, to), [false, true, false], "{from} → {to}");
        }
    }

    #[test]
    fn a_changed_sandbox_changes_every_container() {
        for (from, to) in [
            ("hostname: h", "hostname: g"),
            (
                "hostname: h",
                "hostname: h\n  hostNetwork: false\n  hostPID: true",
            ),
            ("[example.com]", "[example.org]"),
            ("hostPort: 8080", "hostPort: 8081"),
            ("hostPort: 8080", "hostPort: 8080, hostIP: 127.0.0.1"),
            ("containerPort: 80,", "containerPort: 88,"),
            ("emptyDir: {}", "emptyDir: {medium: Memory}"),
            (
                "restartPolicy: Always",
                "hostAliases: [{ip: 1.1.1.1, hostnames: [a]}]",
            ),
        ] {
            assert_eq!(changed(from, to), [true, true, true], "{from} → {to}");
        }
    }

    #[test]
    fn what_needs_no_restart_changes_no_hash() {
        for (from, to) in [
            (
                "restartPolicy: Always",
                "restartPolicy: Never\n  terminationGracePeriodSeconds: 5",
            ),
            ("other: x", "other: z"),
            ("note: old", "note: new"),
            ("containerPort: 81", "containerPort: 82"),
            ("containerPort: 81", "containerPort: 81, name: p"),
            ("path: /u", "path: /v"),
            ("cpu: 500m", "cpu: 0.5"),
            ("memory: 64Mi", "memory: 67108864"),
            (
                "workingDir: /w",
                "workingDir: /w\n    imagePullPolicy: Never",
            ),
            ("workingDir: /w", "workingDir: /w\n    stdin: false"),
            ("command: [sh]", "command: ['sh']"),
        ] {
            assert_eq!(changed(from, to), [false, false, false], "{from} → {to}");
        }
    }

    #[test]
    fn the_text_form_is_hexadecimal_without_padding() {
        assert_eq!(SpecHash(0xab).to_string(), "ab");
        assert_eq!("ab".parse(), Ok(SpecHash(0xab)));
        assert!("xyz".parse::<SpecHash>().is_err());
    }
}
