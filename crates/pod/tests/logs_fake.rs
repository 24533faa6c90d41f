//! Log files of containers of the fake engine, which keeps no files: their lines come over the API.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_docker::api::WaitCondition;
use berth_docker::model::{ContainerConfig, CreateContainer};
use berth_docker::{ConnectOptions, Docker};
use berth_fake_engine::{FakeEngine, Loss, Script, Step};
use berth_pod::logs::{ContainerLog, Following, Logs};
use berth_pod::spec::ContainerId;

struct Host {
    dir: tempfile::TempDir,
    engine: FakeEngine,
    docker: Docker,
    log: ContainerLog,
}

impl Host {
    /// An engine with a container that runs `steps`.
    async fn new(steps: Vec<Step>) -> Self {
        let engine = FakeEngine::builder()
            .image("app:1")
            .script(Script::for_image("app:1", steps))
            .build()
            .unwrap();
        let connect = engine.clone();
        let options = ConnectOptions::new("fake://".parse().unwrap());
        let docker = Docker::builder(options)
            .dialer(move || Ok(connect.connect()))
            .build()
            .unwrap();
        let create = CreateContainer {
            config: ContainerConfig {
                image: "app:1".to_owned(),
                ..Default::default()
            },
            ..Default::default()
        };
        let id = docker.create_container(&create).await.unwrap().id;
        let dir = tempfile::tempdir().unwrap();
        let log = ContainerLog {
            id: ContainerId::new(id),
            path: dir.path().join("pod/0.log"),
            tty: false,
            driver: "local".to_owned(),
        };
        Self {
            dir,
            engine,
            docker,
            log,
        }
    }

    fn logs(&self, data_root: Option<PathBuf>) -> Logs {
        Logs::new(
            self.docker.clone(),
            self.dir.path().join("state"),
            data_root,
        )
        .unwrap()
    }

    fn texts(&self) -> Vec<String> {
        let written = fs::read_to_string(&self.log.path).unwrap();
        let texts = written
            .lines()
            .map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" "));
        texts.collect()
    }

    async fn wait_for(&self, lines: usize) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.texts().len() < lines {
            assert!(Instant::now() < until, "{:?} after 30 s", self.texts());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ended(&self) {
        let wait = self
            .docker
            .wait_container(self.log.id.as_str(), WaitCondition::NotRunning);
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .unwrap()
            .unwrap();
    }
}

fn lines(range: std::ops::Range<usize>) -> Vec<Step> {
    let print = |number| {
        [
            Step::Print(format!("line {number}\n")),
            Step::Sleep(Duration::from_millis(20)),
        ]
    };
    range.flat_map(print).collect()
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_when_the_engine_was_restarted_and_reopens() {
    let host = Host::new(lines(0..50)).await;
    let logs = host.logs(None);
    assert_eq!(logs.attach(&host.log).await.unwrap(), Following::Stream);
    assert!(host.texts().is_empty());
    host.docker
        .start_container(host.log.id.as_str())
        .await
        .unwrap();
    logs.started(&host.log.id).await;
    host.wait_for(5).await;
    host.engine.restart(Loss::KeepContainers);
    host.wait_for(20).await;
    let rotated = host.log.path.with_extension("log.1");
    fs::rename(&host.log.path, &rotated).unwrap();
    logs.reopen(&host.log.id).await.unwrap();
    host.ended().await;
    logs.finish(&host.log.id).await.unwrap();
    let after = host.texts();
    fs::copy(rotated, &host.log.path).unwrap();
    let all = [host.texts(), after].concat();
    assert_eq!(all, expected(50));
}

#[tokio::test]
async fn a_container_that_died_before_its_log_was_attached_gives_all_of_it() {
    let host = Host::new(lines(0..3)).await;
    host.docker
        .start_container(host.log.id.as_str())
        .await
        .unwrap();
    host.ended().await;
    for _ in 0..2 {
        let logs = host.logs(None);
        logs.attach(&host.log).await.unwrap();
        logs.finish(&host.log.id).await.unwrap();
        assert_eq!(host.texts(), expected(3));
        logs.shutdown().await;
    }
}

#[tokio::test]
async fn files_of_a_form_that_is_not_known_are_left_for_the_stream() {
    let host = Host::new(lines(0..3)).await;
    let root = host.dir.path().join("docker");
    let dir = root
        .join("containers")
        .join(host.log.id.as_str())
        .join("local-logs");
    fs::create_dir_all(&dir).unwrap();
    let logs = host.logs(Some(root));
    assert_eq!(logs.attach(&host.log).await.unwrap(), Following::Files);
    host.docker
        .start_container(host.log.id.as_str())
        .await
        .unwrap();
    fs::write(dir.join("container.log"), "#2 a later engine's\n").unwrap();
    host.wait_for(1).await;
    host.ended().await;
    logs.finish(&host.log.id).await.unwrap();
    assert_eq!(host.texts(), expected(3));
}
