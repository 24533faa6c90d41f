//! An engine that is killed, restarted or stands still under berth, and containers that somebody else changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use berth_cri::v1::{ContainerState, PodSandboxState};
use berth_docker::Docker;
use berth_docker::api::{ListContainers, LogsOptions};
use berth_docker::model::ContainerStatus;
use rustix::process::Signal;
use tonic::Code;

use crate::churn::numbers;
use crate::engine::{Engine, Outage, signal};
use crate::kubelet::{COUNT, IDLE, Kubelet};
use crate::server::Server;

/// Within this everything is right again, once the engine answers.
const RECOVERY: Duration = Duration::from_secs(2);

/// A call for which the engine is not needed, or that fails since it is away, takes less.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long the engine stands still.
const STANDSTILL: Duration = Duration::from_secs(30);

/// Berth, its kubelet, and the engine below it.
struct House<'a> {
    server: Server,
    kubelet: Kubelet,
    docker: Docker,
    engine: &'a mut Engine,
}

impl House<'_> {
    /// A berth begins to serve.
    fn open<'a>(engine: &'a mut Engine, directory: &Path) -> House<'a> {
        let mut server = Server::new(&engine.endpoint, directory);
        server.start();
        House {
            kubelet: Kubelet::new(server.socket(), &directory.join("pods")),
            docker: engine.patient_client(),
            server,
            engine,
        }
    }

    /// What the engine has: by ID, and whether it runs.
    async fn truth(&self) -> BTreeMap<String, bool> {
        let all = ListContainers {
            all: true,
            ..Default::default()
        };
        let rows = self.docker.list_containers(&all).await.unwrap();
        rows.into_iter()
            .map(|row| {
                let runs = matches!(
                    row.state,
                    ContainerStatus::Running | ContainerStatus::Paused
                );
                (row.id, runs)
            })
            .collect()
    }

    /// What berth says that there is.
    async fn said(&self) -> Result<BTreeMap<String, bool>, String> {
        let words = |status: tonic::Status| format!("{status:?}");
        let sandboxes = self.kubelet.sandboxes().await.map_err(words)?;
        let containers = self.kubelet.containers().await.map_err(words)?;
        let sandboxes = sandboxes.iter().map(|one| {
            let ready = one.state() == PodSandboxState::SandboxReady;
            (one.id.clone(), ready)
        });
        let containers = containers.iter().map(|one| {
            let running = one.state() == ContainerState::ContainerRunning;
            (one.id.clone(), running)
        });
        Ok(sandboxes.chain(containers).collect())
    }

    /// Waits until berth says what the engine has, in the lists and in each status.
    async fn right_soon(&self, after: &str) {
        let begun = Instant::now();
        loop {
            let (truth, said) = (self.truth().await, self.said().await);
            let ready = self.kubelet.ready().await;
            if said.as_ref() == Ok(&truth) && ready.as_ref().is_ok_and(Result::is_ok) {
                break;
            }
            assert!(
                begun.elapsed() < RECOVERY,
                "{after}: the engine has {truth:#?}, berth says {said:#?}, {ready:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("right {:?} after: {after}", begun.elapsed());
        for one in self.kubelet.containers().await.unwrap() {
            let status = self.kubelet.status_of(&one.id).await.unwrap();
            assert_eq!(status.state(), one.state(), "{after}");
        }
        for one in self.kubelet.sandboxes().await.unwrap() {
            let status = self.kubelet.sandbox_status(&one.id).await.unwrap();
            assert_eq!(status.state(), one.state(), "{after}");
        }
    }

    /// Waits until the kubelet is told that pods cannot be run.
    async fn not_ready_soon(&self) -> String {
        let begun = Instant::now();
        loop {
            match self.kubelet.ready().await.unwrap() {
                Err(why) => return why,
                Ok(()) => assert!(begun.elapsed() < RECOVERY * 2, "still ready"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Each line that the engine has of the container is in its log, once and in order.
    async fn log_is_whole(&self, pod: &str, id: &str) -> usize {
        let options = LogsOptions {
            stdout: true,
            ..Default::default()
        };
        let mut frames = self.docker.logs(id, &options).await.unwrap();
        let mut kept = Vec::new();
        while let Some(frame) = frames.next().await {
            kept.extend_from_slice(&frame.unwrap().bytes);
        }
        let kept = String::from_utf8(kept).unwrap();
        let kept: Vec<u64> = kept.lines().map(|line| line.parse().unwrap()).collect();
        let log = fs::read_to_string(self.kubelet.log(pod, "app")).unwrap();
        let lines = numbers(&log);
        assert!(
            lines == kept,
            "{} lines for {}, the first that differs: {:?}",
            lines.len(),
            kept.len(),
            lines.iter().zip(&kept).find(|(one, other)| one != other)
        );
        kept.len()
    }

    /// Removes all pods; nothing is left.
    async fn close(self) {
        for one in self.kubelet.sandboxes().await.unwrap() {
            self.kubelet
                .persist("RemovePodSandbox", async |it| {
                    it.remove_sandbox(&one.id).await
                })
                .await;
        }
        for one in self.kubelet.containers().await.unwrap() {
            self.kubelet
                .persist("RemoveContainer", async |it| it.remove(&one.id).await)
                .await;
        }
        let left = crate::churn::nothing_left(&self.kubelet, &self.docker, &self.server).await;
        assert_eq!(left, Vec::<String>::new(), "this was left");
    }
}

/// While the engine is away nothing is claimed, and calls fail at once and say why.
async fn away_is_told(house: &House<'_>, container: &str) {
    let why = house.not_ready_soon().await;
    assert!(!why.is_empty());
    let begun = Instant::now();
    let errors = [
        house.kubelet.containers().await.unwrap_err(),
        house.kubelet.sandboxes().await.unwrap_err(),
        house.kubelet.status_of(container).await.unwrap_err(),
        house.kubelet.run_sandbox("later").await.unwrap_err(),
        house.kubelet.stop(container).await.unwrap_err(),
        house.kubelet.remove(container).await.unwrap_err(),
        house.kubelet.exec(container, "true").await.unwrap_err(),
    ];
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    for error in errors {
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        assert!(!error.message().is_empty());
    }
}

async fn outage(engine: &mut Engine, directory: &Path, outage: Outage, live_restore: bool) {
    let house = House::open(engine, directory);
    let (_, counting) = house.kubelet.run("counts", COUNT).await;
    let (_, idle) = house.kubelet.run("idles", IDLE).await;
    house.engine.end(outage).await;
    away_is_told(&house, &idle).await;
    house.engine.start().await;
    house.right_soon(&format!("{outage:?}")).await;
    for id in [&counting, &idle] {
        let status = house.kubelet.status_of(id).await.unwrap();
        let expected = if live_restore {
            ContainerState::ContainerRunning
        } else {
            ContainerState::ContainerExited
        };
        assert_eq!(status.state(), expected, "after {outage:?}");
    }
    // What was refused meanwhile can be had now, under the same name.
    house.kubelet.run("later", IDLE).await;
    house.kubelet.stop(&counting).await.unwrap();
    house.kubelet.status_of(&counting).await.unwrap();
    let lines = house.log_is_whole("counts", &counting).await;
    assert!(lines > 0);
    house.close().await;
}

pub(crate) async fn a_kill_of_the_engine(engine: &mut Engine, directory: &Path) {
    outage(engine, directory, Outage::Kill, false).await;
}

pub(crate) async fn a_restart_of_the_engine(engine: &mut Engine, directory: &Path) {
    outage(engine, directory, Outage::Restart, false).await;
}

pub(crate) async fn outages_that_containers_live_through(engine: &mut Engine, directory: &Path) {
    engine.keep_containers().await;
    for (number, kind) in crate::engine::OUTAGES.into_iter().enumerate() {
        let directory = directory.join(number.to_string());
        fs::create_dir(&directory).unwrap();
        outage(engine, &directory, kind, true).await;
    }
}

pub(crate) async fn a_standstill_of_the_engine(engine: &mut Engine, directory: &Path) {
    let house = House::open(engine, directory);
    let (sandbox, counting) = house.kubelet.run("counts", COUNT).await;
    let (_, idle) = house.kubelet.run("idles", IDLE).await;
    let (_, leaving) = house.kubelet.run("leaves", IDLE).await;
    let process = house.engine.process();
    signal(process, Signal::STOP);
    let begun = Instant::now();
    let why = house.not_ready_soon().await;
    assert!(why.contains("does not answer"), "{why}");
    // What is read is answered or refused within the view's patience; what needs the engine within the caller's.
    let deadline = Duration::from_secs(6);
    let hasty = house.kubelet.within(deadline);
    for round in 0..2 {
        let asked = Instant::now();
        // What changes something, given up by its caller.
        let (run, stop, exec) = tokio::join!(
            hasty.run_sandbox("later"),
            hasty.stop(&leaving),
            hasty.exec(&idle, "true"),
        );
        for (what, error) in [
            ("run", run.unwrap_err()),
            ("stop", stop.unwrap_err()),
            ("exec", exec.unwrap_err()),
        ] {
            // The client counts too; it says that it cancelled the call when it was first.
            assert!(
                matches!(
                    error.code(),
                    Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled
                ),
                "{what}, round {round}: {error:?}"
            );
            assert!(!error.message().is_empty());
        }
        // Reads are answered with what is known, or say why not.
        if let Err(error) = hasty.containers().await {
            assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        }
        assert!(
            asked.elapsed() < deadline * 2,
            "round {round}: {:?}",
            asked.elapsed()
        );
    }
    assert!(house.kubelet.ready().await.unwrap().is_err());
    tokio::time::sleep(STANDSTILL.saturating_sub(begun.elapsed())).await;
    signal(process, Signal::CONT);
    house.right_soon("a standstill").await;
    // What was asked for meanwhile was done, or is done when it is asked for again.
    house.kubelet.run("later", IDLE).await;
    house.kubelet.stop(&leaving).await.unwrap();
    assert_eq!(
        house.kubelet.exec(&idle, "echo here").await.unwrap(),
        "here\n"
    );
    let status = house.kubelet.sandbox_status(&sandbox).await.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    house.kubelet.stop(&counting).await.unwrap();
    house.kubelet.status_of(&counting).await.unwrap();
    let lines = house.log_is_whole("counts", &counting).await;
    assert!(lines > 0);
    house.right_soon("all calls").await;
    house.close().await;
}

/// Runs the `docker` program against the engine.
fn docker(house: &House<'_>, arguments: &[&str]) {
    let output = Command::new("docker")
        .args(["-H", &house.engine.endpoint])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {output:?}");
}

pub(crate) async fn changes_behind_its_back(engine: &mut Engine, directory: &Path) {
    let house = House::open(engine, directory);
    let names = [
        "killed",
        "removed",
        "paused",
        "renamed",
        "restarted",
        "orphaned",
        "pruned",
    ];
    let mut pods = BTreeMap::new();
    for name in names {
        pods.insert(name, house.kubelet.run(name, IDLE).await);
    }
    let container = |name: &str| pods[name].1.as_str();
    let sandbox = |name: &str| pods[name].0.as_str();
    docker(&house, &["kill", container("killed")]);
    house.right_soon("docker kill").await;
    let status = house.kubelet.status_of(container("killed")).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    docker(&house, &["rm", "-f", container("removed")]);
    house.right_soon("docker rm -f of a container").await;
    docker(&house, &["pause", container("paused")]);
    house.right_soon("docker pause").await;
    docker(&house, &["unpause", container("paused")]);
    house.right_soon("docker unpause").await;
    docker(&house, &["rename", container("renamed"), "another"]);
    house.right_soon("docker rename").await;
    let status = house.kubelet.status_of(container("renamed")).await.unwrap();
    assert_eq!(status.metadata.unwrap().name, "app");
    docker(&house, &["restart", "-t", "0", container("restarted")]);
    house.right_soon("docker restart").await;
    docker(&house, &["rm", "-f", sandbox("orphaned")]);
    house.right_soon("docker rm -f of a sandbox").await;
    house
        .kubelet
        .stop_sandbox(sandbox("orphaned"))
        .await
        .unwrap();
    house.right_soon("StopPodSandbox of one that is gone").await;
    docker(&house, &["kill", container("pruned"), sandbox("pruned")]);
    docker(&house, &["container", "prune", "-f"]);
    house.right_soon("docker container prune").await;
    assert!(house.kubelet.status_of(container("pruned")).await.is_err());
    // The kubelet asks for a pod anew under the same name when its sandbox is gone.
    for name in ["orphaned", "pruned"] {
        house
            .kubelet
            .persist("RemovePodSandbox", async |it| {
                it.remove_sandbox(sandbox(name)).await
            })
            .await;
        house.kubelet.run(name, IDLE).await;
    }
    house.right_soon("all").await;
    let ids: Vec<String> = house.truth().await.into_keys().collect();
    let arguments = ["rm", "-f"]
        .into_iter()
        .chain(ids.iter().map(String::as_str));
    docker(&house, &arguments.collect::<Vec<_>>());
    house.right_soon("docker rm -f of everything").await;
    house.close().await;
}
