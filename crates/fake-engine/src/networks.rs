//! Owns networks: their requests, and who is in them. Their addresses are `addresses`', host ports `ports`'.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::addresses::Pool;
use crate::clock::Nanos;
use crate::config::nullable;
use crate::containers::container::{Container, Endpoint, EndpointSettings, Phase};
use crate::engine::Inner;
use crate::events::Event;
use crate::http::{Answer, ApiError, Call, Filters, created, json, status};
use crate::rng::Rng;
use crate::state::State;
use crate::time::{parse_moment, rfc3339};

/// The driver of the three networks every engine has, else `bridge`.
pub(crate) fn driver_of(network: &str) -> &'static str {
    match network {
        "host" => "host",
        "none" => "null",
        _ => "bridge",
    }
}

/// What the engine writes into every `/etc/hosts`.
const LOCAL_HOSTS: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// The host as containers reach it: the gateway of the default network.
const HOST_GATEWAY: &str = "172.17.0.1";

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) id: Arc<str>,
    pub(crate) name: Arc<str>,
    created: Nanos,
    driver: String,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    internal: bool,
    attachable: bool,
    pool: Option<Pool>,
}

/// All networks, oldest first.
#[derive(Debug)]
pub(crate) struct Networks(Vec<Network>);

impl Networks {
    pub(crate) fn new(rng: &mut Rng, now: Nanos) -> Self {
        let bridge_options = [
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
            ("com.docker.network.bridge.name", "docker0"),
            ("com.docker.network.driver.mtu", "1500"),
        ];
        let mut network = |name: &str, options: BTreeMap<String, String>, pool| Network {
            id: rng.id().into(),
            name: name.into(),
            created: now,
            driver: driver_of(name).to_owned(),
            labels: BTreeMap::new(),
            options,
            internal: false,
            attachable: false,
            pool,
        };
        let options = bridge_options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let pool = Pool::new(u32::from(Ipv4Addr::new(172, 17, 0, 0)), 16, None);
        Self(vec![
            network("bridge", options, Some(pool)),
            network("host", BTreeMap::new(), None),
            network("none", BTreeMap::new(), None),
        ])
    }

    /// By name, id, or the unique start of an id.
    pub(crate) fn find(&self, reference: &str) -> Result<&Network, ApiError> {
        self.index(reference).map(|index| &self.0[index])
    }

    fn find_mut(&mut self, reference: &str) -> Result<&mut Network, ApiError> {
        self.index(reference).map(|index| &mut self.0[index])
    }

    fn index(&self, reference: &str) -> Result<usize, ApiError> {
        if let Some(index) = self
            .0
            .iter()
            .position(|n| *n.id == *reference || *n.name == *reference)
        {
            return Ok(index);
        }
        let mut hits = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, n)| !reference.is_empty() && n.id.starts_with(reference));
        match (hits.next(), hits.next()) {
            (Some((index, _)), None) => Ok(index),
            (Some(_), Some(_)) => Err(ApiError::bad(format!(
                "network {reference} is ambiguous (2 matches found based on ID prefix)"
            ))),
            (None, _) => Err(ApiError::not_found(format!(
                "network {reference} not found"
            ))),
        }
    }

    /// A private range no network has: 172.18.0.0/16 and on, then 192.168.0.0/20 and on.
    fn free_pool(&self) -> Result<Pool, ApiError> {
        let large = (17..=31).map(|second| (u32::from(Ipv4Addr::new(172, second, 0, 0)), 16));
        let small = (0..16).map(|third| (u32::from(Ipv4Addr::new(192, 168, third * 16, 0)), 20));
        large
            .chain(small)
            .find(|(base, prefix)| !self.overlaps(&Pool::new(*base, *prefix, None)))
            .map(|(base, prefix)| Pool::new(base, prefix, None))
            .ok_or_else(|| ApiError::bad("all predefined address pools have been fully subnetted"))
    }

    fn overlaps(&self, pool: &Pool) -> bool {
        self.0
            .iter()
            .filter_map(|n| n.pool.as_ref())
            .any(|other| other.overlaps(pool))
    }
}

impl Network {
    /// The gateway and prefix length of the network, if it has addresses.
    pub(crate) fn gateway(&self) -> Option<(Ipv4Addr, u32)> {
        self.pool
            .as_ref()
            .map(|pool| (Ipv4Addr::from(pool.gateway), pool.prefix))
    }

    fn view(&self, api: crate::version::ApiVersion, containers: Option<Value>) -> Value {
        let config: Vec<Value> = self.pool.iter().map(Pool::view).collect();
        let mut view = json!({
            "Name": &*self.name,
            "Id": &*self.id,
            "Created": rfc3339(self.created),
            "Scope": "local",
            "Driver": self.driver,
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": if self.builtin() { Value::Null } else { json!({}) },
                      "Config": if self.pool.is_none() && api.at_least(44) { Value::Null } else { json!(config) } },
            "Internal": self.internal,
            "Attachable": self.attachable,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Options": self.options,
            "Labels": self.labels,
        });
        if api.at_least(48) {
            view["EnableIPv4"] = json!(true);
        }
        if let Some(containers) = containers {
            view["Containers"] = containers;
        } else if !api.at_least(52) {
            view["Containers"] = json!({});
        }
        view
    }

    fn builtin(&self) -> bool {
        matches!(&*self.name, "bridge" | "host" | "none")
    }

    fn event(&self, action: &str) -> Event {
        Event::new("network", action, &*self.id)
            .attribute("name", &*self.name)
            .attribute("type", &self.driver)
    }
}

impl State {
    /// Gives a starting container its place in each of its networks.
    pub(crate) fn connect_all(&mut self, id: &str) -> Result<(), ApiError> {
        let container = self.container(id)?;
        if let Some(other) = container.host.acts.network_mode.strip_prefix("container:") {
            let other = self.container(other)?;
            if !other.is_running() {
                return Err(ApiError::conflict(format!(
                    "cannot join network of a non running container: {}",
                    other.id
                )));
            }
        }
        for index in 0..container.endpoints.len() {
            self.connect_one(id, index)?;
        }
        Ok(())
    }

    fn connect_one(&mut self, id: &str, index: usize) -> Result<(), ApiError> {
        let Self {
            containers,
            networks,
            ..
        } = self;
        let Some(container) = containers.get_mut(id) else {
            return Ok(());
        };
        let Some(endpoint) = container.endpoints.get_mut(index) else {
            return Ok(());
        };
        let network = networks.find_mut(&endpoint.network)?;
        (endpoint.network, endpoint.network_id) =
            (Arc::clone(&network.name), Arc::clone(&network.id));
        if endpoint.address.is_some() {
            return Ok(());
        }
        let Some(pool) = &mut network.pool else {
            return Ok(());
        };
        let wanted = endpoint
            .settings
            .as_ref()
            .and_then(|settings| settings.address());
        endpoint.address = match wanted {
            None => Some(pool.take().ok_or_else(|| {
                ApiError::internal(
                    "no available IPv4 addresses on this network's address pools: ".to_owned()
                        + &network.name,
                )
            })?),
            Some(text) => {
                let address = u32::from(
                    text.parse::<Ipv4Addr>()
                        .map_err(|_| ApiError::bad(format!("invalid IPv4 address: {text}")))?,
                );
                if !pool.holds(address) {
                    return Err(ApiError::bad(format!(
                        "no configured subnet contains IP address {text}"
                    )));
                }
                if !pool.reserve(address) {
                    return Err(ApiError::forbidden("Address already in use"));
                }
                Some(address)
            }
        };
        Ok(())
    }

    /// The container whose network this one shares.
    fn network_owner(&self, container: &Container) -> Option<&Container> {
        let owner = container
            .host
            .acts
            .network_mode
            .strip_prefix("container:")?;
        self.container(owner)
            .ok()
            .filter(|owner| owner.id != container.id)
    }

    /// A starting container that shares another's network takes its host name as well.
    pub(crate) fn adopt_host_name(&mut self, id: &str) -> Result<(), ApiError> {
        let Some(owner) = self.network_owner(self.container(id)?) else {
            return Ok(());
        };
        let (hostname, domainname) = (owner.hostname(), owner.config.domainname.clone());
        let config = &mut self.container_mut(id)?.config;
        if config.hostname != hostname || config.domainname != domainname {
            let config = Arc::make_mut(config);
            (config.hostname, config.domainname) = (hostname, domainname);
        }
        Ok(())
    }

    /// Takes a stopped container's addresses back.
    pub(crate) fn disconnect_all(&mut self, id: &str) {
        let Self {
            containers,
            networks,
            ..
        } = self;
        let Some(container) = containers.get_mut(id) else {
            return;
        };
        for endpoint in &mut container.endpoints {
            release(networks, endpoint);
        }
    }

    /// The content of a container's `/etc/hosts`.
    pub(crate) fn host_entries(&self, id: &str) -> String {
        let mut text = LOCAL_HOSTS.to_owned();
        if let Some(container) = self.containers.get(id) {
            let container = self.network_owner(container).unwrap_or(container);
            for entry in &container.host.acts.extra_hosts {
                if let Some((name, address)) = entry.split_once(':') {
                    let address = if address == "host-gateway" {
                        HOST_GATEWAY
                    } else {
                        address
                    };
                    text.push_str(&format!("{address}\t{name}\n"));
                }
            }
            text.push_str(&self.hosts_of_links(&container.id));
            for address in container
                .endpoints
                .iter()
                .filter_map(|endpoint| endpoint.address)
            {
                text.push_str(&format!(
                    "{}\t{}\n",
                    Ipv4Addr::from(address),
                    container.hostname()
                ));
            }
        }
        text
    }
}

fn release(networks: &mut Networks, endpoint: &mut Endpoint) {
    if let Some(address) = endpoint.address.take()
        && let Ok(network) = networks.find_mut(&endpoint.network_id)
        && let Some(pool) = &mut network.pool
    {
        pool.release(address);
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    driver: String,
    #[serde(rename = "IPAM", deserialize_with = "nullable")]
    ipam: Ipam,
    #[serde(deserialize_with = "nullable")]
    internal: bool,
    #[serde(deserialize_with = "nullable")]
    attachable: bool,
    #[serde(rename = "EnableIPv6", deserialize_with = "nullable")]
    enable_ipv6: bool,
    #[serde(deserialize_with = "nullable")]
    options: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    #[serde(deserialize_with = "nullable")]
    config: Vec<IpamConfig>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IpamConfig {
    #[serde(deserialize_with = "nullable")]
    subnet: String,
    #[serde(deserialize_with = "nullable")]
    gateway: String,
    #[serde(rename = "IPRange", deserialize_with = "nullable")]
    ip_range: String,
}

/// `POST /networks/create`
pub(crate) async fn create(mut call: Call) -> Answer {
    let body: CreateBody = call
        .json()
        .await?
        .ok_or_else(|| ApiError::bad("got EOF while reading request body"))?;
    if body.name.trim().is_empty() {
        return Err(ApiError::bad("invalid name: name is empty"));
    }
    if matches!(body.name.as_str(), "bridge" | "host" | "none") {
        return Err(ApiError::forbidden(format!(
            "operation is not permitted on predefined {} network",
            body.name
        )));
    }
    if !matches!(body.driver.as_str(), "" | "bridge" | "default") {
        return Err(ApiError::not_found(format!(
            "could not find plugin {0} in v1 plugin registry: plugin \"{0}\" not found",
            body.driver
        )));
    }
    if body.enable_ipv6 {
        return Err(ApiError::bad("the fake engine does not serve EnableIPv6"));
    }
    if body.ipam.config.len() > 1 {
        return Err(ApiError::bad(
            "the fake engine serves one subnet per network",
        ));
    }
    let mut state = call.engine.state();
    if state.networks.0.iter().any(|n| *n.name == *body.name) {
        return Err(ApiError::conflict(format!(
            "network with name {} already exists",
            body.name
        )));
    }
    let pool = match body
        .ipam
        .config
        .first()
        .filter(|config| !config.subnet.is_empty())
    {
        None => state.networks.free_pool()?,
        Some(config) => Pool::parse(&config.subnet, Some(&config.gateway))
            .and_then(|pool| match config.ip_range.as_str() {
                "" => Some(pool),
                range => pool.within(range),
            })
            .ok_or_else(|| {
                ApiError::bad(format!(
                    "invalid subnet {}: invalid IPAM configuration",
                    config.subnet
                ))
            })?,
    };
    if state.networks.overlaps(&pool) {
        return Err(ApiError::forbidden(
            "invalid pool request: Pool overlaps with other one on this address space",
        ));
    }
    let network = Network {
        id: state.rng.id().into(),
        name: body.name.into(),
        created: call.engine.clock.nanos(),
        driver: "bridge".to_owned(),
        labels: body.labels,
        options: body.options,
        internal: body.internal,
        attachable: body.attachable,
        pool: Some(pool),
    };
    call.engine.emit(network.event("create"));
    let reply = created(&json!({ "Id": &*network.id, "Warning": "" }));
    state.networks.0.push(network);
    Ok(reply.into())
}

/// `GET /networks`
pub(crate) async fn list(call: Call) -> Answer {
    let filters = call.filters(&[
        "dangling", "driver", "id", "label", "label!", "name", "scope", "type",
    ])?;
    let dangling = filters.boolean("dangling")?;
    let state = call.engine.state();
    let views: Vec<Value> = state
        .networks
        .0
        .iter()
        .filter(|network| fits(network, &filters))
        .filter(|network| {
            // Engines before 23 (API 1.42) did not look for containers in a list.
            let used = || state.api.at_least(42) && members(&state, network).next().is_some();
            dangling.is_none_or(|wanted| (!network.builtin() && !used()) == wanted)
        })
        .map(|network| network.view(call.api, None))
        .collect();
    Ok(json(&views).into())
}

fn fits(network: &Network, filters: &Filters) -> bool {
    let kind = if network.builtin() {
        "builtin"
    } else {
        "custom"
    };
    filters.any("name", |part| network.name.contains(part.as_str()))
        && filters.any("id", |part| network.id.contains(part.as_str()))
        && filters.exact("driver", &network.driver)
        && filters.exact("scope", "local")
        && filters.exact("type", kind)
        && filters.labels(&network.labels)
}

/// The running containers in a network.
fn members<'a>(
    state: &'a State,
    network: &'a Network,
) -> impl Iterator<Item = (&'a Container, &'a Endpoint)> {
    state
        .containers
        .values()
        .filter(|c| c.is_running())
        .filter_map(move |container| {
            let endpoint = container
                .endpoints
                .iter()
                .find(|e| e.network_id == network.id)?;
            Some((&**container, endpoint))
        })
}

/// `GET /networks/{id}`
pub(crate) async fn inspect(call: Call) -> Answer {
    let state = call.engine.state();
    let network = state.networks.find(&call.target)?;
    let prefix = network.pool.as_ref().map_or(0, |pool| pool.prefix);
    let containers: serde_json::Map<String, Value> = members(&state, network)
        .map(|(container, endpoint)| {
            let address = endpoint
                .address
                .map(|a| format!("{}/{prefix}", Ipv4Addr::from(a)))
                .unwrap_or_default();
            let value = json!({
                "Name": container.name,
                "EndpointID": crate::containers::views::endpoint_id(container, endpoint),
                "MacAddress": endpoint.mac_address(),
                "IPv4Address": address,
                "IPv6Address": "",
            });
            (container.id.to_string(), value)
        })
        .collect();
    Ok(json(&network.view(call.api, Some(Value::Object(containers)))).into())
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConnectBody {
    #[serde(deserialize_with = "nullable")]
    container: String,
    endpoint_config: Option<EndpointSettings>,
    #[serde(deserialize_with = "nullable")]
    force: bool,
}

/// `POST /networks/{id}/connect`
pub(crate) async fn connect(mut call: Call) -> Answer {
    let mut body: ConnectBody = call.json().await?.unwrap_or_default();
    if let (Some(settings), false) = (&mut body.endpoint_config, call.api.at_least(54)) {
        // Older engines took it and forgot it.
        settings.mac_address.clear();
    }
    let mut state = call.engine.state();
    let network = state.networks.find(&call.target)?;
    let (network_id, name, event) = (
        Arc::clone(&network.id),
        Arc::clone(&network.name),
        network.event("connect"),
    );
    let container = state.container_mut(&body.container)?;
    let id = Arc::clone(&container.id);
    if container.endpoints.iter().any(|e| e.network == name) {
        return Err(ApiError::forbidden(format!(
            "endpoint with name {} already exists in network {name}",
            container.name
        )));
    }
    if &*name == "host"
        || container.endpoints.is_empty()
        || container.endpoints.iter().any(|e| &*e.network == "host")
    {
        return Err(ApiError::bad(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    container.endpoints.push(Endpoint {
        network: name,
        network_id,
        address: None,
        settings: body.endpoint_config.map(Box::new),
    });
    if container.is_running() {
        let index = container.endpoints.len() - 1;
        if let Err(error) = state.connect_one(&id, index) {
            state.container_mut(&id)?.endpoints.pop();
            return Err(error);
        }
    }
    call.engine.emit(event.attribute("container", &*id));
    Ok(status(hyper::StatusCode::OK).into())
}

/// `POST /networks/{id}/disconnect`
pub(crate) async fn disconnect(mut call: Call) -> Answer {
    let body: ConnectBody = call.json().await?.unwrap_or_default();
    let mut state = call.engine.state();
    let network = state.networks.find(&call.target)?;
    let (name, event) = (Arc::clone(&network.name), network.event("disconnect"));
    let id = match state.container_id(&body.container) {
        Err(_) if body.force => return Ok(status(hyper::StatusCode::OK).into()),
        other => other?,
    };
    let State {
        containers,
        networks,
        ..
    } = &mut *state;
    let Some(container) = containers.get_mut(&id) else {
        return Err(ApiError::not_found(format!("No such container: {id}")));
    };
    let Some(index) = container.endpoints.iter().position(|e| e.network == name) else {
        return Err(ApiError::forbidden(format!(
            "container {id} is not connected to network {name}"
        )));
    };
    let mut endpoint = container.endpoints.remove(index);
    release(networks, &mut endpoint);
    call.engine.emit(event.attribute("container", &*id));
    Ok(status(hyper::StatusCode::OK).into())
}

/// `DELETE /networks/{id}`
pub(crate) async fn remove(call: Call) -> Answer {
    let mut state = call.engine.state();
    let network = state.networks.find(&call.target)?;
    if network.builtin() {
        return Err(ApiError::forbidden(format!(
            "{} is a pre-defined network and cannot be removed",
            network.name
        )));
    }
    let users: Vec<String> = members(&state, network)
        .map(|(c, e)| {
            format!(
                "name:{:?} id:{:?}",
                c.name,
                &crate::containers::views::endpoint_id(c, e)[..12]
            )
        })
        .collect();
    if !users.is_empty() {
        return Err(ApiError::forbidden(format!(
            "error while removing network: network {} has active endpoints ({})",
            network.name,
            users.join(", ")
        )));
    }
    let id = Arc::clone(&network.id);
    call.engine.emit(network.event("destroy"));
    state.networks.0.retain(|network| network.id != id);
    Ok(status(hyper::StatusCode::NO_CONTENT).into())
}

/// `POST /networks/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.filters(&["label", "label!", "until"])?;
    let now = call.engine.clock.nanos();
    let until = filters.get("until").first().map(|text| {
        parse_moment(text, now)
            .ok_or_else(|| ApiError::bad(format!("invalid filter 'until={text}'")))
    });
    let until = until.transpose()?;
    let mut state = call.engine.state();
    let unused: Vec<Arc<str>> = state
        .networks
        .0
        .iter()
        .filter(|n| {
            !n.builtin() && filters.labels(&n.labels) && until.is_none_or(|until| n.created < until)
        })
        .filter(|n| {
            !state.containers.values().any(|c| {
                c.phase != Phase::Exited && c.endpoints.iter().any(|e| e.network == n.name)
            })
        })
        .map(|n| Arc::clone(&n.name))
        .collect();
    for network in state.networks.0.iter().filter(|n| unused.contains(&n.name)) {
        call.engine.emit(network.event("destroy"));
    }
    state.networks.0.retain(|n| !unused.contains(&n.name));
    let names: Vec<&str> = unused.iter().map(|name| &**name).collect();
    call.engine
        .emit(Event::new("network", "prune", "").attribute("reclaimed", "0"));
    Ok(json(&json!({ "NetworksDeleted": names })).into())
}

impl Inner {
    /// Emits an event.
    pub(crate) fn emit(&self, event: Event) {
        self.bus().emit(event, self.clock.nanos());
    }
}
