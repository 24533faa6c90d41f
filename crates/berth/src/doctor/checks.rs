//! What the facts mean for pods, and what to do about it. Pure: facts in, checks out.

use std::path::Path;

use berth_docker::model::{Info, Version};
use berth_docker::{ApiVersion, ConnectReason};
use berth_pod::oom::{self, Verdict};
use serde::Serialize;

use super::facts::{Disk, Engine, Facts, LogLimit, Obstacle, Socket};

const GIB: u64 = 1 << 30;

/// Below this a pull is likely to fill the disk, in bytes.
const DISK_MIN: u64 = GIB;
/// Where the kubelet begins to evict pods, in percent: `nodefs.available<10%`, `nodefs.inodesFree<5%`.
const DISK_LOW: u64 = 10;
const FILES_LOW: u64 = 5;

/// A clock that is off by more than this shifts ages and `--since` visibly, in seconds.
const SKEW_MAX: f64 = 2.0;

/// The log drivers that the engine reads back by itself.
const READABLE: [&str; 3] = ["json-file", "local", "journald"];
/// The first API version whose engine keeps a copy of what other log drivers send away (Docker 20.10).
const DUAL_LOGGING: ApiVersion = ApiVersion::new(1, 41);

/// The names of an engine's own warnings that a check of ours says more about.
const COVERED: [&str; 3] = ["memory limit", "swap limit", "cgroup v1"];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Pods run, but something is worth a change.
    Warning,
    /// Something will not work.
    Problem,
    /// It cannot be found out from here.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: &'static str,
    /// How bad it is.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl Check {
    fn new(name: &'static str, level: Level, finding: impl Into<String>) -> Self {
        Self {
            name,
            level,
            finding: finding.into(),
            advice: None,
        }
    }

    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, Level::Ok, finding)
    }

    fn warning(name: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(name, Level::Warning, finding).advise(advice)
    }

    fn problem(name: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(name, Level::Problem, finding).advise(advice)
    }

    fn unknown(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, Level::Unknown, finding)
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Everything there is to say about `facts`, what others depend on first.
pub(crate) fn checks(facts: &Facts) -> Vec<Check> {
    let place = format!("{} (from {})", facts.endpoint, facts.source);
    let engine = match &facts.engine {
        Ok(engine) => engine,
        Err(obstacle) => return vec![unreachable(obstacle, &place, facts)],
    };
    let mut all = vec![product(engine, &place), api(engine)];
    let info = match &engine.info {
        Ok(info) => info,
        Err(error) => {
            all.push(Check::problem(
                "information",
                error,
                "see the engine's log for the reason, then run `berth doctor` again",
            ));
            return all;
        }
    };
    all.extend([
        platform(info, engine),
        cgroup(info),
        limits(info),
        storage(info),
        log_driver(info, engine),
        log_limit(info, &engine.log_limit),
        disk(info, engine.disk.as_ref()),
        oom_score_adj(info, engine),
        bridge(engine),
        clock(engine.clock),
        live_restore(info),
    ]);
    let warnings = info.warnings.iter().filter(|warning| {
        !COVERED
            .iter()
            .any(|covered| warning.to_lowercase().contains(covered))
    });
    all.extend(warnings.map(|warning| {
        let words = warning.trim_start_matches("WARNING:").trim();
        Check::new("engine warns", Level::Warning, words)
    }));
    all
}

fn unreachable(obstacle: &Obstacle, place: &str, facts: &Facts) -> Check {
    let (finding, advice) = match (obstacle.reason, &obstacle.socket) {
        (Some(ConnectReason::NoSuchSocket), _) => (format!("there is no socket at {place}"), start(obstacle)),
        (Some(ConnectReason::NotRunning), Some(Socket { path, is_socket: false, .. })) => {
            (format!("{} is no socket; the endpoint is {place}", path.display()), "name the engine's socket".to_owned())
        }
        (Some(ConnectReason::NotRunning), _) => (format!("nobody listens at {place}"), start(obstacle)),
        (Some(ConnectReason::NoPermission), socket) => permission(obstacle, socket.as_ref(), place),
        (Some(reason), _) => (obstacle.words.clone(), reason.hint().to_owned()),
        (None, _) => (
            format!("{place} does not answer as an engine does: {}", obstacle.words),
            "make sure that the endpoint is a Docker Engine's; if it is, see its log (journalctl -u docker) and restart it".to_owned(),
        ),
    };
    let mut advice = vec![advice];
    if facts.chosen {
        advice.push(format!(
            "if another engine is meant: the endpoint comes from {}",
            facts.source
        ));
    }
    if let Some(rootless) = &obstacle.rootless {
        advice.push(format!(
            "there is a rootless engine's socket: export DOCKER_HOST={rootless}"
        ));
    }
    Check::problem("engine", finding, advice.join("\n"))
}

/// How to get an engine that is not there.
fn start(obstacle: &Obstacle) -> String {
    match (obstacle.installed, obstacle.systemd) {
        (true, true) => "start Docker Engine: sudo systemctl enable --now docker".to_owned(),
        (true, false) => "start Docker Engine: sudo dockerd &".to_owned(),
        (false, _) => "dockerd is not on this host: install Docker Engine (https://docs.docker.com/engine/install/, or the package docker.io)".to_owned(),
    }
}

fn permission(obstacle: &Obstacle, socket: Option<&Socket>, place: &str) -> (String, String) {
    let user = &obstacle.user;
    let Some(Socket {
        path,
        mode,
        owner,
        group,
        gid,
        ..
    }) = socket
    else {
        return (
            format!("user {:?} may not reach {place}", user.name),
            "run berth as root, or open the directories above the socket to the user".to_owned(),
        );
    };
    let finding = format!(
        "{} is there, but user {:?} may not open it (owner {owner}, group {group}, mode {mode:o}; from {})",
        path.display(),
        user.name,
        source(place)
    );
    let advice = if user.gids.contains(gid) || mode & 0o060 != 0o060 {
        "run berth as root: the socket's mode keeps its group out, or a directory above it is closed".to_owned()
    } else if user.listed_in_group {
        format!(
            "{:?} is in the group {group}, but this session began before that: log in again, or run `newgrp {group}`",
            user.name
        )
    } else if *gid == 0 {
        "run berth as root".to_owned()
    } else {
        format!(
            "sudo usermod -aG {group} {}, then log in again (members of that group are as good as root on this host), or run berth as root",
            user.name
        )
    };
    (finding, advice)
}

/// What is in the brackets of a place.
fn source(place: &str) -> &str {
    place
        .rsplit_once("(from ")
        .map_or(place, |(_, source)| source.trim_end_matches(')'))
}

fn product(engine: &Engine, place: &str) -> Check {
    let version = match &engine.version {
        Ok(version) => version,
        Err(error) => {
            return Check::problem(
                "engine",
                format!("{place} answers a ping, but: {error}"),
                "make sure that the endpoint is a Docker Engine's",
            );
        }
    };
    let name = if version.platform.name.is_empty() {
        "Docker Engine"
    } else {
        &version.platform.name
    };
    let rootless = engine.info.as_ref().is_ok_and(is_rootless);
    let words = format!(
        "{name} {}{} at {place}",
        version.version,
        if rootless { ", rootless" } else { "" }
    );
    if engine.ping.libpod_api_version.is_some()
        || version
            .components
            .iter()
            .any(|part| part.name.contains("Podman"))
    {
        let words = format!("Podman {} at {place}", version.version);
        return Check::warning(
            "engine",
            words,
            "berth is made for Docker Engine and tested with nothing else",
        );
    }
    Check::ok("engine", words)
}

fn is_rootless(info: &Info) -> bool {
    info.security_options.iter().any(|option| {
        option
            .split(',')
            .any(|part| part == "name=rootless" || part == "rootless")
    })
}

fn api(engine: &Engine) -> Check {
    let range = match &engine.version {
        Ok(Version {
            api_version,
            min_api_version,
            ..
        }) if !min_api_version.is_empty() => {
            format!("the engine speaks {min_api_version} to {api_version}")
        }
        Ok(Version { api_version, .. }) => format!("the engine speaks up to {api_version}"),
        Err(_) => format!("the engine speaks up to {}", engine.ping.api_version),
    };
    match &engine.api {
        Err(error) => Check::problem(
            "API version",
            error,
            format!(
                "berth speaks {} to {}; {range}",
                ApiVersion::FLOOR,
                ApiVersion::CEILING
            ),
        ),
        Ok(used) => {
            let newest = engine
                .version
                .as_ref()
                .ok()
                .and_then(|version| version.api_version.parse::<ApiVersion>().ok());
            let untested = newest.filter(|newest| *newest > ApiVersion::CEILING);
            let words = match untested {
                Some(_) => format!("{used} is used, the newest that berth is tested with; {range}"),
                None => format!("{used} is used; {range}"),
            };
            Check::ok("API version", words)
        }
    }
}

fn platform(info: &Info, engine: &Engine) -> Check {
    const NAME: &str = "platform";
    let words = format!(
        "{} on {}, kernel {}",
        info.operating_system, info.architecture, info.kernel_version
    );
    if info.os_type != "linux" {
        return Check::problem(
            NAME,
            format!("containers are for {:?}", info.os_type),
            "switch the engine to Linux containers",
        );
    }
    let elsewhere = "--pod-infra-container-image names one that the engine can run";
    if !engine.has_pause_image {
        return Check::problem(
            NAME,
            format!("{words}; this berth has no built-in pause image"),
            format!("give `berth run` another: {elsewhere}"),
        );
    }
    if architecture(&info.architecture) != engine.architecture {
        let words = format!(
            "{words}; the built-in pause image is for {}",
            engine.architecture
        );
        return Check::problem(
            NAME,
            words,
            format!(
                "use a berth built for the engine's architecture, or another pause image: {elsewhere}"
            ),
        );
    }
    Check::ok(NAME, words)
}

/// Docker writes the architecture as `uname -m` does, Podman as Go does.
fn architecture(name: &str) -> &str {
    match name {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

fn cgroup(info: &Info) -> Check {
    const NAME: &str = "cgroups";
    let words = format!(
        "version {}, driver {}",
        info.cgroup_version, info.cgroup_driver
    );
    if info.cgroup_driver == "none" {
        return Check::warning(
            NAME,
            words,
            "limits have no effect: a rootless engine needs cgroup version 2 and delegation (https://docs.docker.com/engine/security/rootless/)",
        );
    }
    match info.cgroup_version.as_str() {
        "2" => Check::ok(NAME, words),
        "1" => Check::warning(
            NAME,
            words,
            "Docker and Kubernetes are giving up version 1: boot the host with systemd.unified_cgroup_hierarchy=1, or a newer distribution",
        ),
        // Engines before 20.10 do not tell.
        _ => Check::unknown(
            NAME,
            format!(
                "driver {}; the engine does not tell the version",
                info.cgroup_driver
            ),
        ),
    }
}

fn limits(info: &Info) -> Check {
    const NAME: &str = "limits";
    let missing: Vec<&str> = [
        (info.memory_limit, "memory"),
        (info.cpu_cfs_quota, "CPU"),
        (info.swap_limit, "swap"),
        (info.pids_limit, "processes"),
    ]
    .into_iter()
    .filter_map(|(there, what)| (!there).then_some(what))
    .collect();
    if missing.is_empty() {
        return Check::ok(NAME, "memory, swap, CPU and processes can be limited");
    }
    let advice = match missing.as_slice() {
        ["swap"] => {
            "a container at its memory limit may go on into swap: boot the host with swapaccount=1, or use no swap"
        }
        _ => {
            "limits of pods have no effect for these: enable the cgroup controllers of the kernel (on Debian: cgroup_enable=memory swapaccount=1 at boot)"
        }
    };
    Check::warning(
        NAME,
        format!("the host cannot limit {}", missing.join(", ")),
        advice,
    )
}

fn storage(info: &Info) -> Check {
    const NAME: &str = "storage driver";
    let driver = info.driver.as_str();
    let containerd = uses_containerd_store(info);
    let words = if containerd {
        format!("{driver} (containerd image store)")
    } else {
        driver.to_owned()
    };
    match driver {
        "vfs" | "native" => Check::warning(
            NAME,
            format!("{words} copies every layer for every container: slow, and large on disk"),
            "use overlay2, or overlayfs with the containerd image store, on a file system that can (ext4, xfs with ftype=1)",
        ),
        "devicemapper" | "aufs" | "overlay" => Check::warning(
            NAME,
            format!("{words} is no longer in current engines"),
            "move to overlay2 before the engine is updated; images and containers have to be made again",
        ),
        "" => Check::unknown(NAME, "the engine does not tell"),
        _ => Check::ok(NAME, words),
    }
}

fn uses_containerd_store(info: &Info) -> bool {
    info.driver_status
        .iter()
        .flatten()
        .any(|word| word.starts_with("io.containerd.snapshotter."))
}

fn log_driver(info: &Info, engine: &Engine) -> Check {
    const NAME: &str = "log driver";
    const ADVICE: &str = "set \"log-driver\": \"local\" in the engine's daemon.json and restart it; containers made before keep theirs";
    match info.logging_driver.as_str() {
        "" => Check::unknown(NAME, "the engine does not tell"),
        "none" => Check::problem(NAME, "none: `berth logs` has nothing to read", ADVICE),
        driver if READABLE.contains(&driver) => Check::ok(NAME, driver),
        driver if engine.api.as_ref().is_ok_and(|api| *api >= DUAL_LOGGING) => {
            let words = format!(
                "{driver}; `berth logs` reads the engine's own copy, unless the option cache-disabled is set"
            );
            Check::ok(NAME, words)
        }
        driver => Check::problem(
            NAME,
            format!("{driver}: this engine cannot read it back for `berth logs`"),
            ADVICE,
        ),
    }
}

fn log_limit(info: &Info, limit: &LogLimit) -> Check {
    const NAME: &str = "log size";
    if info.logging_driver != "json-file" {
        return match info.logging_driver.as_str() {
            "local" => Check::ok(
                NAME,
                "the driver local keeps 100 MB for each container unless told otherwise",
            ),
            "none" => Check::ok(NAME, "nothing is kept"),
            _ => Check::ok(NAME, "a matter of where the driver sends logs to"),
        };
    }
    const ADVICE: &str = "set \"log-opts\": {\"max-size\": \"10m\", \"max-file\": \"3\"} in the engine's daemon.json and restart it; containers made before keep theirs";
    match limit {
        LogLimit::Set(limit, place) => {
            Check::ok(NAME, format!("json-file up to {limit} a file ({place})"))
        }
        LogLimit::Unset(how) => Check::warning(
            NAME,
            format!("json-file grows without limit: {how}"),
            ADVICE,
        ),
        LogLimit::Unknown(why) => Check::unknown(
            NAME,
            format!("whether json-file has a limit is unknown: {why}"),
        )
        .advise(format!("if max-size is not set: {ADVICE}")),
    }
}

fn disk(info: &Info, disk: Result<&Disk, &String>) -> Check {
    const NAME: &str = "disk";
    let root = &info.docker_root_dir;
    let Disk {
        total,
        free,
        files,
        files_free,
    } = match disk {
        Ok(disk) => *disk,
        Err(why) => {
            return Check::unknown(NAME, format!("free space at {root:?} is unknown: {why}"));
        }
    };
    let share = |part: u64, whole: u64| {
        if whole == 0 {
            100
        } else {
            u128::from(part) * 100 / u128::from(whole)
        }
    };
    let mut words = format!(
        "{} of {} free ({} %) at {root}",
        gib(free),
        gib(total),
        share(free, total)
    );
    if uses_containerd_store(info) && !Path::new(root).starts_with("/var/lib/containerd") {
        words.push_str("; images may be in containerd's own directory, which was not looked at");
    }
    const ADVICE: &str = "remove what is not used (docker system df shows it, docker system prune removes it), or give the engine more room";
    if free < DISK_MIN {
        Check::problem(NAME, words, ADVICE)
    } else if share(free, total) < DISK_LOW.into() {
        Check::warning(NAME, words, ADVICE)
    } else if share(files_free, files) < FILES_LOW.into() {
        Check::warning(
            NAME,
            format!("{words}; only {files_free} of {files} files (inodes) are left"),
            ADVICE,
        )
    } else {
        Check::ok(NAME, words)
    }
}

fn gib(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / u128::from(GIB);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn oom_score_adj(info: &Info, engine: &Engine) -> Check {
    const NAME: &str = "oom_score_adj";
    let verdict = match &engine.process {
        Some(process) => oom::verdict_of_process(process),
        None => oom::verdict_of_options(&info.security_options),
    };
    match verdict {
        Verdict::Clamped(why) => Check::warning(
            NAME,
            format!("cannot be lowered: {why}"),
            "pods start nevertheless; when memory runs out, the kernel may pick a Guaranteed pod or a pause container first. It takes an engine with CAP_SYS_RESOURCE on the host",
        ),
        Verdict::Allowed if engine.process.is_some() => Check::ok(NAME, "can be lowered"),
        Verdict::Allowed => Check::unknown(
            NAME,
            "the engine's process is not seen from here; nothing speaks against lowering it",
        ),
    }
}

fn bridge(engine: &Engine) -> Check {
    const NAME: &str = "network";
    if let Some(interface) = &engine.missing_interface {
        return Check::problem(
            NAME,
            format!(
                "the interface {interface} of the network \"bridge\" has gone from this host: pods without hostNetwork cannot start"
            ),
            "restart the engine, which makes it again (systemctl restart docker)",
        );
    }
    match &engine.networks {
        Err(error) => Check::unknown(NAME, error),
        Ok(names) => match names
            .iter()
            .find(|name| matches!(name.as_str(), "bridge" | "podman" | "nat"))
        {
            Some(name) => Check::ok(NAME, format!("the network {name:?} is there")),
            None => Check::problem(
                NAME,
                "the engine has no network \"bridge\": pods without hostNetwork cannot start",
                "start dockerd without --bridge=none (\"bridge\": \"none\" in its daemon.json)",
            ),
        },
    }
}

fn clock(clock: Option<(f64, f64)>) -> Check {
    const NAME: &str = "clock";
    let Some((ahead, uncertain)) = clock else {
        return Check::unknown(NAME, "the engine does not tell its time");
    };
    if ahead.abs() <= SKEW_MAX + uncertain {
        return Check::ok(NAME, "the engine's agrees with ours");
    }
    let words = format!(
        "the engine's is {:.1} s {} ours",
        ahead.abs(),
        if ahead > 0.0 { "ahead of" } else { "behind" }
    );
    Check::warning(
        NAME,
        words,
        "ages and --since are off by as much: synchronise the clocks of both hosts (timedatectl set-ntp true)",
    )
}

fn live_restore(info: &Info) -> Check {
    const NAME: &str = "live restore";
    if info.live_restore_enabled {
        return Check::ok(NAME, "on: containers go on while dockerd restarts");
    }
    Check::ok(NAME, "off: containers stop when dockerd restarts").advise("\"live-restore\": true in the engine's daemon.json keeps them running; systemctl reload docker suffices")
}
