//! Pods in a network of CNI plugins: when they join and leave it. The plugin is a script that keeps a file for each sandbox.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use berth_docker::api::{ListContainers, StopContainer};
use berth_pod::Error;
use berth_pod::cni::{Cni, CniError, CniOptions};
use berth_pod::pods::{PodNetwork, Pods};
use berth_pod::spec::SandboxSpec;
use tempfile::TempDir;

use crate::engine::{Engine, sandbox, soon};
use crate::view::FORCE;

struct Host {
    dir: TempDir,
    engine: Engine,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
            engine: Engine::with_own_ids(),
        };
        for dir in ["net.d", "bin", "leases"] {
            fs::create_dir(host.path(dir)).unwrap();
        }
        let script = format!(
            r#"#!/bin/sh
case $CNI_COMMAND in
VERSION)
    echo '{{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}}'
    exit ;;
esac
cd {dir}
mkdir busy || echo overlapping >> runs
echo $CNI_COMMAND $CNI_CONTAINERID >> runs
case $CNI_COMMAND in
ADD)
    if [ -z "$(ls leases)" ]; then
        touch leases/$CNI_CONTAINERID
        echo '{{"cniVersion":"1.0.0","ips":[{{"address":"10.1.0.5/16"}},{{"address":"fd00::5/64"}}]}}'
    else
        echo '{{"cniVersion":"1.0.0","code":100,"msg":"all addresses are taken"}}'
        false
    fi ;;
DEL)
    # Gives others time to come in between.
    sleep 0.1
    rm -f leases/$CNI_CONTAINERID ;;
esac
status=$?
rmdir busy
exit $status
"#,
            dir = host.dir.path().display()
        );
        // Beside it first, so that nobody runs a half of it.
        let (new, program) = (host.path("plugin.new"), host.path("bin/one"));
        fs::write(&new, script).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &program).unwrap();
        host.configure(r#"{"cniVersion":"1.0.0","name":"pods","type":"one"}"#);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, network: &str) {
        fs::write(self.path("net.d/10-pods.conf"), network).unwrap();
    }

    fn cni(&self, conf_dirs: Vec<PathBuf>) -> Cni {
        Cni::new(CniOptions {
            conf_dirs,
            bin_dirs: vec![self.path("bin")],
            cache_dir: self.path("cache"),
            adopted_cache_dirs: Vec::new(),
            ..CniOptions::default()
        })
    }

    /// A berth; the one before has to be gone.
    fn pods(&self) -> Pods {
        let network = PodNetwork::Cni(self.cni(vec![self.path("net.d")]));
        Pods::start(self.engine.client(), self.path("logs"), network)
    }

    /// A berth whose pods join the engine's network.
    fn pods_of_the_engine(&self) -> Pods {
        let network = PodNetwork::Engine {
            before: Some(self.cni(Vec::new())),
        };
        Pods::start(self.engine.client(), self.path("logs"), network)
    }

    /// What the plugin was run for, in order.
    fn runs(&self) -> Vec<String> {
        let runs = fs::read_to_string(self.path("runs")).unwrap_or_default();
        runs.lines().map(str::to_owned).collect()
    }

    /// The sandboxes that have an address.
    fn leases(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("leases")).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    async fn containers(&self) -> usize {
        let all = ListContainers {
            all: true,
            ..Default::default()
        };
        let client = self.engine.client();
        client.list_containers(&all).await.unwrap().len()
    }
}

#[tokio::test]
async fn a_pod_has_the_plugins_addresses_until_it_is_stopped() {
    let host = Host::new();
    let pods = host.pods();
    let id = pods.run_sandbox(sandbox("web")).await.unwrap();
    assert_eq!(host.leases(), [id.as_str()]);
    let seen = pods.view().sandbox(&id).await.unwrap().unwrap();
    assert_eq!(seen.ip, None, "the engine's network gives it none");
    assert_eq!(pods.addresses(&seen), ["10.1.0.5", "fd00::5"]);
    // Asked again, as by a kubelet that did not hear the answer.
    assert_eq!(pods.run_sandbox(sandbox("web")).await.unwrap(), id);
    for _ in 0..2 {
        pods.stop_sandbox(id.clone()).await.unwrap();
        assert!(host.leases().is_empty());
    }
    let seen = pods.view().sandbox(&id).await.unwrap().unwrap();
    assert!(pods.addresses(&seen).is_empty());
    pods.remove_sandbox(id).await.unwrap();
    assert_eq!(host.containers().await, 0);
}

#[tokio::test]
async fn one_that_cannot_join_leaves_nothing() {
    let host = Host::new();
    let pods = host.pods();
    let first = pods.run_sandbox(sandbox("web")).await.unwrap();
    let error = pods.run_sandbox(sandbox("db")).await.unwrap_err();
    assert!(
        error.to_string().contains("all addresses are taken"),
        "{error}"
    );
    assert_eq!(host.containers().await, 1);
    assert_eq!(host.leases(), [first.as_str()]);
    pods.remove_sandbox(first).await.unwrap();
    pods.run_sandbox(sandbox("db")).await.unwrap();
}

#[tokio::test]
async fn without_a_network_nothing_is_made_but_pods_of_the_hosts() {
    let host = Host::new();
    host.configure("{");
    let pods = host.pods();
    pods.network_ready().await.expect_err("there is none");
    let error = pods.run_sandbox(sandbox("web")).await.unwrap_err();
    assert!(
        matches!(error, Error::Network(CniError::NotReady(_))),
        "{error:?}"
    );
    assert_eq!(host.containers().await, 0);
    let spec = SandboxSpec {
        host_network: true,
        ..sandbox("proxy")
    };
    let id = pods.run_sandbox(spec).await.unwrap();
    assert!(host.leases().is_empty());
    pods.remove_sandbox(id).await.unwrap();
}

#[tokio::test]
async fn one_that_somebody_removes_is_taken_out_of_the_network() {
    let host = Host::new();
    let pods = host.pods();
    let client = host.engine.client();
    let id = pods.run_sandbox(sandbox("web")).await.unwrap();
    client.remove_container(id.as_str(), FORCE).await.unwrap();
    soon("its address is free", async || host.leases().is_empty()).await;

    let id = pods.run_sandbox(sandbox("db")).await.unwrap();
    assert_eq!(host.leases(), [id.as_str()]);
    drop(pods);
    // While no berth sees it.
    client.remove_container(id.as_str(), FORCE).await.unwrap();
    let _pods = host.pods();
    soon("its address is free", async || host.leases().is_empty()).await;
}

#[tokio::test]
async fn one_that_ends_by_itself_is_taken_out_of_the_network() {
    let host = Host::new();
    let pods = host.pods();
    let client = host.engine.client();
    let id = pods.run_sandbox(sandbox("web")).await.unwrap();
    let kill = StopContainer {
        seconds: Some(0),
        ..Default::default()
    };
    client.stop_container(id.as_str(), &kill).await.unwrap();
    soon("its address is free", async || host.leases().is_empty()).await;
    pods.remove_sandbox(id).await.unwrap();

    // As after a reboot of the host.
    let id = pods.run_sandbox(sandbox("db")).await.unwrap();
    drop(pods);
    client.stop_container(id.as_str(), &kill).await.unwrap();
    let pods = host.pods();
    soon("its address is free", async || host.leases().is_empty()).await;
    assert!(pods.view().sandbox(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn what_takes_one_out_of_the_network_does_so_one_after_the_other() {
    let host = Host::new();
    let pods = host.pods();
    let id = pods.run_sandbox(sandbox("web")).await.unwrap();
    let client = host.engine.client();
    client.remove_container(id.as_str(), FORCE).await.unwrap();
    // Beside the one that goes on by itself.
    let (one, two) = tokio::join!(
        pods.stop_sandbox(id.clone()),
        pods.remove_sandbox(id.clone())
    );
    one.unwrap();
    two.unwrap();
    soon("its address is free", async || host.leases().is_empty()).await;
    assert_eq!(host.runs(), [format!("ADD {id}"), format!("DEL {id}")]);
}

#[tokio::test]
async fn pods_stay_in_the_network_of_plugins_until_they_end_where_new_ones_join_the_engines() {
    let host = Host::new();
    let pods = host.pods();
    let old = pods.run_sandbox(sandbox("old")).await.unwrap();
    let joined = [format!("ADD {old}")];
    drop(pods);

    let pods = host.pods_of_the_engine();
    pods.network_ready().await.unwrap();
    assert!(!pods.set_pod_cidrs(Vec::new()).unwrap());
    let seen = pods.view().sandbox(&old).await.unwrap().unwrap();
    assert_eq!(pods.addresses(&seen), ["10.1.0.5", "fd00::5"]);
    let new = pods.run_sandbox(sandbox("new")).await.unwrap();
    let seen = pods.view().sandbox(&new).await.unwrap().unwrap();
    assert_eq!(
        pods.addresses(&seen),
        [seen.ip.clone().expect("the engine gives one")]
    );
    pods.stop_sandbox(new.clone()).await.unwrap();
    pods.remove_sandbox(new).await.unwrap();
    assert_eq!(host.runs(), joined, "plugins have nothing to do with it");
    assert_eq!(host.leases(), [old.as_str()]);

    pods.stop_sandbox(old.clone()).await.unwrap();
    assert!(host.leases().is_empty());
    assert_eq!(host.runs(), [&joined[..], &[format!("DEL {old}")]].concat());
}

#[tokio::test]
async fn pods_that_ended_before_new_ones_join_the_engines_network_leave_that_of_plugins() {
    let host = Host::new();
    let client = host.engine.client();
    for gone in [true, false] {
        let pods = host.pods();
        let id = pods.run_sandbox(sandbox("web")).await.unwrap();
        drop(pods);
        if gone {
            client.remove_container(id.as_str(), FORCE).await.unwrap();
        } else {
            let kill = StopContainer::default();
            client.stop_container(id.as_str(), &kill).await.unwrap();
        }
        assert_eq!(host.leases(), [id.as_str()]);
        let _pods = host.pods_of_the_engine();
        soon("its address is free", async || host.leases().is_empty()).await;
    }
}

#[tokio::test]
async fn one_in_the_engines_network_stays_there_where_new_ones_join_that_of_plugins() {
    let host = Host::new();
    let pods = host.pods_of_the_engine();
    let old = pods.run_sandbox(sandbox("old")).await.unwrap();
    drop(pods);
    let pods = host.pods();
    let seen = pods.view().sandbox(&old).await.unwrap().unwrap();
    assert_eq!(
        pods.addresses(&seen),
        [seen.ip.clone().expect("the engine gave one")]
    );
    pods.stop_sandbox(old.clone()).await.unwrap();
    pods.remove_sandbox(old).await.unwrap();
    let none: [String; 0] = [];
    assert_eq!(host.runs(), none);
}
