//! Networks and the endpoints of containers in them.

use std::collections::BTreeMap;

use super::lenient::{body, record};
use super::text_map::TextMap;
use super::time::Timestamp;

body! {
    /// A container's endpoint in a network: what is asked for and, in replies, what it got.
    pub struct EndpointSettings {
        /// Fixed addresses.
        pub ipam_config: Option<EndpointIpamConfig> = "IPAMConfig",
        /// Links to other containers, each `name:alias`.
        pub links: Vec<String> = "Links",
        /// Further names in this network.
        pub aliases: Vec<String> = "Aliases",
        /// The driver's options.
        pub driver_opts: TextMap = "DriverOpts",
        /// The MAC address; asking for one needs API 1.44.
        pub mac_address: String = "MacAddress",
        /// Which endpoint gives the default route, the highest first (API 1.48).
        pub gw_priority: i64 = "GwPriority",
        /// The network's id.
        pub network_id: String = "NetworkID",
        /// The endpoint's id.
        pub endpoint_id: String = "EndpointID",
        /// The gateway.
        pub gateway: String = "Gateway",
        /// The address.
        pub ip_address: String = "IPAddress",
        /// The length of its prefix.
        pub ip_prefix_len: i64 = "IPPrefixLen",
        /// The IPv6 gateway.
        pub ipv6_gateway: String = "IPv6Gateway",
        /// The IPv6 address.
        pub global_ipv6_address: String = "GlobalIPv6Address",
        /// The length of its prefix.
        pub global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen",
        /// The names by which it is known in this network (API 1.44).
        pub dns_names: Vec<String> = "DNSNames",
    }

    /// Fixed addresses of an endpoint.
    pub struct EndpointIpamConfig {
        /// The IPv4 address.
        pub ipv4_address: String = "IPv4Address",
        /// The IPv6 address.
        pub ipv6_address: String = "IPv6Address",
        /// Link-local addresses.
        pub link_local_ips: Vec<String> = "LinkLocalIPs",
    }

    /// A network to create.
    pub struct CreateNetwork {
        /// Its name.
        pub name: String = "Name",
        /// Its driver; empty for `bridge`.
        pub driver: String = "Driver",
        /// `local` or `swarm`; empty for the driver's.
        pub scope: String = "Scope",
        /// Whether it has no way out.
        pub internal: bool = "Internal",
        /// Whether containers may join an overlay network by hand.
        pub attachable: bool = "Attachable",
        /// Whether it is the routing mesh of a swarm.
        pub ingress: bool = "Ingress",
        /// Whether it only holds configuration for others.
        pub config_only: bool = "ConfigOnly",
        /// The network whose configuration it takes.
        pub config_from: Option<ConfigReference> = "ConfigFrom",
        /// Its address management.
        pub ipam: Option<Ipam> = "IPAM",
        /// Whether it has IPv4 addresses; `None` for yes (API 1.48 to say no).
        pub enable_ipv4: Option<bool> = "EnableIPv4",
        /// Whether it has IPv6 addresses; `None` for the Engine's default.
        pub enable_ipv6: Option<bool> = "EnableIPv6",
        /// The driver's options.
        pub options: TextMap = "Options",
        /// Labels.
        pub labels: TextMap = "Labels",
    }

    /// A network that only holds configuration.
    pub struct ConfigReference {
        /// Its name.
        pub network: String = "Network",
    }

    /// Address management of a network.
    pub struct Ipam {
        /// The driver; empty for `default`.
        pub driver: String = "Driver",
        /// Its pools; the Engine picks when there are none.
        pub config: Vec<IpamConfig> = "Config",
        /// The driver's options.
        pub options: TextMap = "Options",
    }

    /// One pool of addresses.
    pub struct IpamConfig {
        /// The subnet, as in `172.20.0.0/16`.
        pub subnet: String = "Subnet",
        /// The part of it that containers get addresses from.
        pub ip_range: String = "IPRange",
        /// The gateway.
        pub gateway: String = "Gateway",
        /// Addresses kept for other uses, by name.
        pub auxiliary_addresses: TextMap = "AuxiliaryAddresses" | "AuxAddress",
    }

    /// A container to connect to a network.
    pub struct ConnectNetwork {
        /// The container.
        pub container: String = "Container",
        /// Its endpoint; `None` lets the Engine choose everything.
        pub endpoint_config: Option<EndpointSettings> = "EndpointConfig",
    }

    /// A container to disconnect from a network.
    pub struct DisconnectNetwork {
        /// The container.
        pub container: String = "Container",
        /// Whether to do it also when the container is gone or the driver refuses.
        pub force: bool = "Force",
    }
}

record! {
    /// A network.
    pub struct Network {
        /// Its name.
        pub name: String = "Name",
        /// Its id.
        pub id: String = "Id" | "ID",
        /// When it was created.
        pub created: Option<Timestamp> = "Created",
        /// `local`, `swarm` or `global`.
        pub scope: String = "Scope",
        /// Its driver.
        pub driver: String = "Driver",
        /// Whether it has IPv4 addresses; `None` from engines below API 1.48, where it always has.
        pub enable_ipv4: Option<bool> = "EnableIPv4",
        /// Whether it has IPv6 addresses.
        pub enable_ipv6: bool = "EnableIPv6",
        /// Its address management.
        pub ipam: Ipam = "IPAM",
        /// Whether it has no way out.
        pub internal: bool = "Internal",
        /// Whether containers may join an overlay network by hand.
        pub attachable: bool = "Attachable",
        /// Whether it is the routing mesh of a swarm.
        pub ingress: bool = "Ingress",
        /// Whether it only holds configuration for others.
        pub config_only: bool = "ConfigOnly",
        /// The containers in it, by id; only from inspect.
        pub containers: BTreeMap<String, NetworkContainer> = "Containers",
        /// The driver's options.
        pub options: TextMap = "Options",
        /// Labels.
        pub labels: TextMap = "Labels",
    }

    /// A container in a network.
    pub struct NetworkContainer {
        /// The container's name.
        pub name: String = "Name",
        /// The endpoint's id.
        pub endpoint_id: String = "EndpointID",
        /// The MAC address.
        pub mac_address: String = "MacAddress",
        /// The address with the length of its prefix.
        pub ipv4_address: String = "IPv4Address",
        /// The IPv6 address with the length of its prefix.
        pub ipv6_address: String = "IPv6Address",
    }

    /// What creating a network answers.
    pub struct CreateNetworkResponse {
        /// The new network's id.
        pub id: String = "Id",
        /// What the Engine did otherwise than asked; empty for nothing.
        pub warning: String = "Warning",
    }

    /// Networks that a prune removed.
    pub struct PruneNetworks {
        /// The names of those removed.
        pub networks_deleted: Vec<String> = "NetworksDeleted",
    }
}
