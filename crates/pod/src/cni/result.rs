//! What the plugins of a network have given to a pod. Pure.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::INTERFACE;
use super::cidr::Cidr;
use super::config::Version;

/// The largest result that is read, in bytes.
pub const MAX_RESULT: usize = 1 << 20;

/// What is wrong with a result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It is no JSON, or a key has a value of another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It contradicts itself.
    #[error("{0}")]
    Rule(String),
}

/// An interface that was made or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address; empty if it was not said.
    pub mac: String,
    /// The namespace it is in; empty for the host's.
    pub sandbox: String,
}

/// An address that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address and its network.
    pub address: Cidr,
    /// Where packets for elsewhere go first.
    pub gateway: Option<IpAddr>,
    /// Which of [`CniResult::interfaces`] has it, if it was said.
    pub interface: Option<usize>,
}

/// A route that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to.
    pub destination: Cidr,
    /// Over which address; the network's gateway otherwise.
    pub gateway: Option<IpAddr>,
}

/// How names are resolved, as the network says. Kubernetes has its own rules for pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkDns {
    /// Name servers.
    pub nameservers: Vec<String>,
    /// The local domain; empty if it was not said.
    pub domain: String,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// What the plugins of a network have given to a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct CniResult {
    json: Map<String, Value>,
    interfaces: Vec<Interface>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    dns: NetworkDns,
    /// The addresses of the pod's interface.
    ips: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Raw {
    interfaces: Option<Vec<RawInterface>>,
    ips: Option<Vec<RawAddress>>,
    routes: Option<Vec<RawRoute>>,
    dns: Option<RawDns>,
}

#[derive(Deserialize)]
struct RawInterface {
    name: Option<String>,
    mac: Option<String>,
    sandbox: Option<String>,
}

#[derive(Deserialize)]
struct RawAddress {
    address: Cidr,
    gateway: Option<String>,
    interface: Option<i64>,
}

#[derive(Deserialize)]
struct RawRoute {
    dst: Cidr,
    gw: Option<String>,
}

#[derive(Deserialize)]
struct RawDns {
    nameservers: Option<Vec<String>>,
    domain: Option<String>,
    search: Option<Vec<String>>,
    options: Option<Vec<String>>,
}

impl CniResult {
    /// Reads what a plugin wrote. A result that does not say its version has that of the network.
    ///
    /// # Errors
    /// When it is no JSON object, an address is none, or it refers to an interface that it does not have.
    pub fn parse(bytes: &[u8], version: Version) -> Result<Self, ResultError> {
        if bytes.len() > MAX_RESULT {
            return Err(ResultError::Rule(format!(
                "it is longer than {MAX_RESULT} bytes"
            )));
        }
        // Twice, so that a mistake is told with line and column.
        let raw: Raw = serde_json::from_slice(bytes)?;
        let mut json: Map<String, Value> = serde_json::from_slice(bytes)?;
        let versioned = json.get("cniVersion").and_then(Value::as_str);
        if versioned.is_none_or(str::is_empty) {
            json.insert("cniVersion".to_owned(), version.to_string().into());
        }
        let interfaces: Vec<Interface> = raw
            .interfaces
            .into_iter()
            .flatten()
            .map(|interface| Interface {
                name: interface.name.unwrap_or_default(),
                mac: interface.mac.unwrap_or_default(),
                sandbox: interface.sandbox.unwrap_or_default(),
            })
            .collect();
        let addresses = raw
            .ips
            .into_iter()
            .flatten()
            .map(|ip| {
                Ok(Address {
                    address: ip.address,
                    gateway: gateway(ip.gateway)?,
                    interface: index(ip.interface, interfaces.len())?,
                })
            })
            .collect::<Result<Vec<_>, ResultError>>()?;
        let routes = raw
            .routes
            .into_iter()
            .flatten()
            .map(|route| {
                Ok(Route {
                    destination: route.dst,
                    gateway: gateway(route.gw)?,
                })
            })
            .collect::<Result<Vec<_>, ResultError>>()?;
        let dns = raw.dns.map(|dns| NetworkDns {
            nameservers: dns.nameservers.unwrap_or_default(),
            domain: dns.domain.unwrap_or_default(),
            search: dns.search.unwrap_or_default(),
            options: dns.options.unwrap_or_default(),
        });
        Ok(Self {
            ips: of_the_pod(&addresses, &interfaces),
            json,
            interfaces,
            addresses,
            routes,
            dns: dns.unwrap_or_default(),
        })
    }

    /// The pod's first address; `None` when the plugins gave it none.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ips.first().copied()
    }

    /// The pod's other addresses, in the plugins' order.
    pub fn additional_ips(&self) -> &[IpAddr] {
        self.ips.get(1..).unwrap_or_default()
    }

    /// The interfaces that were made or changed, on both sides.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The addresses that were given, with their networks.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The routes that were made.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// How names are resolved, as the network says.
    pub fn dns(&self) -> &NetworkDns {
        &self.dns
    }

    /// As the last plugin wrote it.
    pub fn json(&self) -> &Map<String, Value> {
        &self.json
    }
}

fn index(given: Option<i64>, interfaces: usize) -> Result<Option<usize>, ResultError> {
    match given.map(usize::try_from) {
        None => Ok(None),
        Some(Ok(index)) if index < interfaces => Ok(Some(index)),
        // Some plugins write −1 for "none of them".
        Some(Err(_)) => Ok(None),
        Some(Ok(index)) => Err(ResultError::Rule(format!(
            "an address is of interface {index}, and there are only {interfaces}"
        ))),
    }
}

fn gateway(text: Option<String>) -> Result<Option<IpAddr>, ResultError> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(ResultError::Rule(format!(
                "the gateway {:?} is not an address",
                text.chars().take(64).collect::<String>()
            ))),
        },
    }
}

/// The addresses of the pod's interface, and those that are said to be of none: many plugins do not say it. Addresses of the host's side, and
/// of further interfaces, are not the pod's.
fn of_the_pod(addresses: &[Address], interfaces: &[Interface]) -> Vec<IpAddr> {
    let ours = |address: &&Address| match address.interface {
        None => true,
        Some(index) => interfaces
            .get(index)
            .is_some_and(|interface| interface.name == INTERFACE && !interface.sandbox.is_empty()),
    };
    addresses
        .iter()
        .filter(ours)
        .map(|address| address.address.address)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CniResult, ResultError> {
        CniResult::parse(text.as_bytes(), Version::NEWEST)
    }

    #[test]
    fn the_addresses_of_the_pods_interface_are_its_own_in_order() {
        let result = parse(
            r#"{
                "cniVersion": "1.0.0",
                "interfaces": [
                    {"name": "cni0", "mac": "00:11:22:33:44:55"},
                    {"name": "veth3243", "mac": "55:44:33:22:11:11", "mtu": 1500},
                    {"name": "eth0", "mac": "99:88:77:66:55:44", "sandbox": "/proc/7/ns/net"},
                    {"name": "net1", "sandbox": "/proc/7/ns/net"}
                ],
                "ips": [
                    {"address": "192.0.2.1/24", "interface": 0},
                    {"address": "fd00::5/64", "gateway": "fd00::1", "interface": 2},
                    {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2},
                    {"address": "10.9.0.5/16", "interface": 3}
                ],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.1.0.2"}],
                "dns": {"nameservers": ["10.1.0.1"], "search": ["example.org"]}
            }"#,
        )
        .unwrap();
        assert_eq!(result.ip(), Some("fd00::5".parse().unwrap()));
        assert_eq!(
            result.additional_ips(),
            ["10.1.0.5".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(result.interfaces()[1].name, "veth3243");
        assert_eq!(
            result.addresses()[2].gateway,
            Some("10.1.0.1".parse().unwrap())
        );
        assert_eq!(
            result.routes()[1].gateway,
            Some("10.1.0.2".parse().unwrap())
        );
        assert_eq!(result.dns().nameservers, ["10.1.0.1"]);
        assert_eq!(result.json()["cniVersion"], "1.0.0");
    }

    #[test]
    fn addresses_of_no_interface_are_the_pods() {
        let result = parse(
            r#"{"interfaces": [{"name": "cali1"}], "ips": [{"address": "10.1.0.5/32"}, {"address": "fd00::5/128", "interface": -1}]}"#,
        )
        .unwrap();
        assert_eq!(result.ip(), Some("10.1.0.5".parse().unwrap()));
        assert_eq!(result.additional_ips().len(), 1);
        // It said no version, and a plugin that gets it as its `prevResult` wants one.
        assert_eq!(result.json()["cniVersion"], "1.1.0");
    }

    #[test]
    fn what_is_empty_is_null_or_missing() {
        for text in [
            "{}",
            r#"{"interfaces": null, "ips": null, "routes": null, "dns": null, "cniVersion": null}"#,
            r#"{"interfaces": [], "ips": [], "dns": {}, "else": 1}"#,
        ] {
            let result = parse(text).unwrap();
            assert_eq!(result.ip(), None);
            assert!(result.additional_ips().is_empty());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("", "EOF"),
            ("[]", "invalid"),
            ("starting...\n{}", "expected value at line 1 column 1"),
            ("{} and more", "trailing characters"),
            (
                r#"{"ips": [{"address": "10.1.0.5"}]}"#,
                "length of a prefix",
            ),
            (r#"{"ips": [{}]}"#, "missing field `address`"),
            (
                r#"{"ips": [{"address": "10.1.0.5/16", "interface": 0}]}"#,
                "only 0",
            ),
            (
                r#"{"ips": [{"address": "10.1.0.5/16", "gateway": "x"}]}"#,
                "gateway",
            ),
            (r#"{"routes": [{"dst": "x"}]}"#, "length of a prefix"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(parse(&" ".repeat(MAX_RESULT + 1)).is_err());
    }
}
