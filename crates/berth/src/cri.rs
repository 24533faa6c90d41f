//! `berth cri`: the Container Runtime Interface for an upstream kubelet, until SIGINT or SIGTERM.

use std::path::PathBuf;

use berth_cri::{Listen, ListenError, SandboxDefaults, ServeOptions, notify};
use berth_pod::cni::{Cni, CniOptions};
use berth_pod::pods::Pods;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{CriArgs, EngineArgs};
use crate::engine;
use crate::exit::{Code, Failure};

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
    let network = network(&args.network)?;
    let options = ServeOptions {
        sandboxes: SandboxDefaults {
            image: args.pod_infra_container_image.clone(),
            network: match &network {
                Network::Engine(name) => name.clone(),
                Network::Cni => String::new(),
            },
        },
        streaming: args.streaming_bind_addr,
    };
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
    let logs = args.state_dir.join("logs");
    let pods = match network {
        Network::Engine(_) => Pods::start(docker, logs),
        Network::Cni => Pods::start_with_cni(docker, logs, Cni::new(cni_options(args))),
    };
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
        .map_err(|error| {
            Failure::new(
                Code::Failed,
                format!(
                    "--streaming-bind-addr {}: {error}",
                    args.streaming_bind_addr
                ),
            )
        })
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

/// Who gives pods their network.
enum Network {
    /// The engine's network of that name; empty is its default.
    Engine(String),
    /// Plugins.
    Cni,
}

/// The network of `--network`.
fn network(text: &str) -> Result<Network, Failure> {
    match text.split_once(':') {
        None if text == "docker" => Ok(Network::Engine(String::new())),
        None if text == "cni" => Ok(Network::Cni),
        Some(("docker", name)) if !name.is_empty() => Ok(Network::Engine(name.to_owned())),
        _ => Err(Failure::new(
            Code::Usage,
            format!(
                "--network {text:?}: write docker, docker:NAME for one of the engine's networks, or cni for that of CNI plugins"
            ),
        )),
    }
}

fn cni_options(args: &CriArgs) -> CniOptions {
    let defaults = CniOptions::default();
    CniOptions {
        conf_dirs: or(&args.cni_conf_dir, defaults.conf_dirs),
        bin_dirs: or(&args.cni_bin_dir, defaults.bin_dirs),
        cache_dir: args.cni_cache_dir.clone().unwrap_or(defaults.cache_dir),
        ..CniOptions::default()
    }
}

fn or(given: &[PathBuf], default: Vec<PathBuf>) -> Vec<PathBuf> {
    if given.is_empty() {
        default
    } else {
        given.to_vec()
    }
}
