//! What is known about an engine and this host. Gathering only; what it means is [`super::checks`]'.
//!
//! Nothing here changes anything, on the engine or on the host. A fact that cannot be had is kept as the reason why not.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use berth_docker::api::ListContainers;
use berth_docker::model::{Filters, Info, Network, Ping, Version};
use berth_docker::{ApiVersion, ConnectReason, Docker, Endpoint, ErrorKind};
use berth_pod::oom::ProcessFacts;
use berth_pod::pause::PauseImage;
use berth_pod::{Runtime, labels};

/// How long an engine may take to answer a ping before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where dockerd reads its configuration unless told otherwise (dockerd(8)).
const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// Where packages put dockerd, for users whose `PATH` lacks the directories of administrators.
const SYSTEM_PATHS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// A configuration file larger than this is not one, in bytes.
const MAX_CONFIG: u64 = 1024 * 1024;

/// What a check looks at.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The endpoint.
    pub(crate) endpoint: String,
    /// Who named it.
    pub(crate) source: String,
    /// Whether that was somebody, not the default.
    pub(crate) chosen: bool,
    /// The engine, or why there is none.
    pub(crate) engine: Result<Box<Engine>, Obstacle>,
}

/// Why the engine does not answer.
#[derive(Debug)]
pub(crate) struct Obstacle {
    /// Why it cannot be connected to; `None` when something is there and answers wrongly or not at all.
    pub(crate) reason: Option<ConnectReason>,
    /// The whole error.
    pub(crate) words: String,
    /// The socket, if it is one of this host and can be looked at.
    pub(crate) socket: Option<Socket>,
    /// Who we are.
    pub(crate) user: User,
    /// The endpoint of a rootless engine that is there.
    pub(crate) rootless: Option<String>,
    /// Whether dockerd is on this host.
    pub(crate) installed: bool,
    /// Whether systemd runs this host.
    pub(crate) systemd: bool,
}

/// The file behind a unix endpoint.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whether it is a socket at all.
    pub(crate) is_socket: bool,
    /// Permission bits.
    pub(crate) mode: u32,
    /// The owner's name or number.
    pub(crate) owner: String,
    /// The group's name or number.
    pub(crate) group: String,
    /// The group's number.
    pub(crate) gid: u32,
}

/// The user that runs this program.
#[derive(Debug, Default)]
pub(crate) struct User {
    /// The name or number.
    pub(crate) name: String,
    /// The groups this process is in.
    pub(crate) gids: Vec<u32>,
    /// Whether `/etc/group` has the user in the socket's group, though the process may be older than that.
    pub(crate) listed_in_group: bool,
}

/// An engine that answers.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) ping: Ping,
    pub(crate) version: Result<Version, String>,
    /// The API version that calls are made with.
    pub(crate) api: Result<ApiVersion, String>,
    pub(crate) info: Result<Info, String>,
    /// The names of its networks.
    pub(crate) networks: Result<Vec<String>, String>,
    /// The interface of its default bridge, if that should be among ours and is not.
    pub(crate) missing_interface: Option<String>,
    /// How far its clock is ahead of ours, in seconds, and how uncertain that is.
    pub(crate) clock: Option<(f64, f64)>,
    /// The file system of its data.
    pub(crate) disk: Result<Disk, String>,
    /// What its process may do, if it runs on this host.
    pub(crate) process: Option<ProcessFacts>,
    /// Whether logs have a limit where nobody says otherwise.
    pub(crate) log_limit: LogLimit,
    /// The architecture of this program, as `uname -m` says it.
    pub(crate) architecture: &'static str,
    /// Whether this program has a pause image built in.
    pub(crate) has_pause_image: bool,
}

/// A file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// Bytes that it has.
    pub(crate) total: u64,
    /// Bytes that ordinary users can still write.
    pub(crate) free: u64,
    /// Files that it can have; 0 when it does not count them.
    pub(crate) files: u64,
    /// Files that can still be made.
    pub(crate) files_free: u64,
}

/// The default `max-size` of logs, which the Engine API does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogLimit {
    /// It is this, and where that is written.
    Set(String, String),
    /// There is none, and how that is known.
    Unset(String),
    /// It cannot be found out, and why.
    Unknown(String),
}

/// Looks at the engine behind `docker` and at this host.
///
/// Each call has the client's deadline, the first at most [`PATIENCE`]. Cancel safe.
pub(crate) async fn gather(
    docker: Docker,
    endpoint: &Endpoint,
    source: &berth_docker::EndpointSource,
    rootless: Option<&Endpoint>,
) -> Facts {
    let engine = match tokio::time::timeout(PATIENCE, docker.ping()).await {
        Ok(Ok(ping)) => Ok(Box::new(look(docker, endpoint, ping).await)),
        Ok(Err(error)) => {
            let reason = match error.kind() {
                ErrorKind::Connect { reason, .. } => Some(*reason),
                _ => None,
            };
            Err(obstacle(reason, error.to_string(), endpoint, rootless))
        }
        Err(_) => Err(obstacle(
            None,
            format!("it takes connections but does not answer within {PATIENCE:?}"),
            endpoint,
            rootless,
        )),
    };
    Facts {
        endpoint: endpoint.to_string(),
        source: source.to_string(),
        chosen: !matches!(source, berth_docker::EndpointSource::Default),
        engine,
    }
}

async fn look(docker: Docker, endpoint: &Endpoint, ping: Ping) -> Engine {
    let words = |error: berth_docker::Error| error.to_string();
    let version = docker.version().await.map_err(words);
    let api = docker.api_version().await.map_err(words);
    let asked = SystemTime::now();
    let info = docker.info().await.map_err(words);
    let clock = info
        .as_ref()
        .ok()
        .and_then(|info| Some(skew(info.system_time?.into(), asked, SystemTime::now())));
    let networks = docker.list_networks(&Filters::new()).await.map_err(words);
    let listener = match endpoint {
        Endpoint::Unix { .. } => docker.listener_process_id().await,
        _ => None,
    };
    let missing_interface = match (&networks, listener) {
        (Ok(networks), Some(pid)) if shares_network(pid) => missing_interface(networks),
        _ => None,
    };
    let networks =
        networks.map(|networks| networks.into_iter().map(|network| network.name).collect());
    let runtime = Runtime::new(docker);
    let process = runtime.engine_process().await;
    let (disk, log_limit) = match &info {
        Ok(info) => {
            let here = is_here(endpoint, info);
            let disk = if here {
                disk(Path::new(&info.docker_root_dir))
            } else {
                Err("the engine is not on this host".to_owned())
            };
            (disk, log_limit(runtime.docker(), here, listener).await)
        }
        Err(_) => (
            Err("the engine does not say where its data is".to_owned()),
            LogLimit::Unknown("the engine does not tell its log driver".to_owned()),
        ),
    };
    Engine {
        ping,
        version,
        api,
        info,
        networks,
        missing_interface,
        clock,
        disk,
        process,
        log_limit,
        architecture: std::env::consts::ARCH,
        has_pause_image: PauseImage::built_in().is_ok(),
    }
}

/// How far `theirs` is ahead, if it was read halfway between `asked` and `answered`, and how far that may be off. In seconds.
fn skew(theirs: SystemTime, asked: SystemTime, answered: SystemTime) -> (f64, f64) {
    let seconds = |to: SystemTime, from: SystemTime| match to.duration_since(from) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    };
    let half = seconds(answered, asked).max(0.0) / 2.0;
    (seconds(theirs, asked) - half, half)
}

/// Whether the engine's paths are paths of this host. A socket may also lead out of a container, into a virtual machine or to another host.
fn is_here(endpoint: &Endpoint, info: &Info) -> bool {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    matches!(endpoint, Endpoint::Unix { .. })
        && kernel.trim() == info.kernel_version
        && name.trim() == info.name
}

/// Whether the process has the same network interfaces as we. A rootless engine has its own.
fn shares_network(pid: i32) -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let ours = namespace("self");
    ours.is_some() && ours == namespace(&pid.to_string())
}

/// The interface that the network `bridge` names but this host lacks.
fn missing_interface(networks: &[Network]) -> Option<String> {
    let bridge = networks.iter().find(|network| network.name == "bridge")?;
    let name = bridge.options.get("com.docker.network.bridge.name")?;
    let table = fs::read_to_string("/proc/self/net/dev").ok()?;
    (!has_interface(&table, name)).then(|| name.to_owned())
}

/// Whether `/proc/net/dev` has a line for it: two lines of headings, then `name: numbers`.
fn has_interface(table: &str, name: &str) -> bool {
    let names = table
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'));
    names.into_iter().any(|(known, _)| known.trim() == name)
}

fn disk(root: &Path) -> Result<Disk, String> {
    let stat = rustix::fs::statvfs(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Disk {
        total: bytes(stat.f_blocks),
        free: bytes(stat.f_bavail),
        files: stat.f_files,
        files_free: stat.f_favail,
    })
}

/// The engine adds its default options to each container at its creation, so a container tells; and so do its flags and its file.
async fn log_limit(docker: &Docker, here: bool, listener: Option<i32>) -> LogLimit {
    if here {
        let flags = listener
            .map(|pid| flags(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
            .unwrap_or_default();
        let path = value_of(&flags, "--config-file")
            .unwrap_or(DAEMON_JSON)
            .to_owned();
        let dockerd = flags.first().is_some_and(|program| {
            Path::new(program)
                .file_name()
                .is_some_and(|name| name == "dockerd")
        });
        if let Some(limit) = limit_in_flags(&flags).filter(|_| dockerd) {
            return LogLimit::Set(limit, "dockerd's --log-opt".to_owned());
        }
        match read_config(Path::new(&path)) {
            Ok(text) => match limit_in_config(text.as_deref()) {
                Ok(Some(limit)) => return LogLimit::Set(limit, path),
                // Without the flags a limit may still be among them.
                Ok(None) if dockerd => {
                    return LogLimit::Unset(format!("neither dockerd's flags nor {path} set one"));
                }
                Ok(None) => {}
                Err(error) => return LogLimit::Unknown(format!("{path}: {error}")),
            },
            Err(error) => {
                tracing::debug!(%path, %error, "the engine's configuration cannot be read")
            }
        }
    }
    match limit_of_newest(docker).await {
        Ok(Some(limit)) => limit,
        Ok(None) => LogLimit::Unknown(
            "the Engine API does not tell, and there is no pod whose container would show it"
                .to_owned(),
        ),
        Err(error) => LogLimit::Unknown(error.to_string()),
    }
}

/// As the newest container of a pod has it; pods leave it to the engine.
async fn limit_of_newest(docker: &Docker) -> Result<Option<LogLimit>, berth_docker::Error> {
    let filters = Filters::new().label(format!("{}={}", labels::TYPE, labels::TYPE_CONTAINER));
    let rows = docker
        .list_containers(&ListContainers {
            all: true,
            limit: Some(1),
            filters,
            ..Default::default()
        })
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let inspect = docker.inspect_container(&row.id).await?;
    let Some(config) = &inspect.host_config.log_config else {
        return Ok(None);
    };
    let place = format!("the container {}", inspect.bare_name());
    Ok(Some(match config.config.get("max-size") {
        Some(limit) => LogLimit::Set(limit.to_owned(), place),
        None => LogLimit::Unset(format!("{place} has none")),
    }))
}

/// The words of a command line as `/proc` gives it.
fn flags(cmdline: &[u8]) -> Vec<String> {
    cmdline
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The last value of a flag, written `--flag=value` or `--flag value`.
fn value_of<'a>(flags: &'a [String], flag: &str) -> Option<&'a str> {
    values_of(flags, flag).last()
}

fn values_of<'a>(flags: &'a [String], flag: &str) -> impl Iterator<Item = &'a str> {
    flags
        .iter()
        .enumerate()
        .filter_map(move |(index, word)| match word.strip_prefix(flag)? {
            "" => flags.get(index + 1).map(String::as_str),
            rest => rest.strip_prefix('='),
        })
}

fn limit_in_flags(flags: &[String]) -> Option<String> {
    values_of(flags, "--log-opt")
        .filter_map(|option| option.strip_prefix("max-size="))
        .last()
        .map(str::to_owned)
}

/// `None` when there is no such file.
fn read_config(path: &Path) -> Result<Option<String>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > MAX_CONFIG => return Err("is too large".to_owned()),
        _ => {}
    }
    fs::read_to_string(path)
        .map(Some)
        .map_err(|error| error.to_string())
}

fn limit_in_config(text: Option<&str>) -> Result<Option<String>, String> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(value
        .get("log-opts")
        .and_then(|options| options.get("max-size"))
        .and_then(|limit| limit.as_str())
        .map(str::to_owned))
}

fn obstacle(
    reason: Option<ConnectReason>,
    words: String,
    endpoint: &Endpoint,
    rootless: Option<&Endpoint>,
) -> Obstacle {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let socket = match endpoint {
        Endpoint::Unix { path, .. } => socket(path, &users, &groups),
        _ => None,
    };
    let uid = rustix::process::getuid().as_raw();
    let name = name_in(&users, uid).unwrap_or_else(|| uid.to_string());
    let mut gids: Vec<u32> = rustix::process::getgroups()
        .unwrap_or_default()
        .into_iter()
        .map(rustix::process::Gid::as_raw)
        .collect();
    gids.push(rustix::process::getegid().as_raw());
    let listed_in_group = socket
        .as_ref()
        .is_some_and(|socket| members(&groups, socket.gid).any(|member| member == name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path)
        .chain(SYSTEM_PATHS.map(PathBuf::from))
        .any(|dir| dir.join("dockerd").is_file());
    Obstacle {
        reason,
        words,
        socket,
        user: User {
            name,
            gids,
            listed_in_group,
        },
        rootless: rootless.map(ToString::to_string),
        installed,
        systemd: Path::new("/run/systemd/system").is_dir(),
    }
}

fn socket(path: &Path, users: &str, groups: &str) -> Option<Socket> {
    let metadata = fs::metadata(path).ok()?;
    Some(Socket {
        path: path.to_owned(),
        is_socket: metadata.file_type().is_socket(),
        mode: metadata.permissions().mode() & 0o7777,
        owner: name_in(users, metadata.uid()).unwrap_or_else(|| metadata.uid().to_string()),
        group: name_in(groups, metadata.gid()).unwrap_or_else(|| metadata.gid().to_string()),
        gid: metadata.gid(),
    })
}

/// The name of a number in `/etc/passwd` or `/etc/group`: both begin `name:password:number`.
fn name_in(table: &str, number: u32) -> Option<String> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    })
}

/// The members that `/etc/group` lists for a group.
fn members(groups: &str, gid: u32) -> impl Iterator<Item = &str> {
    let line = groups.lines().find(|line| {
        line.split(':')
            .nth(2)
            .is_some_and(|number| number.parse() == Ok(gid))
    });
    line.and_then(|line| line.split(':').nth(3))
        .unwrap_or_default()
        .split(',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_members_are_read_from_the_tables() {
        let groups = "root:x:0:\ndocker:x:998:ann,bob\nbroken\n";
        assert_eq!(name_in(groups, 998).as_deref(), Some("docker"));
        assert_eq!(name_in(groups, 5), None);
        assert_eq!(members(groups, 998).collect::<Vec<_>>(), ["ann", "bob"]);
        assert!(!members(groups, 0).any(|member| member == "ann"));
    }

    #[test]
    fn a_limit_is_found_in_flags_of_both_forms() {
        let all = flags(b"/usr/bin/dockerd\0--log-opt\0max-size=10m\0--config-file=/x.json\0--log-opt=max-file=3\0");
        assert_eq!(limit_in_flags(&all).as_deref(), Some("10m"));
        assert_eq!(value_of(&all, "--config-file"), Some("/x.json"));
        assert_eq!(limit_in_flags(&flags(b"dockerd\0--log-opt\0")), None);
        assert_eq!(limit_in_flags(&flags(b"")), None);
    }

    #[test]
    fn a_limit_is_found_in_the_configuration() {
        assert_eq!(
            limit_in_config(Some(r#"{"log-opts":{"max-size":"5m"}}"#)),
            Ok(Some("5m".into()))
        );
        assert_eq!(limit_in_config(Some("{}")), Ok(None));
        assert_eq!(limit_in_config(Some(" ")), Ok(None));
        assert_eq!(limit_in_config(None), Ok(None));
        assert!(limit_in_config(Some("{")).is_err());
    }

    #[test]
    fn an_interface_is_looked_up_by_its_whole_name() {
        let table = "Inter-|   Receive\n face |bytes\n    lo:  12 0\n docker0:9 0\n";
        assert!(has_interface(table, "docker0") && has_interface(table, "lo"));
        assert!(!has_interface(table, "docker") && !has_interface(table, " face |bytes"));
    }

    #[test]
    fn skew_is_measured_from_the_middle_of_the_call() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let (ahead, uncertain) = skew(at(10_500), at(10_000), at(11_000));
        assert!(ahead.abs() < 1e-9 && (uncertain - 0.5).abs() < 1e-9);
        assert!((skew(at(7_000), at(10_000), at(10_000)).0 + 3.0).abs() < 1e-9);
    }
}
