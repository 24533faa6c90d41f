//! Load on a CRI server: `cargo bench -p berth-bench --bench cri -- --cri unix:///run/berth/cri.sock [--engine unix:///var/run/docker.sock]
//! [--pods 100] [--image berth.local/demo:1]`.
//!
//! Works against any CRI server over Docker. With `--engine` the calls that the engine needs for the same work are made as well, by turns, and the
//! ratio is printed: the same machine, the same moment, the same load.

#![allow(clippy::unwrap_used, reason = "a measurement that fails ends")]

use std::time::{Duration, Instant};

use berth_cri::v1;
use berth_cri::v1::runtime_service_client::RuntimeServiceClient;
use berth_docker::api::{RemoveContainer, StopContainer};
use berth_docker::model::{ContainerConfig, CreateContainer, ExecConfig, HostConfig};
use berth_docker::{ConnectOptions, Docker};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// How often each quick call is made.
const QUICK: usize = 200;
/// How often pods are started and removed, and commands run, by turns with the bare calls.
const SLOW: usize = 15;

struct Arguments {
    cri: String,
    engine: Option<String>,
    pods: usize,
    image: String,
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments {
        cri: String::new(),
        engine: None,
        pods: 100,
        image: "berth.local/demo:1".to_owned(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--cri" => arguments.cri = words.next()?,
            "--engine" => arguments.engine = words.next(),
            "--pods" => arguments.pods = words.next()?.parse().ok()?,
            "--image" => arguments.image = words.next()?,
            "--bench" => {}
            _ => return None,
        }
    }
    (!arguments.cri.is_empty()).then_some(arguments)
}

fn main() {
    let Some(arguments) = arguments() else {
        println!("not measured: --cri names no server; see the head of benches/cri.rs");
        return;
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure(&arguments));
}

struct Load {
    runtime: RuntimeServiceClient<Channel>,
    image: String,
    made: usize,
    logs: tempfile::TempDir,
}

impl Load {
    fn sandbox(&mut self) -> v1::PodSandboxConfig {
        self.made += 1;
        let name = format!("load-{}-{}", std::process::id(), self.made);
        let logs = self.logs.path().join(&name);
        // The kubelet makes it, and some servers count on that.
        std::fs::create_dir_all(&logs).unwrap();
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.clone(),
                uid: name.clone(),
                namespace: "berth-load".to_owned(),
                attempt: 0,
            }),
            hostname: name.clone(),
            log_directory: logs.display().to_string(),
            ..Default::default()
        }
    }

    async fn start(&mut self) -> (String, String) {
        let config = self.sandbox();
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let reply = self.runtime.run_pod_sandbox(request).await.unwrap();
        let sandbox = reply.into_inner().pod_sandbox_id;
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(v1::ContainerConfig {
                metadata: Some(v1::ContainerMetadata {
                    name: "app".to_owned(),
                    attempt: 0,
                }),
                image: Some(v1::ImageSpec {
                    image: self.image.clone(),
                    ..Default::default()
                }),
                command: vec!["sleep".to_owned(), "1000000".to_owned()],
                log_path: "app.log".to_owned(),
                ..Default::default()
            }),
            sandbox_config: Some(config),
        };
        let reply = self.runtime.create_container(request).await.unwrap();
        let container_id = reply.into_inner().container_id;
        let request = v1::StartContainerRequest {
            container_id: container_id.clone(),
        };
        self.runtime.start_container(request).await.unwrap();
        (sandbox, container_id)
    }

    async fn remove(&mut self, sandbox: &str) {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: sandbox.to_owned(),
        };
        self.runtime.stop_pod_sandbox(request).await.unwrap();
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.to_owned(),
        };
        self.runtime.remove_pod_sandbox(request).await.unwrap();
    }
}

/// The calls of the engine that the same work takes.
struct Bare {
    docker: Docker,
    image: String,
}

impl Bare {
    async fn start(&self) -> [String; 2] {
        let create = |network: String, shared: bool| CreateContainer {
            config: ContainerConfig {
                image: self.image.clone(),
                cmd: vec!["sleep".to_owned(), "1000000".to_owned()],
                ..Default::default()
            },
            host_config: HostConfig {
                network_mode: network.clone(),
                ipc_mode: if shared {
                    network
                } else {
                    "shareable".to_owned()
                },
                ..Default::default()
            },
            ..Default::default()
        };
        let first = create("default".to_owned(), false);
        let sandbox = self.docker.create_container(&first).await.unwrap().id;
        self.docker.start_container(&sandbox).await.unwrap();
        let second = create(format!("container:{sandbox}"), true);
        let app = self.docker.create_container(&second).await.unwrap().id;
        self.docker.start_container(&app).await.unwrap();
        [sandbox, app]
    }

    async fn remove(&self, [sandbox, app]: &[String; 2]) {
        let now = StopContainer {
            seconds: Some(0),
            signal: None,
        };
        let remove = RemoveContainer {
            force: true,
            volumes: true,
            link: false,
        };
        for id in [app, sandbox] {
            self.docker.stop_container(id, &now).await.unwrap();
        }
        for id in [app, sandbox] {
            self.docker.remove_container(id, remove).await.unwrap();
        }
    }

    async fn exec(&self, id: &str) {
        let config = ExecConfig {
            attach_stdout: true,
            attach_stderr: true,
            cmd: vec!["true".to_owned()],
            ..Default::default()
        };
        let exec = self.docker.create_exec(id, &config).await.unwrap();
        let mut attached = self.docker.start_exec(&exec, false).await.unwrap();
        while attached.output.next().await.is_some() {}
        self.docker.inspect_exec(&exec).await.unwrap();
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(what: &str, time: Duration, bare: Option<Duration>) {
    let ratio = bare.map_or(String::new(), |bare| {
        format!(
            "{:>10.2?}  {:.2}x",
            bare,
            time.as_secs_f64() / bare.as_secs_f64()
        )
    });
    println!("{what:<34} {time:>10.2?}  {ratio}");
}

macro_rules! quick {
    ($load:expr, $what:literal, $call:ident, $request:expr) => {{
        let mut times = Vec::new();
        for _ in 0..QUICK {
            let begun = Instant::now();
            match $load.runtime.$call($request).await {
                Ok(_) => times.push(begun.elapsed()),
                Err(status) => {
                    println!("{:<34} {}", $what, status.code());
                    break;
                }
            }
        }
        if !times.is_empty() {
            row($what, median(times), None);
        }
    }};
}

async fn measure(arguments: &Arguments) {
    let path = arguments.cri.trim_start_matches("unix://").to_owned();
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .unwrap();
    let mut load = Load {
        runtime: RuntimeServiceClient::new(channel).max_decoding_message_size(16 << 20),
        image: arguments.image.clone(),
        made: 0,
        logs: tempfile::tempdir().unwrap(),
    };
    let bare = arguments.engine.as_ref().map(|endpoint| Bare {
        docker: Docker::builder(ConnectOptions::new(endpoint.parse().unwrap()))
            .build()
            .unwrap(),
        image: arguments.image.clone(),
    });
    println!("{:<34} {:>10}  {:>10}  ratio", "p50", "CRI", "bare calls");
    slow(&mut load, bare.as_ref()).await;
    let mut pods = Vec::new();
    for _ in 0..arguments.pods {
        pods.push(load.start().await);
    }
    println!("with {} pods of one container:", pods.len());
    let (sandbox, container) = pods[0].clone();
    quick!(
        load,
        "ListPodSandbox",
        list_pod_sandbox,
        v1::ListPodSandboxRequest::default()
    );
    quick!(
        load,
        "ListContainers",
        list_containers,
        v1::ListContainersRequest::default()
    );
    quick!(
        load,
        "PodSandboxStatus",
        pod_sandbox_status,
        v1::PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.clone(),
            verbose: false,
        }
    );
    quick!(
        load,
        "ContainerStatus",
        container_status,
        v1::ContainerStatusRequest {
            container_id: container.clone(),
            verbose: false,
        }
    );
    quick!(
        load,
        "ListContainerStats",
        list_container_stats,
        v1::ListContainerStatsRequest::default()
    );
    quick!(
        load,
        "ListPodSandboxStats",
        list_pod_sandbox_stats,
        v1::ListPodSandboxStatsRequest::default()
    );
    for (sandbox, _) in &pods {
        load.remove(sandbox).await;
    }
}

/// Starts, removals and commands, by turns with the bare calls.
async fn slow(load: &mut Load, bare: Option<&Bare>) {
    let (mut starts, mut removals, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_starts, mut bare_removals, mut bare_commands) =
        (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SLOW {
        let begun = Instant::now();
        let (sandbox, container) = load.start().await;
        starts.push(begun.elapsed());
        let request = v1::ExecSyncRequest {
            container_id: container.clone(),
            cmd: vec!["true".to_owned()],
            timeout: 0,
        };
        let begun = Instant::now();
        load.runtime.exec_sync(request).await.unwrap();
        commands.push(begun.elapsed());
        if let Some(bare) = bare {
            let begun = Instant::now();
            let ids = bare.start().await;
            bare_starts.push(begun.elapsed());
            let begun = Instant::now();
            bare.exec(&ids[1]).await;
            bare_commands.push(begun.elapsed());
            let begun = Instant::now();
            bare.remove(&ids).await;
            bare_removals.push(begun.elapsed());
        }
        let begun = Instant::now();
        load.remove(&sandbox).await;
        removals.push(begun.elapsed());
    }
    let of = |times: Vec<Duration>| (!times.is_empty()).then(|| median(times));
    row(
        "pod start (run, create, start)",
        median(starts),
        of(bare_starts),
    );
    row("ExecSync of true", median(commands), of(bare_commands));
    row("pod stop and remove", median(removals), of(bare_removals));
}
