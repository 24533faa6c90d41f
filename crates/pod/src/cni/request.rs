//! What plugins are told about a pod: arguments, capabilities, and their configuration with both filled in. Pure.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::cidr::Cidr;
use super::config::{Network, Plugin};
use super::{Attachment, CniError};
use crate::spec::{PodIdentity, SandboxId};

/// The annotations that limit a pod's bandwidth, seen from the pod (kubernetes.io, "Support traffic shaping").
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// The bounds of a bandwidth, in bits per second: what Kubernetes calls reasonable, from 1k to 1P.
const BANDWIDTH: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;

/// How much may pass at once above the rate, in bits: about 2 Gbit is as good as no limit (`math.MaxInt32` in dockershim and cri-dockerd).
const BURST: u64 = 2_147_483_647;

/// What is left to a plugin by itself; a configuration's own keys with this prefix do not reach it.
const RESERVED: &str = "cni.dev/";

/// `CNI_ARGS` as pairs, in the order in which dockershim gave them.
pub(super) fn arguments(pod: &PodIdentity, sandbox: &SandboxId) -> Result<Arguments, CniError> {
    let pairs = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", sandbox.as_str()),
        ("K8S_POD_UID", &pod.uid),
    ];
    for (key, value) in pairs {
        // They are not quoted in any way, so one value could pose as several.
        if value.contains([';', '=', '\0']) {
            return Err(CniError::Invalid(format!(
                "{key} cannot be passed to CNI plugins: {value:?} contains one of `;`, `=` and NUL"
            )));
        }
    }
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Ok(pairs.map(owned).into())
}

/// Pairs of `CNI_ARGS`.
pub(super) type Arguments = Vec<(String, String)>;

/// The pairs as plugins get them.
pub(super) fn joined(arguments: &Arguments) -> String {
    let pairs: Vec<String> = arguments
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(";")
}

/// All that plugins may ask to be told about a pod, by the names of the conventions. A plugin gets what its `capabilities` name.
pub(super) fn capabilities(
    attachment: &Attachment,
    pod_cidrs: &[Cidr],
) -> Result<Map<String, Value>, CniError> {
    let mut all = Map::new();
    let ports: Vec<Value> = attachment
        .ports
        .iter()
        .filter_map(|port| {
            let mut mapping = json!({
                "hostPort": port.host_port.filter(|port| *port > 0)?,
                "containerPort": port.container_port,
                "protocol": port.protocol.name(),
            });
            if let Some(address) = port.host_ip {
                mapping["hostIP"] = address.to_string().into();
            }
            Some(mapping)
        })
        .collect();
    if !ports.is_empty() {
        all.insert("portMappings".to_owned(), ports.into());
    }
    let mut bandwidth = Map::new();
    for (annotation, rate, burst) in [
        (INGRESS, "ingressRate", "ingressBurst"),
        (EGRESS, "egressRate", "egressBurst"),
    ] {
        if let Some(text) = attachment.annotations.get(annotation) {
            let value = bits_per_second(text)
                .filter(|value| BANDWIDTH.contains(value))
                .ok_or_else(|| {
                    CniError::Invalid(format!(
                        "the annotation {annotation}: {:?} is not a bandwidth from 1k to 1P bits per second, such as 10M",
                        text.chars().take(64).collect::<String>()
                    ))
                })?;
            bandwidth.insert(rate.to_owned(), value.into());
            bandwidth.insert(burst.to_owned(), BURST.into());
        }
    }
    if !bandwidth.is_empty() {
        all.insert("bandwidth".to_owned(), bandwidth.into());
    }
    if !pod_cidrs.is_empty() {
        // A list of pools for each address that is wanted.
        let ranges: Vec<Value> = pod_cidrs
            .iter()
            .map(|cidr| json!([{"subnet": cidr.to_string()}]))
            .collect();
        all.insert(IP_RANGES.to_owned(), ranges.into());
    }
    let dns = &attachment.dns;
    #[derive(Serialize)]
    struct DnsArgument<'a> {
        servers: &'a [String],
        searches: &'a [String],
        options: &'a [String],
    }
    if !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()) {
        let argument = json!(DnsArgument {
            servers: &dns.servers,
            searches: &dns.searches,
            options: &dns.options,
        });
        all.insert("dns".to_owned(), argument);
    }
    if !attachment.cgroup_parent.is_empty() {
        all.insert(
            "cgroupPath".to_owned(),
            attachment.cgroup_parent.as_str().into(),
        );
    }
    Ok(all)
}

/// The capability of plugins that get the ranges of the pods' addresses from the node.
pub(super) const IP_RANGES: &str = "ipRanges";

/// The configuration that one run of a plugin gets on its standard input.
pub(super) fn request(
    network: &Network,
    plugin: &Plugin,
    capabilities: &Map<String, Value>,
    previous: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let mut request = plugin.config().clone();
    request.retain(|key, _| !key.starts_with(RESERVED));
    request.remove("capabilities");
    request.remove("prevResult");
    request.insert("name".to_owned(), network.name().into());
    request.insert(
        "cniVersion".to_owned(),
        network.version().to_string().into(),
    );
    let wanted: Map<String, Value> = capabilities
        .iter()
        .filter(|(name, _)| plugin.capabilities().contains(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // As the reference implementation: what the configuration itself has there counts when there is nothing to tell.
    if !wanted.is_empty() {
        request.insert("runtimeConfig".to_owned(), wanted.into());
    }
    if let Some(previous) = previous {
        request.insert("prevResult".to_owned(), previous.clone().into());
    }
    request
}

/// A Kubernetes quantity as a whole number, rounded up; `None` if it is none, is negative, or is too large.
fn bits_per_second(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = [whole, fraction].concat();
    // More digits than any bandwidth has.
    if digits.is_empty() || digits.len() > 24 {
        return None;
    }
    let power = |exponent: u32| 10_u128.checked_pow(exponent);
    let (multiply, divide) = match suffix {
        "" => (1, 1),
        "n" => (1, power(9)?),
        "u" => (1, power(6)?),
        "m" => (1, power(3)?),
        "k" => (power(3)?, 1),
        "M" => (power(6)?, 1),
        "G" => (power(9)?, 1),
        "T" => (power(12)?, 1),
        "P" => (power(15)?, 1),
        "E" => (power(18)?, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            match u32::try_from(exponent) {
                Ok(exponent) => (power(exponent)?, 1),
                Err(_) => (1, power(exponent.unsigned_abs())?),
            }
        }
    };
    let scale = power(u32::try_from(fraction.len()).ok()?)?.checked_mul(divide)?;
    let value: u128 = digits.parse().ok()?;
    value.checked_mul(multiply)?.div_ceil(scale).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Dns, PortMapping, Protocol};

    fn attachment() -> Attachment {
        Attachment {
            sandbox: SandboxId::new("5b1e"),
            pod: PodIdentity {
                namespace: "default".into(),
                name: "web".into(),
                uid: "u-1".into(),
            },
            netns: "/proc/7/ns/net".into(),
            ports: Vec::new(),
            dns: Dns::default(),
            cgroup_parent: String::new(),
            annotations: Default::default(),
        }
    }

    #[test]
    fn arguments_are_those_the_field_knows() {
        let Attachment { pod, sandbox, .. } = attachment();
        assert_eq!(
            joined(&arguments(&pod, &sandbox).unwrap()),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=5b1e;K8S_POD_UID=u-1"
        );
        for name in ["a;IP=10.0.0.1", "a=b", "a\0"] {
            let pod = PodIdentity {
                name: name.into(),
                ..pod.clone()
            };
            assert!(matches!(
                arguments(&pod, &sandbox),
                Err(CniError::Invalid(_))
            ));
        }
    }

    #[test]
    fn nothing_is_told_of_a_plain_pod() {
        assert!(capabilities(&attachment(), &[]).unwrap().is_empty());
    }

    #[test]
    fn capabilities_are_those_of_the_conventions() {
        let port = |container_port, host_port, host_ip: Option<&str>, protocol| PortMapping {
            container_port,
            host_port,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            protocol,
        };
        let attachment = Attachment {
            ports: vec![
                port(80, Some(8080), None, Protocol::Tcp),
                port(81, None, None, Protocol::Tcp),
                port(82, Some(0), None, Protocol::Tcp),
                port(53, Some(53), Some("fd00::1"), Protocol::Udp),
            ],
            dns: Dns {
                servers: vec!["10.96.0.10".into()],
                searches: Vec::new(),
                options: vec!["ndots:5".into()],
            },
            cgroup_parent: "/kubepods/pod1".into(),
            annotations: [(INGRESS, "1.5M"), (EGRESS, "1Mi")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..attachment()
        };
        let cidrs = ["10.244.1.0/24", "fd00:1::/64"].map(|cidr| cidr.parse().unwrap());
        assert_eq!(
            Value::from(capabilities(&attachment, &cidrs).unwrap()),
            json!({
                "portMappings": [
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                    {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "fd00::1"},
                ],
                "bandwidth": {
                    "ingressRate": 1_500_000, "ingressBurst": BURST,
                    "egressRate": 1_048_576, "egressBurst": BURST,
                },
                "ipRanges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:1::/64"}]],
                "dns": {"servers": ["10.96.0.10"], "searches": [], "options": ["ndots:5"]},
                "cgroupPath": "/kubepods/pod1",
            })
        );
    }

    #[test]
    fn a_bandwidth_out_of_bounds_is_refused_by_name() {
        for text in [
            "", "10", "999", "2P", "-1M", "1.2.3M", "M", "10X", "0", "1e99", "1Ei",
        ] {
            let attachment = Attachment {
                annotations: [(EGRESS.to_owned(), text.to_owned())].into(),
                ..attachment()
            };
            let error = capabilities(&attachment, &[]).unwrap_err().to_string();
            assert!(error.contains(EGRESS), "{text}: {error}");
        }
    }

    #[test]
    fn quantities_are_rounded_up() {
        for (text, value) in [
            ("1k", 1_000),
            ("1000000m", 1_000),
            ("1.0001k", 1_001),
            (".5M", 500_000),
            ("1e6", 1_000_000),
            ("12E-1", 2),
            ("1E", 1_000_000_000_000_000_000),
            ("3Gi", 3_221_225_472),
        ] {
            assert_eq!(bits_per_second(text), Some(value), "{text}");
        }
        assert_eq!(bits_per_second(&"9".repeat(25)), None);
        assert_eq!(bits_per_second("99999999999999999999E"), None);
    }

    #[test]
    fn a_plugin_gets_its_own_keys_and_what_it_asked_for() {
        let network = Network::parse(
            br#"{"cniVersion": "1.0.0", "name": "net", "plugins": [
                {"type": "bridge", "mtu": 1400, "cni.dev/x": 1, "prevResult": {}, "name": "other", "args": {"cni": {}}},
                {"type": "portmap", "snat": true, "capabilities": {"portMappings": true, "dns": false}},
                {"type": "own", "runtimeConfig": {"kept": true}, "capabilities": {"mac": true}}
            ]}"#,
        )
        .unwrap();
        let told = json!({"portMappings": [1], "dns": {}});
        let told = told.as_object().unwrap();
        let previous = json!({"ips": []});
        let requests: Vec<Value> = network
            .plugins()
            .iter()
            .map(|plugin| request(&network, plugin, told, previous.as_object()).into())
            .collect();
        assert_eq!(
            requests,
            [
                json!({"cniVersion": "1.0.0", "name": "net", "type": "bridge", "mtu": 1400, "args": {"cni": {}},
                    "prevResult": {"ips": []}}),
                json!({"cniVersion": "1.0.0", "name": "net", "type": "portmap", "snat": true,
                    "runtimeConfig": {"portMappings": [1]}, "prevResult": {"ips": []}}),
                json!({"cniVersion": "1.0.0", "name": "net", "type": "own", "runtimeConfig": {"kept": true},
                    "prevResult": {"ips": []}}),
            ]
        );
        let first = request(&network, &network.plugins()[0], told, None);
        assert!(!first.contains_key("prevResult"));
    }
}
