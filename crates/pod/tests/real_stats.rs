//! Usage of containers on a real engine of this host: `BERTH_TEST_ENGINE` names it, and it has the image `berth.local/demo:1`. Takes root.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod real_engine;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use berth_docker::Docker;
use berth_docker::api::RemoveContainer;
use berth_docker::model::{ContainerConfig, CreateContainer, HostConfig};
use berth_pod::stats::metrics::{Subject, descriptors, samples};
use berth_pod::stats::{Limit, Roots, Stats, Usage};

const IMAGE: &str = "berth.local/demo:1";
const PATIENCE: Duration = Duration::from_secs(60);

fn docker() -> Option<Docker> {
    let docker = real_engine::docker()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may look into other users' processes and layers");
        return None;
    }
    Some(docker)
}

/// A running container and what its inspect says.
struct Running {
    id: String,
    pid: u32,
    upper: Option<PathBuf>,
    /// As it was asked for.
    cgroup_parent: String,
}

/// Runs `script` in a container below a cgroup of its own, hands it to `check`, and removes it however that ends.
async fn with_container<F>(
    docker: Docker,
    name: &str,
    script: &str,
    memory: i64,
    check: impl FnOnce(Docker, Running) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let unique = format!("berthstats{name}{}", std::process::id());
    let cgroup_parent = match docker.info().await.unwrap().cgroup_driver.as_str() {
        "systemd" => format!("{unique}.slice"),
        _ => format!("/{unique}"),
    };
    let create = CreateContainer {
        name: Some(unique),
        config: ContainerConfig {
            image: IMAGE.into(),
            cmd: vec!["/bin/sh".into(), "-c".into(), script.into()],
            ..Default::default()
        },
        host_config: HostConfig {
            cgroup_parent: cgroup_parent.clone(),
            memory,
            memory_swap: memory,
            cpu_period: 100_000,
            cpu_quota: 50_000,
            ..Default::default()
        },
        ..Default::default()
    };
    let id = docker.create_container(&create).await.unwrap().id;
    docker.start_container(&id).await.unwrap();
    let inspect = docker.inspect_container(&id).await.unwrap();
    let running = Running {
        id: id.clone(),
        pid: u32::try_from(inspect.state.pid).unwrap(),
        upper: inspect
            .graph_driver
            .and_then(|driver| driver.data.get("UpperDir").map(PathBuf::from)),
        cgroup_parent: cgroup_parent.clone(),
    };
    let end = tokio::spawn(check(docker.clone(), running)).await;
    let remove = RemoveContainer {
        force: true,
        volumes: true,
        ..Default::default()
    };
    docker.remove_container(&id, remove).await.unwrap();
    remove_cgroup(&cgroup_parent);
    end.unwrap();
}

/// The engine makes a parent where there is none, and leaves it behind; systemd removes its own.
fn remove_cgroup(parent: &str) {
    let Some(name) = parent.strip_prefix('/') else {
        return;
    };
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).unwrap().flatten();
    for hierarchy in hierarchies
        .map(|entry| entry.path())
        .chain([root.to_owned()])
    {
        // Most have none.
        let _ = std::fs::remove_dir(hierarchy.join(name));
    }
}

/// Tries until there is something, or fails.
async fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_container_uses_what_it_was_made_to_use() {
    let Some(docker) = docker() else { return };
    let script = "dd if=/dev/zero of=/data bs=1M count=5 && i=0 && while [ $i -lt 300000 ]; do i=$((i+1)); done; \
                  touch /done; sleep 1000 & wait";
    with_container(
        docker,
        "uses",
        script,
        64 << 20,
        |docker, running| async move {
            let stats = Stats::new(Roots::default());
            let paths = stats.locate(running.pid, &running.id).unwrap();
            let cgroup = stats.cgroup(paths.clone());
            let upper = stats.upper_dir(running.pid).unwrap();
            if let Some(told) = &running.upper {
                assert_eq!(&upper, told);
            }
            eventually("the end of the work", || {
                upper.join("done").exists().then_some(())
            })
            .await;

            let usage = eventually("the second process", || {
                let usage = stats.reading().usage(&running.id, &cgroup);
                (usage.pids == Some(2)).then_some(usage)
            })
            .await;
            let (cpu, memory) = (usage.cpu.unwrap(), usage.memory.unwrap());
            assert!(cpu.usage_core_nano_seconds > 10_000_000, "{cpu:?}");
            assert_eq!(memory.limit, Some(Limit::At(64 << 20)));
            let working_set = memory.working_set_bytes.unwrap();
            assert!(
                0 < working_set && working_set <= memory.usage_bytes,
                "{memory:?}"
            );
            assert_eq!(memory.available_bytes, Some((64 << 20) - working_set));
            assert!(
                memory.page_faults > Some(0) && memory.rss_bytes > Some(0),
                "{memory:?}"
            );

            // The engine has its numbers from the same place.
            let told = docker.stats(&running.id).await.unwrap();
            let again = stats.reading().usage(&running.id, &cgroup).cpu.unwrap();
            let range = cpu.usage_core_nano_seconds..=again.usage_core_nano_seconds;
            assert!(
                range.contains(&told.cpu_stats.cpu_usage.total_usage),
                "{range:?}"
            );
            assert_eq!(Some(told.pids_stats.current), usage.pids);

            let mut reading = stats.reading();
            let network = reading.network(running.pid).unwrap();
            let interface = network.default.clone().unwrap();
            assert_eq!(interface.name, "eth0");
            assert!(interface.rx_bytes >= told.networks["eth0"].rx_bytes);

            let until = Some(Instant::now() + PATIENCE);
            let layer = stats.writable_layer(&running.id, &upper, until).unwrap();
            assert!((5 << 20..6 << 20).contains(&layer.used_bytes), "{layer:?}");
            let filesystem = stats.filesystem(&upper).unwrap();
            assert!(upper.starts_with(&filesystem.mountpoint));

            // Nothing but the container is in the parent.
            let parent = stats.cgroup(paths.parent(&running.cgroup_parent).unwrap());
            let pod = reading.usage("pod", &parent);
            assert_eq!(pod.pids, usage.pids);
            assert!(pod.cpu.unwrap().usage_core_nano_seconds >= cpu.usage_core_nano_seconds);
            assert_eq!(paths.parent("/other"), None);

            let detail = reading.detail(&paths, Some(running.pid));
            assert_eq!(detail.cpu_quota_us, Some(Limit::At(50_000)));
            assert_eq!(detail.oom_kills, Some(0));
            assert_eq!(detail.processes, usage.pids);
            let samples = samples(&Subject {
                usage: Some(&usage),
                waits: Some(&reading.waits(&cgroup)),
                detail: Some(&detail),
                network: Some(&network),
                layer: Some(&layer),
                filesystem: Some(&filesystem),
                cpu_shares: Some(1024),
                started_at: Some(SystemTime::now()),
            });
            let missing: Vec<_> = descriptors()
                .map(|descriptor| descriptor.name)
                .filter(|name| !samples.iter().any(|sample| sample.descriptor.name == *name))
                // What a kernel or a disk may not have, as critest too allows.
                .filter(|name| {
                    ![
                        "_blkio_",
                        "_fs_reads",
                        "_fs_writes",
                        "_hugetlb_",
                        "_pressure_",
                        "_max_usage",
                        "_swap",
                    ]
                    .iter()
                    .any(|part| name.contains(part))
                })
                .collect();
            assert_eq!(missing, Vec::<&str>::new());

            docker.kill_container(&running.id, None).await.unwrap();
            eventually("the end of the cgroup", || {
                let usage = stats.reading().usage(&running.id, &cgroup);
                // Going, it has its old number or none, never a smaller one.
                if let Some(left) = usage.cpu {
                    assert!(left.usage_core_nano_seconds >= again.usage_core_nano_seconds);
                }
                (usage == Usage::unknown(usage.at)).then_some(())
            })
            .await;
            assert!(
                stats
                    .locate(running.pid, &running.id)
                    .unwrap_err()
                    .is_gone()
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_rate_comes_with_the_second_reading() {
    let Some(docker) = docker() else { return };
    let script = "while true; do :; done";
    with_container(docker, "rate", script, 0, |_, running| async move {
        let stats = Stats::new(Roots::default());
        let cgroup = stats.cgroup(stats.locate(running.pid, &running.id).unwrap());
        let rate = || {
            let cpu = stats.reading().usage(&running.id, &cgroup).cpu.unwrap();
            cpu.usage_nano_cores
        };
        assert_eq!(rate(), None);
        let rate = eventually("a rate", rate).await;
        // Its quota is half a core; what it gets of that depends on the host.
        assert!((1_000_000..700_000_000).contains(&rate), "{rate}");
    })
    .await;
}

#[tokio::test]
async fn a_kill_for_memory_is_counted_while_the_container_runs() {
    let Some(docker) = docker() else { return };
    let script = "tail /dev/zero; sleep 1000";
    with_container(docker, "oom", script, 16 << 20, |_, running| async move {
        let stats = Stats::new(Roots::default());
        let paths = stats.locate(running.pid, &running.id).unwrap();
        eventually("the kill", || {
            (stats.reading().oom_kills(&paths)? > 0).then_some(())
        })
        .await;
    })
    .await;
}
