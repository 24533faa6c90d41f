//! Sandboxes and containers on a real engine: `BERTH_TEST_ENGINE` names it, and it has the image `berth.local/demo:1`.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod real_engine;

use std::collections::BTreeMap;
use std::time::Duration;

use berth_pod::config::InSandbox;
use berth_pod::observe::{Container, Observed, Sandbox, State};
use berth_pod::spec::{
    ContainerSpec, Mount, MountSource, PodIdentity, PodVolume, SandboxSpec, Security, User,
};
use berth_pod::{Error, Runtime};

const IMAGE: &str = "berth.local/demo:1";

fn runtime() -> Option<Runtime> {
    real_engine::docker().map(Runtime::new)
}

fn pod(name: &str) -> PodIdentity {
    PodIdentity {
        namespace: "berth-test".into(),
        name: name.into(),
        uid: format!("{name}-{}", std::process::id()),
    }
}

fn sandbox(pod: &PodIdentity) -> SandboxSpec {
    SandboxSpec {
        pod: pod.clone(),
        attempt: 0,
        image: None,
        hostname: pod.name.clone(),
        hosts: vec![("10.9.8.7".into(), "elsewhere".into())],
        labels: BTreeMap::from([("app".into(), "test".into())]),
        annotations: BTreeMap::from([("note".into(), "kept".into())]),
        ..SandboxSpec::default()
    }
}

fn container(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        attempt: 0,
        image: IMAGE.into(),
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        env: vec![("GREETING".into(), "hello".into())],
        oom_score_adj: -997,
        ..ContainerSpec::default()
    }
}

async fn observe(runtime: &Runtime, pod: &PodIdentity) -> (Vec<Sandbox>, Vec<Container>) {
    let (mut sandboxes, mut containers) = (Vec::new(), Vec::new());
    for observed in runtime.observe(Some(&pod.uid)).await.unwrap() {
        match observed {
            Observed::Sandbox(sandbox) => sandboxes.push((*sandbox).clone()),
            Observed::Container(container) => containers.push((*container).clone()),
        }
    }
    (sandboxes, containers)
}

async fn remove_all(runtime: &Runtime, pod: &PodIdentity) {
    let (sandboxes, containers) = observe(runtime, pod).await;
    for container in &containers {
        runtime.remove_container(&container.id).await.unwrap();
    }
    for sandbox in &sandboxes {
        runtime.remove_sandbox(&sandbox.id).await.unwrap();
    }
    runtime.remove_volumes(pod).await.unwrap();
    let (sandboxes, containers) = observe(runtime, pod).await;
    assert!(sandboxes.is_empty() && containers.is_empty());
}

async fn exit(runtime: &Runtime, id: &berth_pod::spec::ContainerId) -> (i64, String) {
    let docker = runtime.docker();
    let result = docker
        .wait_container(id.as_str(), berth_docker::api::WaitCondition::NotRunning)
        .await
        .unwrap();
    let options = berth_docker::api::LogsOptions {
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let mut logs = docker.logs(id.as_str(), &options).await.unwrap();
    let mut text = Vec::new();
    while let Some(frame) = logs.next().await {
        text.extend_from_slice(&frame.unwrap().bytes);
    }
    (
        result.status_code,
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[tokio::test]
async fn a_pod_runs_shares_its_directories_and_leaves_nothing() {
    let Some(runtime) = runtime() else { return };
    let pod = pod("shares");
    remove_all(&runtime, &pod).await;
    let spec = SandboxSpec {
        volumes: vec![
            PodVolume {
                name: "disk".into(),
                memory: None,
            },
            PodVolume {
                name: "memory".into(),
                memory: Some(Some(1 << 20)),
            },
        ],
        ..sandbox(&pod)
    };
    let sandbox = runtime.run_sandbox(&spec).await.unwrap();
    let mounts = ["disk", "memory"].map(|volume| {
        let source = MountSource::Pod {
            volume: volume.into(),
            sub_path: String::new(),
        };
        Mount::new(source, format!("/{volume}"))
    });
    // The first writes as an ordinary user, the second reads after it has ended.
    let writer = ContainerSpec {
        mounts: mounts.to_vec(),
        security: Security {
            user: Some(User::Id(1234)),
            group: Some(1234),
            run_as_non_root: true,
            no_new_privileges: true,
            ..Default::default()
        },
        ..container(
            "writer",
            "echo $GREETING > /disk/a && echo there > /memory/b && hostname && id -u && grep elsewhere /etc/hosts",
        )
    };
    let writer = runtime
        .create_container(&writer, &pod, &InSandbox::new(&sandbox))
        .await
        .unwrap();
    runtime.start_container(&writer).await.unwrap();
    let (code, text) = exit(&runtime, &writer).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        ["shares", "1234", "10.9.8.7\telsewhere"]
    );
    let reader = ContainerSpec {
        mounts: mounts.to_vec(),
        ..container("reader", "cat /disk/a /memory/b; df -k /memory | tail -n 1")
    };
    let reader = runtime
        .create_container(&reader, &pod, &InSandbox::new(&sandbox))
        .await
        .unwrap();
    runtime.start_container(&reader).await.unwrap();
    let (code, text) = exit(&runtime, &reader).await;
    assert!(
        code == 0 && text.starts_with("hello\nthere\ntmpfs") && text.contains(" 1024 "),
        "{code} {text}"
    );

    let (sandboxes, containers) = observe(&runtime, &pod).await;
    assert_eq!(sandboxes.len(), 1);
    assert!(sandboxes[0].running && sandboxes[0].ip.is_some());
    assert_eq!(
        sandboxes[0].labels.get("app").map(String::as_str),
        Some("test")
    );
    assert_eq!(
        sandboxes[0].annotations.get("note").map(String::as_str),
        Some("kept")
    );
    assert_eq!(containers.len(), 2);
    assert!(
        containers
            .iter()
            .all(|container| container.sandbox == sandbox
                && matches!(container.state, State::Exited { exit_code: 0, .. }))
    );
    remove_all(&runtime, &pod).await;
    // Idempotent: everything is gone already.
    runtime
        .stop_container(&reader, Duration::ZERO)
        .await
        .unwrap();
    runtime.remove_container(&reader).await.unwrap();
    runtime.stop_sandbox(&sandbox).await.unwrap();
    runtime.remove_sandbox(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_sandbox_that_runs_is_the_one_and_a_leftover_that_never_ran_is_replaced() {
    let Some(runtime) = runtime() else { return };
    let pod = pod("leftover");
    remove_all(&runtime, &pod).await;
    let id = runtime.run_sandbox(&sandbox(&pod)).await.unwrap();
    assert_eq!(runtime.run_sandbox(&sandbox(&pod)).await.unwrap(), id);
    let within = InSandbox::new(&id);
    let spec = container("app", "sleep 60");
    let first = runtime
        .create_container(&spec, &pod, &within)
        .await
        .unwrap();
    let second = runtime
        .create_container(&spec, &pod, &within)
        .await
        .unwrap();
    assert_ne!(first, second, "it never ran");
    runtime.start_container(&second).await.unwrap();
    let third = runtime
        .create_container(&spec, &pod, &within)
        .await
        .unwrap();
    let (sandboxes, containers) = observe(&runtime, &pod).await;
    assert_eq!(sandboxes.len(), 1);
    let mut ids: Vec<_> = containers.iter().map(|container| &container.id).collect();
    ids.sort();
    let mut expected = vec![&second, &third];
    expected.sort();
    assert_eq!(ids, expected, "one that runs is left alone");
    assert!(containers.iter().all(|container| container.attempt == 0));
    remove_all(&runtime, &pod).await;
}

#[tokio::test]
async fn a_command_that_is_not_there_leaves_the_engines_words() {
    let Some(runtime) = runtime() else { return };
    let pod = pod("nocommand");
    remove_all(&runtime, &pod).await;
    let sandbox = runtime.run_sandbox(&sandbox(&pod)).await.unwrap();
    let spec = ContainerSpec {
        command: vec!["/no/such/program".into()],
        ..container("app", "")
    };
    let id = runtime
        .create_container(&spec, &pod, &InSandbox::new(&sandbox))
        .await
        .unwrap();
    let error = runtime.start_container(&id).await.unwrap_err();
    assert!(
        error.docker().is_some_and(|error| error.is_refused()),
        "{error}"
    );
    let (_, containers) = observe(&runtime, &pod).await;
    match &containers[0].state {
        State::Exited {
            exit_code,
            error,
            started_at,
            ..
        } => {
            assert!([126, 127, 128].contains(exit_code), "{exit_code}");
            assert!(error.contains("/no/such/program"), "{error}");
            assert!(started_at.is_none());
        }
        other => panic!("{other:?}"),
    }
    remove_all(&runtime, &pod).await;
}

#[tokio::test]
async fn an_image_that_runs_as_root_is_refused_where_root_is_forbidden() {
    let Some(runtime) = runtime() else { return };
    let pod = pod("nonroot");
    remove_all(&runtime, &pod).await;
    let sandbox = runtime.run_sandbox(&sandbox(&pod)).await.unwrap();
    let spec = ContainerSpec {
        security: Security {
            run_as_non_root: true,
            ..Default::default()
        },
        ..container("app", "true")
    };
    let error = runtime
        .create_container(&spec, &pod, &InSandbox::new(&sandbox))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::MayRunAsRoot(_)), "{error}");
    remove_all(&runtime, &pod).await;
}
