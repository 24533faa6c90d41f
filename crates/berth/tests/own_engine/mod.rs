//! An engine that belongs to one test: how it is started, put out of action, and removed with all that it made.
//!
//! It shares nothing with the host's engine but the kernel: its files are in a directory of its own, it has a bridge of its own, which is
//! made for it, and it makes no rule of a packet filter. Its containers have the host's network.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use berth_docker::model::{ContainerConfig, CreateContainer, HostConfig};
use berth_docker::{Body, ConnectOptions, Docker, Endpoint};
use rustix::process::{Pid, Signal};

/// For anything that has to happen, on a busy machine; a test that gets here has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// How long a paused engine stands still: longer than the deadline of [`Engine::client`].
pub(crate) const PAUSE: Duration = Duration::from_secs(3);

/// The deadline of short calls.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

pub(crate) const IMAGE: &str = "berth.local/demo:1";

/// Between two looks at a condition.
const STEP: Duration = Duration::from_millis(50);

/// Runs a scenario on an engine of its own, or says why not.
pub(crate) fn with(scenario: impl AsyncFnOnce(&mut Engine)) {
    let Some(main) = main_engine() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut engine = Engine::new();
    let directory = engine.directory.path().to_owned();
    let bridge = engine.bridge.name.clone();
    runtime.block_on(async {
        engine.start().await;
        let image = image(&main).await;
        engine
            .patient_client()
            .load_images(Body::Bytes(image.into()))
            .await
            .expect("the image can be loaded");
        scenario(&mut engine).await;
    });
    drop(engine);
    assert_eq!(
        (
            processes(&directory),
            mounts(&directory),
            directory.exists(),
            Path::new("/sys/class/net").join(bridge).exists()
        ),
        (vec![], vec![], false, false),
        "something was left behind"
    );
}

/// The engine that has the image.
fn main_engine() -> Option<String> {
    let skip = |why: &str| {
        eprintln!("skipped: {why}");
        None
    };
    let in_ci = std::env::var_os("CI").is_some();
    let Ok(main) = std::env::var("BERTH_TEST_ENGINE") else {
        assert!(!in_ci, "BERTH_TEST_ENGINE is not set; dev/test sets it");
        return skip("BERTH_TEST_ENGINE names no engine");
    };
    if !rustix::process::geteuid().is_root() {
        return skip("only root can start an engine of its own");
    }
    if Command::new("dockerd")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        assert!(!in_ci, "there is no dockerd on the PATH");
        return skip("there is no dockerd on the PATH");
    }
    Some(main)
}

/// The image, as an archive.
async fn image(main: &str) -> Vec<u8> {
    static IMAGE_FILE: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(bytes) = IMAGE_FILE.get() {
        return bytes.clone();
    }
    let mut pieces = client(main, LIMIT)
        .save_images(&[IMAGE])
        .await
        .expect("the engine of BERTH_TEST_ENGINE has the image; see dev/sample-image");
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    IMAGE_FILE.get_or_init(|| bytes).clone()
}

pub(crate) fn client(endpoint: &str, deadline: Duration) -> Docker {
    Docker::builder(ConnectOptions::new(
        Endpoint::parse(endpoint, false).unwrap(),
    ))
    .deadline(deadline)
    .build()
    .unwrap()
}

/// What has to happen within [`LIMIT`].
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

/// Looks until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(STEP).await;
        }
    })
    .await
}

/// What takes an engine away.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outage {
    /// It is killed, and with it its containerd. Its containers run on until it is back.
    Kill,
    /// It is asked to end, and ends its containers.
    Restart,
}

pub(crate) const OUTAGES: [Outage; 2] = [Outage::Kill, Outage::Restart];

pub(crate) struct Engine {
    pub(crate) endpoint: String,
    directory: tempfile::TempDir,
    dockerd: Option<Child>,
    bridge: Bridge,
    live_restore: bool,
}

/// A bridge for one engine. With none an engine deletes the interface `docker0`, be it another engine's.
struct Bridge {
    name: String,
}

impl Bridge {
    fn new() -> Self {
        static MADE: AtomicU8 = AtomicU8::new(1);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // At most 15 bytes. The addresses are those set aside for measurements (RFC 2544), which no host has.
        let bridge = Self {
            name: format!("outage{}-{number}", std::process::id() % 100_000),
        };
        ip(&["link", "add", "name", &bridge.name, "type", "bridge"]).unwrap();
        let address = format!("198.18.{number}.1/24");
        ip(&["address", "add", &address, "dev", &bridge.name]).unwrap();
        bridge
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Err(error) = ip(&["link", "delete", &self.name]) {
            eprintln!("{error}");
        }
    }
}

/// Runs iproute2's `ip`.
fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| format!("ip (package iproute2) cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("ip {}: {words}", arguments.join(" ")))
}

impl Engine {
    fn new() -> Self {
        // A socket's path has at most 107 bytes, and containerd's is deep.
        let directory = tempfile::Builder::new()
            .prefix("outage-")
            .tempdir_in("/tmp")
            .unwrap();
        Self {
            endpoint: format!("unix://{}/sock", directory.path().display()),
            directory,
            dockerd: None,
            bridge: Bridge::new(),
            live_restore: false,
        }
    }

    /// A client with a short deadline.
    pub(crate) fn client(&self) -> Docker {
        client(&self.endpoint, SHORT)
    }

    /// A client that bears a busy machine.
    pub(crate) fn patient_client(&self) -> Docker {
        client(&self.endpoint, LIMIT)
    }

    /// Starts the engine and waits until it answers.
    pub(crate) async fn start(&mut self) {
        assert!(self.dockerd.is_none(), "it runs already");
        let path = |name: &str| self.directory.path().join(name);
        // Not the host's configuration.
        fs::write(path("config"), "{}").unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(path("log"))
            .unwrap();
        let child = Command::new("dockerd")
            .arg("--config-file")
            .arg(path("config"))
            .args(["--host", &self.endpoint])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("x"))
            .arg("--pidfile")
            .arg(path("pid"))
            .args(["--bridge", &self.bridge.name])
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
            ])
            .args(self.live_restore.then_some("--live-restore"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.dockerd = Some(child);
        let docker = self.patient_client();
        until("dockerd answers", async || {
            let ended = self.dockerd.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "dockerd ended: {ended:?}");
            docker.ping().await.ok()
        })
        .await;
    }

    /// Ends the engine, as the outage does.
    pub(crate) async fn end(&mut self, outage: Outage) {
        let mut dockerd = self.dockerd.take().expect("it runs");
        signal(
            dockerd.id(),
            if matches!(outage, Outage::Kill) {
                Signal::KILL
            } else {
                Signal::TERM
            },
        );
        // Put back when it does not end, so that it is cleaned up.
        let begun = Instant::now();
        while dockerd.try_wait().unwrap().is_none() {
            if begun.elapsed() > LIMIT {
                self.dockerd = Some(dockerd);
                panic!("dockerd does not end");
            }
            tokio::time::sleep(STEP).await;
        }
        if matches!(outage, Outage::Kill) {
            // Its containerd dies with it. Where nobody reaps orphans, the next dockerd would take that for a living one by this file.
            let file = self.directory.path().join("x/containerd/containerd.pid");
            let pid: u32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
            until("containerd is dead", async || is_dead(pid).then_some(())).await;
            fs::remove_file(file).unwrap();
        }
    }

    /// From now on its containers run on while it is away, whatever takes it away.
    pub(crate) async fn keep_containers(&mut self) {
        self.end(Outage::Restart).await;
        self.live_restore = true;
        self.start().await;
    }

    /// The process of dockerd.
    pub(crate) fn process(&self) -> u32 {
        self.dockerd.as_ref().expect("it runs").id()
    }

    /// What the host still has of containers of these IDs, and of networks and processes of any.
    pub(crate) fn left_of(&self, ids: &BTreeSet<String>) -> Vec<String> {
        let directory = self.directory.path();
        let shims = processes(directory)
            .into_iter()
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.starts_with("containerd-shim"))
            })
            .map(|pid| format!("shim {pid}"));
        // The empty files that they are mounted on are removed once a minute. The host's own stays.
        let networks = mounts(&directory.join("x/netns"))
            .into_iter()
            .filter(|path| !path.ends_with("default"))
            .map(|path| format!("network {}", path.display()));
        let cgroups = cgroups(Path::new("/sys/fs/cgroup"), ids);
        shims.chain(networks).chain(cgroups).collect()
    }

    pub(crate) async fn outage(&mut self, outage: Outage) {
        self.end(outage).await;
        self.start().await;
    }

    /// Lets the engine stand still for a while; `meanwhile` is done once it does.
    pub(crate) async fn pause(&self, meanwhile: impl Future<Output = ()>) {
        let pid = self.process();
        signal(pid, Signal::STOP);
        tokio::join!(tokio::time::sleep(PAUSE), meanwhile);
        signal(pid, Signal::CONT);
    }

    /// Starts a container that runs a script, and gives its ID.
    pub(crate) async fn serve(&self, docker: &Docker, name: &str, script: &str) -> String {
        let id = docker
            .create_container(&shell(name, script))
            .await
            .unwrap()
            .id;
        docker.start_container(&id).await.unwrap();
        id
    }
}

/// A container that runs a script.
pub(crate) fn shell(name: &str, script: &str) -> CreateContainer {
    CreateContainer {
        name: Some(name.to_owned()),
        config: ContainerConfig {
            image: IMAGE.to_owned(),
            cmd: ["sh", "-c", script].map(str::to_owned).into(),
            ..ContainerConfig::default()
        },
        host_config: HostConfig {
            network_mode: "host".to_owned(),
            ..HostConfig::default()
        },
        ..CreateContainer::default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let directory = self.directory.path();
        if std::thread::panicking() {
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!(
                "the last lines of dockerd:\n{}",
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
        // Asked to end, it ends its containers.
        if let Some(dockerd) = &mut self.dockerd {
            signal(dockerd.id(), Signal::CONT);
            signal(dockerd.id(), Signal::TERM);
            if waited(|| {
                dockerd
                    .try_wait()
                    .is_ok_and(|status: Option<ExitStatus>| status.is_some())
            })
            .is_err()
            {
                signal(dockerd.id(), Signal::KILL);
                let _ = dockerd.wait();
            }
        }
        // What is left when it was dead already: shims, and the containers below them.
        let gone = waited(|| {
            let left = processes(directory);
            for pid in &left {
                children(*pid)
                    .into_iter()
                    .for_each(|child| signal(child, Signal::KILL));
            }
            left.is_empty()
        });
        if gone.is_err() {
            processes(directory)
                .into_iter()
                .for_each(|pid| signal(pid, Signal::KILL));
        }
        for mount in mounts(directory).iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
    }
}

/// Waits for a while until something is so.
fn waited(mut is_so: impl FnMut() -> bool) -> Result<(), ()> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > LIMIT / 2 {
            return Err(());
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// The processes that were started with a path below the directory: dockerd, containerd, shims.
fn processes(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().unwrap();
    pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(directory))
        })
        .collect()
}

/// The cgroups below a directory that are named after one of these.
fn cgroups(directory: &Path, ids: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return found;
    };
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if ids.iter().any(|id| name.contains(id.as_str())) {
            found.push(format!("cgroup {}", path.display()));
        }
        found.extend(cgroups(&path, ids));
    }
    found
}

fn children(parent: u32) -> Vec<u32> {
    pids()
        .filter(|pid| state_and_parent(*pid).is_some_and(|(_, found)| found == parent))
        .collect()
}

/// Whether the process has ended, reaped or not.
fn is_dead(pid: u32) -> bool {
    state_and_parent(pid).is_none_or(|(state, _)| state == "Z")
}

fn state_and_parent(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state parent …; the name may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The mounts below the directory, the outer ones first.
fn mounts(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(directory))
        .collect()
}
