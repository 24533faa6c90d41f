//! A berth that is killed again and again while pods come and go.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use berth_cri::v1;
use berth_cri::v1::ContainerState;
use berth_docker::Docker;
use berth_docker::api::{ListContainers, LogsOptions};
use tokio::task::JoinSet;

use crate::chance::{Chance, seed};
use crate::kubelet::{COUNT, IDLE, Kubelet, LIMIT, UID, container, uid};
use crate::server::Server;

/// How much of it.
pub(crate) struct Plan {
    /// How often berth is killed.
    pub(crate) kills: usize,
    /// How many pods come and go at a time.
    pub(crate) workers: usize,
    /// The longest that a berth lives.
    pub(crate) life: Duration,
}

/// What is known of the pods that came and went.
#[derive(Default)]
struct Ledger {
    /// No further pods.
    over: Cell<bool>,
    /// Pods of which nothing may be left: their removal was answered.
    removed: RefCell<BTreeSet<String>>,
    /// Pods that are wanted no more, whatever came of them.
    unwanted: RefCell<BTreeSet<String>>,
    /// All IDs that there ever were.
    ids: RefCell<BTreeSet<String>>,
    lived: Cell<usize>,
}

/// Kills berth at random moments. Gives the IDs of all sandboxes and containers there were; the engine has none of them any more.
pub(crate) async fn survive(
    server: &mut Server,
    directory: &Path,
    engine: &Docker,
    plan: Plan,
) -> BTreeSet<String> {
    let seed = seed();
    eprintln!("BERTH_TEST_SEED={seed}");
    let mut chance = Chance::new(seed);
    let kubelet = Kubelet::new(server.socket(), &directory.join("pods"));
    server.start();
    let (_, idle) = kubelet.run("stays", IDLE).await;
    let (_, counting) = kubelet.run("counts", COUNT).await;

    let ledger = Rc::new(Ledger::default());
    let mut workers = JoinSet::new();
    for number in 0..plan.workers {
        let chance = Chance::new(seed + 1 + number as u64);
        workers.spawn_local(come_and_go(kubelet.clone(), ledger.clone(), number, chance));
    }
    workers.spawn_local(collect_garbage(kubelet.clone(), ledger.clone()));

    for kill in 0..plan.kills {
        tokio::time::sleep(chance.below(plan.life)).await;
        server.kill();
        server.start();
        // Now and then the next kill comes before it is ready.
        if !chance.once_in(4) {
            look(&kubelet, engine, &ledger, [&idle, &counting], kill).await;
        }
    }
    look(&kubelet, engine, &ledger, [&idle, &counting], plan.kills).await;
    ledger.over.set(true);
    while let Some(done) = workers.join_next().await {
        if let Err(error) = done {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    eprintln!(
        "{} pods lived through {} kills; calls that were made again:\n{}",
        ledger.lived.get(),
        plan.kills,
        kubelet.failures()
    );

    kubelet
        .persist("StopContainer", async |it| it.stop(&counting).await)
        .await;
    check_log(&kubelet, engine, &counting).await;
    ledger
        .unwanted
        .borrow_mut()
        .extend(["stays", "counts"].map(uid));
    remove_unwanted(&kubelet, &ledger).await;
    let left = nothing_left(&kubelet, engine, server).await;
    assert_eq!(left, Vec::<String>::new(), "this was left");
    ledger.ids.take()
}

/// One pod after the other.
async fn come_and_go(kubelet: Kubelet, ledger: Rc<Ledger>, worker: usize, mut chance: Chance) {
    let mut number = 0;
    while !ledger.over.get() {
        number += 1;
        let pod = format!("churn-{worker}-{number}");
        if live(&kubelet, &ledger, &pod, &mut chance).await {
            ledger.lived.set(ledger.lived.get() + 1);
            ledger.removed.borrow_mut().insert(uid(&pod));
        } else {
            ledger.unwanted.borrow_mut().insert(uid(&pod));
        }
    }
}

/// The life of one pod, from run to remove. False when it was given up at a call that failed.
async fn live(kubelet: &Kubelet, ledger: &Ledger, pod: &str, chance: &mut Chance) -> bool {
    // The kubelet may hear of a pod's deletion at any time.
    if chance.once_in(8)
        && let Err(status) = kubelet.run_sandbox(pod).await
    {
        kubelet.note("given up: RunPodSandbox", &status);
        return false;
    }
    let sandbox = kubelet
        .persist("RunPodSandbox", async |it| it.run_sandbox(pod).await)
        .await;
    ledger.ids.borrow_mut().insert(sandbox.clone());
    let restarts = u32::from(chance.once_in(3));
    for attempt in 0..=restarts {
        let mut config = container("app", attempt, IDLE);
        if chance.once_in(3) {
            // Looks into the image first, with a container of its own.
            config.linux = Some(strict_groups());
        }
        if chance.once_in(8)
            && let Err(status) = kubelet.create(pod, &sandbox, config.clone()).await
        {
            kubelet.note("given up: CreateContainer", &status);
            return false;
        }
        let id = kubelet
            .persist("CreateContainer", async |it| {
                it.create(pod, &sandbox, config.clone()).await
            })
            .await;
        ledger.ids.borrow_mut().insert(id.clone());
        kubelet
            .persist("StartContainer", async |it| it.start(&id).await)
            .await;
        let said = kubelet
            .persist("ExecSync", async |it| it.exec(&id, "echo here").await)
            .await;
        assert_eq!(said, "here\n");
        let status = kubelet
            .persist("ContainerStatus", async |it| it.status_of(&id).await)
            .await;
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        if attempt < restarts || chance.once_in(2) {
            kubelet
                .persist("StopContainer", async |it| it.stop(&id).await)
                .await;
            let status = kubelet
                .persist("ContainerStatus", async |it| it.status_of(&id).await)
                .await;
            assert_eq!(status.state(), ContainerState::ContainerExited);
        }
    }
    if chance.once_in(2) {
        kubelet
            .persist("StopPodSandbox", async |it| it.stop_sandbox(&sandbox).await)
            .await;
    }
    kubelet
        .persist("RemovePodSandbox", async |it| {
            it.remove_sandbox(&sandbox).await
        })
        .await;
    true
}

fn strict_groups() -> v1::LinuxContainerConfig {
    v1::LinuxContainerConfig {
        security_context: Some(v1::LinuxContainerSecurityContext {
            supplemental_groups_policy: v1::SupplementalGroupsPolicy::Strict.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// As the kubelet does now and then: removes what belongs to no pod that is wanted.
async fn collect_garbage(kubelet: Kubelet, ledger: Rc<Ledger>) {
    while !ledger.over.get() {
        remove_once(&kubelet, &ledger).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    remove_unwanted(&kubelet, &ledger).await;
}

/// Removes what is unwanted, until the lists have none of it.
async fn remove_unwanted(kubelet: &Kubelet, ledger: &Ledger) {
    let begun = Instant::now();
    while !remove_once(kubelet, ledger).await {
        assert!(begun.elapsed() < LIMIT, "{}", kubelet.failures());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// True when nothing unwanted was there.
async fn remove_once(kubelet: &Kubelet, ledger: &Ledger) -> bool {
    let unwanted = ledger.unwanted.borrow().clone();
    let (Ok(sandboxes), Ok(containers)) = (kubelet.sandboxes().await, kubelet.containers().await)
    else {
        return false;
    };
    let mut nothing = true;
    for sandbox in sandboxes {
        if unwanted.contains(&sandbox.metadata.unwrap().uid) {
            nothing = false;
            if let Err(status) = kubelet.remove_sandbox(&sandbox.id).await {
                kubelet.note("garbage: RemovePodSandbox", &status);
            }
        }
    }
    for one in containers {
        if unwanted.contains(&one.labels[UID]) {
            nothing = false;
            if let Err(status) = kubelet.remove(&one.id).await {
                kubelet.note("garbage: RemoveContainer", &status);
            }
        }
    }
    nothing
}

/// What has to be so after each start.
async fn look(
    kubelet: &Kubelet,
    engine: &Docker,
    ledger: &Ledger,
    running: [&String; 2],
    kill: usize,
) {
    let removed = ledger.removed.borrow().clone();
    let sandboxes = kubelet
        .persist("ListPodSandbox", async |it| it.sandboxes().await)
        .await;
    let containers = kubelet
        .persist("ListContainers", async |it| it.containers().await)
        .await;
    for id in running {
        let found = containers.iter().find(|one| one.id == *id);
        assert!(
            found.is_some_and(|one| one.state() == ContainerState::ContainerRunning),
            "after kill {kill}: {found:?}"
        );
    }
    for sandbox in &sandboxes {
        let uid = &sandbox.metadata.as_ref().unwrap().uid;
        assert!(!removed.contains(uid), "after kill {kill}: {sandbox:?}");
    }
    for one in &containers {
        let uid = &one.labels[UID];
        assert!(!removed.contains(uid), "after kill {kill}: {one:?}");
    }
    let rows = engine.list_containers(&all()).await.unwrap();
    for row in rows {
        if let Some(uid) = row.labels.get(UID) {
            assert!(!removed.contains(uid), "after kill {kill}: {row:?}");
        }
        ledger.ids.borrow_mut().insert(row.id);
    }
}

fn all() -> ListContainers {
    ListContainers {
        all: true,
        ..Default::default()
    }
}

/// The log has each line that the engine has, once, and the engine has all.
async fn check_log(kubelet: &Kubelet, engine: &Docker, counting: &str) {
    let status = kubelet
        .persist("ContainerStatus", async |it| it.status_of(counting).await)
        .await;
    assert_eq!(status.state(), ContainerState::ContainerExited);
    let options = LogsOptions {
        stdout: true,
        ..Default::default()
    };
    let mut frames = engine.logs(counting, &options).await.unwrap();
    let mut kept = Vec::new();
    while let Some(frame) = frames.next().await {
        kept.extend_from_slice(&frame.unwrap().bytes);
    }
    let kept = String::from_utf8(kept).unwrap();
    let lines = numbers(&fs::read_to_string(kubelet.log("counts", "app")).unwrap());
    let counted: Vec<u64> = (1..=kept.lines().count() as u64).collect();
    assert!(!counted.is_empty());
    assert!(
        lines == counted,
        "{} lines for {}, the first that differs: {:?}",
        lines.len(),
        counted.len(),
        lines.iter().zip(&counted).find(|(one, other)| one != other)
    );
}

/// The numbers in the lines of a log.
pub(crate) fn numbers(log: &str) -> Vec<u64> {
    log.lines()
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect()
}

/// What berth, the engine or the directory of records still has.
pub(crate) async fn nothing_left(
    kubelet: &Kubelet,
    engine: &Docker,
    server: &Server,
) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let mut left = Vec::new();
        let sandboxes = kubelet.sandboxes().await.unwrap();
        left.extend(sandboxes.iter().map(|one| format!("sandbox {one:?}")));
        let containers = kubelet.containers().await.unwrap();
        left.extend(containers.iter().map(|one| format!("container {one:?}")));
        let rows = engine.list_containers(&all()).await.unwrap();
        left.extend(rows.iter().map(|row| format!("on the engine {row:?}")));
        left.extend(
            fs::read_dir(server.records())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| !path.ends_with("lock"))
                .map(|path| format!("record {}", path.display())),
        );
        // What was begun before berth was killed may still be ending.
        if left.is_empty() || begun.elapsed() > Duration::from_secs(2) {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
