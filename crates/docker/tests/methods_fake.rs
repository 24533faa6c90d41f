//! The calls together, against the stateful fake engine: what one call did, the next one sees.

use std::time::Duration;

use berth_docker::api::*;
use berth_docker::auth::Credentials;
use berth_docker::model::*;
use berth_docker::pull::PullImage;
use berth_docker::{Body, ConnectOptions, Docker, Source};
use berth_fake_engine::{Builder, FakeEngine, RegistryAnswer, RegistryBehaviour, Script, Step};

fn client(builder: Builder) -> Docker {
    let engine = builder.build().expect("an engine");
    Docker::builder(ConnectOptions::new("fake://".parse().expect("an endpoint")))
        .dialer(move || Ok(engine.connect()))
        .build()
        .expect("a client")
}

fn container(name: &str) -> CreateContainer {
    CreateContainer {
        name: Some(name.to_owned()),
        config: ContainerConfig {
            image: "app:1".to_owned(),
            labels: [("app", name)].into(),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn app(steps: Vec<Step>) -> Builder {
    FakeEngine::builder()
        .image("app:1")
        .script(Script::for_image("app:1", steps))
}

#[tokio::test]
async fn a_container_lives_from_create_to_remove() {
    for api in ["1.40", "1.41", "1.44", "1.52"] {
        let docker =
            client(app(vec![Step::Print("hello\n".to_owned()), Step::Wait]).api_version(api));
        assert_eq!(
            docker.api_version().await.expect("a version").to_string(),
            api
        );
        let id = docker
            .create_container(&container("web"))
            .await
            .expect("created")
            .id;
        assert!(
            docker
                .create_container(&container("web"))
                .await
                .expect_err("taken")
                .is_conflict()
        );
        assert_eq!(
            docker.start_container("web").await.expect("started"),
            Started::Now
        );
        assert_eq!(
            docker.start_container("web").await.expect("started"),
            Started::Already
        );
        let inspect = docker.inspect_container(&id[..12]).await.expect("there");
        assert!(inspect.state.running && inspect.state.started_at.is_some());
        let running = ListContainers {
            filters: Filters::new().label("app=web"),
            ..Default::default()
        };
        let rows = docker.list_containers(&running).await.expect("a list");
        assert_eq!(
            (rows.len(), &rows[0].state, rows[0].labels.get("app")),
            (1, &ContainerStatus::Running, Some("web"))
        );
        let stop = StopContainer {
            seconds: Some(1),
            signal: None,
        };
        assert_eq!(
            docker.stop_container("web", &stop).await.expect("stopped"),
            Stopped::Now
        );
        assert_eq!(
            docker.stop_container("web", &stop).await.expect("stopped"),
            Stopped::Already
        );
        let ended = docker
            .wait_container("web", WaitCondition::NotRunning)
            .await
            .expect("ended");
        assert_eq!(
            ended.status_code,
            docker
                .inspect_container("web")
                .await
                .expect("there")
                .state
                .exit_code
        );
        docker
            .remove_container("web", RemoveContainer::default())
            .await
            .expect("removed");
        assert!(
            docker
                .inspect_container("web")
                .await
                .expect_err("gone")
                .is_not_found()
        );
    }
}

#[tokio::test]
async fn output_is_framed_right_by_every_version_with_and_without_a_terminal() {
    for api in ["1.40", "1.52"] {
        for tty in [false, true] {
            let steps = vec![
                Step::Print("out\n".to_owned()),
                Step::PrintErr("err\n".to_owned()),
                Step::Exit(3),
            ];
            let docker = client(app(steps).api_version(api));
            let mut web = container("web");
            web.config.tty = tty;
            docker.create_container(&web).await.expect("created");
            let mut attached = docker
                .attach("web", &AttachOptions::default())
                .await
                .expect("attached");
            docker.start_container("web").await.expect("started");
            let mut live = Vec::new();
            while let Some(frame) = attached.output.next().await {
                let frame = frame.expect("a frame");
                live.push((
                    frame.source,
                    String::from_utf8_lossy(&frame.bytes).replace('\r', ""),
                ));
            }
            let ended = docker
                .wait_container("web", WaitCondition::NotRunning)
                .await
                .expect("ended");
            assert_eq!(ended.status_code, 3);
            let mut lines = docker
                .logs("web", &LogsOptions::default())
                .await
                .expect("a log")
                .lines(1024);
            let mut log = Vec::new();
            while let Some(line) = lines.next().await {
                let line = line.expect("a line");
                log.push((
                    line.source,
                    String::from_utf8_lossy(&line.bytes).into_owned(),
                ));
            }
            let second = if tty { Source::Stdout } else { Source::Stderr };
            let expected = [
                (Source::Stdout, "out".to_owned()),
                (second, "err".to_owned()),
            ];
            assert_eq!(log, expected, "{api}, tty {tty}");
            let text: String = live.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(text, "out\nerr\n", "{api}, tty {tty}");
            assert_eq!(
                live.last().map(|(source, _)| *source),
                Some(second),
                "{api}, tty {tty}"
            );
        }
    }
}

#[tokio::test]
async fn a_command_reads_its_input_to_the_end() {
    let docker = client(
        app(vec![Step::Wait]).script(Script::for_exec("cat", vec![Step::Cat, Step::Exit(5)])),
    );
    docker
        .create_container(&container("web"))
        .await
        .expect("created");
    let config = ExecConfig {
        cmd: vec!["cat".to_owned()],
        attach_stdin: true,
        attach_stdout: true,
        ..Default::default()
    };
    assert!(
        docker
            .create_exec("web", &config)
            .await
            .expect_err("not running")
            .is_conflict()
    );
    docker.start_container("web").await.expect("started");
    let exec = docker.create_exec("web", &config).await.expect("created");
    let Attached {
        mut input,
        mut output,
    } = docker.start_exec(&exec, false).await.expect("started");
    input.write_all(b"hello").await.expect("written");
    input.shutdown().await.expect("half-closed");
    let mut echoed = Vec::new();
    while let Some(frame) = output.next().await {
        echoed.extend_from_slice(&frame.expect("a frame").bytes);
    }
    assert_eq!(echoed, b"hello");
    assert_eq!(
        docker.inspect_exec(&exec).await.expect("there").exit_code,
        Some(5)
    );
}

#[tokio::test]
async fn a_pull_brings_an_image_and_a_registry_may_refuse_at_any_time() {
    let private = RegistryAnswer::Credentials {
        username: "me".to_owned(),
        password: "~~~???".to_owned(),
    };
    let registry = RegistryBehaviour::default()
        .rule("reg.example/private:*", private)
        .rule("reg.example/gone:*", RegistryAnswer::ManifestUnknown)
        .rule(
            "reg.example/broken:*",
            RegistryAnswer::FailMidway {
                message: "unexpected EOF".to_owned(),
            },
        )
        .rule("reg.example/stalled:*", RegistryAnswer::StallMidway);
    let docker = client(FakeEngine::builder().registry(registry));
    let pull = async |reference: &str, options: PullImage<'_>| {
        docker.pull_image(reference, options).await?.wait().await
    };

    let done = pull("reg.example/app:1", PullImage::default())
        .await
        .expect("pulled");
    assert!(
        !done.layers.is_empty()
            && done.complete() == done.layers.len()
            && done.downloaded() == done.total()
    );
    docker
        .inspect_image("reg.example/app:1")
        .await
        .expect("there");

    let anonymous = pull("reg.example/private:1", PullImage::default())
        .await
        .expect_err("not for everyone");
    assert!(anonymous.is_refused(), "{anonymous}");
    let me = Credentials::password("me", "~~~???");
    pull(
        "reg.example/private:1",
        PullImage {
            credentials: Some(&me),
            ..Default::default()
        },
    )
    .await
    .expect("pulled");

    assert!(
        pull("reg.example/gone:1", PullImage::default())
            .await
            .expect_err("gone")
            .is_not_found()
    );
    let broken = pull("reg.example/broken:1", PullImage::default())
        .await
        .expect_err("broken");
    assert_eq!(
        (broken.status(), broken.message()),
        (Some(200), "unexpected EOF")
    );
    let options = PullImage {
        stuck_after: Some(Duration::from_millis(300)),
        ..Default::default()
    };
    let stalled = pull("reg.example/stalled:1", options)
        .await
        .expect_err("stalled");
    assert!(
        stalled.is_timeout() && stalled.to_string().contains("is being downloaded"),
        "{stalled}"
    );
    let metrics = docker.metrics();
    assert_eq!(metrics.timeouts(berth_docker::Operation::PULL_IMAGE), 1);
    assert_eq!(metrics.errors(berth_docker::Operation::PULL_IMAGE), 4);
}

#[tokio::test]
async fn images_are_tagged_saved_removed_and_loaded() {
    let docker = client(FakeEngine::builder().image("app:1"));
    docker
        .tag_image("app:1", "reg.example/app")
        .await
        .expect("tagged");
    let names = docker
        .inspect_image("app:1")
        .await
        .expect("there")
        .repo_tags;
    assert!(
        names.iter().any(|name| name == "reg.example/app:latest"),
        "{names:?}"
    );
    let mut archive = docker.save_images(&["app:1"]).await.expect("an archive");
    let mut tar = Vec::new();
    while let Some(piece) = archive.next().await {
        tar.extend_from_slice(&piece.expect("bytes"));
    }
    for name in ["reg.example/app", "app:1"] {
        docker
            .remove_image(
                name,
                RemoveImage {
                    prune_children: true,
                    ..Default::default()
                },
            )
            .await
            .expect("removed");
    }
    assert!(
        docker
            .inspect_image("app:1")
            .await
            .expect_err("gone")
            .is_not_found()
    );
    let loaded = docker
        .load_images(Body::Bytes(tar.into()))
        .await
        .expect("loaded");
    assert_eq!(loaded.images, ["app:1"]);
    assert_eq!(
        docker
            .list_images(&ListImages::default())
            .await
            .expect("a list")
            .len(),
        1
    );
    let garbage = docker
        .load_images(Body::Bytes("no archive".into()))
        .await
        .expect_err("garbage");
    assert!(garbage.is_refused(), "{garbage}");
}

#[tokio::test]
async fn files_networks_and_volumes_are_there_once_made() {
    let docker = client(app(vec![Step::Wait]));
    docker
        .create_network(&CreateNetwork {
            name: "back".to_owned(),
            ..Default::default()
        })
        .await
        .expect("created");
    let twice = docker
        .create_network(&CreateNetwork {
            name: "back".to_owned(),
            ..Default::default()
        })
        .await;
    assert!(twice.expect_err("taken").is_conflict());
    docker
        .create_volume(&CreateVolume {
            name: "data".to_owned(),
            ..Default::default()
        })
        .await
        .expect("created");
    docker
        .create_container(&container("web"))
        .await
        .expect("created");
    docker.start_container("web").await.expect("started");
    docker
        .connect_network("back", "web", None)
        .await
        .expect("connected");
    let network = docker.inspect_network("back").await.expect("there");
    assert_eq!(
        network
            .containers
            .values()
            .map(|container| container.name.as_str())
            .collect::<Vec<_>>(),
        ["web"]
    );
    let inspect = docker.inspect_container("web").await.expect("there");
    assert!(
        !inspect.network_settings.networks["back"]
            .ip_address
            .is_empty()
    );
    assert_eq!(
        docker
            .list_volumes(&Filters::new().dangling(true))
            .await
            .expect("a list")
            .volumes
            .len(),
        1
    );
    docker
        .disconnect_network("back", "web", false)
        .await
        .expect("disconnected");
    docker.remove_network("back").await.expect("removed");
    docker.remove_volume("data", false).await.expect("removed");
    assert!(
        docker
            .stat_archive("web", "/no/such/path")
            .await
            .expect_err("no such path")
            .is_not_found()
    );
    assert!(
        docker
            .stat_archive("web", "/")
            .await
            .expect("the root")
            .is_dir()
    );
    let stats = docker.stats("web").await.expect("stats");
    assert!(
        stats.read.is_some() && stats.pids_stats.current > 0,
        "{stats:?}"
    );
}
