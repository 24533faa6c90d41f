//! One container of a pod.

use std::collections::HashMap;

use super::fields::{At, Fields, Reader, quantity, suggestion};
use super::node::{Node, Value};
use super::problem::quoted;
use super::read_pod::{HostPorts, check, read_id, read_seccomp};
use super::read_volume::{self, Use};
use super::vocabulary::{
    CAPABILITIES, CONTAINER, CONTAINER_PORT, ENV_VAR, ENV_VAR_SOURCE, OBJECT_FIELD, RESOURCES,
    SECURITY_CONTEXT,
};
use crate::name;
use crate::pod::{
    Capabilities, Container, ContainerPort, EnvValue, EnvVar, FieldRef, ImagePullPolicy, Metadata,
    PodSecurityContext, Protocol, ResourceList, Resources, SecurityContext,
};
use crate::quantity::Quantity;

/// The least memory limit the Docker Engine takes, in bytes: 6 MiB (`linuxMinMemory` of the daemon).
const MIN_MEMORY: i64 = 6 * 1024 * 1024;

/// What a container's fields depend on.
pub(super) struct Surroundings<'s> {
    pub(super) metadata: &'s Metadata,
    pub(super) host_network: bool,
    pub(super) security: &'s PodSecurityContext,
    pub(super) volumes: &'s HashMap<String, Use>,
}

/// Reads a container. `None` when the node is not a mapping.
pub(super) fn read(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    surroundings: &Surroundings<'_>,
    ports: &mut HostPorts,
) -> Option<Container> {
    let mut fields = reader.open(node, path, CONTAINER)?;
    let name = match fields.required_string(reader, "name") {
        Some(name) => {
            check(reader, &name, name::check_label);
            name.value
        }
        None => String::new(),
    };
    let image = match fields.required_string(reader, "image") {
        Some(image) => {
            check(reader, &image, name::check_image);
            image.value
        }
        None => String::new(),
    };
    let working_dir = fields.filled_string(reader, "workingDir");
    if let Some(working_dir) = &working_dir {
        read_volume::check_absolute(reader, working_dir);
    }
    let policy = fields.word(
        reader,
        "imagePullPolicy",
        &[
            ("Always", ImagePullPolicy::Always),
            ("IfNotPresent", ImagePullPolicy::IfNotPresent),
            ("Never", ImagePullPolicy::Never),
        ],
    );
    let container = Container {
        name,
        command: process_texts(reader, &mut fields, "command"),
        args: process_texts(reader, &mut fields, "args"),
        working_dir: working_dir.map(|working_dir| working_dir.value),
        ports: read_ports(reader, &mut fields, surroundings.host_network, ports),
        env: read_env(reader, &mut fields, surroundings.metadata),
        resources: read_resources(reader, &mut fields),
        volume_mounts: read_volume::read_mounts(reader, &mut fields, surroundings.volumes),
        image_pull_policy: policy.map_or_else(
            || ImagePullPolicy::default_for(&image),
            |policy| policy.value,
        ),
        image,
        security_context: read_security_context(reader, &mut fields, surroundings.security),
        stdin: fields
            .boolean(reader, "stdin")
            .is_some_and(|flag| flag.value),
        stdin_once: fields
            .boolean(reader, "stdinOnce")
            .is_some_and(|flag| flag.value),
        tty: fields.boolean(reader, "tty").is_some_and(|flag| flag.value),
    };
    fields.close(reader);
    Some(container)
}

/// Words of a command line.
fn process_texts(reader: &mut Reader, fields: &mut Fields<'_>, name: &str) -> Vec<String> {
    let texts = fields.strings(reader, name);
    for text in &texts {
        check_no_nul(reader, text);
    }
    texts.into_iter().map(|text| text.value).collect()
}

/// No process can be given a NUL character.
fn check_no_nul(reader: &mut Reader, text: &At<String>) {
    if text.value.contains('\0') {
        reader.error(text.at, &text.path, "must not contain a NUL character");
    }
}

fn read_ports(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    host_network: bool,
    taken: &mut HostPorts,
) -> Vec<ContainerPort> {
    let mut ports: Vec<ContainerPort> = Vec::new();
    for (node, path) in fields.items(reader, "ports") {
        let Some(mut fields) = reader.open(node, &path, CONTAINER_PORT) else {
            continue;
        };
        let name = fields.filled_string(reader, "name");
        if let Some(name) = &name {
            check(reader, name, name::check_port_name);
            if ports
                .iter()
                .any(|port| port.name.as_ref() == Some(&name.value))
            {
                reader.error(
                    name.at,
                    &name.path,
                    format!(
                        "there is another port named {} in this container",
                        quoted(&name.value)
                    ),
                );
            }
        }
        if !fields.has("containerPort") {
            fields.require(reader, "containerPort");
        }
        let container_port = fields.number(reader, "containerPort", 1..=65535);
        // Zero means "not published", as in Kubernetes.
        let mut host_port = fields
            .number(reader, "hostPort", 0..=65535)
            .filter(|port| port.value != 0);
        let host_ip = fields.filled_string(reader, "hostIP");
        let words = [
            ("TCP", Protocol::Tcp),
            ("UDP", Protocol::Udp),
            ("SCTP", Protocol::Sctp),
        ];
        let protocol = fields
            .word(reader, "protocol", &words)
            .map(|protocol| protocol.value)
            .unwrap_or_default();
        fields.close(reader);

        let address = match &host_ip {
            Some(text) => match text.value.parse() {
                Ok(address) => Some(address),
                Err(_) => {
                    reader.error(
                        text.at,
                        &text.path,
                        format!("expected an IP address, found {}", quoted(&text.value)),
                    );
                    None
                }
            },
            None => None,
        };
        if host_network && let Some(container_port) = &container_port {
            match &host_port {
                Some(port) if port.value != container_port.value => {
                    let message = format!(
                        "with hostNetwork it must be the containerPort, {}",
                        container_port.value
                    );
                    reader.error(port.at, &port.path, message);
                }
                Some(_) => {}
                None => host_port = Some(container_port.clone()),
            }
        }
        if let Some(ip) = &host_ip
            && host_port.is_none()
        {
            reader.warn(ip.at, &ip.path, "has no effect without hostPort");
        }
        let number = |port: At<i64>| u16::try_from(port.value).ok();
        let host_port_at = host_port.as_ref().map(|port| (port.at, port.path.clone()));
        let port = ContainerPort {
            name: name.map(|name| name.value),
            container_port: container_port.and_then(number).unwrap_or_default(),
            host_port: host_port.and_then(number),
            host_ip: address,
            protocol,
        };
        match (port.host_port, host_port_at) {
            (Some(number), Some((at, at_path))) => {
                if let Some(holder) = taken.take(protocol, number, address, &path) {
                    reader.error(
                        at,
                        at_path,
                        format!("host port {number} is already taken by {holder}"),
                    );
                }
            }
            _ => {
                let same = |other: &ContainerPort| {
                    other.host_port.is_none()
                        && (other.container_port, other.protocol) == (port.container_port, protocol)
                };
                if port.container_port != 0 && ports.iter().any(same) {
                    reader.warn(
                        node.at,
                        &path,
                        format!("port {} is listed twice", port.container_port),
                    );
                }
            }
        }
        ports.push(port);
    }
    ports
}

fn read_env(reader: &mut Reader, fields: &mut Fields<'_>, metadata: &Metadata) -> Vec<EnvVar> {
    let mut env = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for (node, path) in fields.items(reader, "env") {
        let Some(mut fields) = reader.open(node, &path, ENV_VAR) else {
            continue;
        };
        let name = fields.required_string(reader, "name");
        if let Some(name) = &name {
            check(reader, name, name::check_env_name);
            if let Some(line) = lines.insert(name.value.clone(), node.at.line) {
                reader.warn(
                    name.at,
                    &name.path,
                    format!("hides the {} of line {line}", quoted(&name.value)),
                );
            }
        }
        let value = fields.string(reader, "value");
        if let Some(value) = &value {
            check_no_nul(reader, value);
        }
        let source = fields.object(reader, "valueFrom", ENV_VAR_SOURCE);
        let value = match (source, value) {
            (Some(source), value) => {
                if let Some(value) = value.filter(|value| !value.value.is_empty()) {
                    reader.error(
                        value.at,
                        &value.path,
                        "must be left out when valueFrom is there",
                    );
                }
                read_value_from(reader, source, metadata).map(EnvValue::ValueFrom)
            }
            (None, value) => Some(EnvValue::Value(
                value.map(|value| value.value).unwrap_or_default(),
            )),
        };
        fields.close(reader);
        if let (Some(name), Some(value)) = (name, value) {
            env.push(EnvVar {
                name: name.value,
                value,
            });
        }
    }
    env
}

fn read_value_from(
    reader: &mut Reader,
    mut fields: Fields<'_>,
    metadata: &Metadata,
) -> Option<FieldRef> {
    let field = fields.object(reader, "fieldRef", OBJECT_FIELD);
    if let Some((name, at)) = fields.first_unsupported() {
        let message = "is a source that berth does not support yet (fieldRef is supported)";
        reader.error(at, fields.path_of(name), message);
        fields.forget(name);
    } else if field.is_none() {
        reader.error(fields.at, &fields.path, "needs a source, such as fieldRef");
    }
    fields.close(reader);
    let mut field = field?;
    if let Some(version) = field.filled_string(reader, "apiVersion")
        && version.value != "v1"
    {
        reader.error(
            version.at,
            &version.path,
            format!("expected \"v1\", found {}", quoted(&version.value)),
        );
    }
    let path = field.required_string(reader, "fieldPath");
    field.close(reader);
    read_field_path(reader, &path?, metadata)
}

fn read_field_path(
    reader: &mut Reader,
    path: &At<String>,
    metadata: &Metadata,
) -> Option<FieldRef> {
    const KNOWN: [&str; 8] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.labels['<key>']",
        "metadata.annotations['<key>']",
        "spec.nodeName",
        "status.podIP",
        "status.hostIP",
    ];
    const LATER: [&str; 3] = ["spec.serviceAccountName", "status.podIPs", "status.hostIPs"];
    let text = path.value.as_str();
    let subscript = |prefix: &str| {
        text.strip_prefix(prefix)?
            .strip_prefix("['")?
            .strip_suffix("']")
            .filter(|key| !key.is_empty())
    };
    let keyed = [
        ("label", subscript("metadata.labels")),
        ("annotation", subscript("metadata.annotations")),
    ];
    for (what, key) in keyed {
        let Some(key) = key else {
            continue;
        };
        check(
            reader,
            &At {
                at: path.at,
                path: path.path.clone(),
                value: key.to_ascii_lowercase(),
            },
            name::check_qualified_name,
        );
        let (there, field) = match what {
            "label" => (
                metadata.labels.contains_key(key),
                FieldRef::Label(key.to_owned()),
            ),
            _ => (
                metadata.annotations.contains_key(key),
                FieldRef::Annotation(key.to_owned()),
            ),
        };
        if !there {
            reader.warn(
                path.at,
                &path.path,
                format!(
                    "the pod has no {what} {}: the variable will be empty",
                    quoted(key)
                ),
            );
        }
        return Some(field);
    }
    match text {
        "metadata.name" => Some(FieldRef::Name),
        "metadata.namespace" => Some(FieldRef::Namespace),
        "metadata.uid" => Some(FieldRef::Uid),
        "spec.nodeName" => Some(FieldRef::NodeName),
        "status.podIP" => Some(FieldRef::PodIp),
        "status.hostIP" => Some(FieldRef::HostIp),
        _ => {
            let message = if LATER.contains(&text) {
                format!("{text} is a field that berth does not support here yet")
            } else {
                let hint = match suggestion(text, KNOWN.into_iter()) {
                    Some(meant) => format!(" (did you mean \"{meant}\"?)"),
                    None => format!(" (expected one of {})", KNOWN.join(", ")),
                };
                format!("no variable can be taken from {}{hint}", quoted(text))
            };
            reader.error(path.at, &path.path, message);
            None
        }
    }
}

fn read_resources(reader: &mut Reader, fields: &mut Fields<'_>) -> Resources {
    let Some(mut fields) = fields.object(reader, "resources", RESOURCES) else {
        return Resources::default();
    };
    let limits = read_amounts(reader, &mut fields, "limits");
    let requests = read_amounts(reader, &mut fields, "requests");
    fields.close(reader);
    if let Some(memory) = &limits.memory
        && (1..MIN_MEMORY).contains(&memory.value.units())
    {
        let message = format!(
            "{} of memory are too little: the Docker Engine takes no limit below 6Mi",
            memory.value
        );
        reader.error(memory.at, &memory.path, message);
    }
    for (limit, request) in [
        (&limits.cpu, &requests.cpu),
        (&limits.memory, &requests.memory),
    ] {
        if let (Some(limit), Some(request)) = (limit, request)
            && request.value > limit.value
        {
            reader.error(
                request.at,
                &request.path,
                format!(
                    "the request, {}, is above the limit, {}",
                    request.value, limit.value
                ),
            );
        }
    }
    let value = |amount: &Option<At<Quantity>>| amount.as_ref().map(|amount| amount.value);
    let limit_values = ResourceList {
        cpu: value(&limits.cpu),
        memory: value(&limits.memory),
    };
    Resources {
        limits: limit_values,
        requests: ResourceList {
            cpu: value(&requests.cpu).or(limit_values.cpu),
            memory: value(&requests.memory).or(limit_values.memory),
        },
    }
}

#[derive(Default)]
struct Amounts {
    cpu: Option<At<Quantity>>,
    memory: Option<At<Quantity>>,
}

fn read_amounts(reader: &mut Reader, fields: &mut Fields<'_>, name: &str) -> Amounts {
    let mut amounts = Amounts::default();
    let Some(list) = fields.take(name) else {
        return amounts;
    };
    let Value::Mapping(entries) = &list.value.value else {
        let found = list.value.value.describe();
        reader.error(
            list.at,
            &list.path,
            format!("expected a mapping, found {found}"),
        );
        return amounts;
    };
    for entry in entries {
        let path = super::join(&list.path, &entry.key);
        let key = &*entry.key;
        if key != "cpu" && key != "memory" {
            let later = matches!(key, "ephemeral-storage" | "storage")
                || key.starts_with("hugepages-")
                || key.contains('/');
            match suggestion(key, ["cpu", "memory"].into_iter()) {
                _ if later => reader.refuse(
                    entry.key_at,
                    &path,
                    "is a resource that berth does not support yet (cpu and memory are)",
                ),
                Some(meant) => reader.error(
                    entry.key_at,
                    path,
                    format!("unknown resource (did you mean \"{meant}\"?)"),
                ),
                None => reader.error(
                    entry.key_at,
                    path,
                    "unknown resource: expected cpu or memory",
                ),
            }
            continue;
        }
        let Some(value) = quantity(reader, &entry.value, &path) else {
            continue;
        };
        let at = entry.value.at;
        if value.is_negative() {
            reader.error(at, path, format!("must not be below zero, found {value}"));
        } else if key == "cpu" {
            amounts.cpu = Some(At { at, path, value });
        } else if value.is_whole() {
            amounts.memory = Some(At { at, path, value });
        } else {
            reader.error(at, path, format!("{value} is not a whole number of bytes: m means thousandths (did you mean M or Mi?)"));
        }
    }
    amounts
}

fn read_security_context(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    pod: &PodSecurityContext,
) -> SecurityContext {
    let Some(context) = fields.take("securityContext") else {
        if pod.run_as_non_root == Some(true) && pod.run_as_user == Some(0) {
            reader.error(
                fields.at,
                &fields.path,
                "the pod's securityContext says runAsNonRoot, but runAsUser 0, which is root",
            );
        }
        return SecurityContext::default();
    };
    let (at, path) = (context.at, context.path.clone());
    let Some(mut fields) = reader.open(context.value, &path, SECURITY_CONTEXT) else {
        return SecurityContext::default();
    };
    let capabilities = match fields.object(reader, "capabilities", CAPABILITIES) {
        Some(mut fields) => {
            let add = fields.strings(reader, "add");
            let drop = fields.strings(reader, "drop");
            fields.close(reader);
            for capability in add.iter().chain(&drop) {
                check(reader, capability, name::check_capability);
            }
            let texts = |list: Vec<At<String>>| {
                list.into_iter()
                    .map(|capability| capability.value)
                    .collect()
            };
            Capabilities {
                add: texts(add),
                drop: texts(drop),
            }
        }
        None => Capabilities::default(),
    };
    let context = SecurityContext {
        run_as_user: read_id(reader, &mut fields, "runAsUser"),
        run_as_group: read_id(reader, &mut fields, "runAsGroup"),
        run_as_non_root: fields
            .boolean(reader, "runAsNonRoot")
            .map(|flag| flag.value),
        privileged: fields.boolean(reader, "privileged").map(|flag| flag.value),
        read_only_root_filesystem: fields
            .boolean(reader, "readOnlyRootFilesystem")
            .map(|flag| flag.value),
        allow_privilege_escalation: fields
            .boolean(reader, "allowPrivilegeEscalation")
            .map(|flag| flag.value),
        capabilities,
    };
    read_seccomp(reader, &mut fields);
    fields.close(reader);

    let non_root = context.run_as_non_root.or(pod.run_as_non_root) == Some(true);
    if non_root && context.run_as_user.or(pod.run_as_user) == Some(0) {
        reader.error(
            at,
            &path,
            "runAsNonRoot holds here, but so does runAsUser 0, which is root",
        );
    }
    if context.allow_privilege_escalation == Some(false) {
        let admin =
            |capability: &String| matches!(capability.as_str(), "SYS_ADMIN" | "CAP_SYS_ADMIN");
        if context.privileged == Some(true) {
            reader.error(
                at,
                &path,
                "allowPrivilegeEscalation cannot be false in a privileged container",
            );
        } else if context.capabilities.add.iter().any(admin) {
            reader.error(
                at,
                &path,
                "allowPrivilegeEscalation cannot be false with the capability SYS_ADMIN",
            );
        }
    }
    context
}
