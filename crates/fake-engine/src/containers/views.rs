//! Owns how a container looks: in a list and in inspect, by API version. Changes nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;
use serde_json::{Value, json};

use super::container::{Container, Endpoint, HealthState, Mount, MountKind, Phase, Published};
use crate::clock::Nanos;
use crate::files::lock;
use crate::rng::Rng;
use crate::script::Health;
use crate::state::State;
use crate::time::{human, rfc3339, rfc3339_or_zero};
use crate::version::ApiVersion;
use crate::volumes::mountpoint;

/// The containers a volume is mounted in.
pub(crate) fn containers_using_volume<'a>(
    state: &'a State,
    name: &'a str,
) -> impl Iterator<Item = &'a Container> {
    state
        .containers
        .values()
        .map(|boxed| &**boxed)
        .filter(move |c| {
            c.mounts
                .iter()
                .any(|m| m.kind == MountKind::Volume && m.source == name)
        })
}

/// The id of a container's place in a network; stable, so that it needs not be kept.
pub(crate) fn endpoint_id(container: &Container, endpoint: &Endpoint) -> String {
    if endpoint.network_id.is_empty() || !container.is_running() {
        return String::new();
    }
    Rng::derived_id(&[
        &container.id,
        &endpoint.network_id,
        &container.run.to_string(),
    ])
}

/// The command line as lists show it.
pub(crate) fn command_line(container: &Container) -> String {
    let config = &container.config;
    let mut line = String::new();
    for word in config
        .entrypoint
        .iter()
        .flatten()
        .chain(config.cmd.iter().flatten())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        if word.contains(' ') {
            line.push_str(&format!("'{}'", word.replace('\'', "'\\''")));
        } else {
            line.push_str(word);
        }
    }
    line
}

/// `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`, …
pub(crate) fn status_text(container: &Container, now: Nanos) -> String {
    let up = || human(now.saturating_sub(container.started.unwrap_or(now)));
    let down = || human(now.saturating_sub(container.finished.unwrap_or(now)));
    match container.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Paused => format!("Up {} (Paused)", up()),
        Phase::Restarting => format!("Restarting ({}) {} ago", container.exit_code, down()),
        Phase::Exited => format!("Exited ({}) {} ago", container.exit_code, down()),
        Phase::Running => match container.health.as_ref().map(|health| health.status) {
            None => format!("Up {}", up()),
            Some(Health::Starting) => format!("Up {} (health: starting)", up()),
            Some(health) => format!("Up {} ({})", up(), health.as_str()),
        },
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PortView<'a> {
    #[serde(rename = "IP", skip_serializing_if = "str::is_empty")]
    ip: &'a str,
    private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    protocol: &'a str,
}

/// Whether ports of its own mean anything: not in the host's network or another container's.
fn has_ports(container: &Container) -> bool {
    container.is_running()
        && container
            .endpoints
            .iter()
            .any(|endpoint| endpoint.address.is_some())
}

fn ports(container: &Container) -> Vec<PortView<'_>> {
    let mut ports: Vec<PortView<'_>> = container
        .ports
        .iter()
        .map(|p| PortView {
            ip: &p.ip,
            private_port: p.private,
            public_port: Some(p.public),
            protocol: &p.protocol,
        })
        .collect();
    if has_ports(container) {
        for port in container.config.exposed_ports.keys() {
            let Some((number, protocol)) = crate::config::parse_port(port) else {
                continue;
            };
            if !ports
                .iter()
                .any(|p| p.private_port == number && p.protocol == protocol)
            {
                ports.push(PortView {
                    ip: "",
                    private_port: number,
                    public_port: None,
                    protocol,
                });
            }
        }
    }
    ports
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointView<'a> {
    #[serde(rename = "IPAMConfig")]
    ipam: Option<&'a Value>,
    links: Option<&'a Vec<String>>,
    aliases: Option<Vec<&'a str>>,
    mac_address: String,
    driver_opts: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw_priority: Option<i64>,
    #[serde(rename = "NetworkID")]
    network_id: &'a str,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u32,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: &'static str,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: &'static str,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u32,
    #[serde(rename = "DNSNames", skip_serializing_if = "Option::is_none")]
    dns_names: Option<Vec<&'a str>>,
}

fn endpoint<'a>(
    state: &State,
    container: &'a Container,
    endpoint: &'a Endpoint,
    api: ApiVersion,
    full: bool,
) -> EndpointView<'a> {
    let gateway = endpoint
        .address
        .and_then(|_| state.networks.find(&endpoint.network_id).ok()?.gateway());
    let settings = endpoint.settings.as_deref();
    let own = !matches!(&*endpoint.network, "bridge" | "host" | "none");
    let short = &container.id[..12];
    let mut aliases: Vec<&str> = settings
        .iter()
        .flat_map(|s| s.aliases.iter().flatten())
        .map(String::as_str)
        .collect();
    let dns_names = api.at_least(44).then(|| {
        let names = [container.name.as_str()]
            .into_iter()
            .chain(aliases.iter().copied())
            .chain([short]);
        if own && full {
            names.collect()
        } else {
            Vec::new()
        }
    });
    if own && !api.at_least(45) && full {
        aliases.push(short);
    }
    EndpointView {
        ipam: settings.and_then(|s| s.ipam.as_ref()),
        links: settings.and_then(|s| s.links.as_ref()),
        aliases: (!aliases.is_empty()).then_some(aliases),
        mac_address: endpoint.mac_address(),
        driver_opts: settings.and_then(|s| s.driver_opts.as_ref()),
        gw_priority: api
            .at_least(48)
            .then(|| settings.map_or(0, |s| s.gw_priority)),
        network_id: &endpoint.network_id,
        endpoint_id: endpoint_id(container, endpoint),
        gateway: gateway.map(|(ip, _)| ip.to_string()).unwrap_or_default(),
        ip_address: endpoint
            .address
            .map(|a| Ipv4Addr::from(a).to_string())
            .unwrap_or_default(),
        ip_prefix_len: gateway.map_or(0, |(_, prefix)| prefix),
        ipv6_gateway: "",
        global_ipv6_address: "",
        global_ipv6_prefix_len: 0,
        dns_names,
    }
}

fn endpoints<'a>(
    state: &State,
    container: &'a Container,
    api: ApiVersion,
    full: bool,
) -> Endpoints<'a> {
    let view = |e: &'a Endpoint| (&*e.network, endpoint(state, container, e, api, full));
    Endpoints(container.endpoints.iter().map(view).collect())
}

/// A map from network to endpoint; a container is in few networks, and lists hold many containers.
struct Endpoints<'a>(Vec<(&'a str, EndpointView<'a>)>);

impl Serialize for Endpoints<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(network, view)| (network, view)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MountView<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    source: String,
    destination: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    driver: &'static str,
    mode: &'a str,
    #[serde(rename = "RW")]
    writable: bool,
    propagation: &'static str,
}

fn mount(mount: &Mount) -> MountView<'_> {
    let volume = mount.kind == MountKind::Volume;
    MountView {
        kind: mount.kind.as_str(),
        name: if volume { &mount.source } else { "" },
        source: if volume {
            mountpoint(&mount.source)
        } else {
            mount.source.clone()
        },
        destination: &mount.target,
        driver: if volume { "local" } else { "" },
        mode: &mount.mode,
        writable: mount.writable,
        propagation: if mount.kind == MountKind::Bind {
            "rprivate"
        } else {
            ""
        },
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SummaryHost<'a> {
    network_mode: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SummaryNetworks<'a> {
    networks: Endpoints<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SummaryHealth {
    status: &'static str,
    failing_streak: u64,
}

/// A container in a list.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Summary<'a> {
    id: &'a str,
    names: Vec<String>,
    image: &'a str,
    #[serde(rename = "ImageID")]
    image_id: &'a str,
    command: String,
    created: u64,
    ports: Vec<PortView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<usize>,
    labels: &'a BTreeMap<String, String>,
    state: &'static str,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<SummaryHealth>,
    host_config: SummaryHost<'a>,
    network_settings: SummaryNetworks<'a>,
    mounts: Vec<MountView<'a>>,
}

/// Bytes of the container's own layer.
pub(crate) fn size_rw(container: &Container) -> usize {
    container
        .files
        .as_ref()
        .map_or(0, |files| lock(files).size())
}

/// What a list is made with.
pub(crate) struct Lister<'a> {
    state: &'a State,
    api: ApiVersion,
    now: Nanos,
    size: bool,
    /// The image asked for last, and whether its name still means it: neighbours in a list often share theirs.
    last: Option<(&'a str, &'a str, bool)>,
}

impl<'a> Lister<'a> {
    pub(crate) fn new(state: &'a State, api: ApiVersion, now: Nanos, size: bool) -> Self {
        Self {
            state,
            api,
            now,
            size,
            last: None,
        }
    }

    pub(crate) fn summary(&mut self, container: &'a Container) -> Summary<'a> {
        let Self {
            state,
            api,
            now,
            size,
            last,
        } = *self;
        let (given, id) = (container.config.image.as_str(), &*container.image);
        let named = match last {
            Some((last_given, last_id, named)) if last_given == given && last_id == id => named,
            _ => state.images.means(given, id),
        };
        self.last = Some((given, id, named));
        summary(
            state,
            container,
            api,
            now,
            size,
            if named { given } else { id },
        )
    }
}

/// Its own name and those that links give it.
fn names(state: &State, container: &Container) -> Vec<String> {
    let mut names = state.names_by_links(&container.id);
    for name in names.iter_mut() {
        name.insert(0, '/');
    }
    names.push(format!("/{}", container.name));
    names.sort_unstable();
    names
}

fn summary<'a>(
    state: &'a State,
    container: &'a Container,
    api: ApiVersion,
    now: Nanos,
    size: bool,
    image: &'a str,
) -> Summary<'a> {
    let own = size.then(|| size_rw(container));
    let annotations = &container.host.acts.annotations;
    Summary {
        id: &container.id,
        names: names(state, container),
        image,
        image_id: &container.image,
        command: command_line(container),
        created: container.created / 1_000_000_000,
        ports: ports(container),
        size_rw: own.filter(|bytes| *bytes > 0),
        size_root_fs: own.map(|bytes| bytes + state.images.size(&container.image)),
        labels: &container.config.labels,
        state: container.phase.as_str(),
        status: status_text(container, now),
        health: api.at_least(52).then(|| SummaryHealth {
            status: container
                .health
                .as_ref()
                .map_or("none", |health| health.status.as_str()),
            failing_streak: container.health.as_ref().map_or(0, |health| health.streak),
        }),
        host_config: SummaryHost {
            network_mode: &container.host.acts.network_mode,
            annotations: (api.at_least(46) && !annotations.is_empty()).then_some(annotations),
        },
        network_settings: SummaryNetworks {
            networks: endpoints(state, container, api, false),
        },
        mounts: container.mounts.iter().map(mount).collect(),
    }
}

fn health(health: &HealthState) -> Value {
    let log: Vec<Value> = health
        .log
        .iter()
        .map(|check| {
            json!({ "Start": rfc3339(check.start), "End": rfc3339(check.end), "ExitCode": check.exit_code, "Output": check.output })
        })
        .collect();
    json!({ "Status": health.status.as_str(), "FailingStreak": health.streak, "Log": log })
}

/// The `State` of inspect.
fn state_of(container: &Container) -> Value {
    let mut state = json!({
        "Status": container.phase.as_str(),
        "Running": container.is_active(),
        "Paused": container.phase == Phase::Paused,
        "Restarting": container.phase == Phase::Restarting,
        "OOMKilled": container.out_of_memory,
        "Dead": false,
        "Pid": container.pid,
        "ExitCode": container.exit_code,
        "Error": container.error,
        "StartedAt": rfc3339_or_zero(container.started),
        "FinishedAt": rfc3339_or_zero(container.finished),
    });
    if let Some(of) = &container.health {
        state["Health"] = health(of);
    }
    state
}

/// `NetworkSettings.Ports`: every exposed port, with where it is bound.
fn port_map(container: &Container) -> Value {
    let mut map: BTreeMap<String, Option<Vec<Value>>> = BTreeMap::new();
    if has_ports(container) {
        map.extend(
            container
                .config
                .exposed_ports
                .keys()
                .map(|port| (port.clone(), None)),
        );
    }
    for Published {
        private,
        protocol,
        ip,
        public,
    } in &container.ports
    {
        let bound = map
            .entry(format!("{private}/{protocol}"))
            .or_default()
            .get_or_insert_default();
        bound.push(json!({ "HostIp": ip, "HostPort": public.to_string() }));
    }
    json!(map)
}

/// `GET /containers/{id}/json`
pub(crate) fn inspect(state: &State, container: &Container, api: ApiVersion, size: bool) -> Value {
    let argv = container.config.argv();
    let file = |name: &str| format!("{}/containers/{}/{name}", crate::system::ROOT, container.id);
    let used = container.run > 0;
    let mut network = json!({
        "SandboxID": if container.is_running() { Rng::derived_id(&[&container.id]) } else { String::new() },
        "SandboxKey": if container.is_running() { format!("/var/run/docker/netns/{}", &container.id[..12]) } else { String::new() },
        "Ports": port_map(container),
        "Networks": endpoints(state, container, api, true),
    });
    if !api.at_least(52) {
        let bridge = container
            .endpoints
            .iter()
            .find(|e| &*e.network == "bridge")
            .map(|e| endpoint(state, container, e, api, true));
        let bridge = bridge.map(|view| json!(view)).unwrap_or_default();
        for (field, zero) in [
            ("EndpointID", json!("")),
            ("Gateway", json!("")),
            ("GlobalIPv6Address", json!("")),
            ("GlobalIPv6PrefixLen", json!(0)),
            ("IPAddress", json!("")),
            ("IPPrefixLen", json!(0)),
            ("IPv6Gateway", json!("")),
            ("MacAddress", json!("")),
        ] {
            network[field] = bridge.get(field).cloned().unwrap_or(zero);
        }
        network["Bridge"] = json!("");
        network["HairpinMode"] = json!(false);
        network["LinkLocalIPv6Address"] = json!("");
        network["LinkLocalIPv6PrefixLen"] = json!(0);
        network["SecondaryIPAddresses"] = Value::Null;
        network["SecondaryIPv6Addresses"] = Value::Null;
    }
    let execs: Vec<&str> = container
        .execs
        .iter()
        .filter(|id| state.execs.get(*id).is_some_and(|e| e.running))
        .map(|id| &**id)
        .collect();
    let mut host = serde_json::from_str::<Value>(container.host.text.get()).unwrap_or_default();
    if let (Value::Object(host), false) = (&mut host, api.at_least(42)) {
        for field in ["KernelMemory", "KernelMemoryTCP"] {
            host.entry(field).or_insert(json!(0));
        }
    }
    host["Links"] = json!(state.link_views(container));
    let mut view = json!({
        "Id": &*container.id,
        "Created": rfc3339(container.created),
        "Path": argv.first(),
        "Args": argv.get(1..).unwrap_or_default(),
        "State": state_of(container),
        "Image": &*container.image,
        "ResolvConfPath": if used { file("resolv.conf") } else { String::new() },
        "HostnamePath": if used { file("hostname") } else { String::new() },
        "HostsPath": if used { file("hosts") } else { String::new() },
        "LogPath": if used { file(&format!("{}-json.log", container.id)) } else { String::new() },
        "Name": format!("/{}", container.name),
        "RestartCount": container.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": if execs.is_empty() { Value::Null } else { json!(execs) },
        "HostConfig": host,
        "Mounts": container.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": *container.config,
        "NetworkSettings": network,
    });
    if !api.at_least(52) {
        let dir = |part: &str| format!("{}/overlay2/{}/{part}", crate::system::ROOT, container.id);
        view["GraphDriver"] = json!({
            "Name": "overlay2",
            "Data": { "LowerDir": dir("lower"), "MergedDir": dir("merged"), "UpperDir": dir("diff"), "WorkDir": dir("work") },
        });
    } else {
        view["Storage"] = json!({ "RootFS": { "Snapshot": { "Name": "overlayfs" } } });
    }
    if size {
        let own = size_rw(container);
        view["SizeRw"] = json!(own);
        view["SizeRootFs"] = json!(own + state.images.size(&container.image));
    }
    view
}
