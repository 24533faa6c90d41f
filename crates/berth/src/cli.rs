//! The command line: names and flags as kubectl and docker users know them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The kubelet for Docker Engine: runs Kubernetes Pods on an ordinary Docker host.
#[derive(Debug, Parser)]
#[command(name = "berth", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// What to log on standard error: error, warn, info, debug, trace, or filters such as berth_docker=debug.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "warn",
        env = "BERTH_LOG"
    )]
    pub(crate) log_level: String,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  something failed: a container, a pull, a call to the engine
  2  the command line or a manifest is wrong; nothing was changed
  3  the pod or container was not found
  4  a deadline passed
  5  the engine cannot be reached
  130  run or delete was interrupted
  `berth exec` ends with the exit code of the command it ran, or 128 + n when signal n ended either.";

#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// The Docker Engine: unix:///path, tcp://host:port, https://host:port, fake://. Without it, DOCKER_HOST, DOCKER_CONTEXT, the current
    /// docker context or the default socket.
    #[arg(long, global = true, value_name = "ENDPOINT")]
    pub(crate) docker_endpoint: Option<String>,

    /// The deadline of short calls to the engine, in seconds or as 90s, 2m.
    #[arg(long, global = true, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub(crate) runtime_request_timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the Pods of manifest files.
    Run(RunArgs),
    /// Show pods.
    Get(GetArgs),
    /// Print the logs of a pod's container.
    Logs(LogsArgs),
    /// Run a command in a pod's container.
    Exec(ExecArgs),
    /// Stop pods and remove all that was made for them.
    Delete(DeleteArgs),
    /// Check what keeps pods from running on this host, and say what to do.
    Doctor(DoctorArgs),
    /// Serve the Container Runtime Interface: Docker under an upstream kubelet.
    Cri(Box<CriArgs>),
    /// Serve a Docker Engine that only pretends: for tests, and for trying things out without Docker.
    FakeEngine(FakeEngineArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Pod manifests, YAML or JSON, several documents each; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Return once the containers run. Nothing restarts them until a berth that keeps running takes the pod over.
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Remove the pods also when their containers have ended by themselves.
    #[arg(long, conflicts_with = "detach")]
    pub(crate) rm: bool,

    /// What to do with Kubernetes fields that berth does not support yet.
    #[arg(long, value_enum, default_value_t = Validate::Strict)]
    pub(crate) validate: Validate,

    /// The image of the sandbox, instead of the built-in one.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) pod_infra_container_image: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Validate {
    /// Refuse the manifest.
    Strict,
    /// Warn, and run the pod without them.
    Warn,
}

/// Which pod is meant: kubectl's namespace flag.
#[derive(Debug, Args)]
pub(crate) struct NamespaceArgs {
    /// The namespace.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
}

#[derive(Debug, Args)]
pub(crate) struct CriArgs {
    /// A file of settings, YAML or JSON: the long names of these flags and of the global ones in camelCase, such as socketGroup: docker. Flags
    /// and the environment come before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The socket for the kubelet (its --container-runtime-endpoint). A socket that systemd hands over comes first.
    #[arg(
        long,
        value_name = "ENDPOINT",
        default_value = "unix:///run/berth/cri.sock",
        alias = "container-runtime-endpoint"
    )]
    pub(crate) listen: String,

    /// The group that may connect, by name or number; without it only root's.
    #[arg(long, value_name = "GROUP")]
    pub(crate) socket_group: Option<String>,

    /// The network of pods: docker is the engine's bridge, docker:NAME another network of the engine's, cni that of CNI plugins.
    #[arg(long, value_name = "NETWORK", default_value = "docker")]
    pub(crate) network: String,

    /// Where networks of CNI plugins are described; several in the order of search [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIRECTORY", value_delimiter = ',')]
    pub(crate) cni_conf_dir: Vec<PathBuf>,

    /// Where CNI plugins are; several in the order of search [default: /opt/cni/bin,/usr/lib/cni]. Pods that joined their network leave it by
    /// them, also with another --network.
    #[arg(long, value_name = "DIRECTORY", value_delimiter = ',')]
    pub(crate) cni_bin_dir: Vec<PathBuf>,

    /// Where berth keeps who is in which CNI network; on the disk, and for one berth alone [default: /var/lib/berth/cni]. Looked at also with
    /// another --network.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cni_cache_dir: Option<PathBuf>,

    /// The addresses of pods in CNI networks that ask for ranges, until the kubelet says others.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) pod_cidr: Vec<String>,

    /// The image of the sandbox, instead of the built-in one.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) pod_infra_container_image: Option<String>,

    /// How long a pull may make no progress, in seconds or as 90s, 2m; sixty times that while layers are unpacked. 0 is no limit.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub(crate) image_pull_progress_deadline: Duration,

    /// Where exec, attach and port-forward are served; port 0 is any free one. Whoever can reach it needs the one-time token of a session.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", value_parser = bind_address)]
    pub(crate) streaming_bind_addr: SocketAddr,

    /// Serve them with TLS: the certificate, in PEM. It is read at the start.
    #[arg(long, value_name = "FILE")]
    pub(crate) streaming_tls_cert_file: Option<PathBuf>,

    /// The key of that certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) streaming_tls_private_key_file: Option<PathBuf>,

    /// Serve metrics for Prometheus at /metrics; on this host alone, since nobody is asked who they are.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback_address)]
    pub(crate) metrics_bind_addr: Option<SocketAddr>,

    /// Where berth keeps how far each log has come; in memory, and for one berth alone.
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/berth")]
    pub(crate) state_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// What to show: pods (or pod, po), or pod/NAME.
    #[arg(value_name = "pods")]
    pub(crate) kind: String,

    /// The names of pods; all without.
    pub(crate) names: Vec<String>,

    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,

    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,

    /// The format.
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Output>,

    /// Without the line of column names.
    #[arg(long)]
    pub(crate) no_headers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// More columns.
    Wide,
    /// A Kubernetes List as JSON.
    Json,
    /// A Kubernetes List as YAML.
    Yaml,
    /// pod/NAME for each.
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The pod: NAME or pod/NAME.
    pub(crate) pod: String,

    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,

    /// The container; not needed when the pod has only one.
    #[arg(short, long)]
    pub(crate) container: Option<String>,

    /// All containers of the pod.
    #[arg(long, conflicts_with = "container")]
    pub(crate) all_containers: bool,

    /// Go on with what is written from now on.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// The instance before the current one.
    #[arg(short, long)]
    pub(crate) previous: bool,

    /// Only the last so many lines; -1 is all.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub(crate) tail: i64,

    /// Only lines younger than this: 10s, 5m, 3h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) since: Option<Duration>,

    /// Begin each line with its time.
    #[arg(long)]
    pub(crate) timestamps: bool,

    /// Begin each line with its pod and container.
    #[arg(long)]
    pub(crate) prefix: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The pod: NAME or pod/NAME.
    pub(crate) pod: String,

    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,

    /// The container; not needed when the pod has only one.
    #[arg(short, long)]
    pub(crate) container: Option<String>,

    /// Pass standard input on.
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,

    /// Give the command a terminal.
    #[arg(short = 't', long)]
    pub(crate) tty: bool,

    /// The command, behind --.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// What to delete: pod (or pods, po), or pod/NAME. Not needed with -f.
    #[arg(value_name = "pod", required_unless_present = "filename")]
    pub(crate) kind: Option<String>,

    /// The names of the pods.
    pub(crate) names: Vec<String>,

    /// Delete the pods of manifest files instead.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["kind", "names"])]
    pub(crate) filename: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,

    /// Seconds the containers get to stop; without, as the pod says.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) grace_period: Option<u32>,

    /// Give the containers one second to stop.
    #[arg(long, conflicts_with = "grace_period")]
    pub(crate) now: bool,

    /// Kill the containers at once; --grace-period=0 may stand beside it.
    #[arg(long, conflicts_with = "now")]
    pub(crate) force: bool,

    /// A pod that is not there is no error.
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The format: text for people, or json.
    #[arg(short, long, value_enum, default_value_t = DoctorOutput::Text)]
    pub(crate) output: DoctorOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorOutput {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct FakeEngineArgs {
    /// Where to listen: unix:///path. The socket is for this user only.
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) listen: String,

    /// The highest API version it speaks.
    #[arg(long, value_name = "VERSION")]
    pub(crate) api_version: Option<String>,

    /// What processes do: a JSON file of scripts.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,

    /// Makes random behaviour repeatable.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

/// Reads an address to listen on. One without a host would be open to the network, which has to be said.
fn bind_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.strip_prefix(':') {
        Some(port) => format!(
            "it names no address; write 127.0.0.1:{port}, or 0.0.0.0:{port} to let in everybody who can reach this host"
        ),
        None => "write an IP address and a port, such as 127.0.0.1:10010".to_owned(),
    })
}

/// Reads an address that only this host can reach.
fn loopback_address(text: &str) -> Result<SocketAddr, String> {
    let address = bind_address(text)?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "others can reach it, and nobody is asked who they are; write 127.0.0.1:{}, and put a proxy that asks before it",
            address.port()
        ))
    }
}

/// Reads `90`, `90s`, `1m30s`, `2h` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    const RULE: &str =
        "a duration is seconds, or numbers with the units ms, s, m, h: 90s, 1m30s, 2h";
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(RULE)?;
        let number: u64 = rest[..digits].parse().map_err(|_| RULE)?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let part = match &rest[..end] {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            _ => return Err(RULE.to_owned()),
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or(RULE)?;
        rest = &rest[end..];
    }
    if text.is_empty() {
        Err(RULE.to_owned())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_are_open_to_the_network_only_where_that_is_said() {
        assert!(bind_address("127.0.0.1:0").is_ok() && bind_address("[::]:10010").is_ok());
        assert!(bind_address(":10010").is_err_and(|why| why.contains("127.0.0.1:10010")));
        assert!(bind_address("localhost").is_err());
        assert!(loopback_address("[::1]:9000").is_ok());
        assert!(loopback_address("0.0.0.0:9000").is_err_and(|why| why.contains("127.0.0.1:9000")));
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("500ms", 500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "-1", "1x", "m", "1.5s", "99999999999999999999", "s1"] {
            assert!(duration(text).is_err(), "{text:?} was accepted");
        }
    }
}
