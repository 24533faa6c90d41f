//! Log files of containers on a real engine: `BERTH_TEST_ENGINE` names it, and it has the image `berth.local/demo:1`.
//!
//! Most need to see the engine's files, so they run as root on the engine's host.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use berth_docker::api::{RemoveContainer, WaitCondition};
use berth_docker::model::{ContainerConfig, CreateContainer, HostConfig, LogConfig};
use berth_docker::{ConnectOptions, Docker};
use berth_pod::logs::{self, ContainerLog, Error, Following, Logs};
use berth_pod::spec::ContainerId;

const IMAGE: &str = "berth.local/demo:1";
/// What the process that is killed is told, as `name=value` words.
const WRITER: &str = "BERTH_TEST_LOG_WRITER";

fn docker_at(endpoint: &str) -> Docker {
    let options = ConnectOptions::new(endpoint.parse().expect("BERTH_TEST_ENGINE is an endpoint"));
    Docker::builder(options).build().unwrap()
}

fn endpoint() -> Option<String> {
    let endpoint = env::var("BERTH_TEST_ENGINE").ok();
    if endpoint.is_none() {
        assert!(
            env::var_os("CI").is_none(),
            "BERTH_TEST_ENGINE must be set in CI"
        );
        eprintln!("skipped: BERTH_TEST_ENGINE names no engine");
    }
    endpoint
}

/// The engine's directory, if its files can be seen from here.
async fn data_root(docker: &Docker) -> Option<PathBuf> {
    let root = PathBuf::from(docker.info().await.unwrap().docker_root_dir);
    if fs::read_dir(root.join("containers")).is_ok() {
        return Some(root);
    }
    eprintln!("skipped: only root on the engine's host sees the engine's log files");
    None
}

/// A container that is removed with this, also when the test fails.
struct Container {
    docker: Docker,
    endpoint: String,
    id: ContainerId,
    dir: tempfile::TempDir,
    tty: bool,
    driver: String,
}

impl Container {
    async fn create(endpoint: &str, script: &str, tty: bool, log: LogConfig) -> Self {
        let docker = docker_at(endpoint);
        let driver = log.kind.clone();
        let create = CreateContainer {
            config: ContainerConfig {
                image: IMAGE.to_owned(),
                cmd: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
                tty,
                ..Default::default()
            },
            host_config: HostConfig {
                log_config: Some(log),
                network_mode: "none".to_owned(),
                ..Default::default()
            },
            ..Default::default()
        };
        let id = docker.create_container(&create).await.unwrap().id;
        Self {
            docker,
            endpoint: endpoint.to_owned(),
            id: ContainerId::new(id),
            dir: tempfile::tempdir().unwrap(),
            tty,
            driver,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("pod/0.log")
    }

    fn log(&self) -> ContainerLog {
        ContainerLog {
            id: self.id.clone(),
            path: self.path(),
            tty: self.tty,
            driver: self.driver.clone(),
        }
    }

    /// The writer of its log. One that was dropped may hold its directory a moment longer.
    async fn logs(&self, data_root: Option<PathBuf>) -> Logs {
        let state = self.dir.path().join("state");
        for _ in 0..1000 {
            match Logs::new(self.docker.clone(), state.clone(), data_root.clone()) {
                Err(Error::Locked(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                logs => return logs.unwrap(),
            }
        }
        panic!("the state directory is held for ten seconds");
    }

    async fn start(&self) {
        self.docker.start_container(self.id.as_str()).await.unwrap();
    }

    async fn ended(&self) {
        let wait = self
            .docker
            .wait_container(self.id.as_str(), WaitCondition::NotRunning);
        let limit = Duration::from_secs(120);
        tokio::time::timeout(limit, wait)
            .await
            .expect("it ends in time")
            .unwrap();
    }

    async fn is_running(&self) -> bool {
        let container = self
            .docker
            .inspect_container(self.id.as_str())
            .await
            .unwrap();
        container.state.running
    }

    /// All of the log: the rotated files in the order of their names, and the current one.
    fn written(&self) -> Vec<u8> {
        let entries = fs::read_dir(self.dir.path().join("pod")).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort_by_key(|file| (file == &self.path(), file.clone()));
        files
            .iter()
            .flat_map(|file| fs::read(file).unwrap())
            .collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let remove = RemoveContainer {
            force: true,
            volumes: true,
            link: false,
        };
        let (endpoint, id) = (self.endpoint.clone(), self.id.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let removed =
                runtime.block_on(docker_at(&endpoint).remove_container(id.as_str(), remove));
            if let Err(error) = removed {
                eprintln!("left behind: {id}: {error}");
            }
        });
        thread.join().unwrap();
    }
}

/// Lines as `(stream, tag, text)`.
fn lines(written: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    assert!(written.is_empty() || written.ends_with(b"\n"));
    let mut lines = Vec::new();
    for line in written.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        let parts: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
        let time = text(parts[0]);
        assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
        lines.push((text(parts[1]), text(parts[2]), parts[3].to_vec()));
    }
    lines
}

/// Each stream has to have the numbers from 0 on, once and in order.
fn check_numbers(written: &[u8], per_stream: usize) {
    let mut next = BTreeMap::from([("stdout".to_owned(), 0_usize), ("stderr".to_owned(), 0)]);
    for (stream, tag, text) in lines(written) {
        assert_eq!(tag, "F");
        let expected = next.get_mut(&stream).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            format!("{stream} line {expected}"),
            "the line after {expected} lines"
        );
        *expected += 1;
    }
    assert!(next.values().all(|count| *count == per_stream), "{next:?}");
}

/// Writes lines with numbers to both streams, in `chunks` with pauses of 10 ms between them.
fn numbers(chunks: usize, lines: usize) -> String {
    format!(
        r#"i=0; while [ $i -lt {chunks} ]; do
            awk -v i=$i 'BEGIN {{ for (n = i * {lines}; n < (i + 1) * {lines}; n++) {{
                print "stdout line " n; print "stderr line " n > "/dev/stderr" }} }}'
            usleep 10000; i=$((i + 1)); done"#
    )
}

/// Numbers that differ from run to run; a failure says which they were.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let seed = u64::from(now.subsec_nanos()) | 1;
        eprintln!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn small(size: &str) -> LogConfig {
    let mut log = logs::driver();
    log.config = log
        .config
        .iter()
        .map(|(key, value)| (key, if key == "max-size" { size } else { value }))
        .collect();
    log
}

#[tokio::test]
async fn bytes_long_lines_and_missing_newlines_come_as_they_were_written() {
    let Some(endpoint) = endpoint() else { return };
    let script = r"printf '\377\000x\n'; sleep 0.2
        head -c 40000 /dev/zero | tr '\0' a; printf 'b\n'; sleep 0.2
        printf '\n'; head -c 16384 /dev/zero | tr '\0' c; printf '\n'; sleep 0.2
        printf 'err\r\n' >&2; sleep 0.2; printf 'no newline'";
    let container = Container::create(&endpoint, script, false, logs::driver()).await;
    let Some(root) = data_root(&container.docker).await else {
        return;
    };
    let logs = container.logs(Some(root)).await;
    assert_eq!(
        logs.attach(&container.log()).await.unwrap(),
        Following::Files
    );
    assert_eq!(fs::read(container.path()).unwrap(), b"");
    container.start().await;
    logs.started(&container.id).await;
    container.ended().await;
    logs.finish(&container.id).await.unwrap();
    let expected: [(&str, &str, &[u8]); 9] = [
        ("stdout", "F", b"\xff\0x"),
        ("stdout", "P", &[b'a'; 16384]),
        ("stdout", "P", &[b'a'; 16384]),
        (
            "stdout",
            "F",
            &[[b'a'; 40000 - 2 * 16384].as_slice(), b"b"].concat(),
        ),
        ("stdout", "F", b""),
        ("stdout", "P", &[b'c'; 16384]),
        ("stdout", "F", b""),
        ("stderr", "F", b"err\r"),
        ("stdout", "P", b"no newline"),
    ];
    let expected =
        expected.map(|(stream, tag, text)| (stream.to_owned(), tag.to_owned(), text.to_vec()));
    assert_eq!(lines(&container.written()), expected);
    // Finished twice is finished; a log that has ended is not reopened, and no file is made.
    logs.finish(&container.id).await.unwrap();
    fs::remove_file(container.path()).unwrap();
    let reopened = logs.reopen(&container.id).await;
    assert!(
        matches!(reopened, Err(Error::NotAttached(_))),
        "{reopened:?}"
    );
    assert!(!container.path().exists());
    assert!(
        container
            .dir
            .path()
            .join("state")
            .join(container.id.as_str())
            .exists()
    );
    logs.remove(&container.id).await.unwrap();
    assert!(
        !container
            .dir
            .path()
            .join("state")
            .join(container.id.as_str())
            .exists()
    );
}

#[tokio::test]
async fn a_terminal_is_one_stream_and_the_engine_still_gives_its_log() {
    let Some(endpoint) = endpoint() else { return };
    let container = Container::create(
        &endpoint,
        "echo out; sleep 0.2; echo err >&2",
        true,
        logs::driver(),
    )
    .await;
    let Some(root) = data_root(&container.docker).await else {
        return;
    };
    let logs = container.logs(Some(root)).await;
    logs.attach(&container.log()).await.unwrap();
    container.start().await;
    container.ended().await;
    logs.finish(&container.id).await.unwrap();
    let line = |text: &[u8]| ("stdout".to_owned(), "F".to_owned(), text.to_vec());
    assert_eq!(
        lines(&container.written()),
        [line(b"out\r"), line(b"err\r")]
    );
    let mut frames = container
        .docker
        .logs(container.id.as_str(), &Default::default())
        .await
        .unwrap();
    let mut text = Vec::new();
    while let Some(frame) = frames.next().await {
        text.extend_from_slice(&frame.unwrap().bytes);
    }
    assert_eq!(text, b"out\r\nerr\r\n");
}

#[tokio::test]
async fn a_line_is_in_the_file_soon_after_it_was_written() {
    let Some(endpoint) = endpoint() else { return };
    let script = "while true; do echo x; sleep 0.1; done";
    let container = Container::create(&endpoint, script, false, logs::driver()).await;
    let Some(root) = data_root(&container.docker).await else {
        return;
    };
    let logs = container.logs(Some(root)).await;
    logs.attach(&container.log()).await.unwrap();
    container.start().await;
    let until = Instant::now() + Duration::from_secs(20);
    let mut best = Duration::MAX;
    let mut seen = 0;
    while seen < 10 {
        assert!(Instant::now() < until, "{seen} lines in 20 s");
        let written = fs::read(container.path()).unwrap();
        let count = lines(&written).len();
        if count > seen {
            seen = count;
            let modified = fs::metadata(container.path()).unwrap().modified().unwrap();
            let last = written.split(|byte| *byte == b'\n').rev().nth(1).unwrap();
            let time = std::str::from_utf8(&last[..30]).unwrap();
            let time = SystemTime::from(berth_docker::model::Timestamp::parse(time).unwrap());
            best = best.min(modified.duration_since(time).unwrap_or_default());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eprintln!("the quickest line took {best:?}");
    assert!(
        best < Duration::from_millis(500),
        "the quickest line took {best:?}"
    );
}

#[tokio::test]
async fn a_writer_that_is_dropped_and_made_again_loses_and_doubles_no_line() {
    let Some(endpoint) = endpoint() else { return };
    let script = numbers(200, 250);
    let container = Container::create(&endpoint, &script, false, small("400k")).await;
    let Some(root) = data_root(&container.docker).await else {
        return;
    };
    let mut random = Random::new();
    let mut logs = container.logs(Some(root.clone())).await;
    logs.attach(&container.log()).await.unwrap();
    container.start().await;
    let mut rounds = 0;
    while container.is_running().await {
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        if rounds % 3 == 0 {
            fs::rename(
                container.path(),
                container.path().with_extension(format!("log.{rounds:04}")),
            )
            .unwrap();
            logs.reopen(&container.id).await.unwrap();
        }
        drop(logs);
        logs = container.logs(Some(root.clone())).await;
        logs.attach(&container.log()).await.unwrap();
        rounds += 1;
    }
    logs.finish(&container.id).await.unwrap();
    check_numbers(&container.written(), 50_000);
    eprintln!("{rounds} rounds");
    assert!(rounds >= 20, "{rounds} rounds");
}

/// The process that writes a log, and is killed.
struct Writer {
    child: Child,
}

impl Writer {
    fn start(container: &Container, root: &Path, finish: bool) -> Self {
        let words = [
            container.endpoint.as_str(),
            container.id.as_str(),
            container.dir.path().to_str().unwrap(),
            root.to_str().unwrap(),
            if finish { "finish" } else { "follow" },
        ];
        let child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "the_process_that_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(WRITER, words.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    fn reopen(&mut self) {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"reopen\n")
            .unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Of one that has ended there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "no test by itself: the process that others start and kill"]
async fn the_process_that_is_killed() {
    let Ok(words) = env::var(WRITER) else { return };
    let words: Vec<&str> = words.split(' ').collect();
    let [endpoint, id, dir, root, what] = words[..] else {
        panic!("{words:?}")
    };
    let dir = PathBuf::from(dir);
    let logs = Logs::new(docker_at(endpoint), dir.join("state"), Some(root.into())).unwrap();
    let log = ContainerLog {
        id: ContainerId::new(id),
        path: dir.join("pod/0.log"),
        tty: false,
        driver: "local".to_owned(),
    };
    assert_eq!(logs.attach(&log).await.unwrap(), Following::Files);
    println!("\nready");
    if what == "finish" {
        logs.finish(&log.id).await.unwrap();
        println!("\nfinished");
        return;
    }
    let (sender, mut asked) = tokio::sync::mpsc::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            assert_eq!(line.unwrap(), "reopen");
            sender.blocking_send(()).unwrap();
        }
    });
    while asked.recv().await.is_some() {
        logs.reopen(&log.id).await.unwrap();
        println!("\nreopened");
    }
}

#[tokio::test]
async fn a_process_that_is_killed_at_any_point_loses_and_doubles_no_line() {
    let Some(endpoint) = endpoint() else { return };
    let script = numbers(500, 100);
    let container = Container::create(&endpoint, &script, false, small("600k")).await;
    let Some(root) = data_root(&container.docker).await else {
        return;
    };
    let mut random = Random::new();
    let mut writer = Writer::start(&container, &root, false);
    container.start().await;
    let (mut kills, mut rotations) = (0, 0);
    while container.is_running().await {
        tokio::time::sleep(Duration::from_millis(30 + random.below(170))).await;
        // As the kubelet: rename, ask, and rename back when the answer does not come.
        let rotated = container
            .path()
            .with_extension(format!("log.{rotations:04}"));
        let renamed = random.below(3) == 0 && fs::rename(container.path(), &rotated).is_ok();
        if renamed {
            rotations += 1;
            writer.reopen();
            if random.below(2) == 0 {
                tokio::time::sleep(Duration::from_micros(random.below(3000))).await;
            }
        }
        writer.kill();
        kills += 1;
        if renamed && !container.path().exists() && random.below(2) == 0 {
            fs::rename(&rotated, container.path()).unwrap();
        }
        writer = Writer::start(&container, &root, false);
        if !container.path().exists() && renamed {
            // The kubelet's next round finds no file, and asks again.
            writer.reopen();
            let limit = Instant::now() + Duration::from_secs(20);
            while !container.path().exists() {
                assert!(Instant::now() < limit, "no new file in 20 s");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    writer.kill();
    let mut last = Writer::start(&container, &root, true);
    let output = BufReader::new(last.child.stdout.take().unwrap()).lines();
    let output: Vec<String> = output.map(Result::unwrap).collect();
    assert!(output.iter().any(|line| line == "finished"), "{output:?}");
    eprintln!("{kills} kills, {rotations} rotations");
    check_numbers(&container.written(), 50_000);
    assert!(kills >= 20, "{kills} kills");
}

#[tokio::test]
async fn what_was_written_while_nobody_looked_is_caught_up_with() {
    let Some(endpoint) = endpoint() else { return };
    let script = numbers(20, 500);
    let container = Container::create(&endpoint, &script, false, small("500k")).await;
    let Some(root) = data_root(&container.docker).await else {
        return;
    };
    // Started by a berth that was killed before it could attach.
    container.start().await;
    container.ended().await;
    let logs = container.logs(Some(root)).await;
    logs.attach(&container.log()).await.unwrap();
    logs.finish(&container.id).await.unwrap();
    check_numbers(&container.written(), 10_000);
}

#[tokio::test]
async fn a_log_whose_files_cannot_be_seen_comes_over_the_api_and_is_resumed() {
    let Some(endpoint) = endpoint() else { return };
    for driver in ["json-file", "local"] {
        let script = numbers(100, 50);
        let log = LogConfig {
            kind: driver.to_owned(),
            ..Default::default()
        };
        let container = Container::create(&endpoint, &script, false, log).await;
        let mut logs = container.logs(None).await;
        assert_eq!(
            logs.attach(&container.log()).await.unwrap(),
            Following::Stream
        );
        assert_eq!(fs::read(container.path()).unwrap(), b"");
        container.start().await;
        logs.started(&container.id).await;
        let mut rounds = 0;
        while container.is_running().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if rounds % 3 == 0 {
                fs::rename(
                    container.path(),
                    container.path().with_extension(format!("log.{rounds:04}")),
                )
                .unwrap();
                logs.reopen(&container.id).await.unwrap();
            }
            drop(logs);
            logs = container.logs(None).await;
            logs.attach(&container.log()).await.unwrap();
            logs.started(&container.id).await;
            rounds += 1;
        }
        logs.finish(&container.id).await.unwrap();
        check_numbers(&container.written(), 5_000);
        eprintln!("{driver}: {rounds} rounds");
    }
}

#[tokio::test]
async fn links_of_others_and_containers_without_a_log_are_left_alone() {
    let Some(endpoint) = endpoint() else { return };
    let container = Container::create(&endpoint, "true", false, logs::driver()).await;
    let logs = container.logs(None).await;
    fs::create_dir_all(container.path().parent().unwrap()).unwrap();
    let target = container.dir.path().join("docker's");
    std::os::unix::fs::symlink(&target, container.path()).unwrap();
    let mut log = container.log();
    assert_eq!(logs.attach(&log).await.unwrap(), Following::Nothing);
    assert!(!target.exists());
    log.driver = "none".to_owned();
    assert_eq!(logs.attach(&log).await.unwrap(), Following::Nothing);
    logs.finish(&container.id).await.unwrap();
    log.path = "relative".into();
    assert!(matches!(logs.attach(&log).await, Err(Error::Invalid(_))));
    log.id = ContainerId::new("../../etc");
    assert!(matches!(logs.attach(&log).await, Err(Error::Invalid(_))));
    // Another berth on this host would double every line.
    let second = Logs::new(
        container.docker.clone(),
        container.dir.path().join("state"),
        None,
    );
    assert!(matches!(second, Err(Error::Locked(_))));
    logs.shutdown().await;
}

/// Seconds of CPU that a process has used.
fn cpu(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<f64>().unwrap())
        .sum();
    ticks / 100.0
}

/// `cargo test --release -p berth-pod --test real_logs -- --ignored --nocapture measure`
#[tokio::test]
#[ignore = "a measurement"]
async fn measure_a_hundred_megabytes() {
    let Some(endpoint) = endpoint() else { return };
    let script = r#"awk 'BEGIN { for (n = 0; n < 1000000; n++) printf "%099d\n", n }'"#;
    for how in ["nobody", "berth", "docker logs -f", "nobody", "berth"] {
        let container = Container::create(&endpoint, script, false, logs::driver()).await;
        let Some(root) = data_root(&container.docker).await else {
            return;
        };
        let engine = container
            .docker
            .listener_process_id()
            .await
            .unwrap()
            .to_string();
        let logs = container.logs(Some(root.clone())).await;
        let (own, engines, began) = (cpu("self"), cpu(&engine), Instant::now());
        if how == "berth" {
            logs.attach(&container.log()).await.unwrap();
        }
        container.start().await;
        let mut follower = (how == "docker logs -f").then(|| {
            let file = fs::File::create(container.dir.path().join("follow")).unwrap();
            let follow = [
                "--host",
                endpoint.as_str(),
                "logs",
                "--timestamps",
                "--follow",
                container.id.as_str(),
            ];
            Command::new("docker")
                .args(follow)
                .stdout(file)
                .spawn()
                .unwrap()
        });
        container.ended().await;
        let wrote = began.elapsed();
        let mut clients = 0.0;
        if let Some(follower) = &mut follower {
            let pid = follower.id().to_string();
            let path = container.dir.path().join("follow");
            while follower.try_wait().unwrap().is_none() {
                clients = cpu(&pid);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let followed = fs::read(path).unwrap();
            let lines = followed.iter().filter(|byte| **byte == b'\n').count();
            eprintln!("docker logs -f gave {lines} lines");
        }
        logs.finish(&container.id).await.unwrap();
        let all = began.elapsed();
        eprintln!(
            "{how}: container {wrote:.2?}, all {all:.2?}; CPU: engine {:.2} s, berth {:.2} s, docker {clients:.2} s",
            cpu(&engine) - engines,
            cpu("self") - own,
        );
        if how == "berth" {
            assert_eq!(lines(&container.written()).len(), 1_000_000);
        }
        if how == "nobody" {
            let (own, began) = (cpu("self"), Instant::now());
            logs.attach(&container.log()).await.unwrap();
            logs.finish(&container.id).await.unwrap();
            eprintln!(
                "catching up: {:.2?}, CPU {:.2} s",
                began.elapsed(),
                cpu("self") - own
            );
            fs::remove_dir_all(container.dir.path().join("pod")).unwrap();
            fs::remove_file(
                container
                    .dir
                    .path()
                    .join("state")
                    .join(container.id.as_str()),
            )
            .unwrap();
            logs.shutdown().await;
            let logs = container.logs(None).await;
            let (own, engines, began) = (cpu("self"), cpu(&engine), Instant::now());
            logs.attach(&container.log()).await.unwrap();
            logs.finish(&container.id).await.unwrap();
            eprintln!(
                "catching up over the API: {:.2?}, CPU: engine {:.2} s, berth {:.2} s",
                began.elapsed(),
                cpu(&engine) - engines,
                cpu("self") - own
            );
        }
    }
}

/// `cargo test --release -p berth-pod --test real_logs -- --ignored --nocapture measure`
#[tokio::test]
#[ignore = "a measurement"]
async fn measure_a_thousand_silent_containers() {
    let Some(endpoint) = endpoint() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (root, pods) = (dir.path().join("docker"), dir.path().join("pods"));
    let logs = Logs::new(
        docker_at(&endpoint),
        dir.path().join("state"),
        Some(root.clone()),
    )
    .unwrap();
    let memory = || -> u64 {
        let status = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("Pss:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    // What the first one costs is no cost of the others.
    let mut before = (0, 0);
    for number in 0..=1000 {
        let engine = root.join(format!("containers/{number}/local-logs"));
        fs::create_dir_all(&engine).unwrap();
        fs::write(engine.join("container.log"), "").unwrap();
        let log = ContainerLog {
            id: ContainerId::new(number.to_string()),
            path: pods.join(format!("{number}/0.log")),
            tty: false,
            driver: "local".to_owned(),
        };
        logs.attach(&log).await.unwrap();
        if number == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            before = (memory(), descriptors());
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let switches = || -> u64 {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        tasks
            .map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap())
            .flat_map(|status| {
                let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
                lines
                    .map(|line| {
                        line.split_whitespace()
                            .nth(1)
                            .unwrap()
                            .parse::<u64>()
                            .unwrap()
                    })
                    .collect::<Vec<_>>()
            })
            .sum()
    };
    eprintln!(
        "1000 silent containers: {} KiB, {} descriptors",
        memory() - before.0,
        descriptors() - before.1
    );
    let (cpu_before, switches_before) = (cpu("self"), switches());
    tokio::time::sleep(Duration::from_secs(5)).await;
    eprintln!(
        "5 s of silence: CPU {:.2} s, {} switches",
        cpu("self") - cpu_before,
        switches() - switches_before
    );
}
