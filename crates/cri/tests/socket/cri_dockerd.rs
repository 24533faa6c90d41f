//! What cri-dockerd 0.4.3 has made (`core/naming.go`, `core/sandbox_helpers.go`, `core/container_create.go` there), as berth finds it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use berth_cri::v1;
use berth_docker::api::{StopContainer, WaitCondition};
use berth_docker::model::{
    ContainerConfig, ContainerInspect, CreateContainer, HealthConfig, HostConfig, RestartPolicy,
    RestartPolicyName, TextMap,
};
use tonic::Code;

use crate::calls::{
    NAMESPACE, container_config, container_status, create, ended, remove, remove_sandbox,
    sandbox_status, sandboxes, start, stop, stop_sandbox,
};
use crate::server::{IMAGE, Node, Server};

/// A pod of cri-dockerd's.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) sandbox: String,
    /// The labels that the kubelet gave the sandbox.
    labels: BTreeMap<String, String>,
}

/// Its containers, and what they were when berth came.
pub(crate) struct Made {
    pod: Pod,
    running: String,
    exited: String,
    created: String,
    before: Vec<ContainerInspect>,
    link: PathBuf,
    docker_log: PathBuf,
    /// A second pod, which has ended.
    ended: Pod,
}

/// What Docker's `json-file` has of the running container, for its link leads there.
const LINE: &str =
    "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n";

fn text<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    pairs.into_iter().map(owned).collect()
}

/// Labels and annotations as cri-dockerd merges them.
fn merged(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    own: &[(&str, &str)],
) -> TextMap {
    let annotations = annotations
        .iter()
        .map(|(key, value)| (format!("annotation.{key}"), value.clone()));
    let own = own
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let all = labels.clone().into_iter().chain(annotations).chain(own);
    all.collect()
}

fn sandbox_annotations() -> BTreeMap<String, String> {
    text([
        (
            "kubernetes.io/config.seen",
            "2026-01-01T00:00:00.000000000Z",
        ),
        ("kubernetes.io/config.source", "api"),
    ])
}

fn container_annotations() -> BTreeMap<String, String> {
    text([
        ("io.kubernetes.container.hash", "5ab1cf3d"),
        ("io.kubernetes.container.restartCount", "2"),
        (
            "io.kubernetes.container.terminationMessagePath",
            "/dev/termination-log",
        ),
        ("io.kubernetes.container.terminationMessagePolicy", "File"),
        ("io.kubernetes.pod.terminationGracePeriod", "30"),
    ])
}

/// Makes and starts a sandbox. `part` is what cri-dockerd adds to a name that is taken.
pub(crate) async fn sandbox(node: &Node<'_>, name: &str, part: &str, network: &str) -> Pod {
    let (name, uid) = (format!("{name}-{}", node.run), format!("uid-{}", node.run));
    let labels = text([
        ("app", "web"),
        ("run", node.run),
        ("io.kubernetes.pod.name", &name),
        ("io.kubernetes.pod.namespace", NAMESPACE),
        ("io.kubernetes.pod.uid", &uid),
    ]);
    let own = [
        ("io.kubernetes.docker.type", "podsandbox"),
        ("io.kubernetes.container.name", "POD"),
    ];
    let create = CreateContainer {
        name: Some(format!("k8s_POD_{name}_{NAMESPACE}_{uid}_4{part}")),
        config: ContainerConfig {
            hostname: "web".to_owned(),
            image: IMAGE.to_owned(),
            // As pause does.
            cmd: ["/bin/sh", "-c", "sleep 600"].map(str::to_owned).into(),
            labels: merged(&labels, &sandbox_annotations(), &own),
            ..Default::default()
        },
        host_config: HostConfig {
            ipc_mode: "shareable".to_owned(),
            network_mode: network.to_owned(),
            security_opt: vec!["no-new-privileges".to_owned()],
            ..Default::default()
        },
        ..Default::default()
    };
    let id = node.docker.create_container(&create).await.unwrap().id;
    node.docker.start_container(&id).await.unwrap();
    Pod {
        name,
        uid,
        sandbox: id,
        labels,
    }
}

fn container_labels(pod: &Pod, name: &str) -> BTreeMap<String, String> {
    text([
        ("io.kubernetes.container.name", name),
        ("io.kubernetes.pod.name", &pod.name),
        ("io.kubernetes.pod.namespace", NAMESPACE),
        ("io.kubernetes.pod.uid", &pod.uid),
    ])
}

async fn container(node: &Node<'_>, pod: &Pod, name: &str, script: &str) -> String {
    let log = node.directory.join(format!("pod-logs/{name}/2.log"));
    let log = log.display().to_string();
    let own = [
        ("io.kubernetes.docker.type", "container"),
        ("io.kubernetes.container.logpath", log.as_str()),
        ("io.kubernetes.sandbox.id", &pod.sandbox),
    ];
    let joined = format!("container:{}", pod.sandbox);
    // The kubelet names it by its ID.
    let image = node.docker.inspect_image(IMAGE).await.unwrap().id;
    let Pod {
        name: pod_name,
        uid,
        ..
    } = pod;
    let create = CreateContainer {
        name: Some(format!("k8s_{name}_{pod_name}_{NAMESPACE}_{uid}_2")),
        config: ContainerConfig {
            image,
            entrypoint: Some(["/bin/sh", "-c"].map(str::to_owned).into()),
            cmd: vec![script.to_owned()],
            labels: merged(&container_labels(pod, name), &container_annotations(), &own),
            healthcheck: Some(HealthConfig {
                test: vec!["NONE".to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        },
        host_config: HostConfig {
            binds: vec![format!("{}:/data:ro", node.directory.display())],
            restart_policy: Some(RestartPolicy {
                name: RestartPolicyName::No,
                ..Default::default()
            }),
            network_mode: joined.clone(),
            ipc_mode: joined,
            cpu_shares: 102,
            security_opt: vec!["seccomp=unconfined".to_owned()],
            ..Default::default()
        },
        ..Default::default()
    };
    node.docker.create_container(&create).await.unwrap().id
}

/// A node that a kubelet with cri-dockerd has run pods on.
pub(crate) async fn make(node: &Node<'_>) -> Made {
    let pod = sandbox(node, "web", "", "default").await;
    let running = container(node, &pod, "app", "sleep 600").await;
    node.docker.start_container(&running).await.unwrap();
    let exited = container(node, &pod, "job", "exit 3").await;
    node.docker.start_container(&exited).await.unwrap();
    node.docker
        .wait_container(&exited, WaitCondition::NotRunning)
        .await
        .unwrap();
    let created = container(node, &pod, "late", "sleep 600").await;
    let last = sandbox(node, "db", "_9c1a2b3d", "default").await;
    let at_once = StopContainer {
        seconds: Some(0),
        ..Default::default()
    };
    node.docker
        .stop_container(&last.sandbox, &at_once)
        .await
        .unwrap();
    let docker_log = node.directory.join("app-json.log");
    fs::write(&docker_log, LINE).unwrap();
    let link = node.directory.join("pod-logs/app/2.log");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&docker_log, &link).unwrap();
    let mut before = Vec::new();
    for id in [&pod.sandbox, &running, &exited, &created, &last.sandbox] {
        before.push(node.docker.inspect_container(id).await.unwrap());
    }
    Made {
        pod,
        running,
        exited,
        created,
        before,
        link,
        docker_log,
        ended: last,
    }
}

pub(crate) async fn what_it_made_is_taken_over_as_it_is(server: &mut Server, made: Made) {
    // Listed.
    let listed = sandboxes(server).await;
    let ready: BTreeMap<&str, v1::PodSandboxState> = listed
        .iter()
        .map(|one| (one.id.as_str(), one.state()))
        .collect();
    let expected = [
        (made.pod.sandbox.as_str(), v1::PodSandboxState::SandboxReady),
        (
            made.ended.sandbox.as_str(),
            v1::PodSandboxState::SandboxNotready,
        ),
    ];
    assert_eq!(ready, expected.into());
    let request = v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            pod_sandbox_id: made.pod.sandbox.clone(),
            ..Default::default()
        }),
    };
    let reply = server.runtime.list_containers(request).await.unwrap();
    let states: BTreeMap<String, v1::ContainerState> = reply
        .into_inner()
        .containers
        .into_iter()
        .map(|one| (one.id.clone(), one.state()))
        .collect();
    let expected = [
        (made.running.clone(), v1::ContainerState::ContainerRunning),
        (made.exited.clone(), v1::ContainerState::ContainerExited),
        (made.created.clone(), v1::ContainerState::ContainerCreated),
    ];
    assert_eq!(states, expected.into());

    // Reported as the kubelet knows them.
    for pod in [&made.pod, &made.ended] {
        let status = sandbox_status(server, &pod.sandbox).await.unwrap();
        let metadata = v1::PodSandboxMetadata {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            namespace: NAMESPACE.to_owned(),
            attempt: 4,
        };
        assert_eq!(status.metadata, Some(metadata));
        assert_eq!(
            (&status.labels, &status.annotations),
            (&pod.labels, &sandbox_annotations())
        );
        assert!(status.created_at > 0);
        let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
        assert_eq!(options.network(), v1::NamespaceMode::Pod);
        // A pod without an address is made anew by the kubelet.
        let has_address = !status.network.unwrap().ip.is_empty();
        assert_eq!(has_address, pod.sandbox == made.pod.sandbox);
    }
    let status = container_status(server, &made.running).await.unwrap();
    let metadata = v1::ContainerMetadata {
        name: "app".to_owned(),
        attempt: 2,
    };
    assert_eq!(status.metadata, Some(metadata));
    assert_eq!(
        (&status.labels, &status.annotations),
        (
            &container_labels(&made.pod, "app"),
            &container_annotations()
        )
    );
    assert_eq!(status.log_path, made.link.display().to_string());
    assert_eq!((status.mounts.len(), status.mounts[0].readonly), (1, true));
    assert_eq!(status.mounts[0].container_path, "/data");
    assert_eq!(status.resources.unwrap().linux.unwrap().cpu_shares, 102);
    let images = v1::ImageStatusRequest {
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
        verbose: false,
    };
    let image = server.images.image_status(images).await.unwrap();
    assert_eq!(status.image_id, image.into_inner().image.unwrap().id);
    let status = container_status(server, &made.exited).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.finished_at > 0);

    // Used: a further container joins them, and the log stays Docker's own, which the kubelet can read as well.
    let added = create(
        server,
        &made.pod.sandbox,
        container_config("more", "exit 0"),
    )
    .await;
    start(server, &added).await;
    assert_eq!(ended(server, &added).await.exit_code, 0);
    let request = v1::ReopenContainerLogRequest {
        container_id: made.running.clone(),
    };
    let error = server
        .runtime
        .reopen_container_log(request)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(made.link.is_symlink());

    // None of it was touched so far.
    for before in &made.before {
        let now = server.docker.inspect_container(&before.id).await.unwrap();
        assert_eq!(
            (&now.state, now.restart_count),
            (&before.state, before.restart_count)
        );
    }

    // Started, stopped and removed.
    start(server, &made.created).await;
    let status = container_status(server, &made.created).await.unwrap();
    assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
    stop(server, &made.running).await.unwrap();
    let status = container_status(server, &made.running).await.unwrap();
    assert_eq!(
        (status.state(), status.exit_code),
        (v1::ContainerState::ContainerExited, 137)
    );
    assert_eq!(fs::read_to_string(&made.docker_log).unwrap(), LINE);
    remove(server, &made.running).await.unwrap();
    for _ in 0..2 {
        stop_sandbox(server, &made.pod.sandbox).await.unwrap();
    }
    let status = container_status(server, &made.created).await.unwrap();
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    for pod in [&made.pod, &made.ended] {
        for _ in 0..2 {
            remove_sandbox(server, &pod.sandbox).await.unwrap();
        }
    }
    assert!(sandboxes(server).await.is_empty());
    for before in &made.before {
        let error = server
            .docker
            .inspect_container(&before.id)
            .await
            .unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }
}
