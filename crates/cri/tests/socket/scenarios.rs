//! What each test does and expects.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use berth_cri::v1;
use berth_fake_engine::{FakeEngine, Fault, FaultKind, Operation};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::{Code, Request};

use crate::calls::*;
use crate::server::{IMAGE, Server};

pub(crate) async fn the_runtime_says_who_it_is_and_that_it_is_ready(server: &mut Server) {
    let version = server
        .runtime
        .version(v1::VersionRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            version.version.as_str(),
            version.runtime_name.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("0.1.0", "docker", "v1")
    );
    let reply = server
        .runtime
        .status(v1::StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    let conditions: BTreeMap<String, bool> = reply
        .status
        .unwrap()
        .conditions
        .into_iter()
        .map(|condition| (condition.r#type, condition.status))
        .collect();
    assert_eq!(
        conditions,
        [
            ("NetworkReady".to_owned(), true),
            ("RuntimeReady".to_owned(), true)
        ]
        .into()
    );
    assert_eq!(reply.runtime_handlers[0].name, "");
    assert!(reply.info.contains_key("engine"), "{:?}", reply.info);
}

pub(crate) async fn a_profile_that_cannot_confine_is_refused_before_anything_is_made(
    server: &mut Server,
) {
    let sandbox = run_sandbox(server, "apparmor").await;
    let mut config = container_config("app", "sleep 600");
    config.linux = Some(v1::LinuxContainerConfig {
        security_context: Some(v1::LinuxContainerSecurityContext {
            apparmor: Some(v1::SecurityProfile {
                profile_type: v1::security_profile::ProfileType::Localhost.into(),
                localhost_ref: "localhost/no-such-profile".to_owned(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    });
    let error = try_create(server, &sandbox, config).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("\"no-such-profile\""), "{error}");
    let all = server.runtime.list_containers(v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            pod_sandbox_id: sandbox,
            ..Default::default()
        }),
    });
    assert!(all.await.unwrap().into_inner().containers.is_empty());
}

/// A client in the manner of gRPC's C core and of grpc-java, which name the server by the path of its socket.
pub(crate) async fn a_client_may_name_the_server_by_its_path(server: &mut Server) {
    const HEADERS: u8 = 1;
    const DATA: u8 = 0;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // Without an index: a number of HPACK's static table, or 0 and a name.
    let field = |name: u8, value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [&[name, length], value.as_bytes()].concat()
    };
    let path = server.directory.path().join("cri.sock");
    let block = [
        vec![0x83, 0x86],
        field(1, path.to_str().unwrap()),
        field(4, "/runtime.v1.RuntimeService/Version"),
        [
            &b"\x00\x0ccontent-type"[..],
            &field(0, "application/grpc")[1..],
        ]
        .concat(),
        [&b"\x00\x02te"[..], &field(0, "trailers")[1..]].concat(),
    ]
    .concat();
    let mut socket = UnixStream::connect(&path).await.unwrap();
    let sent = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &block),
        frame(DATA, END_STREAM, 1, &[0; 5]),
    ]
    .concat();
    socket.write_all(&sent).await.unwrap();
    let mut head = [0; 9];
    let answer = loop {
        socket.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        socket.read_exact(&mut payload).await.unwrap();
        match (head[3], head[8]) {
            (DATA, 1) => break payload,
            (3 | 7, _) => panic!("the stream was reset"),
            _ => {}
        }
    };
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.contains("0.1.0") && answer.contains("docker"),
        "{answer}"
    );
}

pub(crate) async fn a_pod_lives_from_run_to_remove(server: &mut Server) {
    let sandbox = run_sandbox(server, "life").await;
    let status = sandbox_status(server, &sandbox).await.unwrap();
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    assert_eq!(status.metadata.as_ref().unwrap().attempt, 3);
    assert!(status.created_at > 0);
    assert!(!status.network.unwrap().ip.is_empty());
    let id = create(server, &sandbox, container_config("app", "sleep 600")).await;
    let created = container_status(server, &id).await.unwrap();
    assert_eq!(created.state(), v1::ContainerState::ContainerCreated);
    assert_eq!((created.started_at, created.finished_at), (0, 0));
    start(server, &id).await;
    let running = container_status(server, &id).await.unwrap();
    assert_eq!(running.state(), v1::ContainerState::ContainerRunning);
    assert!(running.started_at >= running.created_at, "{running:?}");
    stop(server, &id).await.unwrap();
    let stopped = container_status(server, &id).await.unwrap();
    assert_eq!(stopped.state(), v1::ContainerState::ContainerExited);
    assert_eq!((stopped.exit_code, stopped.reason.as_str()), (137, "Error"));
    assert!(stopped.finished_at >= stopped.started_at);
    remove(server, &id).await.unwrap();
    stop_sandbox(server, &sandbox).await.unwrap();
    let status = sandbox_status(server, &sandbox).await.unwrap();
    assert_eq!(status.state(), v1::PodSandboxState::SandboxNotready);
    remove_sandbox(server, &sandbox).await.unwrap();
    assert!(sandboxes(server).await.is_empty());
}

pub(crate) async fn what_is_gone_or_stopped_is_stopped_and_removed_without_an_error(
    server: &mut Server,
) {
    let unknown = "f".repeat(64);
    stop(server, &unknown).await.unwrap();
    remove(server, &unknown).await.unwrap();
    stop_sandbox(server, &unknown).await.unwrap();
    remove_sandbox(server, &unknown).await.unwrap();
    let sandbox = run_sandbox(server, "again").await;
    let id = run(server, &sandbox, "app", "sleep 600").await;
    start(server, &id).await;
    for _ in 0..2 {
        stop(server, &id).await.unwrap();
    }
    for _ in 0..2 {
        remove(server, &id).await.unwrap();
    }
    for _ in 0..2 {
        stop_sandbox(server, &sandbox).await.unwrap();
    }
    for _ in 0..2 {
        remove_sandbox(server, &sandbox).await.unwrap();
    }
    let request = v1::RemoveImageRequest {
        image: Some(v1::ImageSpec {
            image: "berth.local/no-such-image:1".to_owned(),
            ..Default::default()
        }),
    };
    server.images.remove_image(request).await.unwrap();
}

pub(crate) async fn what_is_not_there_is_not_found(server: &mut Server) {
    let unknown = "f".repeat(64);
    let mut codes = Vec::new();
    codes.push(container_status(server, &unknown).await.unwrap_err().code());
    codes.push(sandbox_status(server, &unknown).await.unwrap_err().code());
    codes.push(
        exec_sync(server, &unknown, "true", 0)
            .await
            .unwrap_err()
            .code(),
    );
    let start = v1::StartContainerRequest {
        container_id: unknown.clone(),
    };
    codes.push(
        server
            .runtime
            .start_container(start)
            .await
            .unwrap_err()
            .code(),
    );
    let reopen = v1::ReopenContainerLogRequest {
        container_id: unknown.clone(),
    };
    codes.push(
        server
            .runtime
            .reopen_container_log(reopen)
            .await
            .unwrap_err()
            .code(),
    );
    let stats = v1::ContainerStatsRequest {
        container_id: unknown.clone(),
    };
    codes.push(
        server
            .runtime
            .container_stats(stats)
            .await
            .unwrap_err()
            .code(),
    );
    let update = v1::UpdateContainerResourcesRequest {
        container_id: unknown,
        ..Default::default()
    };
    codes.push(
        server
            .runtime
            .update_container_resources(update)
            .await
            .unwrap_err()
            .code(),
    );
    assert_eq!(codes, [Code::NotFound; 7]);
}

pub(crate) async fn labels_and_annotations_come_back_as_they_were_given(server: &mut Server) {
    let mut config = sandbox_config(server, "labels");
    config
        .labels
        .insert("io.kubernetes.pod.name".to_owned(), "another".to_owned());
    let request = v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: String::new(),
    };
    let sandbox = server.runtime.run_pod_sandbox(request).await.unwrap();
    let sandbox = sandbox.into_inner().pod_sandbox_id;
    let status = sandbox_status(server, &sandbox).await.unwrap();
    assert_eq!(
        (&status.labels, &status.annotations),
        (&config.labels, &config.annotations)
    );
    let mut wanted = container_config("app", "sleep 600");
    wanted.labels = [("a".to_owned(), "b".to_owned())].into();
    wanted.annotations = [("c".to_owned(), "d=e".to_owned())].into();
    let id = create(server, &sandbox, wanted.clone()).await;
    let status = container_status(server, &id).await.unwrap();
    assert_eq!(
        (status.labels, status.annotations),
        (wanted.labels, wanted.annotations)
    );
}

pub(crate) async fn lists_are_filtered(server: &mut Server) {
    let (first, second) = (
        run_sandbox(server, "one").await,
        run_sandbox(server, "two").await,
    );
    let running = run(server, &first, "app", "sleep 600").await;
    let created = create(server, &second, container_config("app", "sleep 600")).await;
    stop_sandbox(server, &second).await.unwrap();
    let ids = async |server: &mut Server, filter: v1::ContainerFilter| -> Vec<String> {
        let request = v1::ListContainersRequest {
            filter: Some(filter),
        };
        let reply = server.runtime.list_containers(request).await.unwrap();
        let containers = reply.into_inner().containers;
        containers.into_iter().map(|one| one.id).collect()
    };
    let of_sandbox = |id: &str| v1::ContainerFilter {
        pod_sandbox_id: id.to_owned(),
        ..Default::default()
    };
    assert_eq!(ids(server, of_sandbox(&first)).await, [running.as_str()]);
    assert_eq!(ids(server, of_sandbox(&second)).await, [created.as_str()]);
    let by_id = v1::ContainerFilter {
        id: running.clone(),
        state: Some(v1::ContainerStateValue {
            state: v1::ContainerState::ContainerExited.into(),
        }),
        ..Default::default()
    };
    assert!(ids(server, by_id).await.is_empty());
    let states: BTreeMap<String, v1::PodSandboxState> = sandboxes(server)
        .await
        .into_iter()
        .map(|one| (one.id.clone(), one.state()))
        .collect();
    assert_eq!(
        states,
        [
            (first, v1::PodSandboxState::SandboxReady),
            (second, v1::PodSandboxState::SandboxNotready)
        ]
        .into()
    );
}

pub(crate) async fn an_end_is_told_with_its_code_and_reason(server: &mut Server) {
    let sandbox = run_sandbox(server, "ends").await;
    let good = run(server, &sandbox, "good", "exit 0").await;
    let bad = run(server, &sandbox, "bad", "exit 7").await;
    let status = ended(server, &good).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    let status = ended(server, &bad).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    let mut config = container_config("missing", "");
    config.command = vec!["/no/such/program".to_owned()];
    let id = create(server, &sandbox, config).await;
    let request = v1::StartContainerRequest {
        container_id: id.clone(),
    };
    let error = server.runtime.start_container(request).await.unwrap_err();
    assert!(error.message().contains("/no/such/program"), "{error}");
    let status = container_status(server, &id).await.unwrap();
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    assert_eq!(status.reason, "ContainerCannotRun");
    assert!(status.finished_at > 0 && !status.message.is_empty());
}

pub(crate) async fn stopping_a_sandbox_kills_its_containers(server: &mut Server) {
    let sandbox = run_sandbox(server, "kill").await;
    let id = run(
        server,
        &sandbox,
        "app",
        "trap '' TERM; while :; do sleep 1; done",
    )
    .await;
    stop_sandbox(server, &sandbox).await.unwrap();
    let status = container_status(server, &id).await.unwrap();
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    remove_sandbox(server, &sandbox).await.unwrap();
    let gone = container_status(server, &id).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

pub(crate) async fn a_command_gives_its_output_and_code(server: &mut Server) {
    let sandbox = run_sandbox(server, "exec").await;
    let id = run(server, &sandbox, "app", "sleep 600").await;
    let reply = exec_sync(server, &id, "echo out; echo err >&2; exit 5", 0)
        .await
        .unwrap();
    assert_eq!(
        (&reply.stdout[..], &reply.stderr[..], reply.exit_code),
        (&b"out\n"[..], &b"err\n"[..], 5)
    );
    stop(server, &id).await.unwrap();
    let error = exec_sync(server, &id, "true", 0).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
}

pub(crate) async fn a_call_that_takes_too_long_is_told_by_its_code(server: &mut Server) {
    let sandbox = run_sandbox(server, "late").await;
    let id = run(server, &sandbox, "app", "sleep 600").await;
    let script = "sleep 601 & sleep 602";
    let error = exec_sync(server, &id, script, 1).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    // The fake engine has no processes.
    if server.fake.is_none() {
        let left = exec_sync(server, &id, "ps | grep '[s]leep 60[12]'", 0).await;
        let left = left.unwrap();
        assert_eq!(
            (left.exit_code, &left.stdout[..]),
            (1, &b""[..]),
            "{left:?}"
        );
        let status = container_status(server, &id).await.unwrap();
        assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
    }
}

pub(crate) async fn what_docker_cannot_do_is_said_with_the_reason(server: &mut Server) {
    let request = v1::CheckpointContainerRequest::default();
    let error = server
        .runtime
        .checkpoint_container(request)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.message().contains("checkpoint"), "{error}");
}

pub(crate) async fn the_images_file_system_is_told(server: &mut Server) {
    let request = v1::ImageFsInfoRequest {};
    let reply = server.images.image_fs_info(request).await.unwrap();
    let reply = reply.into_inner();
    let images = &reply.image_filesystems[0];
    assert_eq!(reply.container_filesystems[0].fs_id, images.fs_id);
    assert!(
        images.used_bytes.is_some() && images.timestamp > 0,
        "{images:?}"
    );
    // The fake engine keeps its data nowhere.
    if server.fake.is_none() {
        assert!(
            images.inodes_used.is_some_and(|inodes| inodes.value > 0),
            "{images:?}"
        );
    }
}

pub(crate) async fn a_pod_with_the_hosts_network_has_the_name_servers_it_was_given(
    server: &mut Server,
) {
    let mut config = sandbox_config(server, "resolv");
    config.hostname.clear();
    config.dns_config = Some(v1::DnsConfig {
        servers: vec!["192.0.2.53".to_owned()],
        searches: vec!["pods.test".to_owned()],
        options: vec!["ndots:5".to_owned()],
    });
    let host = v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        ..Default::default()
    };
    config.linux = Some(v1::LinuxPodSandboxConfig {
        security_context: Some(v1::LinuxSandboxSecurityContext {
            namespace_options: Some(host),
            ..Default::default()
        }),
        ..Default::default()
    });
    let sandbox = try_run_sandbox(server, config).await.unwrap();
    let mut container = container_config("app", "sleep 600");
    let security = container.linux.as_mut().unwrap().security_context.as_mut();
    security.unwrap().namespace_options = Some(v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        pid: v1::NamespaceMode::Container.into(),
        ..Default::default()
    });
    let id = create(server, &sandbox, container).await;
    start(server, &id).await;
    if server.fake.is_none() {
        let reply = exec_sync(server, &id, "cat /etc/resolv.conf", 0)
            .await
            .unwrap();
        let text = String::from_utf8(reply.stdout.to_vec()).unwrap();
        for line in [
            "nameserver 192.0.2.53",
            "search pods.test",
            "options ndots:5",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}

pub(crate) async fn a_log_has_every_line_in_the_format_of_the_interface(server: &mut Server) {
    let sandbox = run_sandbox(server, "log").await;
    let script = "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; echo error >&2";
    let id = run(server, &sandbox, "app", script).await;
    let status = ended(server, &id).await;
    let text = std::fs::read_to_string(&status.log_path).unwrap();
    let mut out = Vec::new();
    let mut errors = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(4, ' ');
        let time = parts.next().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        let stream = parts.next().unwrap();
        assert_eq!(parts.next(), Some("F"), "{line}");
        let words = parts.next().unwrap().to_owned();
        match stream {
            "stdout" => out.push(words),
            "stderr" => errors.push(words),
            other => panic!("{other}"),
        }
    }
    let expected: Vec<String> = (0..50).map(|number| format!("line {number}")).collect();
    assert_eq!((out, errors), (expected, vec!["error".to_owned()]));
}

pub(crate) async fn images_are_one_and_the_same_under_each_of_their_names(server: &mut Server) {
    let status = async |server: &mut Server, name: &str| -> Option<v1::Image> {
        let request = v1::ImageStatusRequest {
            image: Some(v1::ImageSpec {
                image: name.to_owned(),
                ..Default::default()
            }),
            verbose: false,
        };
        let reply = server.images.image_status(request).await.unwrap();
        reply.into_inner().image
    };
    let image = status(server, IMAGE).await.unwrap();
    assert!(
        image.size > 0 && image.repo_tags.contains(&IMAGE.to_owned()),
        "{image:?}"
    );
    assert_eq!(status(server, &image.id).await.as_ref(), Some(&image));
    let bare = image.id.trim_start_matches("sha256:").to_owned();
    assert_eq!(status(server, &bare).await.as_ref(), Some(&image));
    assert_eq!(status(server, "berth.local/no-such-image:1").await, None);
    let reply = server
        .images
        .list_images(v1::ListImagesRequest::default())
        .await
        .unwrap();
    let images = reply.into_inner().images;
    assert!(images.iter().any(|one| one.id == image.id), "{images:?}");
    let sandbox = run_sandbox(server, "image").await;
    let id = run(server, &sandbox, "app", "sleep 600").await;
    let container = container_status(server, &id).await.unwrap();
    assert_eq!(container.image_id, image.id);
    assert_eq!(container.image.unwrap().image, IMAGE);
    // Its name in a repository, where it has been in one.
    let by_digest = image.repo_digests.first().unwrap_or(&image.id);
    assert_eq!(&container.image_ref, by_digest);
}

/// As agents do that watch the host. The engine's own directory is in it.
pub(crate) async fn the_hosts_root_can_be_mounted(server: &mut Server) {
    let sandbox = run_sandbox(server, "root").await;
    let mut config = container_config("agent", "sleep 600");
    config.mounts = vec![v1::Mount {
        container_path: "/host".to_owned(),
        host_path: "/".to_owned(),
        readonly: true,
        ..Default::default()
    }];
    let id = create(server, &sandbox, config).await;
    start(server, &id).await;
    if server.fake.is_none() {
        let seen = exec_sync(server, &id, "test -d /host/proc", 0).await;
        assert_eq!(seen.unwrap().exit_code, 0);
    }
}

/// A kubelet with evented PLEG takes the first of a name for the one that counts.
pub(crate) async fn the_newest_container_of_a_pod_comes_first(server: &mut Server) {
    let sandbox = run_sandbox(server, "newest").await;
    let mut newest_first = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        newest_first.insert(0, run(server, &sandbox, name, "sleep 600").await);
    }
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: sandbox,
        verbose: false,
    };
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let reply = server.runtime.pod_sandbox_status(request).await.unwrap();
    let reply = reply.into_inner();
    let shown: Vec<_> = reply
        .containers_statuses
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(shown, newest_first);
    assert!(reply.timestamp >= i64::try_from(before.as_nanos()).unwrap());
}

pub(crate) async fn every_change_is_an_event(server: &mut Server) {
    let request = v1::GetEventsRequest {};
    let events = server.runtime.get_container_events(request).await.unwrap();
    let mut events = events.into_inner();
    let sandbox = run_sandbox(server, "events").await;
    let id = run(server, &sandbox, "app", "exit 0").await;
    let end = ended(server, &id).await;
    remove(server, &id).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&v1::ContainerEventType::ContainerDeletedEvent) {
        let next = tokio::time::timeout(Duration::from_secs(20), events.message());
        let event = next.await.expect("an event").unwrap().unwrap();
        if event.container_id == id {
            // A kubelet drops what is older than its last list, which may be younger than the change.
            let happened = match event.container_event_type() {
                v1::ContainerEventType::ContainerCreatedEvent => end.created_at,
                v1::ContainerEventType::ContainerStartedEvent => end.started_at,
                _ => end.finished_at,
            };
            assert!(event.created_at > happened, "{event:?}");
            let pod = event.pod_sandbox_status.as_ref().unwrap();
            assert_eq!(pod.id, sandbox);
            seen.push(event.container_event_type());
        }
    }
    assert_eq!(
        seen,
        [
            v1::ContainerEventType::ContainerCreatedEvent,
            v1::ContainerEventType::ContainerStartedEvent,
            v1::ContainerEventType::ContainerStoppedEvent,
            v1::ContainerEventType::ContainerDeletedEvent,
        ]
    );
}

pub(crate) async fn a_bad_request_is_refused_by_name_and_changes_nothing(server: &mut Server) {
    let sandbox = run_sandbox(server, "bad").await;
    let secure = |context: v1::LinuxContainerSecurityContext| v1::ContainerConfig {
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(context),
            ..Default::default()
        }),
        ..container_config("app", "true")
    };
    let group = secure(v1::LinuxContainerSecurityContext {
        run_as_group: Some(v1::Int64Value { value: 7 }),
        ..Default::default()
    });
    let error = try_create(server, &sandbox, group).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("run_as_group"), "{error}");
    let mut mapped = container_config("app", "true");
    mapped.mounts = vec![v1::Mount {
        container_path: "/data".to_owned(),
        host_path: "/tmp".to_owned(),
        uid_mappings: vec![v1::IdMapping::default()],
        ..Default::default()
    }];
    let error = try_create(server, &sandbox, mapped).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let handler = v1::RunPodSandboxRequest {
        config: Some(sandbox_config(server, "handler")),
        runtime_handler: "no-such-runtime".to_owned(),
    };
    let error = server.runtime.run_pod_sandbox(handler).await.unwrap_err();
    assert!(error.message().contains("no-such-runtime"), "{error}");
    assert_eq!(sandboxes(server).await.len(), 1);
    let request = v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            pod_sandbox_id: sandbox,
            ..Default::default()
        }),
    };
    let containers = server.runtime.list_containers(request).await.unwrap();
    assert!(containers.into_inner().containers.is_empty());
}

pub(crate) async fn stats_are_there_for_what_runs(server: &mut Server) {
    let sandbox = run_sandbox(server, "stats").await;
    let running = run(server, &sandbox, "app", "sleep 600").await;
    create(server, &sandbox, container_config("idle", "true")).await;
    let request = v1::ListContainerStatsRequest {
        filter: Some(v1::ContainerStatsFilter {
            pod_sandbox_id: sandbox.clone(),
            ..Default::default()
        }),
    };
    let reply = server.runtime.list_container_stats(request).await.unwrap();
    let stats = reply.into_inner().stats;
    assert_eq!(stats.len(), 1);
    assert_eq!(stats[0].attributes.as_ref().unwrap().id, running);
    assert!(stats[0].cpu.as_ref().unwrap().timestamp > 0);
    let request = v1::PodSandboxStatsRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    let reply = server.runtime.pod_sandbox_stats(request).await.unwrap();
    let pod = reply.into_inner().stats.unwrap();
    assert_eq!(pod.linux.unwrap().containers.len(), 1);
    let reply = server
        .runtime
        .list_metric_descriptors(v1::ListMetricDescriptorsRequest {})
        .await
        .unwrap();
    let described: BTreeMap<String, usize> = reply
        .into_inner()
        .descriptors
        .into_iter()
        .map(|one| (one.name, one.label_keys.len()))
        .collect();
    let reply = server
        .runtime
        .list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {})
        .await
        .unwrap();
    let pods = reply.into_inner().pod_metrics;
    let pod = pods.iter().find(|pod| pod.pod_sandbox_id == sandbox);
    for container in &pod.unwrap().container_metrics {
        for metric in &container.metrics {
            assert_eq!(
                described.get(&metric.name),
                Some(&metric.label_values.len()),
                "{metric:?}"
            );
        }
    }
}

pub(crate) async fn reads_cost_the_engine_nothing(server: &mut Server, fake: &FakeEngine) {
    let mut pods = Vec::new();
    for index in 0..10 {
        let sandbox = run_sandbox(server, &format!("cheap{index}")).await;
        let id = run(server, &sandbox, "app", "sleep 600").await;
        pods.push((sandbox, id));
    }
    for (_, id) in &pods {
        container_status(server, id).await.unwrap();
    }
    sandboxes(server).await;
    let before = fake.calls().total();
    for (sandbox, id) in &pods {
        assert_eq!(sandboxes(server).await.len(), 10);
        sandbox_status(server, sandbox).await.unwrap();
        container_status(server, id).await.unwrap();
        let list = v1::ListContainersRequest::default();
        server.runtime.list_containers(list).await.unwrap();
        let stats = v1::ListContainerStatsRequest::default();
        server.runtime.list_container_stats(stats).await.unwrap();
        let stats = v1::ListPodSandboxStatsRequest::default();
        server.runtime.list_pod_sandbox_stats(stats).await.unwrap();
        let stats = v1::ContainerStatsRequest {
            container_id: id.clone(),
        };
        server.runtime.container_stats(stats).await.unwrap();
        let stats = v1::PodSandboxStatsRequest {
            pod_sandbox_id: sandbox.clone(),
        };
        server.runtime.pod_sandbox_stats(stats).await.unwrap();
        let metrics = v1::ListPodSandboxMetricsRequest::default();
        server
            .runtime
            .list_pod_sandbox_metrics(metrics)
            .await
            .unwrap();
    }
    assert_eq!(fake.calls().total(), before);
}

pub(crate) async fn an_engine_that_is_away(server: &mut Server) {
    let sandbox = run_sandbox(server, "away").await;
    server.take_engine_away();
    let begun = Instant::now();
    let condition = loop {
        let reply = server
            .runtime
            .status(v1::StatusRequest::default())
            .await
            .expect("an engine that is away is no error of the call");
        let conditions = reply.into_inner().status.unwrap().conditions;
        let ready = conditions
            .into_iter()
            .find(|condition| condition.r#type == "RuntimeReady")
            .unwrap();
        if !ready.status {
            break ready;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "still ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(!condition.message.is_empty());
    // The first that crictl asks, before it can ask for the reason.
    let version = server.runtime.version(v1::VersionRequest::default()).await;
    assert_eq!(version.unwrap().into_inner().version, "0.1.0");
    let begun = Instant::now();
    let error = sandbox_status(server, &sandbox).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let mut request = Request::new(v1::ListContainersRequest::default());
    request.set_timeout(Duration::from_secs(5));
    let error = server.runtime.list_containers(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    server.bring_engine_back();
    assert_eq!(sandboxes(server).await.len(), 1);
}

/// crictl gives two seconds.
pub(crate) async fn an_engine_that_hangs(server: &mut Server, fake: &FakeEngine) {
    for operation in [Operation::Ping, Operation::Info] {
        fake.add_fault(Fault::on(operation, FaultKind::StuckHeaders));
    }
    let mut request = Request::new(v1::VersionRequest::default());
    request.set_timeout(Duration::from_secs(2));
    let version = server.runtime.version(request).await.unwrap();
    assert_eq!(version.into_inner().version, "0.1.0");
    let mut request = Request::new(v1::StatusRequest { verbose: true });
    request.set_timeout(Duration::from_secs(2));
    let reply = server.runtime.status(request).await.unwrap();
    let conditions = reply.into_inner().status.unwrap().conditions;
    let ready = conditions
        .iter()
        .find(|condition| condition.r#type == "RuntimeReady")
        .unwrap();
    assert!(
        !ready.status && ready.message.contains("does not answer"),
        "{ready:?}"
    );
    fake.clear_faults();
}
