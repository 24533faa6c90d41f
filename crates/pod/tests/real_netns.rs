//! Ports inside containers of a real engine of this host: `BERTH_TEST_ENGINE` names it, and it has the image `berth.local/demo:1`. Takes root.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod real_engine;

use std::io;
use std::time::{Duration, Instant};

use berth_docker::Docker;
use berth_docker::api::RemoveContainer;
use berth_docker::model::{ContainerConfig, CreateContainer, HostConfig};
use berth_pod::netns::{self, Network};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const IMAGE: &str = "berth.local/demo:1";
const PATIENCE: Duration = Duration::from_secs(60);

fn docker() -> Option<Docker> {
    let docker = real_engine::docker()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may enter the network of another process");
        return None;
    }
    Some(docker)
}

/// Runs `script` in a container without a network, hands the ID of its process to `check`, and removes it however that ends.
async fn with_container<F>(docker: Docker, name: &str, script: &str, check: impl FnOnce(u32) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let create = CreateContainer {
        name: Some(format!("berthnetns{name}{}", std::process::id())),
        config: ContainerConfig {
            image: IMAGE.into(),
            cmd: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            ..Default::default()
        },
        host_config: HostConfig {
            network_mode: "none".into(),
            // Engines switch it off where a network has none.
            sysctls: [("net.ipv6.conf.all.disable_ipv6", "0")]
                .into_iter()
                .collect(),
            ..Default::default()
        },
        ..Default::default()
    };
    let id = docker.create_container(&create).await.unwrap().id;
    docker.start_container(&id).await.unwrap();
    let pid = docker.inspect_container(&id).await.unwrap().state.pid;
    let checked = tokio::spawn(check(u32::try_from(pid).unwrap())).await;
    let removal = RemoveContainer {
        force: true,
        volumes: true,
        ..Default::default()
    };
    docker.remove_container(&id, removal).await.unwrap();
    if let Err(error) = checked {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Waits until somebody listens.
async fn connected(network: Network, port: u16) -> tokio::net::TcpStream {
    let began = Instant::now();
    loop {
        match netns::connect(network, port).await {
            Ok(stream) => return stream,
            Err(error) => {
                assert!(began.elapsed() < PATIENCE, "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn answer(mut stream: tokio::net::TcpStream) -> String {
    stream
        .write_all(b"GET /file HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn ports_on_both_loopback_addresses_are_reached_and_a_closed_one_is_refused_at_once() {
    let Some(docker) = docker() else { return };
    let script = "mkdir /w && cd /w && echo inside > file && \
                  httpd -p 127.0.0.1:8080 && httpd -p '[::1]:8081' && exec sleep 1000";
    with_container(docker, "both", script, async |pid| {
        let network = Network::Of {
            process: pid,
            inode: Some(netns::inode(pid).unwrap()),
        };
        let before = netns::inode(std::process::id()).unwrap();
        for port in [8080, 8081] {
            let stream = connected(network, port).await;
            assert!(answer(stream).await.ends_with("inside\n"));
        }
        let began = Instant::now();
        let error = netns::connect(network, 8082).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        let named = format!("cannot connect to port 8082 in the network of process {pid}: ");
        assert!(text.starts_with(&named), "{text}");
        assert!(began.elapsed() < Duration::from_secs(5));
        // The host has its own ports, and this process is still in its own network.
        assert_eq!(netns::inode(std::process::id()).unwrap(), before);
        assert_ne!(netns::inode(pid).unwrap(), before);
    })
    .await;
}

#[tokio::test]
async fn a_thousand_connections_leave_no_thread_and_no_descriptor() {
    let Some(docker) = docker() else { return };
    let script = "httpd -p 127.0.0.1:8080 && exec sleep 1000";
    with_container(docker, "many", script, async |pid| {
        let network = Network::from(Some(pid));
        drop(connected(network, 8080).await);
        let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
        let threads = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            tasks
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
                .filter(|name| name.trim() == "port-forward")
                .count()
        };
        let before = count("/proc/self/fd");
        let began = Instant::now();
        for number in 0..1000 {
            match number % 2 {
                0 => drop(netns::connect(network, 8080).await.unwrap()),
                _ => drop(netns::connect(network, 8082).await.unwrap_err()),
            }
        }
        eprintln!("1000 connections took {:?}", began.elapsed());
        // The last thread may be ending, and the test beside this one has threads and descriptors of its own.
        let began = Instant::now();
        while threads() > 2 || count("/proc/self/fd") > before + 20 {
            assert!(
                began.elapsed() < PATIENCE,
                "{} threads, {} descriptors",
                threads(),
                count("/proc/self/fd")
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
