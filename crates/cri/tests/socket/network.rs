//! Pods in the network of CNI plugins. On the fake engine, whose sandboxes have no namespaces, the plugin that gives addresses is a script; on a
//! real one it is Debian's `bridge`, on a bridge of the test's own. A script behind it writes down what both are told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_cri::v1;
use berth_docker::api::{ListContainers, RemoveContainer};
use berth_docker::model::Filters;
use berth_pod::cni::{Cni, CniOptions};
use berth_pod::pods::PodNetwork;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use crate::calls::{
    exec_sync, remove_sandbox, run, run_sandbox, sandbox_config, sandbox_status, sandboxes,
    stop_sandbox, try_run_sandbox,
};
use crate::cri_dockerd::{self, Pod};
use crate::server::{Node, Server, on_fake_with, on_real_with};

/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the real engine's pods get their addresses from.
const PLUGINS: [&str; 2] = ["bridge", "host-local"];

/// Answers as a plugin, and begins like every script here.
const PLUGIN: &str = r#"#!/bin/sh
read -r input
case $CNI_COMMAND in VERSION)
    echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'
    exit ;;
esac
"#;

/// The networks, plugins and records of one test.
pub(crate) struct Host {
    dir: TempDir,
    /// The bridge that Debian's plugin makes.
    bridge: Option<String>,
    /// The third number of the pods' addresses, which no test beside this one has.
    number: u8,
}

impl Host {
    fn new(real: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 16 + NUMBER.fetch_add(1, Ordering::Relaxed);
        let number = number.to_le_bytes()[0];
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
            bridge: real.then(|| format!("berth-test-{number}")),
            number,
        };
        for dir in ["net.d", "bin", "leases", "log"] {
            fs::create_dir(host.path(dir)).unwrap();
        }
        let leases = host.path("leases").display().to_string();
        host.plugin(
            "main",
            &format!(
                r#"case $CNI_COMMAND in
ADD)
    : > {leases}/$CNI_CONTAINERID
    echo '{{"cniVersion":"1.0.0","ips":[{{"address":"{}"}},{{"address":"fd00::5/64"}}]}}' ;;
DEL) rm -f {leases}/$CNI_CONTAINERID ;;
esac"#,
                host.range().replace(".0/", ".5/")
            ),
        );
        host.plugin(
            "note",
            &format!(
                r#"echo "$CNI_COMMAND $CNI_CONTAINERID${{CNI_NETNS:+ with its namespace}}" >> {log}/runs
echo "$input" > {log}/$CNI_COMMAND.$CNI_CONTAINERID
case $CNI_COMMAND in
ADD) echo "$input" | sed 's/.*"prevResult"://; s/,"runtimeConfig".*//; s/,"type":"[a-z]*"}}$//' ;;
esac"#,
                log = host.path("log").display()
            ),
        );
        host.plugin(
            "refuse",
            r#"case $CNI_COMMAND in
ADD)
    echo '{"cniVersion":"1.0.0","code":100,"msg":"no pods today","details":"it is Sunday"}'
    exit 1 ;;
esac"#,
        );
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn plugin(&self, name: &str, script: &str) {
        // Beside it first, so that nobody runs a half of it.
        let (new, program) = (self.path("new"), self.path("bin").join(name));
        fs::write(&new, format!("{PLUGIN}{script}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, program).unwrap();
    }

    fn cni(&self) -> Cni {
        let mut bin_dirs = CniOptions::default().bin_dirs;
        bin_dirs.insert(0, self.path("bin"));
        Cni::new(CniOptions {
            conf_dirs: vec![self.path("net.d")],
            bin_dirs,
            cache_dir: self.path("cache"),
            adopted_cache_dirs: vec![self.path("adopted")],
            ..CniOptions::default()
        })
    }

    /// A range of addresses for benchmarks (RFC 2544), which nobody else should use.
    fn range(&self) -> String {
        format!("198.18.{}.0/24", self.number)
    }

    /// The plugin that gives addresses.
    fn main(&self) -> Value {
        match &self.bridge {
            None => json!({"type": "main"}),
            Some(bridge) => json!({"type": "bridge", "bridge": bridge, "ipam": {
                "type": "host-local", "dataDir": self.path("leases"),
                "ranges": [[{"subnet": self.range()}], [{"subnet": "fd00::/64"}]],
            }}),
        }
    }

    /// Describes a network whose last plugin is the one that writes down what it is told, of this capability.
    fn configure(&self, plugins: &[Value], capability: &str) -> Value {
        let mut plugins = plugins.to_vec();
        plugins.push(json!({"type": "note", "capabilities": {capability: true}}));
        let network = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins});
        fs::write(self.path("net.d/10-pods.conflist"), network.to_string()).unwrap();
        network
    }

    fn configure_main(&self) -> Value {
        self.configure(&[self.main()], "portMappings")
    }

    /// What plugins were run for, in order.
    fn runs(&self) -> Vec<String> {
        let runs = fs::read_to_string(self.path("log/runs")).unwrap_or_default();
        runs.lines().map(str::to_owned).collect()
    }

    /// What the last plugin was told.
    fn told(&self, command: &str, sandbox: &str) -> Value {
        let path = self.path("log").join(format!("{command}.{sandbox}"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// How many addresses are taken.
    fn leases(&self) -> usize {
        let dir = match self.bridge {
            None => self.path("leases"),
            Some(_) => self.path("leases/pods"),
        };
        let Ok(files) = fs::read_dir(dir) else {
            return 0;
        };
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock" && !name.starts_with("last_reserved"))
            .count()
    }

    /// How many addresses a pod takes: the script keeps one file for both.
    fn addresses(&self) -> usize {
        if self.bridge.is_some() { 2 } else { 1 }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(bridge) = &self.bridge {
            // It is there only if a pod was.
            let _ = Command::new("ip").args(["link", "delete", bridge]).output();
        }
    }
}

pub(crate) fn on_fake(test: impl AsyncFnOnce(&mut Server, &Host)) {
    on_fake_after(
        async |_, _| (),
        async |server: &mut Server, host: &Host, ()| test(server, host).await,
    );
}

pub(crate) fn on_real(test: impl AsyncFnOnce(&mut Server, &Host)) {
    on_real_after(
        async |_, _| (),
        async |server: &mut Server, host: &Host, ()| test(server, host).await,
    );
}

/// `before` is what others have done when berth starts.
pub(crate) fn on_fake_after<T>(
    before: impl AsyncFnOnce(&Node<'_>, &Host) -> T,
    test: impl AsyncFnOnce(&mut Server, &Host, T),
) {
    let host = Host::new(false);
    on_fake_with(
        PodNetwork::Cni(host.cni()),
        async |node: &Node<'_>| before(node, &host).await,
        async |server: &mut Server, was: T| test(server, &host, was).await,
    );
}

pub(crate) fn on_real_after<T>(
    before: impl AsyncFnOnce(&Node<'_>, &Host) -> T,
    test: impl AsyncFnOnce(&mut Server, &Host, T),
) {
    if let Some(why) = hindrance() {
        eprintln!("skipped: {why}");
        return;
    }
    let host = Host::new(true);
    on_real_with(
        PodNetwork::Cni(host.cni()),
        async |node: &Node<'_>| before(node, &host).await,
        async |server: &mut Server, was: T| test(server, &host, was).await,
    );
}

/// Why the plugins cannot be run here.
fn hindrance() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may give a pod an interface".to_owned());
    }
    let dirs = CniOptions::default().bin_dirs;
    let missing = |plugin: &&&str| !dirs.iter().any(|dir| dir.join(plugin).exists());
    let missing: Vec<&&str> = PLUGINS.iter().filter(missing).collect();
    if missing.is_empty() {
        return None;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{missing:?} must be there in CI (package containernetworking-plugins)"
    );
    Some(format!(
        "there is no CNI plugin {missing:?}: install the package containernetworking-plugins"
    ))
}

async fn network_condition(server: &mut Server) -> v1::RuntimeCondition {
    let request = v1::StatusRequest::default();
    let reply = server.runtime.status(request).await.unwrap();
    let conditions = reply.into_inner().status.unwrap().conditions;
    let runtime = conditions.iter().find(|one| one.r#type == "RuntimeReady");
    assert!(runtime.unwrap().status, "{conditions:?}");
    let mut network = conditions
        .into_iter()
        .filter(|one| one.r#type == "NetworkReady");
    network.next().unwrap()
}

async fn update_pod_cidr(server: &mut Server, cidr: &str) -> Result<(), tonic::Status> {
    let request = v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig {
            network_config: Some(v1::NetworkConfig {
                pod_cidr: cidr.to_owned(),
            }),
        }),
    };
    server.runtime.update_runtime_config(request).await?;
    Ok(())
}

/// The containers that the engine has of this test, whatever the interface says.
async fn containers(server: &Server) -> usize {
    let all = ListContainers {
        all: true,
        filters: Filters::new().label(format!("run={}", server.run)),
        ..Default::default()
    };
    server.docker.list_containers(&all).await.unwrap().len()
}

async fn addresses(server: &mut Server, sandbox: &str) -> Vec<String> {
    let status = sandbox_status(server, sandbox).await.unwrap();
    let network = status.network.unwrap();
    let more = network.additional_ips.into_iter().map(|more| more.ip);
    let all = std::iter::once(network.ip).chain(more);
    all.filter(|ip| !ip.is_empty()).collect()
}

fn joined(sandbox: &str) -> String {
    format!("ADD {sandbox} with its namespace")
}

pub(crate) async fn a_network_is_there_as_soon_as_its_file_is(server: &mut Server, host: &Host) {
    let condition = network_condition(server).await;
    assert!(!condition.status);
    assert_eq!(condition.reason, "NetworkConfigMissing");
    let directory = host.path("net.d").display().to_string();
    assert!(condition.message.contains(&directory), "{condition:?}");
    let config = sandbox_config(server, "early");
    let error = try_run_sandbox(server, config.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains(&directory), "{error}");
    assert!(sandboxes(server).await.is_empty());
    assert_eq!(containers(server).await, 0);

    fs::write(host.path("net.d/10-pods.conflist"), "{").unwrap();
    let condition = network_condition(server).await;
    assert!(!condition.status);
    assert_eq!(condition.reason, "NetworkConfigInvalid");
    assert!(
        condition.message.contains("10-pods.conflist"),
        "{condition:?}"
    );

    host.configure_main();
    let condition = network_condition(server).await;
    assert!(condition.status, "{condition:?}");
    let id = try_run_sandbox(server, config).await.unwrap();
    assert_eq!(host.runs(), [joined(&id)]);

    // Who is in the network stays in it.
    fs::remove_file(host.path("net.d/10-pods.conflist")).unwrap();
    assert!(!network_condition(server).await.status);
    assert_eq!(addresses(server, &id).await.len(), 2);
    remove_sandbox(server, &id).await.unwrap();
    assert_eq!(host.leases(), 0);
}

pub(crate) async fn a_pod_has_the_addresses_that_plugins_gave_it(server: &mut Server, host: &Host) {
    host.configure_main();
    let config = sandbox_config(server, "web");
    let id = try_run_sandbox(server, config.clone()).await.unwrap();
    // Asked again, as by a kubelet that did not hear the answer.
    assert_eq!(try_run_sandbox(server, config).await.unwrap(), id);
    assert_eq!(host.runs(), [joined(&id)]);
    let given: Vec<String> = host.told("ADD", &id)["prevResult"]["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| ip["address"].as_str().unwrap())
        .map(|address| address.split_once('/').unwrap().0.to_owned())
        .collect();
    let shown = addresses(server, &id).await;
    assert_eq!(shown, given);
    let range = host.range().replace("0/24", "");
    assert!(
        shown[0].starts_with(&range) && shown[1].starts_with("fd00::"),
        "{shown:?}"
    );
    if host.bridge.is_some() {
        let app = run(server, &id, "app", "sleep 600").await;
        let reply = exec_sync(server, &app, "cat /proc/net/fib_trie", 10).await;
        let tables = String::from_utf8(reply.unwrap().stdout.to_vec()).unwrap();
        assert!(tables.contains(&format!("-- {}\n", shown[0])), "{tables}");
        let reply = exec_sync(server, &app, "cat /proc/net/if_inet6", 10).await;
        let interfaces = String::from_utf8(reply.unwrap().stdout.to_vec()).unwrap();
        let eth0 = interfaces.lines().find(|line| line.starts_with("fd00"));
        assert!(eth0.unwrap().ends_with("eth0"), "{interfaces}");
    }
    // It stays so for one who lists.
    assert_eq!(sandboxes(server).await.len(), 1);
    stop_sandbox(server, &id).await.unwrap();
    let none: [String; 0] = [];
    assert_eq!(addresses(server, &id).await, none);
}

pub(crate) async fn the_nodes_ranges_are_handed_to_the_plugins(server: &mut Server, host: &Host) {
    let mut main = host.main();
    main["capabilities"] = json!({"ipRanges": true});
    if main["ipam"].is_object() {
        main["ipam"]["ranges"] = Value::Null;
    }
    host.configure(&[main], "ipRanges");
    let condition = network_condition(server).await;
    assert_eq!(condition.reason, "PodCIDRMissing", "{condition:?}");
    for bad in ["10.1.0.0", "10.1.0.0/33", "10.1.0.0/16,", "fd00::/64,x"] {
        let error = update_pod_cidr(server, bad).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(bad), "{error}");
    }
    // The kubelet does not know it yet.
    update_pod_cidr(server, "").await.unwrap();
    assert!(!network_condition(server).await.status);
    let config = sandbox_config(server, "early");
    let error = try_run_sandbox(server, config).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");

    let (v4, v6) = (host.range(), "fd00:0:0:1::/64");
    update_pod_cidr(server, &format!("{v4},{v6}"))
        .await
        .unwrap();
    let condition = network_condition(server).await;
    assert!(condition.status, "{condition:?}");
    let id = run_sandbox(server, "web").await;
    let told = host.told("ADD", &id);
    assert_eq!(
        told["runtimeConfig"]["ipRanges"],
        json!([[{"subnet": v4}], [{"subnet": "fd00:0:0:1::/64"}]])
    );
    let shown = addresses(server, &id).await;
    let range = v4.replace("0/24", "");
    assert!(shown[0].starts_with(&range), "{shown:?}");

    update_pod_cidr(server, &v4).await.unwrap();
    let id = run_sandbox(server, "db").await;
    let told = host.told("ADD", &id);
    assert_eq!(told["runtimeConfig"]["ipRanges"], json!([[{"subnet": v4}]]));
}

pub(crate) async fn what_a_plugin_refuses_is_told_in_its_words_and_leaves_nothing(
    server: &mut Server,
    host: &Host,
) {
    let refuse = json!({"type": "refuse"});
    host.configure(&[host.main(), refuse], "portMappings");
    let config = sandbox_config(server, "web");
    let error = try_run_sandbox(server, config.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown, "{error}");
    assert!(
        error.message().contains("no pods today; it is Sunday"),
        "{error}"
    );
    assert_eq!((host.leases(), containers(server).await), (0, 0));
    assert!(sandboxes(server).await.is_empty());
    // The name is free, and the next attempt is none the worse.
    host.configure_main();
    try_run_sandbox(server, config).await.unwrap();
    assert_eq!(host.leases(), host.addresses());
}

pub(crate) async fn a_pod_is_taken_out_of_its_network_once(server: &mut Server, host: &Host) {
    host.configure_main();
    let id = run_sandbox(server, "web").await;
    let other = run_sandbox(server, "db").await;
    assert_eq!(host.leases(), 2 * host.addresses());
    let mut beside = server.runtime.clone();
    let request = v1::StopPodSandboxRequest {
        pod_sandbox_id: id.clone(),
    };
    // Two callers at once, and then one more.
    let (one, two) = tokio::join!(
        stop_sandbox(server, &id),
        beside.stop_pod_sandbox(request.clone())
    );
    one.unwrap();
    two.unwrap();
    assert_eq!(host.leases(), host.addresses());
    stop_sandbox(server, &id).await.unwrap();
    remove_sandbox(server, &id).await.unwrap();
    remove_sandbox(server, &id).await.unwrap();
    stop_sandbox(server, &id).await.unwrap();
    let left = format!("DEL {id} with its namespace");
    assert_eq!(host.runs(), [joined(&id), joined(&other), left]);
    let told = host.told("DEL", &id);
    assert!(told["prevResult"]["ips"].is_array(), "{told}");
    // One that was never stopped.
    remove_sandbox(server, &other).await.unwrap();
    assert_eq!((host.leases(), host.runs().len()), (0, 4));
}

pub(crate) async fn one_that_somebody_else_removed_is_taken_out_of_its_network(
    server: &mut Server,
    host: &Host,
) {
    host.configure_main();
    let id = run_sandbox(server, "web").await;
    let force = RemoveContainer {
        force: true,
        ..Default::default()
    };
    server.docker.remove_container(&id, force).await.unwrap();
    let began = Instant::now();
    while host.leases() > 0 {
        assert!(began.elapsed() < PATIENCE, "its addresses are not free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The kubelet does not know yet, and asks for it.
    stop_sandbox(server, &id).await.unwrap();
    remove_sandbox(server, &id).await.unwrap();
    assert_eq!(host.runs(), [joined(&id), format!("DEL {id}")]);
}

pub(crate) async fn one_with_the_hosts_network_needs_no_plugin(server: &mut Server, host: &Host) {
    let mut config = sandbox_config(server, "proxy");
    config.linux = Some(v1::LinuxPodSandboxConfig {
        security_context: Some(v1::LinuxSandboxSecurityContext {
            namespace_options: Some(v1::NamespaceOption {
                network: v1::NamespaceMode::Node.into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    });
    // As a kubelet runs the pod that will write the network's file.
    assert!(!network_condition(server).await.status);
    let id = try_run_sandbox(server, config.clone()).await.unwrap();
    let none: [String; 0] = [];
    assert_eq!(addresses(server, &id).await, none);
    stop_sandbox(server, &id).await.unwrap();
    remove_sandbox(server, &id).await.unwrap();
    host.configure_main();
    let id = try_run_sandbox(server, config).await.unwrap();
    remove_sandbox(server, &id).await.unwrap();
    assert_eq!(host.runs(), none);
}

pub(crate) async fn ports_of_the_host_are_the_plugins_to_open(server: &mut Server, host: &Host) {
    host.configure_main();
    let mut config = sandbox_config(server, "web");
    let port = |protocol: v1::Protocol, container: i32, host: i32, ip: &str| v1::PortMapping {
        protocol: protocol.into(),
        container_port: container,
        host_port: host,
        host_ip: ip.to_owned(),
    };
    config.port_mappings = vec![
        port(v1::Protocol::Tcp, 80, 8080, ""),
        port(v1::Protocol::Udp, 53, 5353, "127.0.0.1"),
        // Only declared.
        port(v1::Protocol::Tcp, 9090, 0, ""),
    ];
    let id = try_run_sandbox(server, config).await.unwrap();
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
    ]);
    let told = host.told("ADD", &id);
    assert_eq!(told["runtimeConfig"]["portMappings"], mappings);
    let inspect = server.docker.inspect_container(&id).await.unwrap();
    assert!(inspect.host_config.port_bindings.is_empty());
    assert_eq!(inspect.host_config.network_mode, "none");
    // It closes by them what it has opened.
    stop_sandbox(server, &id).await.unwrap();
    let told = host.told("DEL", &id);
    assert_eq!(told["runtimeConfig"]["portMappings"], mappings);
}

/// A pod that cri-dockerd put into the network, and the record that its library keeps.
pub(crate) async fn cri_dockerd_added(node: &Node<'_>, host: &Host) -> (Pod, PathBuf) {
    let network = host.configure_main();
    let pod = cri_dockerd::sandbox(node, "web", "", "none").await;
    let results = host.path("adopted/results");
    fs::create_dir_all(&results).unwrap();
    let record = |network: &Value, result: Value| {
        let (id, name) = (&pod.sandbox, network["name"].as_str().unwrap());
        let record = json!({
            "kind": "cniCacheV1", "containerId": id, "config": STANDARD.encode(network.to_string()), "ifName": "eth0",
            "networkName": name, "cniArgs": [
                ["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "theirs"], ["K8S_POD_NAME", "web"],
                ["K8S_POD_INFRA_CONTAINER_ID", id],
            ],
            "capabilityArgs": {
                "ipRanges": [[{"subnet": ""}]],
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
            },
            "result": result,
        });
        let path = results.join(format!("{name}-{id}-eth0"));
        fs::write(&path, record.to_string()).unwrap();
        path
    };
    let ips = json!([{"address": "10.9.8.7/16", "gateway": "10.9.0.1"}]);
    let path = record(
        &network,
        json!({"cniVersion": "1.0.0", "dns": {}, "ips": ips}),
    );
    // It adds each sandbox to this one too, by the same interface's name.
    let loopback =
        json!({"cniVersion": "0.2.0", "name": "cni-loopback", "plugins": [{"type": "loopback"}]});
    record(&loopback, json!({"cniVersion": "0.2.0", "dns": {}}));
    (pod, path)
}

pub(crate) async fn one_that_cri_dockerd_added_keeps_its_address_and_leaves_once(
    server: &mut Server,
    host: &Host,
    (pod, record): (Pod, PathBuf),
) {
    let id = &pod.sandbox;
    assert_eq!(addresses(server, id).await, ["10.9.8.7"]);
    for _ in 0..2 {
        stop_sandbox(server, id).await.unwrap();
        remove_sandbox(server, id).await.unwrap();
    }
    assert_eq!(host.runs(), [format!("DEL {id} with its namespace")]);
    let told = host.told("DEL", id);
    assert_eq!(told["prevResult"]["ips"][0]["address"], "10.9.8.7/16");
    assert_eq!(told["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
    assert!(!record.exists());
}
