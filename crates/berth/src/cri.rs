//! `berth cri`: the Container Runtime Interface for an upstream kubelet, until SIGINT or SIGTERM.

use std::net::SocketAddr;
use std::time::Duration;

use berth_cri::{Listen, ListenError, SandboxDefaults, ServeOptions, notify};
use berth_pod::cni::{Cidr, Cni, CniOptions};
use berth_pod::pods::{PodNetwork, Pods};
use berth_streaming::ServerOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{CriArgs, EngineArgs};
use crate::engine;
use crate::exit::{Code, Failure};

pub(crate) mod cri_dockerd;
pub(crate) mod settings;

/// Serves until it is asked to end. An engine that is away is waited for: the kubelet is told that the runtime is not ready.
pub(crate) async fn serve(engine: &EngineArgs, args: &CriArgs) -> Result<(), Failure> {
    let path = args
        .listen
        .strip_prefix("unix://")
        .filter(|path| path.starts_with('/'))
        .ok_or_else(|| {
            Failure::new(
                Code::Usage,
                format!(
                    "--listen {:?}: the kubelet is served on unix sockets only; write unix:///path",
                    args.listen
                ),
            )
        })?;
    let (name, network) = network(args)?;
    let options = ServeOptions {
        sandboxes: SandboxDefaults {
            image: args.pod_infra_container_image.clone(),
            network: name,
        },
        streaming: streaming(args)?,
        metrics: args.metrics_bind_addr,
        pull_stuck_after: Some(args.image_pull_progress_deadline)
            .filter(|deadline| *deadline > Duration::ZERO),
    };
    let pod_cidrs = pod_cidrs(args)?;
    raise_descriptor_limit();
    let (docker, source) = engine::client(engine)?;
    // Before the socket is there, so that no signal can leave it behind.
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let (listener, _socket) = berth_cri::listen(&Listen {
        path: path.into(),
        group: args.socket_group.clone(),
    })
    .map_err(|error| match error {
        ListenError::NoGroup(_) => Failure::new(Code::Usage, error),
        other => Failure::new(Code::Failed, other),
    })?;
    tracing::info!(endpoint = docker.endpoint(), %source, socket = path, "serving the Container Runtime Interface");
    let pods = Pods::start(docker, args.state_dir.join("logs"), network);
    if !pod_cidrs.is_empty() {
        pods.set_pod_cidrs(pod_cidrs)?;
    }
    notify::ready();
    let ending = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        notify::stopping();
        tracing::info!("ending; containers run on");
    };
    berth_cri::serve(listener, pods, options, ending)
        .await
        .map_err(|error| Failure::new(Code::Failed, error))
}

/// How sessions are served.
fn streaming(args: &CriArgs) -> Result<ServerOptions, Failure> {
    let listen: SocketAddr = args.streaming_bind_addr;
    let files = (
        &args.streaming_tls_cert_file,
        &args.streaming_tls_private_key_file,
    );
    let tls = match files {
        (Some(certificate), Some(key)) => {
            let config = berth_streaming::server_config(certificate, key);
            Some(config.map_err(|error| Failure::new(Code::Usage, error))?)
        }
        (None, None) => None,
        _ => {
            return Err(Failure::new(
                Code::Usage,
                "--streaming-tls-cert-file and --streaming-tls-private-key-file: the one is of no use without the other",
            ));
        }
    };
    if tls.is_none() && !listen.ip().is_loopback() {
        tracing::warn!(
            "--streaming-bind-addr {listen}: others on the network can read what passes; write 127.0.0.1:{}, or name a certificate with --streaming-tls-cert-file",
            listen.port()
        );
    }
    Ok(ServerOptions {
        listen,
        tls,
        ..ServerOptions::default()
    })
}

/// The ranges that `--pod-cidr` names.
fn pod_cidrs(args: &CriArgs) -> Result<Vec<Cidr>, Failure> {
    args.pod_cidr
        .iter()
        .map(|cidr| {
            cidr.parse()
                .map_err(|error| Failure::new(Code::Usage, format!("--pod-cidr {cidr:?}: {error}")))
        })
        .collect()
}

/// Allows as many descriptors as may be had: each container with a log takes two, and where nobody asked for more there are 1,024 in all.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of descriptors stays as it is: {:?}", limit.current);
    }
}

/// What `--network` says: a network of the engine's by its name, of which empty is its default, or that of CNI plugins.
fn network(args: &CriArgs) -> Result<(String, PodNetwork), Failure> {
    let name = match args.network.split_once(':') {
        None if args.network == "cni" => {
            return Ok((String::new(), PodNetwork::Cni(Cni::new(options(args)))));
        }
        None if args.network == "docker" => "",
        Some(("docker", name)) if !name.is_empty() => name,
        _ => {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "--network {:?}: write docker, docker:NAME for one of the engine's networks, or cni for that of CNI plugins",
                    args.network
                ),
            ));
        }
    };
    let without_effect = [
        ("--cni-conf-dir", !args.cni_conf_dir.is_empty()),
        ("--pod-cidr", !args.pod_cidr.is_empty()),
    ];
    if let Some((flag, _)) = without_effect.iter().find(|(_, given)| *given) {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "{flag}: with --network {} no pod joins a network of CNI plugins; write --network cni",
                args.network
            ),
        ));
    }
    let before = before(args);
    Ok((name.to_owned(), PodNetwork::Engine { before }))
}

/// The network of CNI plugins that pods of an earlier start are still in.
fn before(args: &CriArgs) -> Option<Cni> {
    let mut options = options(args);
    // There is none for pods to join.
    options.conf_dirs.clear();
    let dir = options.cache_dir.display().to_string();
    let cni = Cni::new(options);
    match cni.attachments() {
        Ok(recorded) => {
            if !recorded.is_empty() {
                tracing::warn!(
                    pods = recorded.len(),
                    records = dir,
                    "pods of an earlier start are in a network of CNI plugins; each leaves it when it ends"
                );
            }
            Some(cni)
        }
        Err(error) => {
            tracing::warn!(
                %error,
                "if pods of an earlier start are in a network of CNI plugins is not known; they stay in it until berth starts with records that it can read (--cni-cache-dir)"
            );
            None
        }
    }
}

fn options(args: &CriArgs) -> CniOptions {
    let mut options = CniOptions::default();
    if !args.cni_conf_dir.is_empty() {
        options.conf_dirs.clone_from(&args.cni_conf_dir);
    }
    if !args.cni_bin_dir.is_empty() {
        options.bin_dirs.clone_from(&args.cni_bin_dir);
    }
    if let Some(dir) = &args.cni_cache_dir {
        options.cache_dir.clone_from(dir);
    }
    options
}
