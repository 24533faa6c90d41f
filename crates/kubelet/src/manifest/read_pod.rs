//! The pod: metadata and what holds for all its containers.
//!
//! After an error the readers go on with a stand-in value, so that one run shows every mistake; [`super::parse`] returns no pod of
//! a file with an error.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::fields::{At, Fields, Reader, number};
use super::node::Node;
use super::problem::quoted;
use super::vocabulary::{
    DNS_CONFIG, DNS_OPTION, HOST_ALIAS, OBJECT_META, POD, POD_OS, POD_SECURITY_CONTEXT, POD_SPEC,
    SECCOMP_PROFILE,
};
use super::{read_container, read_volume};
use crate::name;
use crate::pod::{
    Container, DEFAULT_GRACE_SECONDS, DnsConfig, DnsOption, DnsPolicy, HostAlias, Metadata, Pod,
    PodSecurityContext, PodSpec, PodUid, Protocol, RestartPolicy,
};

/// The most a pod's annotations may weigh, keys and values (Kubernetes: `TotalAnnotationSizeLimitB`).
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// The most name servers and search domains, and the longest search list (Kubernetes: `MaxDNSNameservers` and its neighbours).
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
/// The largest user and group id (Kubernetes: `IsValidUserID`).
pub(super) const MAX_ID: i64 = i32::MAX as i64;

/// Reads a Pod. `None` when the node is not a mapping.
pub(super) fn read(reader: &mut Reader, node: &Node, path: &str) -> Option<Pod> {
    let mut fields = reader.open(node, path, POD)?;
    // The caller has looked at these.
    let (_, _) = (fields.take("apiVersion"), fields.take("kind"));
    let metadata = match fields.required_object(reader, "metadata", OBJECT_META) {
        Some(metadata) => read_metadata(reader, metadata),
        None => stand_in_metadata(),
    };
    let spec = fields.required_object(reader, "spec", POD_SPEC);
    let spec = spec.map(|spec| read_spec(reader, spec, &metadata));
    fields.close(reader);
    Some(Pod {
        metadata,
        spec: spec?,
    })
}

fn stand_in_metadata() -> Metadata {
    Metadata {
        name: String::new(),
        namespace: String::new(),
        uid: PodUid::derive("", ""),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// Reports why a text will not do; true when it will.
pub(super) fn check<T: AsRef<str>>(
    reader: &mut Reader,
    text: &At<T>,
    rule: impl Fn(&str) -> name::Check,
) -> bool {
    match rule(text.value.as_ref()) {
        Ok(()) => true,
        Err(reason) => {
            reader.error(
                text.at,
                &text.path,
                format!("{} will not do: {reason}", quoted(text.value.as_ref())),
            );
            false
        }
    }
}

fn read_metadata(reader: &mut Reader, mut fields: Fields<'_>) -> Metadata {
    let name = match fields.required_string(reader, "name") {
        Some(name) => {
            check(reader, &name, name::check_subdomain);
            name.value
        }
        None => String::new(),
    };
    let namespace = match fields.filled_string(reader, "namespace") {
        Some(namespace) => {
            check(reader, &namespace, name::check_label);
            namespace.value
        }
        None => "default".to_owned(),
    };
    let uid = match fields.filled_string(reader, "uid") {
        Some(uid) => {
            check(reader, &uid, name::check_uid);
            PodUid::parse(&uid.value).ok()
        }
        None => None,
    };
    let mut labels = BTreeMap::new();
    for (key, value) in fields.string_map(reader, "labels") {
        check(
            reader,
            &At {
                value: &key,
                at: value.at,
                path: value.path.clone(),
            },
            name::check_qualified_name,
        );
        check(reader, &value, name::check_label_value);
        labels.insert(key, value.value);
    }
    let mut annotations = BTreeMap::new();
    let mut weight = 0;
    for (key, value) in fields.string_map(reader, "annotations") {
        // Unlike a label's, an annotation's key may have upper case in its domain.
        check(
            reader,
            &At {
                value: key.to_ascii_lowercase(),
                at: value.at,
                path: value.path.clone(),
            },
            name::check_qualified_name,
        );
        weight += key.len() + value.value.len();
        annotations.insert(key, value.value);
    }
    if weight > MAX_ANNOTATIONS {
        reader.error(
            fields.at,
            fields.path_of("annotations"),
            format!("{weight} bytes of annotations, at most {MAX_ANNOTATIONS} are allowed"),
        );
    }
    fields.close(reader);
    Metadata {
        uid: uid.unwrap_or_else(|| PodUid::derive(&namespace, &name)),
        name,
        namespace,
        labels,
        annotations,
    }
}

fn read_spec(reader: &mut Reader, mut fields: Fields<'_>, metadata: &Metadata) -> PodSpec {
    let host_network = fields
        .boolean(reader, "hostNetwork")
        .is_some_and(|flag| flag.value);
    let host_pid = fields
        .boolean(reader, "hostPID")
        .is_some_and(|flag| flag.value);
    let host_ipc = fields
        .boolean(reader, "hostIPC")
        .is_some_and(|flag| flag.value);
    let security_context = match fields.object(reader, "securityContext", POD_SECURITY_CONTEXT) {
        Some(context) => read_security_context(reader, context),
        None => PodSecurityContext::default(),
    };
    let volumes = read_volume::read_all(reader, &mut fields);
    let containers = read_containers(
        reader,
        &mut fields,
        metadata,
        host_network,
        &security_context,
        &volumes.names(),
    );
    let restart_policy = fields.word(
        reader,
        "restartPolicy",
        &[
            ("Always", RestartPolicy::Always),
            ("OnFailure", RestartPolicy::OnFailure),
            ("Never", RestartPolicy::Never),
        ],
    );
    let grace = fields.number(
        reader,
        "terminationGracePeriodSeconds",
        0..=i64::from(i32::MAX),
    );
    let hostname = fields.filled_string(reader, "hostname");
    if let Some(hostname) = &hostname {
        check(reader, hostname, name::check_label);
        if host_network {
            reader.warn(
                hostname.at,
                &hostname.path,
                "has no effect with hostNetwork: the pod has the host's name",
            );
        }
    }
    let (dns_policy, dns_config) = read_dns(reader, &mut fields);
    let host_aliases = read_host_aliases(reader, &mut fields);
    if let Some(mut os) = fields.object(reader, "os", POD_OS) {
        let _ = os.word(reader, "name", &[("linux", ())]);
        os.close(reader);
    }
    fields.close(reader);
    PodSpec {
        containers,
        volumes: volumes.volumes,
        restart_policy: restart_policy
            .map(|policy| policy.value)
            .unwrap_or_default(),
        termination_grace_period_seconds: grace
            .and_then(|grace| u32::try_from(grace.value).ok())
            .unwrap_or(DEFAULT_GRACE_SECONDS),
        host_network,
        host_pid,
        host_ipc,
        hostname: hostname.map(|hostname| hostname.value),
        dns_policy,
        dns_config,
        host_aliases,
        security_context,
    }
}

fn read_containers(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    metadata: &Metadata,
    host_network: bool,
    security: &PodSecurityContext,
    volumes: &HashMap<String, read_volume::Use>,
) -> Vec<Container> {
    let Some(list) = fields.take("containers") else {
        fields.require(reader, "containers");
        return Vec::new();
    };
    let items = reader.items(list.value, &list.path);
    if items.is_empty() && list.value.value.is_empty() {
        reader.error(list.at, &list.path, "at least one container is required");
    }
    let surroundings = read_container::Surroundings {
        metadata,
        host_network,
        security,
        volumes,
    };
    let mut names = HashSet::new();
    let mut ports = HostPorts::default();
    let mut containers = Vec::new();
    for (node, path) in items {
        let Some(container) = read_container::read(reader, node, &path, &surroundings, &mut ports)
        else {
            continue;
        };
        if !container.name.is_empty() && !names.insert(container.name.clone()) {
            reader.error(
                node.at,
                format!("{path}.name"),
                format!(
                    "there is another container named {}",
                    quoted(&container.name)
                ),
            );
        }
        containers.push(container);
    }
    containers
}

/// The host ports a pod's containers ask for, to find those asked for twice.
#[derive(Default)]
pub(super) struct HostPorts {
    taken: HashMap<(Protocol, u16), Vec<Holder>>,
}

/// Who has a host port: on which address (none for all), and the port's path.
struct Holder {
    ip: Option<IpAddr>,
    path: String,
}

impl HostPorts {
    /// Takes a port on an address, or on all of them. Returns the path of the port that has it already.
    pub(super) fn take(
        &mut self,
        protocol: Protocol,
        port: u16,
        ip: Option<IpAddr>,
        path: &str,
    ) -> Option<String> {
        let ip = ip.filter(|ip| !ip.is_unspecified());
        let holders = self.taken.entry((protocol, port)).or_default();
        let clash = |holder: &&Holder| ip.is_none() || holder.ip.is_none() || holder.ip == ip;
        if let Some(holder) = holders.iter().find(clash) {
            return Some(holder.path.clone());
        }
        let path = path.to_owned();
        holders.push(Holder { ip, path });
        None
    }
}

/// A user or group id.
pub(super) fn read_id(reader: &mut Reader, fields: &mut Fields<'_>, name: &str) -> Option<u32> {
    let id = fields.number(reader, name, 0..=MAX_ID)?;
    u32::try_from(id.value).ok()
}

/// Takes `seccompProfile`. Docker's own profile, which every container has, is what `RuntimeDefault` asks for.
pub(super) fn read_seccomp(reader: &mut Reader, fields: &mut Fields<'_>) {
    let Some(mut profile) = fields.object(reader, "seccompProfile", SECCOMP_PROFILE) else {
        return;
    };
    if !profile.has("type") {
        profile.require(reader, "type");
    }
    let words = [
        ("RuntimeDefault", true),
        ("Unconfined", false),
        ("Localhost", false),
    ];
    match profile.word(reader, "type", &words) {
        Some(At { value: true, .. }) => {}
        Some(kind) => {
            reader.refuse(kind.at, &kind.path, "is a seccomp profile that berth does not support yet (RuntimeDefault is supported)");
            // It belongs to the type and is refused with it.
            profile.forget("localhostProfile");
        }
        None => {}
    }
    profile.close(reader);
}

fn read_security_context(reader: &mut Reader, mut fields: Fields<'_>) -> PodSecurityContext {
    let run_as_user = read_id(reader, &mut fields, "runAsUser");
    let run_as_group = read_id(reader, &mut fields, "runAsGroup");
    let run_as_non_root = fields
        .boolean(reader, "runAsNonRoot")
        .map(|flag| flag.value);
    let mut supplemental_groups = Vec::new();
    for (node, path) in fields.items(reader, "supplementalGroups") {
        if let Some(id) =
            number(reader, node, &path, 0..=MAX_ID).and_then(|id| u32::try_from(id).ok())
        {
            supplemental_groups.push(id);
        }
    }
    read_seccomp(reader, &mut fields);
    fields.close(reader);
    PodSecurityContext {
        run_as_user,
        run_as_group,
        run_as_non_root,
        supplemental_groups,
    }
}

fn read_ip(reader: &mut Reader, text: &At<String>) -> Option<IpAddr> {
    match text.value.parse() {
        Ok(ip) => Some(ip),
        Err(_) => {
            reader.error(
                text.at,
                &text.path,
                format!("expected an IP address, found {}", quoted(&text.value)),
            );
            None
        }
    }
}

fn read_dns(reader: &mut Reader, fields: &mut Fields<'_>) -> (DnsPolicy, DnsConfig) {
    let policy = fields.word(
        reader,
        "dnsPolicy",
        &[
            ("ClusterFirst", DnsPolicy::ClusterFirst),
            (
                "ClusterFirstWithHostNet",
                DnsPolicy::ClusterFirstWithHostNet,
            ),
            ("Default", DnsPolicy::Default),
            ("None", DnsPolicy::None),
        ],
    );
    let mut config = DnsConfig::default();
    if let Some(mut dns) = fields.object(reader, "dnsConfig", DNS_CONFIG) {
        let servers = dns.strings(reader, "nameservers");
        config.nameservers = servers
            .iter()
            .filter_map(|server| read_ip(reader, server))
            .collect();
        if servers.len() > MAX_NAMESERVERS {
            reader.error(
                dns.at,
                dns.path_of("nameservers"),
                format!("at most {MAX_NAMESERVERS} name servers are allowed"),
            );
        }
        for search in dns.strings(reader, "searches") {
            // A trailing dot marks an absolute name; the root alone is allowed.
            let rule = |text: &str| {
                if text == "." {
                    Ok(())
                } else {
                    name::check_subdomain(text.strip_suffix('.').unwrap_or(text))
                }
            };
            check(reader, &search, rule);
            config.searches.push(search.value);
        }
        let chars: usize = config.searches.iter().map(|search| search.len() + 1).sum();
        if config.searches.len() > MAX_SEARCHES || chars > MAX_SEARCH_CHARS + 1 {
            let message = format!(
                "at most {MAX_SEARCHES} search domains of {MAX_SEARCH_CHARS} characters together are allowed"
            );
            reader.error(dns.at, dns.path_of("searches"), message);
        }
        for (node, path) in dns.items(reader, "options") {
            let Some(mut option) = reader.open(node, &path, DNS_OPTION) else {
                continue;
            };
            let name = option.required_string(reader, "name");
            let value = option.string(reader, "value");
            option.close(reader);
            if let Some(name) = name {
                config.options.push(DnsOption {
                    name: name.value,
                    value: value.map(|value| value.value),
                });
            }
        }
        dns.close(reader);
    }
    if let Some(policy) = &policy
        && policy.value == DnsPolicy::None
        && config.nameservers.is_empty()
    {
        reader.error(
            policy.at,
            &policy.path,
            "with None, dnsConfig.nameservers needs at least one address",
        );
    }
    (
        policy.map(|policy| policy.value).unwrap_or_default(),
        config,
    )
}

fn read_host_aliases(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<HostAlias> {
    let mut aliases = Vec::new();
    for (node, path) in fields.items(reader, "hostAliases") {
        let Some(mut alias) = reader.open(node, &path, HOST_ALIAS) else {
            continue;
        };
        let ip = alias
            .required_string(reader, "ip")
            .and_then(|ip| read_ip(reader, &ip));
        let hostnames = alias.strings(reader, "hostnames");
        for hostname in &hostnames {
            check(reader, hostname, name::check_subdomain);
        }
        if hostnames.is_empty() {
            alias.require(reader, "hostnames");
        }
        alias.close(reader);
        if let Some(ip) = ip {
            aliases.push(HostAlias {
                ip,
                hostnames: hostnames
                    .into_iter()
                    .map(|hostname| hostname.value)
                    .collect(),
            });
        }
    }
    aliases
}
